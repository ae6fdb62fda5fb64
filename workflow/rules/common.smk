# Names that the other files share: where things are, the study's blocks, digests of code that Snakemake does not watch.
import sys
from dataclasses import asdict
from pathlib import Path

from snakemake.exceptions import WorkflowError

WORKFLOW = Path(workflow.current_basedir.get_path_or_uri(secret_free=True)).parent
sys.path.append(str(WORKFLOW / "scripts"))

import study_stop  # first: it takes a second to read the rest

if workflow.is_main_process:
    study_stop.end_in_words()

import study_config
import study_plan
import study_progress
import study_provenance
import study_resources
import study_tables

# Jobs get a config that was checked here, perhaps where the user's files are not.
if workflow.is_main_process:
    try:
        study_config.check(config)
    except study_config.ConfigError as error:
        raise WorkflowError(str(error))

STUDY = f"results/{config['study']}"
BLOCKS = study_plan.blocks(config)
CHECKED = config["gate"]["checked_runs_per_job"]
VERIFICATIONS = study_plan.verification_jobs(BLOCKS) if CHECKED else {}
TABLES = study_tables.TABLES
TABLE_FILES = [f"{STUDY}/tables/{table}.parquet" for table in TABLES]
FIGURE_FILES = [
    f"{STUDY}/figures/{figure}.{suffix}"
    for figure in config["figures"]
    for suffix in ("png", "svg")
]
SEQUENCES = [
    f"{STUDY}/sequences/{task}.npz" for task in study_plan.tasks_from_data(config)
]
TABLE_RESOURCES = study_resources.of_tables(BLOCKS, config)
ENGINE = study_provenance.engine_digest()


wildcard_constraints:
    sweep="[a-z0-9_-]+",
    task="[a-z0-9_-]+",
    table="[a-z]+",
    block="[^/]+",
    group="[0-9]+-of-[0-9]+",


def sequences_of(blocks):
    """The files that these blocks read."""
    settings = [{**block.shared, **block.grid} for block in blocks]
    tasks = {
        task for each in settings for task in study_plan.as_list(each.get("task", []))
    }
    return [file for file in SEQUENCES if Path(file).stem in tasks]


def verified(table):
    """This table of every verification."""
    return [
        f"{STUDY}/verified/{sweep}/{group}/{table}.parquet"
        for sweep, group in VERIFICATIONS
    ]


def code(script):
    """The digest of the modules that a script imports."""
    return study_provenance.script_digest(script)
