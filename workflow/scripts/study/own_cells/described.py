"""What a config says of the user's own cells: ``cells: {mamba: {file: …, class: …, options: {state_size: [4, 16]}}}``.

An option with a list of values is swept. Each combination is a variant of the cell. In a plan it is named ``mamba:state_size=4``.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from typing import Any

from rnn_core.experiment import SEPARATOR
from study.plan import as_list

Described = Mapping[str, Any]
# What the proof of a cell asks of single steps, as the table of checks names it: nothing there is the engine's.
DIFFERENCES, ALONE = "central differences", "each sample alone"
OF_STEPS = (DIFFERENCES, ALONE)


def own_cells(config: Mapping[str, Any]) -> dict[str, Described]:
    """The cells that the config declares, by name."""
    return dict(config.get("cells", {}))


def variants(described: Described) -> dict[str | None, dict[str, Any]]:
    """Every variant with all of its options; of a cell without swept options the one variant None."""
    options = described.get("options", {})
    swept = {name: values for name, values in options.items() if isinstance(values, list)}
    if not swept:
        return {None: dict(options)}
    named: dict[str | None, dict[str, Any]] = {}
    for values in itertools.product(*swept.values()):
        chosen = dict(zip(swept, values, strict=True))
        named[",".join(f"{name}={_text(value)}" for name, value in chosen.items())] = {**options, **chosen}
    return named


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def expanded(cells: Iterable[Any], config: Mapping[str, Any]) -> list[Any]:
    """A grid's cells with every variant of the user's own: [gru, mamba] as [gru, mamba:state_size=4, mamba:state_size=16]."""
    declared = own_cells(config)
    several: list[Any] = []
    for cell in cells:
        known = variants(declared[cell]) if isinstance(cell, str) and cell in declared else {None: {}}
        several += [cell if variant is None else f"{cell}{SEPARATOR}{variant}" for variant in known]
    return several


def used(config: Mapping[str, Any]) -> list[str]:
    """The user's own cells that a sweep uses, in the order in which they are declared."""
    cells = {name_of(cell) for sweep in config["sweeps"].values() for cell in as_list(sweep["grid"].get("cell", []))}
    return [name for name in own_cells(config) if name in cells]


def name_of(cell: str) -> str:
    """mamba of ``mamba:state_size=4``."""
    return cell.partition(SEPARATOR)[0]
