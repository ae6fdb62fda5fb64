"""The gate: compare the engine with PyTorch on the study's own settings. No table is made if an error is above the tolerance."""

from pathlib import Path
from typing import Any

import rnn_core as rc
from rnn_core.arrays import resolve_device
from rnn_core.compiled import made_on
from study.data import task_file
from study.job import running
from study.runs import gate
from study.runs.checks import CheckFailed
from study.tables import store
from study.tables.columns import columns_of


def main(snakemake: Any) -> None:
    p = snakemake.params
    device = resolve_device(p.device)
    data = {Path(file).stem: rc.Sequences(**task_file.load(file)) for file in snakemake.input.get("sequences", [])}
    try:
        rows = gate.table(p.sweeps, data, device, p.tolerance, spectra=p.spectra)
    except CheckFailed:
        gate.refuse(p.refused)
        raise
    footer = {"table": "checks", "sweeps": p.sweeps, "engine": p.engine, "device": made_on(device)}
    rows = rows or {column.name: [] for column in columns_of("checks")}  # every cell is the user's own
    store.write(store.build("checks", rows), snakemake.output.checks, footer)


if __name__ == "__main__":
    settings = "The study's settings cannot be run, so the engine was not checked. "
    # only a disagreement with PyTorch is the engine's
    expected = {ValueError: settings, RuntimeError: settings, CheckFailed: "The engine check stopped the study. "}
    with running(snakemake, expected):  # type: ignore[name-defined]  # noqa: F821
        main(snakemake)  # type: ignore[name-defined]  # noqa: F821
