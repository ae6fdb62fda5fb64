"""What compiled steps keep of a gated cell: the least that the backward pass needs, and on demand what the cell's forward saves."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, overload

import numpy as np

from rnn_core.arrays import State
from rnn_core.cells.base import Cell


@dataclass(frozen=True)
class KeptSteps:
    """One entry a step, as a list of what ``cell.forward`` saves would be.

    Attributes:
        rows: (steps, rows, B); which rows, the cell's ``saved_from`` says.
        states: by name the states before the first step and after each, (steps + 1, H, B).
    """

    cell: Cell
    rows: np.ndarray
    states: State

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, index: int) -> Any: ...

    @overload
    def __getitem__(self, index: slice) -> KeptSteps: ...

    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            start, stop, _ = index.indices(len(self))
            stop = max(start, stop)
            return KeptSteps(
                self.cell, self.rows[start:stop], {name: part[start : stop + 1] for name, part in self.states.items()}
            )
        t = range(len(self))[index]
        before, after = ({name: part[t + k] for name, part in self.states.items()} for k in (0, 1))
        return self.cell.saved_from(self.rows[t], before, after)

    def __iter__(self) -> Iterator[Any]:
        return (self[t] for t in range(len(self)))

    def together(self) -> Any:
        """All steps at once: the arrays of an entry with a leading axis, (steps, rows, B)."""
        before, after = (
            {name: part[:-1] for name, part in self.states.items()},
            {name: part[1:] for name, part in self.states.items()},
        )
        return self.cell.saved_from(self.rows, before, after)
