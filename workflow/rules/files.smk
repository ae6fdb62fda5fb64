# Before the first job and after the last: can results be written, what did killed jobs leave behind, who holds the lock.
# Only the Snakemake that was called does this, not those that it starts for its jobs.
from snakemake.logging import logger

import study_files
import study_lock

if workflow.is_main_process:
    # Snakemake's own words for this are a traceback, or a list of "write-protected output files".
    if refused := study_files.refusal(
        ".snakemake" if Path(".snakemake").is_dir() else "."
    ):
        raise WorkflowError(f"{refused} Snakemake keeps its notes there.")
    if refused := study_files.refusal(STUDY):
        logger.warning(refused)  # no error: a dry run is welcome


def prepare_files():
    """With the lock held, before any job."""
    try:
        study_files.require_writable(STUDY)
        study_lock.record(config["study"])
    except study_files.FileTrouble as trouble:
        raise WorkflowError(str(trouble))
    study_files.remove_leftovers(STUDY, f"{STUDY}/cache")


def tidy_files():
    """At the end, well or not."""
    study_files.remove_leftovers(STUDY, f"{STUDY}/cache")
    study_lock.forget(config["study"])


def follow_progress():
    """A line of progress while the blocks of this call run."""
    blocks = [
        (BLOCKS[job.wildcards.sweep, job.wildcards.block], job.log[0])
        for job in workflow.dag.needrun_jobs()
        if job.rule.name == "run_block"
    ]
    if workflow.is_main_process:
        study_progress.watch(
            study_progress.start_session(
                f"{STUDY}/logs", workflow.resource_settings.cores or 1
            ),
            [log for _, log in blocks],
            sum(len(block) for block, _ in blocks),
            f"{STUDY}/logs/progress.log",
            sys.stderr,
        )
