"""What the engine asks of a cell of which it knows no equations. Cells that have some leave it as it stands here."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, ClassVar, Self

import numpy as np

from rnn_core.arrays import Array, Params, State


class BadStep(Exception):
    """A step is not what a step has to be. The message goes on after "the cell … at step t = 7"."""


class Hooks:
    """What only an opaque cell, as ``TorchCell``, answers otherwise.

    Attributes:
        opaque: nothing is known of a step but its program. Then u_t is x_t itself, ``backward`` returns dL/dx_t as du, and as
            dv the gradients that it was given, from which ``parameter_gradients`` of many steps are found together.
        any_batch: several batches may be put side by side, as if they were one.
    """

    opaque: ClassVar[bool] = False
    any_batch: bool = True

    def bound(self, params: Params, x: Array, state: Any) -> tuple[Self, State | None]:
        """The cell for inputs like x (T, B, D), and the state by name: of an opaque cell, which learns here what its states look like."""
        return self, state

    def holding(self, params: Params) -> AbstractContextManager[None]:
        """Within it many steps are taken with the same ``params``."""
        return nullcontext()

    def require_repeated(self, repeated: State, known: State) -> None:
        """BadStep where the steps of an opaque cell, taken again, lead to ``repeated`` and not to ``known``, each (rows, B)."""
        return None

    def parameter_gradients(
        self, params: Params, saved: Sequence[Any], dv: Array, exponent: np.ndarray
    ) -> dict[str, Any]:
        """Of an opaque cell the sums over some steps of what they add to the parameter gradients, plain or ``Scaled``.

        A single step is asked for where each one's contribution is looked at (``Gradients.weight_shares``).

        Args:
            saved: what each step saved.
            dv: what ``backward`` returned, (steps, rows, B); it counts times 2**exponent[t].
        """
        raise NotImplementedError

    def start_gradients(self, params: Params, state: dict[str, Any]) -> dict[str, Any]:
        """What dL/d(initial state), by name, adds to the parameter gradients, where the initial state was made from parameters."""
        return {}
