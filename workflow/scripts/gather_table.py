"""Put the blocks of one table together, sorted, with the study's provenance in the footer.

The runs get the theory of their settings. Of a study whose engine check has failed nothing is put together. Gradient norms that
are not those that were verified end it here.
"""

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from study.files import places
from study.files.writing import reading
from study.job import running
from study.provenance import provenance
from study.runs import verification
from study.runs.checks import CheckFailed
from study.runs.theory import Theory
from study.tables import store, streams

# table -> (its column that verification knows, the verification's table and column that it comes from)
FROM_VERIFICATION = {
    "runs": ("verified_error", "checks", "relative_error"),
    "timings": ("verify_seconds", "timings", "verify_seconds"),
}


def with_verification(table: str, files: list[str]) -> streams.Change:
    """A change that fills in what verification alone knows: the worst value of each verified run."""
    column, _, source = FROM_VERIFICATION[table]
    verified = []
    for file in files:
        with reading(file):
            verified.append(pq.read_table(file, columns=["sweep", "run_key", source]))
    worst = pa.concat_tables(verified).group_by(["sweep", "run_key"]).aggregate([(source, "max")])
    worst_of_run = dict(zip(_names(worst), worst[f"{source}_max"].to_pylist(), strict=True))

    def fill(rows: pa.Table) -> pa.Table:
        index = rows.schema.get_field_index(column)
        values = pa.array([worst_of_run.get(name) for name in _names(rows)], pa.float64())
        return rows.set_column(index, rows.schema.field(index), values)

    return fill if worst_of_run else lambda rows: rows


def _names(rows: pa.Table) -> list[str]:
    return list(pc.binary_join_element_wise(rows["sweep"], rows["run_key"], "/").to_pylist())


def main(snakemake: Any) -> None:
    table, blocks = snakemake.wildcards.table, list(snakemake.input.blocks)
    verified, sampled = (list(snakemake.input.get(name, [])) for name in ("verified", "sampled"))
    places.require_all([*blocks, *verified, *sampled, snakemake.input.gate], snakemake.params.config)
    devices = {store.provenance_of(file).get("device", "cpu") for file in blocks} or {"cpu"}  # no theory
    footer = provenance(snakemake.params.config, ", ".join(sorted(devices)))
    if table == "traces":
        verification.require_same_rows(blocks, verified)
    change = with_verification(table, verified) if verified and table in FROM_VERIFICATION else lambda rows: rows
    of_theory = Theory(sampled)
    streams.gather(table, blocks, snakemake.output.table, footer, lambda rows: of_theory.join(change(rows)))


if __name__ == "__main__":
    with running(snakemake, {CheckFailed: ""}):  # type: ignore[name-defined]  # noqa: F821
        main(snakemake)  # type: ignore[name-defined]  # noqa: F821
