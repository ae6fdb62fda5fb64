# Before the first job and after the last: can results be written, what did killed jobs leave behind, who holds the lock.
# Only the Snakemake that was called does this, not those that it starts for its jobs.
import study_files
import study_lock


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


onstart:
    prepare_files()


onsuccess:
    tidy_files()


onerror:
    tidy_files()
