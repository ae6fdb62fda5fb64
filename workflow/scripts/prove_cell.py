"""Prove one cell of the user's own on the study's own settings, before any of its runs. This imports and runs the user's file."""

from pathlib import Path
from typing import Any

import rnn_core as rc
from rnn_core.arrays import resolve_device
from rnn_core.compiled import made_on
from study.data import task_file
from study.job import running
from study.own_cells import loading
from study.own_cells.loading import CellError
from study.runs import gate, proof
from study.runs.checks import CheckFailed
from study.tables import store


def main(snakemake: Any) -> None:
    p = snakemake.params
    device = resolve_device(p.device)
    data = {Path(file).stem: rc.Sequences(**task_file.load(file)) for file in snakemake.input.get("sequences", [])}
    try:
        [own] = loading.register_all([snakemake.input.cells])
        rows = proof.table(own.name, p.sweeps, data, device, p.tolerance, p.spectra)
    except (CheckFailed, CellError):
        gate.refuse(p.refused)
        raise
    footer = {"table": "checks", "sweeps": p.sweeps, "engine": p.engine, "device": made_on(device)}
    store.write(store.build("checks", rows), snakemake.output.checks, footer)


if __name__ == "__main__":
    expected = {CheckFailed: "The study has stopped. ", CellError: "The study has stopped. "}
    with running(snakemake, expected):  # type: ignore[name-defined]  # noqa: F821
        main(snakemake)  # type: ignore[name-defined]  # noqa: F821
