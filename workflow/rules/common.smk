# Names that the other files share: where things are, the study's blocks, and digests of code that Snakemake does not watch.
import dataclasses
import gc
import os
import shlex
import sys
from dataclasses import asdict
from pathlib import Path

from snakemake.exceptions import CliException, WorkflowError
from snakemake.logging import logger

# What Snakemake has imported stays. The garbage collector looked at all of it time and again: a quarter of what a call costs.
gc.freeze()

WORKFLOW = Path(workflow.current_basedir.get_path_or_uri(secret_free=True)).parent
# Where files that the config names are looked for: here, in the project's top folder (for a call with --directory), beside the config.
FOLDERS = [
    Path(),
    *(
        Path(os.path.relpath(folder))
        for folder in (WORKFLOW.parent, *(Path(f).parent for f in workflow.configfiles))
    ),
]
sys.path += [str(WORKFLOW / "scripts"), str(WORKFLOW.parent)]

try:
    from study.screen import stop  # first, for the other imports take a second

    if workflow.is_main_process:
        stop.end_in_words()

    from study.config import approval
    from study.config.canonical import canonical
    from study.data import locating
    from study.data import task_file
    from study.own_cells import described as cells_described
    from study.own_cells import source as cell_source
    from study import plan
    from study.screen import progress
    from study import provenance
    from study import sampling
    from study import wide
    from study.cost import model, resources
    from study.tables.columns import tables_of
    from study.config import reader
except ModuleNotFoundError as missing:
    raise WorkflowError(
        f"Snakemake reads this workflow with {missing.name}, which its Python does not have: pip install -r requirements.txt"
    )


class Refused(CliException):
    """A mistake of the user's. Snakemake prints it without the name and line of this file."""

    __traceback__ = None


def config_file():
    """The config file of this call, with the lines of its keys."""
    if len(workflow.overwrite_configfiles) > 1:
        raise Refused(
            "A study is one config file, and more were given: "
            + ", ".join(path.name for path in workflow.overwrite_configfiles)
            + ". A target stands before --configfile, which takes every word behind it."
        )
    document = reader.read(workflow.configfiles[-1])
    given = workflow.config_settings.config  # by --config; these keys have no line
    lines = {
        path: line
        for path, line in document.lines.items()
        if path[:1] not in {(key,) for key in given}
    }
    return dataclasses.replace(document, lines=lines)


def check_config():
    """Refuse what cannot become a study, before any job."""
    if shlex.quote(sys.executable) != sys.executable:
        raise Refused(
            "The folder of the Python environment has a blank or a special character of the shell in its name. Snakemake cannot start jobs from there. "
            "Rename the folder, or set up the environment in another one (python3 -m venv ELSEWHERE)."
        )
    try:
        approved = approval.check(
            config, config_file(), FOLDERS, local=workflow.local_exec
        )
        if workflow.local_exec and not workflow.dryrun:
            approval.check_device(config)
    except reader.RunsCode as error:
        if "config_guard" in sys.modules:
            raise Refused(str(error))
        raise Refused(
            f"{error}. SNAKEMAKE HAS RUN ITS CODE ALREADY: the profile of this call does not hand configs to workflow/scripts/config_guard.py, "
            "as workflow/profiles/default does."
        )
    except (reader.ReadError, approval.ConfigError) as error:
        raise Refused(str(error))
    return approved


def tell(approved):
    """Tell what the user's data are, if this study has not read them yet, and what may be a mistake."""
    for task, report in approved.reports.items():
        told = f"results/{approved.config['study']}/sequences/{task}.txt"
        if not task_file.is_told(report, told):
            logger.info("\n    ".join([f"Task {task}:", *report]))
    for note in approved.notes:
        logger.warning(f"Note: {note}.")


# Jobs get a config that was checked here. The user's files may not be where a job runs.
if workflow.is_main_process:
    APPROVED = check_config()
    tell(APPROVED)
    config = APPROVED.config
else:
    config = canonical(config)

STUDY = f"results/{config['study']}"
BLOCKS = plan.blocks(config)
CHECKED = config["gate"]["checked_runs_per_job"]
SAMPLINGS = wide.sampling_jobs(config)
VERIFICATIONS = sampling.verification_jobs(BLOCKS, config)
# Where the engine check says that it failed: jobs that start later then end at once. Each call begins without it.
REFUSED = f"{STUDY}/checks/refused"
TABLES = tables_of(config)
TABLE_FILES = [f"{STUDY}/tables/{table}.parquet" for table in TABLES]
SEQUENCES = [f"{STUDY}/sequences/{task}.npz" for task in plan.tasks_from_data(config)]
# The user's own cells that a sweep uses; their files as jobs read them, and what shows that each is sound.
OWN_CELLS = cells_described.used(config)
CELLS = [f"{STUDY}/cells/{cell}.json" for cell in OWN_CELLS]
PROVED = [f"{STUDY}/checks/cell-{cell}.parquet" for cell in OWN_CELLS]
TABLE_RESOURCES = resources.of_tables(BLOCKS, config)
ENGINE = provenance.engine_digest()


wildcard_constraints:
    sweep="[a-z0-9_-]+",
    task="[a-z0-9_-]+",
    cell="[a-z0-9_-]+",
    table="[a-z]+",
    block="[^/]+",
    group="[0-9]+-of-[0-9]+",


def place_of(task):
    """(folder, file) of the user's data; a pair of None for the digits."""
    return locating.place_of(config, task, FOLDERS) or (None, None)


def sequences_of(blocks):
    """The files that these blocks read."""
    settings = [{**block.shared, **block.grid} for block in blocks]
    tasks = {task for each in settings for task in plan.as_list(each.get("task", []))}
    return [file for file in SEQUENCES if Path(file).stem in tasks]


def cells_of(blocks):
    """The files of the user's own cells that these blocks run."""
    return [f"{STUDY}/cells/{cell}.json" for cell in own_cells_of(blocks)]


def proofs_of(blocks):
    """What shows that these cells are sound. A block waits for it, and is not run again because it is newer."""
    return ancient(
        [f"{STUDY}/checks/cell-{cell}.parquet" for cell in own_cells_of(blocks)]
    )


def own_cells_of(blocks):
    """The user's own cells in these blocks."""
    settings = [{**block.shared, **block.grid} for block in blocks]
    cells = {
        cells_described.name_of(cell)
        for each in settings
        for cell in plan.as_list(each.get("cell", []))
    }
    return [cell for cell in OWN_CELLS if cell in cells]


def verified(table):
    """This table of every verification."""
    return [f"{STUDY}/verified/{group}/{table}.parquet" for group in VERIFICATIONS]


def sampled():
    """The theory of every sampling."""
    return [f"{STUDY}/sampled/{group}/theory.parquet" for group in SAMPLINGS]


def drawn(suffix):
    """One file of every figure."""
    return [f"{STUDY}/figures/{figure}.{suffix}" for figure in FIGURES]


def seconds_of_block(wildcards):
    """What the model predicts for a job ``run_block``."""
    return model.block_cost(BLOCKS[wildcards.sweep, wildcards.block], config).seconds


def seconds_of_verification(wildcards):
    """What the model predicts for a job ``verify_runs``."""
    return model.verification_cost(VERIFICATIONS[wildcards.group], config).seconds


def seconds_of_sampling(wildcards):
    """What the model predicts for a job ``sample_theory``."""
    return model.sampling_cost(SAMPLINGS[wildcards.group]).seconds


def code(*modules):
    """The digest of scripts and of the modules that they import."""
    return provenance.script_digest(*modules)
