"""What the times say: ratios, targets, and where the worst is. From results.json alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Entry = dict[str, Any]  # of the grid: one cell, regime, size, dtype and length
PYTORCH, BY_HAND, NO_TRACE = ("torch_eager", "torch_nn", "torch_func"), "numpy_loop", "torch_nn"
BEYOND = 0.2  # a run is beyond the range of floats if so many of its steps are
FRACTION = {  # of the large matrix-product rate, float64, by H
    "AVX-512": {32: 0.35, 64: 0.55, 128: 0.70, 256: 0.80, 512: 0.80},
    "AVX2": {32: 0.28, 64: 0.48, 128: 0.65, 256: 0.74, 512: 0.74},
}


def times(entry: Entry, names: Callable[[str, Mapping[str, Any]], bool]) -> dict[str, float]:
    """Peers' times by ours, of those that ``names`` chooses by name and row."""
    ours = entry["contenders"]["ours"]["median_ms"]
    rows = ((name, row) for name, row in entry["contenders"].items() if name != "ours")
    return {name: row["median_ms"] / ours for name, row in rows if names(name, row)}


def least(ratios: Mapping[str, float]) -> tuple[float, str] | None:
    """(the smallest, whose it is), None of none."""
    return min(((ratio, name) for name, ratio in ratios.items()), default=None)


def ratio(entry: Entry) -> tuple[float, str]:
    """The ratio of a place in the grid: the fastest of all right peers, and of PyTorch whether it is right or not."""
    least_of_all = least(times(entry, lambda name, row: row.get("right", True) or name in PYTORCH))
    assert least_of_all is not None, "PyTorch can do everything"
    return least_of_all


def by_itself(entry: Entry, peer: str) -> float:
    """One peer's time by ours, its answer right or wrong."""
    rows = entry["contenders"]
    return float(rows[peer]["median_ms"] / rows["ours"]["median_ms"])


def some_right(entry: Entry) -> bool:
    """Whether any other program's answer is right."""
    return any(name != "ours" and row.get("right", True) for name, row in entry["contenders"].items())


def short(value: float) -> str:
    """A ratio as tables print it; never rounded up to what it does not reach."""
    digits = 2 if value < 10.0 else 1
    return f"{math.floor(value * 10**digits) / 10**digits:.{digits}f}"


def where(entry: Entry, peer: str | None = None) -> str:
    """In words."""
    words = f"{entry['cell']}, {entry['regime']}, {entry['dtype']}, H = {entry['hidden_size']}, T = {entry['length']}"
    return words if peer is None else f"{words}, beside {label(entry, peer)}"


def label(entry: Entry, peer: str) -> str:
    """What a peer is called, and whether its answer is wrong there."""
    row = entry["contenders"][peer]
    return row["label"] if row.get("right", True) else f"{row['label']}, whose answer is wrong"


def said(entry: Entry) -> str:
    """One line while it is measured."""
    ours = entry["contenders"]["ours"]["median_ms"]
    each = ", ".join(
        f"{name} {value:.2f}{'' if entry['contenders'][name]['right'] else ' (wrong)'}"
        for name, value in times(entry, lambda name, row: True).items()
    )
    return f"{ratio(entry)[0]:5.2f}  {where(entry)}: {ours:.2f} ms; {each}"


@dataclass(frozen=True)
class Judged:
    """One place at which a target applies."""

    value: float
    bound: float
    place: str
    at_most: bool = False

    @property
    def met(self) -> bool:
        return self.value <= self.bound if self.at_most else self.value >= self.bound

    @property
    def slack(self) -> float:
        """Above 1: by how much it is met."""
        return self.bound / self.value if self.at_most else self.value / self.bound


def _right(row: Mapping[str, Any]) -> bool:
    return bool(row["right"])


def _at_least(entries: Sequence[Entry], bound: Callable[[Entry], float], names: Callable[[str, Mapping[str, Any]], bool]) -> list[Judged]:  # fmt: skip
    fastest_of_each = ((entry, least(times(entry, names))) for entry in entries)
    return [Judged(best[0], bound(entry), where(entry, best[1])) for entry, best in fastest_of_each if best is not None]


def out_of_range(entries: Sequence[Entry]) -> list[Judged]:
    """A run beyond the range of floats by the same run in range: same cell, size, dtype and length, same rounds."""
    groups: dict[tuple[Any, ...], dict[str, Entry]] = {}
    for entry in entries:
        key = tuple(entry[name] for name in ("cell", "hidden_size", "dtype", "length"))
        groups.setdefault(key, {})[entry["regime"]] = entry
    judged = []
    for group in groups.values():
        inside = group["critical"]["contenders"]["ours"]["median_ms"]
        for entry in group.values():
            if entry["beyond"] >= BEYOND:
                value = entry["contenders"]["ours"]["median_ms"] / inside
                judged.append(Judged(value, 1.25, where(entry), at_most=True))
    return judged


def fractions(rates: Sequence[Mapping[str, Any]], width: str) -> list[Judged]:
    """Of the matrix-product rate, in range and out of range."""
    return [
        Judged(each["fraction"], FRACTION[width][rate["hidden_size"]], f"vanilla tanh, {regime}, float64, H = {rate['hidden_size']}, T = {rate['length']}")
        for rate in rates for regime, each in rate["ours"].items()
    ]  # fmt: skip


def judged(results: Mapping[str, Any]) -> dict[str, list[Judged]]:
    """Every place of every target."""
    width = results["machine"]["instructions"]
    entries: list[Entry] = results["grid"]
    gated = [entry for entry in entries if entry["cell"] in ("GRU", "LSTM")]
    plain = [entry for entry in entries if entry not in gated]
    return {
        "never slower than a peer whose answer is right": _at_least(entries, lambda _: 1.0, lambda _, row: _right(row)),
        "never slower than PyTorch, right or wrong": _at_least(entries, lambda _: 1.0, lambda name, _: name in PYTORCH),
        "vanilla and residual, beside PyTorch and JAX": _at_least(
            plain,
            lambda entry: 2.0 if entry["hidden_size"] == 64 else 1.5,
            lambda name, row: name != BY_HAND and _right(row),
        ),
        "GRU and LSTM, beside all that give a trace": _at_least(
            gated, lambda _: 1.5, lambda name, row: name != NO_TRACE and _right(row)
        ),
        "GRU and LSTM, beside `torch.nn` without a trace": _at_least(
            gated, lambda _: 1.1, lambda name, _: name == NO_TRACE
        ),
        "beyond the range of floats by in range": out_of_range(entries),
        "fraction of the matrix-product rate": fractions(results["rates"], width),
    }


def worst(entries: Sequence[Entry]) -> Entry:
    """The place of the grid with the smallest ratio."""
    return min(entries, key=lambda entry: ratio(entry)[0])


def best(entries: Sequence[Entry]) -> Entry:
    """The place with the largest."""
    return max(entries, key=lambda entry: ratio(entry)[0])


def summary(results: Mapping[str, Any]) -> list[str]:
    """Lines for the terminal: the targets, then the worst twenty places."""
    lines = ["", "Targets:"]
    for name, places in judged(results).items():
        if places:
            low = min(places, key=lambda place: place.slack)
            met = sum(place.met for place in places)
            lines.append(
                f"  {met:3} of {len(places):3}  {name}: worst {low.value:.3f} for {low.bound:.2f}, {low.place}"
            )
    lines += ["", "Worst places:"]
    ranked = sorted(results["grid"], key=lambda entry: ratio(entry)[0])[:20]
    return [*lines, *(f"  {ratio(entry)[0]:.3f}  {where(entry, ratio(entry)[1])}" for entry in ranked)]
