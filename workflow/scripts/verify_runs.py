"""Check a sample of every block's runs once more, beside PyTorch.

A job verifies several blocks. So the jobs that make runs need not import torch. It needs nothing of them and runs beside them.
"""

from typing import Any

from rnn_core.compiled import made_on
from study.job import running
from study.own_cells.loading import CellError
from study.plan import Block
from study.provenance import script_digest
from study.runs import runner, verification
from study.runs.checks import CheckFailed


def main(snakemake: Any) -> None:
    p = snakemake.params
    own = f"verification/{snakemake.wildcards.group}"
    block_runner = runner.prepared(snakemake, own, f"-verified-{script_digest('verify_runs')}")
    blocks = [Block(**block) for block in p.blocks]
    samples = verification.samples_of(blocks, block_runner, p.tolerance, p.checked)
    provenance = {"blocks": p.blocks, "engine": p.engine, "device": made_on(block_runner.device)}
    verification.verify(samples, block_runner, dict(snakemake.output.items()), provenance)


if __name__ == "__main__":
    expected = {CheckFailed: "", CellError: "", ValueError: "", RuntimeError: ""}
    with running(snakemake, expected):  # type: ignore[name-defined]  # noqa: F821
        main(snakemake)  # type: ignore[name-defined]  # noqa: F821
