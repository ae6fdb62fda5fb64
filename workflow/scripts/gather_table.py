"""Put the blocks of one table together, sorted, with the study's provenance in the footer."""

from typing import Any

import study_tables
from study_files import plainly
from study_provenance import provenance


def main(snakemake: Any) -> None:
    table = snakemake.wildcards.table
    rows = study_tables.concat(table, snakemake.input.blocks)  # first, for it finds damaged blocks
    devices = {study_tables.provenance_of(file)["device"] for file in snakemake.input.blocks}
    study_tables.write(rows, snakemake.output.table, provenance(snakemake.params.config, ", ".join(sorted(devices))))


if __name__ == "__main__":
    with plainly():
        main(snakemake)  # type: ignore[name-defined]  # noqa: F821
