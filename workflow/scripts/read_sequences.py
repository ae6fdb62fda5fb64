"""Read the sequences of one task that is not generated, check and split them, and store them for the runs."""

from typing import Any

import study_data
from study_files import plainly


def main(snakemake: Any) -> None:
    task, described = snakemake.wildcards.task, snakemake.params.described
    arrays = study_data.digits() if task == "digits" else study_data.from_file(task, described)
    study_data.save(arrays, snakemake.output.arrays)


if __name__ == "__main__":
    with plainly(study_data.DataError):
        main(snakemake)  # type: ignore[name-defined]  # noqa: F821
