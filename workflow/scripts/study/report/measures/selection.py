"""Which runs: those with some settings, the networks before training, the longest sequences; and which settings tell runs apart."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from study.report.measures.coded import coded, telling
from study.report.words import ordered
from study.settings import described_axes, steps_of

TRAINING = tuple(name for name, axis in described_axes().items() if axis["training"])  # without effect on a start
NOT_COMPARED = ("seed", "trace_every", "record_every", "validate_every", "held_out_sequences")
OF_CELLS = [name for name, axis in described_axes().items() if axis["cells"]]  # settings that only some cells have
# Runs that agree in these have one recurrent matrix, but for its scale.
NETWORK = [
    "cell",
    "activation",
    *OF_CELLS,
    "initializer",
    "flossing",
    "flossing_exponents",
    "hidden_size",
    "layers",
    "bidirectional",
    "seed",
]
ROUNDING = 1e-9  # ln per step: rates that differ by less are the same
IN_PLACE_OF = {"forget_bias": "chrono", "spectral_radius": "weight_scale"}  # what is not set because another is
SCALES = ("spectral_radius", "weight_scale")  # what scales a recurrent matrix: one of the two


def _numbers() -> tuple[str, ...]:
    """Settings of a start that are numbers: a figure may be set out along them. Of two with as many values the first one counts."""
    of_start = [name for name, axis in described_axes().items() if axis["kind"] in ("number", "integer")]
    of_start = [name for name in of_start if name not in TRAINING and name not in NOT_COMPARED]
    sizes = ("input_scale", "hidden_size", "batch_size", "sequence_length")
    return tuple(dict.fromkeys([*SCALES, *(name for name in of_start if name in OF_CELLS), *sizes, *of_start]))


NUMBERS = _numbers()


def settings() -> list[str]:
    """All settings of a run, in order."""
    return list(described_axes())


def flags_as_numbers(runs: pd.DataFrame) -> pd.DataFrame:
    """The runs with 0 and 1, which equal false and true, for flags. Of a list of false and true pandas makes a mask, not two values."""
    flags = [name for name, axis in described_axes().items() if axis["kind"] == "flag" and name in runs]
    return runs.assign(**{name: runs[name].map({False: 0, True: 1}) for name in flags})


def where(runs: pd.DataFrame, **chosen: Any) -> pd.DataFrame:
    """The runs with these settings; None is a setting that is not set."""
    for name, value in chosen.items():
        if isinstance(value, list | tuple):
            runs = runs[runs[name].isin(value)]
        else:
            runs = runs[runs[name].isna() if value is None or pd.isna(value) else runs[name] == value]
    return runs


def _in_turn() -> list[str]:
    """All settings; what stands in the place of another comes before it, or a network would be told by what it does not have."""
    names = list(settings())
    for of, instead in IN_PLACE_OF.items():
        names.remove(instead)
        names.insert(names.index(of), instead)
    return names


def varied(runs: pd.DataFrame, without: Iterable[str] = ()) -> list[str]:
    """Settings that tell these runs apart; one that follows from those before it (a task's learning rate) is not needed."""
    return telling(varying_codes(runs, without), len(runs))


def varying_codes(runs: pd.DataFrame, without: Iterable[str] = ()) -> dict[str, np.ndarray]:
    """The settings of which these runs have several values, in turn; of every run the number of its value."""
    each = {name: coded(runs[name]) for name in _in_turn() if name not in NOT_COMPARED and name not in without}
    return {name: codes for name, (codes, values) in each.items() if len(values) > 1}


def distinct_starts(runs: pd.DataFrame) -> pd.DataFrame:
    """Every start once, whatever sweeps and ways of training share it."""
    return runs.drop_duplicates(_of_start())


def _of_start() -> list[str]:
    """The settings that a network has before training, its seed among them."""
    return [name for name in settings() if name not in TRAINING]


def each_start(starts: pd.DataFrame) -> bytes:
    """What two groups of starts have in common if they are the same networks, in whatever order."""
    return bytes(np.sort(pd.util.hash_pandas_object(starts[_of_start()], index=False).to_numpy()).tobytes())


def same_rates(starts: pd.DataFrame) -> list[str]:
    """Settings that change no growth rate by construction. It is of the last step's loss alone, whatever other steps have one; and of the
    forward cell, whose state no reverse cell changes in a single layer."""
    of_one_layer = starts[starts["layers"] == 1]
    return [axis for axis, rows in (("loss_at", starts), ("bidirectional", of_one_layer)) if _agree(rows, axis)]


def distinct_rates(starts: pd.DataFrame) -> pd.DataFrame:
    """Every start once, of those that ``same_rates`` tells apart: the one direction, and of places of the loss the last step."""
    kept = starts
    for axis in same_rates(starts):
        others = [name for name in _of_start() if name != axis]
        first = kept.sort_values(axis, ascending=axis == "bidirectional", kind="stable")
        again = first.duplicated(others) & ((axis != "bidirectional") | (first["layers"] == 1))
        kept = first[~again].sort_index()
    return kept


def _agree(starts: pd.DataFrame, axis: str) -> bool:
    """Whether this axis varies, and no two networks that differ in it alone have two growth rates."""
    if starts[axis].nunique(dropna=False) < 2:
        return False
    others = [starts[name] for name in _of_start() if name != axis]
    rates = starts["growth_rate"].astype(float).groupby(others, dropna=False)
    with np.errstate(invalid="ignore"):  # −∞ on both sides is no difference
        apart = (rates.max() - rates.min()).fillna(0.0)
    return bool((apart < ROUNDING).all() and (rates.size() > 1).any())


def with_gradient(starts: pd.DataFrame) -> pd.DataFrame:
    """Those whose gradient is a number on all its way back. Of a state beyond the range of floats there is none that a format could lose."""
    return starts[starts["log10_gradient_ratio"].notna()]


def starts(runs: pd.DataFrame) -> pd.DataFrame:
    """Starts whose gradient has a way back (two steps at least): of the runs that train nothing; if there are none, of the others."""
    runs = runs[steps(runs) > 1]
    untrained = runs[runs["updates"] == 0]
    return distinct_starts(untrained if len(untrained) else runs)


def of_files_at_last_step(runs: pd.DataFrame) -> pd.DataFrame:
    """Starts on sequences of a file with a loss at their last steps and a gradient of numbers. Where a figure of the last step alone has nothing
    to draw of them, sequences end at different steps."""
    known = starts(runs)
    numbers = np.isfinite(known["log10_gradient_ratio"].astype(float))
    return known[(known["task_loss_at"] == "last") & known["data"].notna() & numbers]


def trained(runs: pd.DataFrame) -> pd.DataFrame:
    """Runs that train."""
    return runs[runs["updates"] > 0]


def at_longest(runs: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """The runs at the longest sequence of their kind."""
    T = runs["sequence_length"]
    if not by:
        return runs[T.max() == T]
    return runs[T.groupby([runs[name] for name in by], dropna=False).transform("max") == T]


def steps(runs: pd.DataFrame) -> pd.Series:
    """Time steps of every run's sequences, as its task says of its ``sequence_length``."""
    pairs = list(zip(runs["task"], runs["sequence_length"], strict=True))
    known = {(task, length): steps_of(str(task), int(length)) for task, length in set(pairs)}
    return pd.Series([known[pair] for pair in pairs], index=runs.index, dtype=int)


def grouped(runs: pd.DataFrame, axes: list[str]) -> list[tuple[dict[str, Any], pd.DataFrame]]:
    """Settings and runs for every combination of values of ``axes``, in order; a null setting is None."""
    if not axes:
        return [({}, runs)]
    values = [ordered(axis, runs[axis]) for axis in axes]
    by_key = {tuple(None if pd.isna(v) else v for v in key): rows for key, rows in runs.groupby(axes, dropna=False)}
    keys = [key for key in itertools.product(*values) if key in by_key]
    return [(dict(zip(axes, key, strict=True)), by_key[key]) for key in keys]


def by_setting(starts: pd.DataFrame) -> list[tuple[dict[str, Any], pd.DataFrame]]:
    """The networks of every setting: ``grouped`` by all that tells starts apart."""
    return grouped(starts, varied(starts, TRAINING))


def scale_of(runs: pd.DataFrame) -> str:
    """What scales the matrices of these networks: a weight scale where no spectral radius does."""
    by_weights = runs["spectral_radius"].isna().all() and runs["weight_scale"].notna().any()
    return "weight_scale" if by_weights else "spectral_radius"


def symbol_of(axis: str) -> str:
    """ρ of a spectral radius ρ."""
    return str(described_axes()[axis]["label"]).split()[-1]


def number_axis(runs: pd.DataFrame, axes: Sequence[str]) -> str | None:
    """What scales the recurrent matrix, if it is among these axes; else the number with the most values; None if no number is."""
    numbers = [axis for axis in NUMBERS if axis in axes and runs[axis].notna().all()]
    for scale in SCALES:
        if scale in numbers:
            return scale
    return max(numbers, key=lambda axis: int(runs[axis].nunique()), default=None)
