"""Take the file of a user's own cell into the study's folder, as text: nothing of it is run here."""

from typing import Any

from study.job import running
from study.own_cells import kept


def main(snakemake: Any) -> None:
    p = snakemake.params
    kept.take(snakemake.wildcards.cell, p.described, p.file, snakemake.output.kept)


if __name__ == "__main__":
    with running(snakemake):  # type: ignore[name-defined]  # noqa: F821
        main(snakemake)  # type: ignore[name-defined]  # noqa: F821
