"""Read the sequences of one task that is not generated; check, split and store them for the runs, with a report."""

from typing import Any

from study.data import intake, task_file
from study.data.messages import DataError
from study.job import running


def main(snakemake: Any) -> None:
    task, described = snakemake.wildcards.task, snakemake.params.described
    read = intake.task_of(task, described, snakemake.params.folder)
    task_file.save_task(read, **dict(snakemake.output.items()))


if __name__ == "__main__":
    with running(snakemake, {DataError: ""}):  # type: ignore[name-defined]  # noqa: F821
        main(snakemake)  # type: ignore[name-defined]  # noqa: F821
