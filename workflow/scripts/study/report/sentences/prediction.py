"""What the growth rate is predicted by, and why some networks have no prediction."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from rnn_core.experiment import SEPARATOR
from study.report.words import few, listed, marked_count, ordered
from study.wide import has_theory

THEORIES = {
    "operating point": "the operating point",
    "mean field": "mean field",
    "dynamic mean field": "dynamic mean field",
    "law at rest": "the law at rest",
    "linear law": "the linear law",
}
CHANGING = "slopes change"  # the fact that some networks have an operating point which is not their prediction
MOST_CELLS = 4


def prediction_sentences(networks: pd.DataFrame) -> list[str]:
    """What the prediction is, of how many networks; and how many of them have another end that mean field allows."""
    counts = networks["predicted_by"].value_counts()
    order = [name for name in THEORIES if name in counts]
    shares = [
        f"by {THEORIES[name]} for {marked_count(int(counts[name]), 'predicted_by', predicted_by=name)}"
        for name in order
    ]
    rest = int(networks["predicted_by"].isna().sum())
    everywhere = len(order) == 1 and not rest
    total = marked_count(len(networks), "networks_at_longest")
    have = "has" if rest == 1 else "have"
    without = (
        f" The other {marked_count(rest, 'unpredicted')} {have} no prediction.{_why_none(networks)}" if rest else ""
    )
    sentences = [f"Of {total} networks, the rate is predicted {listed(shares)}.{without}"] if shares else []
    if everywhere:
        sentences = [
            f"The rate is predicted by {THEORIES[order[0]]}{'' if len(networks) == 1 else ', in every network'}."
        ]
    both = int(networks["bistable"].fillna(False).astype(bool).sum())
    if both:
        of = "this network" if len(networks) == 1 else f"{marked_count(both, 'bistable')} of the networks"
        sentences.append(f"For {of}, mean field has a second solution, which a network may reach from large states.")
    return sentences


def slopes_change(networks: pd.DataFrame) -> pd.Series:
    """Networks whose slopes are known, and change so much over time that the operating point is no prediction."""
    steady = networks["predicted_by"].isin(["operating point", "linear law"])
    return networks["operating_rate"].notna() & ~steady


def _why_none(networks: pd.DataFrame) -> str:
    """Why no theory speaks of the networks without a prediction, in words of their cells."""
    without = networks[networks["predicted_by"].isna()]
    changing = slopes_change(without)
    gated = without[~changing & (without["cell"] != "vanilla")]
    stacks = gated["layers"] > 1
    alone = gated[~stacks]
    covered = np.array([has_theory(_set(row)) for row in alone.to_dict("records")], dtype=bool)
    reasons = [
        (without[changing], "slopes change over time, and mean field does not cover them"),
        (gated[stacks], "inputs of the layers above are not white, as dynamic mean field asks for"),
        (alone[covered], "dynamic mean field has no settled sample"),
        (alone[~covered], "dynamic mean field does not cover these cells, weights or inputs"),
    ]
    told = [f"For {_cells(rows)}, {why}." for rows, why in reasons if len(rows)]
    return "".join(f" {each}" for each in told)


def _set(row: Mapping[Any, Any]) -> dict[str, Any]:
    """The settings of a run; what is not set is None."""
    return {str(name): None if pd.isna(value) else value for name, value in row.items()}


def _cells(networks: pd.DataFrame) -> str:
    """Their cells, those of the user without their options."""
    names = dict.fromkeys(str(cell).partition(SEPARATOR)[0] for cell in ordered("cell", networks["cell"]))
    return few(names, MOST_CELLS)
