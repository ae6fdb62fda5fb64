"""How many gradients vanish, stay and explode, and at which spectral radius their growth turns from shrinking to growing."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd

from rnn_core import CELLS
from rnn_core.theory import REGIMES
from rnn_core.theory.growth import ALIGNING
from study.report import statistics
from study.report.measures.selection import scale_of, steps, symbol_of


def regime_counts(runs: pd.DataFrame) -> dict[str, int]:
    """How many networks vanish, stay and explode; how many have no number."""
    counts = {regime: int((runs["regime"] == regime).sum()) for regime in REGIMES}
    return counts | {"not finite": len(runs) - sum(counts.values())}


def median_decades(runs: pd.DataFrame) -> float:
    """log10(‖∂L/∂h_1‖/‖∂L/∂h_T‖), the median over networks; nan where no network has a number."""
    known = runs["log10_gradient_ratio"].dropna().to_numpy(dtype=float)
    return statistics.median(known).value if len(known) else math.nan


def predicted_decades(runs: pd.DataFrame) -> float:
    """The same by theory: predicted_rate over all steps but one; nan where it says nothing of a network."""
    decades = runs["predicted_rate"].astype(float) * (steps(runs) - 1) / math.log(10.0)
    return math.nan if decades.isna().any() else statistics.median(decades.to_numpy()).value


def end_early(runs: pd.DataFrame) -> pd.Series:
    """Runs at a length before which some sequences of their file are known to end: the settled window of a batch stops before that of T steps."""
    T = steps(runs)
    full = T - np.minimum(ALIGNING, (T - 1) // 2)  # rnn_core.theory.settled_windows
    early = runs["data"].notna() & (runs["settled_to"] < full)
    return early.groupby([runs["data"], runs["sequence_length"]], dropna=False).transform("any")


ALIKE = 0.01  # relative: radii of one network that differ by less, as its inputs are others


class Window(NamedTuple):
    """The settled window, in which growth rates are measured: its first and last step, medians over networks of as many steps."""

    steps: int
    first: float
    last: float
    networks: int


def window(networks: pd.DataFrame) -> Window | None:
    """That of the longest sequences; None where no rate is measured."""
    known = networks.dropna(subset=["settled_from", "settled_to"])
    if known.empty:
        return None
    known = known[steps(known) == steps(known).max()]
    return Window(
        int(steps(known).max()), float(known["settled_from"].median()), float(known["settled_to"].median()), len(known)
    )


@dataclass(frozen=True)
class Critical:
    """Where growth turns from shrinking to growing, over the networks (seeds) of one kind.

    ``radius``: the median over networks, with its interval; infinite where most never turn. ``gap``: the distance between the
    values tried around it. ``axis``: what scales the matrices, a spectral radius or a weight scale; so a "radius" may be a σ_w.
    """

    radius: statistics.Interval
    turning: int
    shrinking: int
    growing: int
    unordered: int
    gap: float
    axis: str = "spectral_radius"

    @property
    def symbol(self) -> str:
        """ρ, or σ_w."""
        return symbol_of(self.axis)

    @property
    def networks(self) -> int:
        return self.turning + self.shrinking + self.growing + self.unordered

    @property
    def places(self) -> int:
        """Digits after the point that the radii tried can bear."""
        if not self.gap > 0 or not math.isfinite(self.gap):
            return 2
        return max(0, -math.floor(math.log10(self.gap / 5)))


def crossings(runs: pd.DataFrame, rate: str = "growth_rate") -> dict[int, statistics.Crossing]:
    """By seed, where ``rate`` crosses zero over what scales the matrix."""
    by_seed, axis = {}, scale_of(runs)
    for seed, rows in runs.groupby("seed"):
        rows = rows.groupby(axis)[rate].mean()
        by_seed[int(seed)] = statistics.crossing(rows.index.to_numpy(dtype=float), rows.to_numpy(dtype=float))
    return by_seed


def critical(runs: pd.DataFrame, rate: str = "growth_rate") -> Critical | None:
    """The critical spectral radius, or weight scale, of networks of one kind; None with fewer than two, or where nothing is a number."""
    axis = scale_of(runs)
    if runs[axis].nunique() < 2:
        return None
    by_seed = crossings(runs, rate)
    at = np.array([each.at for each in by_seed.values()])
    if np.isnan(at).all():
        return None
    known = at[~np.isnan(at)]
    radius = statistics.median(known)
    turning = [each for each in by_seed.values() if math.isfinite(each.at)]
    gaps = [each.above - each.below for each in turning if each.below < radius.value < each.above]
    exact = [each for each in turning if each.below == each.above]
    radii = np.sort(runs[axis].unique())
    around = [high - low for low, high in itertools.pairwise(radii) if low <= radius.value <= high]
    gap = min([*gaps, *around], default=math.nan) if gaps or exact or around else math.nan
    return Critical(
        radius,
        turning=len(turning),
        shrinking=int((known == math.inf).sum()),
        growing=int((known == -math.inf).sum()),
        unordered=int(np.isnan(at).sum()),
        gap=float(gap),
        axis=axis,
    )


def theory_critical(runs: pd.DataFrame) -> Critical | None:
    """Where theory turns, over the networks of one kind; None where no theory says so, or where the rows are of several kinds.

    It is the column ``critical_radius_predicted``, a root and no crossing of the radii tried: infinite if theory never turns, 0 if it grows
    at every radius. Where dynamic mean field is known for every network, it is where that crosses zero. The column is then the law
    at rest, and inputs move these cells away from there. The column is a ρ: of a weight scale it is where the prediction crosses zero.
    """
    if turning_theory(runs) == "dynamic mean field":
        return critical(runs, "dynamic_rate")
    if scale_of(runs) == "weight_scale":
        return critical(runs, "predicted_rate") if turning_theory(runs) else None
    by_seed = runs.groupby("seed")["critical_radius_predicted"]
    at = by_seed.median().dropna().to_numpy(dtype=float)
    if not len(at) or not np.isclose(by_seed.min(), by_seed.max(), rtol=ALIKE, equal_nan=True).all():
        return None
    never, always = int(np.isposinf(at).sum()), int((at == 0.0).sum())
    radius = statistics.median(np.where(at == 0.0, -math.inf, at))
    return Critical(
        radius, turning=len(at) - never - always, shrinking=never, growing=always, unordered=0, gap=math.nan
    )


def turning_theory(runs: pd.DataFrame) -> str:
    """By which theory ``theory_critical`` is, of networks of one kind; empty where there is none."""
    if runs["dynamic_rate"].notna().all():
        return "dynamic mean field"
    if scale_of(runs) == "weight_scale":
        rulers = runs["predicted_by"].unique()
        return str(rulers[0]) if len(rulers) == 1 and runs["predicted_rate"].notna().all() else ""
    if runs["critical_radius_predicted"].isna().all():
        return ""
    if (runs["activation"] == "identity").all():
        return "linear law"
    return "mean field" if (runs["cell"] == "vanilla").all() else "law at rest"


RATE_OF = {
    "linear law": "linear_rate", "mean field": "mean_field_rate", "dynamic mean field": "dynamic_rate", "law at rest": "rest_rate",
    "operating point": "operating_rate",
}  # fmt: skip
BETWEEN = 17  # places from one value tried to the next


def along_scale(runs: pd.DataFrame, column: str) -> pd.Series:
    """A theory's mean rate over networks of one kind, by what scales the matrix: straight in its logarithm between the values tried, as crossings are.

    Of the theory that says where growth turns, the line passes there, too.
    """
    rate, axis = runs[column].astype(float), scale_of(runs)
    mean = rate.where(np.isfinite(rate)).groupby(runs[axis].astype(float)).mean()
    known = _through_its_root(mean[mean.index > 0], runs, column)
    if len(known) < 2:
        return mean
    places = np.unique([np.geomspace(low, high, BETWEEN) for low, high in itertools.pairwise(known.index)])
    between = pd.Series(np.interp(np.log(places), np.log(known.index), known), index=places)
    return pd.concat([mean[mean.index <= 0], between])


def _through_its_root(mean: pd.Series, runs: pd.DataFrame, column: str) -> pd.Series:
    """With the root of a theory as a place of its own, where its rates at the values beside it are on both sides of zero."""
    critical = theory_critical(runs)
    if critical is None or RATE_OF.get(turning_theory(runs)) != column:
        return mean
    at = critical.radius.value
    below, above = mean[mean.index < at], mean[mean.index > at]
    if at in mean.index or below.empty or above.empty or not below.iloc[-1] < 0.0 < above.iloc[0]:
        return mean
    return pd.concat([below, pd.Series({at: 0.0}), above])


# By cell, what the linear law's ρ is of, where that is not the recurrent matrix: captions say it.
LINEAR_MATRICES = {name: cell.linear_matrix for name, cell in CELLS.items() if cell.linear_matrix}

# By cell, what a step back multiplies by at rest: with zero biases, and with others.
REST_MATRICES = {name: cell.rest_matrices for name, cell in CELLS.items() if cell.rest_matrices}


def has_gate_biases(runs: pd.DataFrame) -> pd.Series:
    """Whether a gate starts with biases that are not zero."""
    return runs["chrono"].notna() | (runs["forget_bias"].astype(float).fillna(0.0) != 0.0)


def rest_matrices(cells: pd.Series, biased: pd.Series) -> list[str]:
    """What captions are told to explain of the law at rest of networks of these cells: the formula of each, and the letters in them."""
    formulas = {
        cell: matrices[bool(biased[cells == cell].any())]
        for cell, matrices in REST_MATRICES.items()
        if (cells == cell).any()
    }
    letters = {"W at rest": "W", "b at rest": "b_"}
    return [
        *(f"{cell}: {formula}" for cell, formula in formulas.items()),
        *(name for name, letter in letters.items() if any(letter in formula for formula in formulas.values())),
    ]


def has_law_at_rest(runs: pd.DataFrame) -> pd.Series:
    """Whether the law at rest stands for the linear law: a gated cell has none."""
    return runs["linear_rate"].isna() & runs["rest_rate"].notna()


def law(runs: pd.DataFrame) -> pd.Series:
    """What would hold without an activation function; for a gated cell, what holds at rest. nan where there is neither."""
    return runs["linear_rate"].astype(float).where(runs["linear_rate"].notna(), runs["rest_rate"].astype(float))


def is_linear(runs: pd.DataFrame) -> pd.Series:
    """Whether a step is linear in the state: the identity in a cell without gates."""
    return (runs["activation"] == "identity") & runs["linear_rate"].notna()


def never_settled(runs: pd.DataFrame) -> pd.DataFrame:
    """Networks whose state has not reached a usual size where the growth rate is measured, although that decides the rate.

    The settled window then begins as late as it may (rnn_core.theory.settled_window). The slopes of a linear network know no size.
    """
    latest = (runs["settled_to"] - 1) // 2
    return runs[(runs["settled_from"] - 1 >= latest) & ~is_linear(runs)]


def partly_dead(runs: pd.DataFrame) -> pd.DataFrame:
    """Networks of which some samples have a gradient of exactly zero, and the others a growth rate."""
    return runs[
        runs["dead_samples"].between(0.0, 1.0, inclusive="neither") & np.isfinite(runs["growth_rate"].astype(float))
    ]
