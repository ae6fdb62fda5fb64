"""docs/cells.md: every cell with its equations, its state and what computes it, from the registry of cells."""

from __future__ import annotations

import re
import sys

from rnn_core import CELLS, Cell, compiled
from rnn_core.flossing import COVERED as FLOSSED
from rnn_core.regularizers import COVERED
from study import PROJECT
from study.settings import described_axes

PAGE = PROJECT / "docs" / "cells.md"
DERIVATION = PROJECT / "rnn_core" / "README.md"

OPENING = """# Cells

Written from the code by `make docs`; do not edit.

A study names a cell by `cell:`, a program by its class. All have the same calls, and all work on NumPy and torch arrays, on CPU and CUDA.
The gradients of all are checked against the same [independent programs](trust.md#what-the-engine-is-checked-against).
A cell of your own, as a torch module, needs no change here: [your own model](own_model.md). A cell for this list: [extending](extending.md#a-cell).

| cell | class | equations | derivation |
|---|---|---|---|
"""

MIDDLE = """
What each has besides, and what computes it. "C" is the [fast path](engine.md#the-fast-path): without it NumPy takes the same steps, several times slower.
"Together" are [many runs at once](engine.md#many-runs) on a GPU. A dash is none.

| cell | gates | parts of the state | settings of its own | C | together | Ω | flossing |
|---|---|---|---|---|---|---|---|
"""


def page() -> str:
    """The page's text."""
    return OPENING + "".join(map(_equations, CELLS)) + MIDDLE + "".join(map(_abilities, CELLS))


def _equations(name: str) -> str:
    kind = CELLS[name]
    first = (kind.__doc__ or "").strip().splitlines()[0]
    return f"| `{name}` | `{kind.__name__}` | {_safe(first)} | {_section(kind)} |\n"


def _abilities(name: str) -> str:
    from rnn_core.batched import STEPS  # torch, which nothing else here waits for

    kind = CELLS[name]
    own = [f"`{setting}`" for setting, axis in described_axes().items() if name in axis["cells"]]
    cells = [
        f"`{name}`",
        ", ".join(kind.gates) if len(kind.gates) > 1 else "–",
        ", ".join(kind.state_names),
        ", ".join(own) or "–",
        "yes" if kind in compiled.COVERED else "–",
        "yes" if kind in STEPS else "–",
        "yes" if name in COVERED else "–",
        "yes" if name in FLOSSED else "–",
    ]
    return f"| {' | '.join(cells)} |\n"


def _section(kind: type[Cell]) -> str:
    """A link to the section that the cell's file names."""
    text = " ".join((sys.modules[kind.__module__].__doc__ or "").split())
    named = re.search(r"Derivation: \S+\.md, section (\d[\d.]*\d|\d)", text)
    if named is None:
        raise ValueError(f"{kind.__module__}: its first lines do not say which section derives the cell")
    heading = re.search(rf"^#+ {re.escape(named[1])} (.*)$", DERIVATION.read_text(encoding="utf-8"), re.MULTILINE)
    if heading is None:
        raise ValueError(f"rnn_core/README.md has no section {named[1]}, which {kind.__module__} names")
    return f"[{named[1]}](derivation.md#{_anchor(f'{named[1]} {heading[1]}')})"


def _anchor(heading: str) -> str:
    """A heading's anchor, as the site and GitHub make it."""
    return re.sub(r"[^\w\- ]", "", re.sub(r"[`*]", "", heading)).strip().lower().replace(" ", "-")


def _safe(text: str) -> str:
    """A docstring's line in a cell of a table."""
    return text.replace("|", "\\|").replace("``", "`")
