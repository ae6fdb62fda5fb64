# Before the first job and after the last: can results be written, what did killed jobs leave behind, who holds the lock.
# Only the Snakemake that was called does this, not those that it starts for its jobs.
from snakemake.logging import logger

import study_files
import study_lock

if workflow.is_main_process:
    study_lock.keep_other_locks()
    # Snakemake's own words for this are a traceback, or a list of "write-protected output files".
    if refused := study_files.refusal(
        ".snakemake" if Path(".snakemake").is_dir() else "."
    ):
        raise WorkflowError(f"{refused} Snakemake keeps its notes there.")
    if refused := study_files.refusal(STUDY):
        logger.warning(refused)  # no error: a dry run is welcome


def only_plans():
    """Whether this call writes no results: `plan` alone, which may be asked while a study runs and leaves all of it alone."""
    return set(workflow.dag_settings.targets) == {"plan"}


def may_plan():
    """True, or an error for a plan that would take a running study's lock away at its end.

    Snakemake refuses only calls whose files overlap, and a plan has none: it would say nothing of the study that runs.
    To be called for the plan's input: then the command line has been read, and Snakemake has not locked yet.
    """
    locked = any(Path(".snakemake/locks").glob("*.lock"))
    if workflow.is_main_process and workflow.execution_settings.lock and locked:
        raise WorkflowError(
            "A study is running in this folder, or was killed here, and its lock must stay: add --nolock to `snakemake plan`."
        )
    return True


def prepare_files():
    """With the lock held, before any job."""
    if only_plans():
        return
    try:
        study_files.require_writable(STUDY)
        if workflow.execution_settings.lock:  # else there is no lock to speak for
            study_lock.record(config["study"])
    except study_files.FileTrouble as trouble:
        raise WorkflowError(str(trouble))
    study_files.remove_leftovers(STUDY, f"{STUDY}/cache", ".snakemake/holders")


def tidy_files():
    """At the end, well or not."""
    if only_plans():
        return
    study_files.remove_leftovers(STUDY, f"{STUDY}/cache")
    study_lock.forget(config["study"])


def follow_progress():
    """A line of progress while the blocks of this call run."""
    if only_plans():
        return  # the session is the running study's, whose report reads it
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
