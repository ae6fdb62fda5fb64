"""Read the sequences of one task that is not generated, check and split them, and store them for the runs, with a report."""

from pathlib import Path
from typing import Any

import study_data
from study_data_words import DataError
from study_files import plainly


def main(snakemake: Any) -> None:
    task, described = snakemake.wildcards.task, snakemake.params.described
    read = (
        study_data.digits_task()
        if task == "digits"
        else study_data.read(task, described, Path(snakemake.params.folder))
    )
    study_data.save_task(read, **dict(snakemake.output.items()))


if __name__ == "__main__":
    with plainly(DataError):
        main(snakemake)  # type: ignore[name-defined]  # noqa: F821
