"""The recorded gradients of trained runs: which updates are drawn, and the norm at every step relative to the last step's."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow.dataset as ds

from study.report import facets, measures, reader

MOST_LAGS = 200


def recorded_updates(tables: reader.Tables, runs: pd.DataFrame) -> pd.DataFrame:
    """run_key, update, when: the first recorded update, the one nearest to the middle, and the last if training came to its end."""
    keys = runs["run_key"].unique().tolist()
    pieces = [
        rows.drop_duplicates()
        for rows in tables.pieces(
            "traces", ["run_key", "update"], ds.field("run_key").isin(keys) & (ds.field("lag") == 0)
        )
    ]
    recorded = (
        pd.concat(pieces, ignore_index=True).drop_duplicates()
        if pieces
        else pd.DataFrame(columns=["run_key", "update"])
    )
    broken = set(runs.loc[runs["broken"], "run_key"])
    moments = []
    for key, rows in recorded.groupby("run_key"):
        updates = sorted(rows["update"])
        if len(updates) < 2 or key in broken:
            continue
        between = updates[1:-1]
        half = updates[-1] / 2
        middle = between[int(np.abs(np.array(between) - half).argmin())] if between else None
        moments += [(key, updates[0], "before"), (key, updates[-1], "after")]
        moments += [(key, middle, "middle")] if middle is not None else []
    return pd.DataFrame(moments, columns=["run_key", "update", "when"])


def first_step_ends(tables: reader.Tables, runs: pd.DataFrame, moments: pd.DataFrame) -> pd.DataFrame:
    """By run: the gradient at the first step relative to the last step's, before training (first) and after it (final)."""
    two = moments[moments["when"] != "middle"]
    wanted = (
        ds.field("run_key").isin(two["run_key"].unique().tolist())
        & ds.field("update").isin(two["update"].unique().tolist())
        & ((ds.field("t") == 1) | (ds.field("lag") == 0))
    )
    rows = pd.concat(list(tables.pieces("traces", ["run_key", "update", "t", "lag", "log10_grad_norm"], wanted)))
    rows = rows.drop_duplicates(["run_key", "update", "t"]).merge(two, on=["run_key", "update"])
    first = rows[rows["t"] == 1].set_index(["run_key", "when"])["log10_grad_norm"]
    last = rows[rows["lag"] == 0].set_index(["run_key", "when"])["log10_grad_norm"]
    wide = _relative(first, last.reindex(first.index)).unstack()
    updates = two[two["when"] == "after"].set_index("run_key")["update"].rename("last_update")
    return wide.rename(columns={"before": "first", "after": "final"}).join(updates).reset_index()


def _relative(norm: pd.Series, last: pd.Series) -> pd.Series:
    """Decades; −∞ where a gradient is exactly zero, no number where the last step's is."""
    return (norm - last.where(np.isfinite(last))).where(np.isfinite(last))


def relative_norms(tables: reader.Tables, drawn: pd.DataFrame, moments: pd.DataFrame) -> pd.DataFrame:
    """run_key, when, update, lag, relative; of long sequences some lags evenly spread."""
    moments = moments[moments["run_key"].isin(drawn["run_key"])]
    lags = {lag for T in measures.steps(drawn).unique() for lag in facets.spread(range(T), MOST_LAGS)}
    wanted = (
        ds.field("run_key").isin(moments["run_key"].unique().tolist())
        & ds.field("update").isin(moments["update"].unique().tolist())
        & ds.field("lag").isin(sorted(lags))
    )
    rows = pd.concat(list(tables.pieces("traces", ["run_key", "update", "lag", "log10_grad_norm"], wanted)))
    rows = rows.drop_duplicates(["run_key", "update", "lag"]).merge(moments, on=["run_key", "update"])
    last = rows[rows["lag"] == 0].set_index(["run_key", "when"])["log10_grad_norm"]
    index = pd.MultiIndex.from_frame(rows[["run_key", "when"]])
    relative = _relative(rows["log10_grad_norm"].reset_index(drop=True), last.reindex(index).reset_index(drop=True))
    return (
        rows.assign(relative=relative.to_numpy()).drop(columns="log10_grad_norm").rename(columns={"update": "moment"})
    )
