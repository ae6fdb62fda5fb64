# Before the first job and after the last: whether results can be written, what killed jobs left behind, who holds the lock.
# Only the Snakemake that was called does this. Those that it starts for its jobs do not.
from snakemake.logging import logger

from study.files import writing
from study.files import lock
from study.files import obstacles
from study.runs import gate
from study.screen import session
from study.screen.jobs import jobs_of

if workflow.is_main_process:
    LISTENER = session.listen(workflow, f"{STUDY}/report.html")
    lock.keep_other_locks()
    # Snakemake's own words for these are a traceback, or a list of "write-protected output files".
    if obstacle := obstacles.in_the_way(STUDY):
        raise Refused(f"{obstacle}.")
    if refused := writing.refusal(".snakemake" if Path(".snakemake").is_dir() else "."):
        raise WorkflowError(f"{refused} Snakemake keeps its notes there.")
    if refused := writing.refusal(STUDY):
        logger.warning(refused)  # no error: a dry run is welcome


def only_plans():
    """Whether `plan` alone is asked for. It writes no results, and may be asked while a study runs."""
    return set(workflow.dag_settings.targets) == {"plan"}


def may_plan():
    """True, or an error for a plan that would remove a running study's lock at its end.

    Snakemake refuses only calls whose files overlap, and a plan has none. To be called for the plan's input: then the command
    line has been read, and Snakemake has not locked yet.
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
        writing.require_writable(STUDY)
        if workflow.execution_settings.lock:  # else there is no lock to speak for
            lock.record(config["study"])
    except writing.FileTrouble as trouble:
        raise WorkflowError(str(trouble))
    writing.remove_leftovers(STUDY, f"{STUDY}/cache", ".snakemake/holders")
    gate.forget(REFUSED)


def tidy_files():
    """At the end, well or not."""
    if only_plans():
        return
    writing.remove_leftovers(STUDY, f"{STUDY}/cache")
    lock.forget(config["study"])


def show_progress():
    """From now on the study's screen tells how far it is, and signals end it in good order."""
    if only_plans() or not workflow.is_main_process:
        return  # the record of the call is the running study's
    cores = workflow.resource_settings.cores or 1
    progress.start_session(f"{STUDY}/logs", cores)
    LISTENER.view.start(
        jobs_of(workflow, BLOCKS, VERIFICATIONS, config),
        cores if workflow.local_exec else workflow.nodes,
        Path(f"{STUDY}/logs/progress.log"),
        queued=not workflow.local_exec,
    )
    view = LISTENER.view
    stop.stop_on_signals(
        workflow.scheduler, workflow.local_exec, view.stopping, view.stop
    )


def end_progress(well):
    """The jobs of this call have ended. The last words follow when Snakemake has said everything."""
    if workflow.is_main_process:
        LISTENER.view.well = well
