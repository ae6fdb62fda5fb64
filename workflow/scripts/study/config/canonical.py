"""One form for a config that may be written in several: a range becomes the list of its values, 2.0 becomes 2.

A cell of the user's own becomes its variants, where its options are swept.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

from rnn_core.experiment import Request
from rnn_core.scalars import is_number
from study.config.mistakes import Problem
from study.own_cells.described import expanded
from study.plan import as_list
from study.settings import described_axes

LONGEST_RANGE = 10_000  # values


def canonical(config: Mapping[str, Any]) -> dict[str, Any]:
    """The config that the workflow goes by. It says nothing about this one call (``confirm_runs``).

    Args:
        config: it has the form of a study (``approval.check_form``).
    """
    plain = copy.deepcopy(dict(config))
    plain.pop("confirm_runs", None)
    kinds = {axis: described["kind"] for axis, described in described_axes().items()}
    for described in plain["sweeps"].values():
        described["seeds"] = _whole(described["seeds"])
        grid = described["grid"]
        for axis, values in grid.items():
            if isinstance(values, Mapping):
                grid[axis] = values_of_range(values)
            if kinds[axis] == "integer":
                values = grid[axis]
                grid[axis] = [_whole(value) for value in values] if isinstance(values, list) else _whole(values)
        if "cell" in grid and grid["cell"] != (cells := expanded(as_list(grid["cell"]), plain)):
            grid["cell"] = cells if len(cells) > 1 or isinstance(grid["cell"], list) else cells[0]
    plain["gate"]["checked_runs_per_job"] = _whole(plain["gate"]["checked_runs_per_job"])
    if "spectra" in plain:
        given = {
            key: [_whole(v) for v in value] if isinstance(value, list) else _whole(value)
            for key, value in plain["spectra"].items()
        }
        plain["spectra"] = {
            "exponents": Request.exponents,
            "singular_values": list(Request.singular_values),
            "samples": Request.samples,
            **given,
        }
    if "cliff" in plain:
        plain["cliff"] = {key: _whole(value) for key, value in plain["cliff"].items()}
    return plain


def _whole(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value


def values_of_range(described: Mapping[str, Any]) -> list[Any]:
    """``{from: 0.1, to: 0.3, step: 0.1}`` as [0.1, 0.2, 0.3]. It counts in decimals, so no value has a rounding error."""
    start, stop, step = _ends_and_step(described)
    whole = all(isinstance(described[key], int) for key in ("from", "to", "step"))
    count = int((stop - start) / step) + 1
    return [int(value) if whole else float(value) for value in (start + step * index for index in range(count))]


def range_mistakes(config: Mapping[str, Any]) -> Iterator[Problem]:
    """What is wrong with ranges: each must go upwards, and its steps must meet its end."""
    for sweep, described in config["sweeps"].items():
        for axis, given in described["grid"].items():
            if isinstance(given, Mapping) and (mistake := _range_mistake(given)):
                yield ("sweeps", sweep, "grid", axis), mistake


def cliff_mistakes(config: Mapping[str, Any]) -> Iterator[Problem]:
    """What is wrong with the key ``cliff`` that its form does not show."""
    given = config.get("cliff", {})
    for key in ("weights", "biases"):
        low, high = given.get(key, (0.0, 1.0))
        if not low < high:
            yield (
                ("cliff", key),
                f"[{low:g}, {high:g}] is not allowed; write the lower end first, and another one behind it",
            )
    for i, rule in enumerate(given.get("clipping", [])):
        if rule.startswith("signal"):
            yield (
                ("cliff", "clipping", i),
                f"{rule!r} acts on the way back, and one unit has no such way to look at; name another rule",
            )


def _range_mistake(given: Mapping[str, Any]) -> str:
    """What is wrong with one range; empty if nothing is."""
    if not all(is_number(value) for value in given.values()):
        return "from, to and step must be finite, and no larger than floating-point numbers are"
    start, stop, step = _ends_and_step(given)
    if stop < start:
        return f"to: {given['to']} is below from: {given['from']}; give the smaller value first"
    steps = (stop - start) / step
    if steps > LONGEST_RANGE:
        return f"has {int(steps) + 1:,} values; at most {LONGEST_RANGE:,} are allowed"
    if steps != int(steps):
        below = start + int(steps) * step
        return f"steps of {given['step']} from {given['from']} do not meet to: {given['to']}; write {below} or {below + step}"
    return ""


def _ends_and_step(described: Mapping[str, Any]) -> tuple[Decimal, Decimal, Decimal]:
    start, stop, step = (Decimal(str(described[key])) for key in ("from", "to", "step"))
    return start, stop, step
