"""What the growth rate is predicted by, and why some networks have no prediction."""

from __future__ import annotations

import numpy as np
import pandas as pd

from rnn_core.experiment import SEPARATOR
from study.report.words import few, listed, marked_count, ordered
from study.wide import MOST, has_theory

THEORIES = {
    "operating point": "the operating point",
    "mean field": "mean field",
    "dynamic mean field": "dynamic mean field",
    "law at rest": "the law at rest",
    "linear law": "the linear law",
}
CHANGING = "slopes change"  # the fact that some networks have an operating point which is not their prediction
NOT_SAMPLED = f"dynamic mean field was not sampled: it covers more than {marked_count(MOST, 'most_sampled')} settings of this study"
MOST_CELLS = 4


def prediction_sentences(networks: pd.DataFrame, sampled: bool = True) -> list[str]:
    """What the prediction is, of how many networks, or why there is none; and how many have another end that mean field allows.

    Args:
        sampled: whether dynamic mean field was sampled for the settings that it covers.
    """
    counts = networks["predicted_by"].value_counts()
    order = [name for name in THEORIES if name in counts]
    shares = [
        f"by {THEORIES[name]} for {marked_count(int(counts[name]), 'predicted_by', predicted_by=name)}"
        for name in order
    ]
    without = networks[networks["predicted_by"].isna()]
    rest, why = len(without), _why_none(without, sampled)
    total = marked_count(len(networks), "networks_at_longest")
    have = "has" if rest == 1 else "have"
    others = f" The other {marked_count(rest, 'unpredicted')} {have} no prediction.{why}" if rest else ""
    if networks.empty:
        return []
    if not shares:
        sentences = [f"{'This network has no' if rest == 1 else 'No network has a'} prediction.{why}"]
    elif len(order) == 1 and not rest:
        sentences = [
            f"The rate is predicted by {THEORIES[order[0]]}{'' if len(networks) == 1 else ', in every network'}."
        ]
    else:
        sentences = [f"Of {total} networks, the rate is predicted {listed(shares)}.{others}"]
    both = int(networks["bistable"].fillna(False).astype(bool).sum())
    if both:
        of = "this network" if len(networks) == 1 else f"{marked_count(both, 'bistable')} of the networks"
        sentences.append(f"For {of}, mean field has a second solution, which a network may reach from large states.")
    return sentences


def slopes_change(networks: pd.DataFrame) -> pd.Series:
    """Networks whose slopes are known, and change so much over time that the operating point is no prediction."""
    steady = networks["predicted_by"].isin(["operating point", "linear law"])
    return networks["operating_rate"].notna() & ~steady


def with_dynamic_theory(networks: pd.DataFrame) -> pd.Series:
    """Networks of a cell, with weights and inputs, that dynamic mean field covers; of a stack, as if it had one layer."""
    rows = networks.to_dict("records")
    covered = [has_theory({str(name): None if pd.isna(v) else v for name, v in row.items()}) for row in rows]
    return pd.Series(covered, index=networks.index, dtype=bool)


def _why_none(networks: pd.DataFrame, sampled: bool) -> str:
    """Why no theory speaks of these networks, which have no prediction, in words of their cells."""
    covered, stacks = with_dynamic_theory(networks), networks["layers"] > 1
    slopes = networks["operating_rate"].astype(float)
    changing, flat = ~covered & np.isfinite(slopes), ~covered & np.isneginf(slopes)
    unknown = ~(covered | changing | flat)
    vanilla = networks["cell"] == "vanilla"
    reasons = [
        (changing, "slopes change over time, and mean field does not cover them"),
        (flat, "all slopes are zero, and mean field does not cover them"),
        (unknown & vanilla, "the slopes are not numbers, and mean field does not cover them"),
        (covered & stacks, "inputs of the layers above are not white, as dynamic mean field asks for"),
        (covered & ~stacks, "dynamic mean field has no settled sample" if sampled else NOT_SAMPLED),
        (unknown & ~vanilla, "dynamic mean field does not cover these cells, weights or inputs"),
    ]
    told = [f"For {_cells(networks[rows])}, {why}." for rows, why in reasons if rows.any()]
    return "".join(f" {each}" for each in told)


def _cells(networks: pd.DataFrame) -> str:
    """Their cells, those of the user without their options."""
    names = dict.fromkeys(str(cell).partition(SEPARATOR)[0] for cell in ordered("cell", networks["cell"]))
    return few(names, MOST_CELLS)
