"""The table ``theory``: dynamic mean field of every setting that has one; and what follows from it for the runs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import rnn_core as rc
from rnn_core.cells import make_cell
from study.files.writing import reading
from study.plan import Settings
from study.tables import store
from study.tables.columns import columns_of
from study.wide import SETTING, UNITS

DIGITS = 3  # of sigma_w, so that settings which differ by chance alone share a sample; it changes a rate by less than its error
AT_REST_BELOW = (
    0.25  # root mean square of the preactivations: gates then stay near ½, and the law at rest is the better ruler
)


def write_theory(settings: Iterable[Settings], file: str | Path, provenance: Mapping[str, Any]) -> None:
    """The rows of these settings."""
    rows = [row_of(setting) for setting in settings]
    columns = {c.name: [row[c.name] for row in rows] for c in columns_of("theory")}
    store.write(store.build("theory", columns), file, {**provenance, "table": "theory"})


def row_of(setting: Settings) -> dict[str, Any]:
    """What the theory says of one setting. sigma_w is that of its networks: the root mean square over seeds and gates."""
    settings = {name: setting[name] for name in SETTING}
    squares = []
    for seed in range(setting["seeds"]):
        experiment = rc.Experiment(**settings, sequence_length=1, batch_size=1, seed=seed)
        W = rc.prepare(experiment).params["weight_hh"]
        squares.append(float((W**2).sum()) / len(W))
    sigma_w = float(f"{math.sqrt(np.mean(squares)):.{DIGITS}g}")
    sigma_u = float(setting["input_scale"])
    options = tuple((name, setting[f"{setting['cell']}_{name}"]) for name in rc.CELLS[setting["cell"]].options)
    bias = setting["forget_bias"] or 0.0, setting["chrono"]
    sampled = _sampled(setting["cell"], setting["activation"], options, sigma_w, sigma_u, bias)
    return {
        **setting,
        "sigma_w": sigma_w,
        "sigma_u": sigma_u,
        "dynamic_rate": sampled.rate if sampled.settled else math.nan,
        "dynamic_error": sampled.error if sampled.settled else math.nan,
        "hidden_rms": sampled.hidden_rms,
        "preactivation_rms": math.hypot(sigma_w * sampled.hidden_rms, sigma_u),
    }


@lru_cache(maxsize=1024)
def _sampled(
    name: str,
    activation: str,
    options: tuple[tuple[str, float | None], ...],
    sigma_w: float,
    sigma_u: float,
    bias: tuple[float, int | None],
) -> rc.theory.DynamicRate:
    cell = make_cell(name, activation, **{option: value for option, value in options if value is not None})
    forget_bias, chrono = bias
    return rc.theory.dynamic_mean_field(cell, sigma_w**2, sigma_u**2, forget_bias, chrono=chrono, units=UNITS)


class Theory:
    """The rows of some tables ``theory``, by setting."""

    def __init__(self, files: Iterable[str | Path]) -> None:
        self.rows: dict[tuple[Any, ...], dict[str, Any]] = {}
        for file in files:
            with reading(file):
                for row in pq.read_table(file).to_pylist():
                    self.rows[(row["sweep"], *(row[name] for name in SETTING))] = row

    def join(self, runs: pa.Table) -> pa.Table:
        """Fill in ``dynamic_rate``. Where a run has no other prediction, it becomes the prediction, or the law at rest does."""
        if not self.rows:
            return runs
        names = ("dynamic_rate", "predicted_rate", "predicted_by", "deviation")
        keys = zip(runs["sweep"].to_pylist(), *(runs[name].to_pylist() for name in SETTING), strict=True)
        known = {name: runs[name].to_pylist() for name in (*names, "linear_rate", "rest_rate", "growth_rate")}
        layers = runs["layers"].to_pylist()
        for i, key in enumerate(keys):
            row = self.rows.get(key)
            if row is None or row["dynamic_rate"] is None or layers[i] != 1:  # inputs of a layer above are not white
                continue
            known["dynamic_rate"][i] = row["dynamic_rate"]
            if known["predicted_by"][i] is None:
                rest = known["rest_rate"][i] if known["linear_rate"][i] is None else None
                predicted, by = prediction(row["dynamic_rate"], row["preactivation_rms"], rest)
                known["predicted_rate"][i], known["predicted_by"][i] = predicted, by
                growth = known["growth_rate"][i]
                known["deviation"][i] = None if growth is None else growth - predicted
        for name in names:
            index = runs.schema.get_field_index(name)
            field = runs.schema.field(index)
            runs = runs.set_column(index, field, pa.array(known[name], field.type, from_pandas=True))
        return runs


def prediction(dynamic: float, preactivation_rms: float, rest: float | None) -> tuple[float, str]:
    """(rate, by what) of a run that has neither an operating point nor a static theory.

    Args:
        rest: the law at rest of a gated network; None where it has none.
    """
    if rest is not None and math.isfinite(rest) and preactivation_rms < AT_REST_BELOW:
        return rest, "law at rest"
    return dynamic, "dynamic mean field"
