"""Check a sample of every block's runs once more, beside PyTorch.

A job verifies several blocks. So the jobs that make runs need not import torch.
"""

from typing import Any

from rnn_core.compiled import made_on
from study.job import running
from study.plan import Block
from study.provenance import script_digest
from study.runs import runner, verification
from study.runs.checks import CheckFailed
from study.tables import store
from study.tables.columns import columns_of


def main(snakemake: Any) -> None:
    p = snakemake.params
    block_runner = runner.prepared(snakemake, cache=f"-verified-{script_digest('verify_runs')}")
    blocks, traces = [Block(**block) for block in p.blocks], list(snakemake.input.traces)
    pairs = list(verification.rows_of(blocks, traces, block_runner, p.tolerance, p.checked))
    provenance = {"blocks": p.blocks, "engine": p.engine, "device": made_on(block_runner.device)}
    timings = {timing["sweep"] + timing["run_key"]: timing for _, timing in pairs}.values()
    for table, rows in (("checks", [check for check, _ in pairs]), ("timings", list(timings))):
        data = {c.name: [row[c.name] for row in rows] for c in columns_of(table)}
        store.write(store.build(table, data), snakemake.output[table], {**provenance, "table": table})


if __name__ == "__main__":
    expected = {CheckFailed: "", ValueError: "", RuntimeError: ""}
    with running(snakemake, expected):  # type: ignore[name-defined]  # noqa: F821
        main(snakemake)  # type: ignore[name-defined]  # noqa: F821
