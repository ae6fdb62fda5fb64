"""What may be given to ``forward`` and ``backward``: everything is checked before any work starts, and named if it does not fit."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from typing import Any

import numpy as np

from rnn_core.arrays import Array, Params, State, check_alike, to_numpy
from rnn_core.cells.base import Cell
from rnn_core.choices import unknown
from rnn_core.scalars import is_integer, is_number
from rnn_core.scaling import Scaled
from rnn_core.tape import Tape

LOOKED_AT = 64  # steps and sequences of x from which the order of its axes is guessed

# The immediate dL/dh_t: an array (T, B, H), or a function of (start, stop) that gives its rows, for long sequences.
GradHidden = Array | Scaled | Callable[[int, int], Array | Scaled | None] | None


def check_inputs(
    cell: Cell, params: Params, x: Array, state: Any, memory_budget: float | None
) -> tuple[Cell, State | None]:
    """The arguments of ``forward``. Returns the cell and the state as the engine takes them: those given, but for a ``TorchCell``."""
    if (
        memory_budget is not None
        and memory_budget != math.inf
        and not (is_number(memory_budget) and memory_budget >= 0)
    ):
        raise ValueError(f"memory_budget: {memory_budget!r} is not allowed; it must be a number of bytes, or None")
    if not isinstance(cell, Cell):
        given = f"the class {cell.__name__}" if isinstance(cell, type) else type(cell).__name__
        raise ValueError(f"cell: {given} is not allowed; it must be a cell, such as rc.VanillaCell()")
    if not isinstance(params, Mapping):
        raise ValueError(
            f"params: {type(params).__name__} is not allowed; it must be {{name: array}}, as cell.init_params gives it"
        )
    check_alike("x", x, "x", x)
    if x.ndim != 3 or x.shape[0] < 1 or x.shape[1] < 1:
        raise ValueError(f"x: shape {tuple(x.shape)} is not allowed; it must be (T, B, D) with T >= 1 and B >= 1")
    if cell.opaque:
        cell, state = cell.bound(params, x, state)
    else:
        _check_weights(cell, params, x)
    check_state("state", cell, state, x.shape[1], cell.state_shapes(params), x)
    return cell, state


def _check_weights(cell: Cell, params: Params, x: Array) -> None:
    """The parameters of a cell of ours, and x beside them."""
    recurrent = ("weight_hh",) if cell.has_matrix else ()
    for name in ("weight_ih", *recurrent, *cell.own_parameters):
        if name not in params:
            hint = "; leave out the _l0 of torch.nn's names" if f"{name}_l0" in params else ""
            raise ValueError(f"params: {name} is missing; the cell {cell.name!r} needs it{hint}")
        check_alike(name, params[name], "x", x)
        if (
            params[name].ndim != 2
            and name not in cell.own_parameters
            and (name == "weight_ih" or len(cell.recurrent_shape(1)) == 2)
        ):
            raise ValueError(f"{name}: shape {tuple(params[name].shape)} is not allowed; it must be a matrix")
    rows, D = params["weight_ih"].shape
    # it would fit the recurrent matrix the other way round
    if cell.has_matrix and params["weight_hh"].shape[:1] == (D,) != (rows,):
        raise ValueError(f"weight_ih: shape {(rows, D)} looks transposed; with this weight_hh it is ({D}, inputs)")
    gates = len(cell.gates)
    H = rows // gates
    if rows != gates * H or H < 1:
        raise ValueError(f"weight_ih: {rows} rows do not fit; the cell {cell.name!r} has {gates} blocks of H rows")
    blocks = "H" if gates == 1 else f"{gates}H"
    own = cell.own_parameters
    expected = {
        **{name: cell.recurrent_shape(H) for name in recurrent},
        "bias_ih": (rows,),
        "bias_hh": (rows,),
        **dict.fromkeys(own, (H,)),
    }
    vectors = dict.fromkeys(("bias_ih", "bias_hh"), f"({blocks},)")
    letters = {"weight_hh": cell.recurrent_letters, **vectors, **dict.fromkeys(own, "(H,)")}
    for name in params:  # others, as a readout's, are none of ours; but a bias is not dropped for a typing error
        missing = [bias for bias in ("bias_ih", "bias_hh") if bias not in params]
        if name not in expected and name != "weight_ih" and missing and get_close_matches(name, missing, cutoff=0.85):
            raise ValueError(unknown("params", name, ["weight_ih", *expected]))
    for name, shape in expected.items():
        if name in params:  # biases may be left out
            check_alike(name, params[name], "x", x)
            check_shape(name, params[name], shape, letters[name])
    check_shape("x", x, (x.shape[0], x.shape[1], D), "(T, B, D)")


def warn_if_batch_first(x: Array, stacklevel: int) -> None:
    """UserWarning where x (T, B, D) looks like (B, T, D), which nothing but its user can know.

    Only where it would have more sequences than steps, and one of two signs is there. Its values may change far less along the
    second axis than along the first, as signals do in time: by a mean square difference below a tenth. Or the first axis has a
    usual batch's length, 8, 16, 32 …, and the second is at least twice as long and no power of two.
    """
    first, second = x.shape[:2]
    if first < 4 or second < 8 or first >= second:  # too few numbers to tell anything
        return
    usual_batch = first >= 8 and _is_power_of_two(first) and second >= 2 * first and not _is_power_of_two(second)
    if usual_batch or _is_smoother_along_second(to_numpy(x[:LOOKED_AT, :LOOKED_AT]).astype(np.float64)):
        warnings.warn(
            f"x {tuple(x.shape)} is read as T = {first} steps of B = {second} sequences, and looks batch-first. If it is, swap its "
            "first two axes: x.swapaxes(0, 1). If not, ignore this warning, by warnings.filterwarnings('ignore', 'x .* looks batch-first')",
            stacklevel=stacklevel + 1,
        )


def _is_power_of_two(number: int) -> bool:
    return number & (number - 1) == 0


def _is_smoother_along_second(x: np.ndarray) -> bool:
    with np.errstate(all="ignore"):
        along_first, along_second = (float((np.diff(x, axis=axis) ** 2).mean()) for axis in (0, 1))
    return 0.0 < along_second < 0.1 * along_first < math.inf  # the same sequence all over the batch is no sign


def check_tape(tape: Tape) -> None:
    """ValueError unless it is one."""
    if not isinstance(tape, Tape):
        raise ValueError(f"tape: {type(tape).__name__} is not allowed; it must be what rc.forward returns")


def check_gradients(
    tape: Tape, grad_hidden: GradHidden, grad_state: State | None, window: int | None, signal_threshold: float | None
) -> None:
    """The arguments of ``backward``."""
    check_tape(tape)
    shape = state_shape(tape)
    if grad_hidden is not None and not callable(grad_hidden):
        check_like_x("grad_hidden", grad_hidden, tape.x)
        check_shape("grad_hidden", grad_hidden, (tape.x.shape[0], *shape), "(T, B, H)", _swapped(grad_hidden, tape.x))
    check_state("grad_state", tape.cell, grad_state, tape.x.shape[1], tape.shapes, tape.x, whole=False)
    if window is not None and not (is_integer(window) and window >= 1):
        raise ValueError(f"window: {window!r} is not allowed; it must be a number of steps, at least 1")
    if signal_threshold is not None and not (is_number(signal_threshold) and signal_threshold > 0.0):
        raise ValueError(f"signal_threshold: {signal_threshold!r} is not allowed; it must be a number above 0")


def state_shape(tape: Tape) -> tuple[int, ...]:
    """(B, H), or the shape of the first part of another state."""
    return (tape.x.shape[1], *tape.shapes[tape.cell.state_names[0]])


def check_state(
    argument: str,
    cell: Cell,
    state: State | None,
    B: int,
    shapes: dict[str, tuple[int, ...]],
    x: Array,
    whole: bool = True,
) -> None:
    if state is None:
        return
    if not isinstance(state, dict):
        raise ValueError(f"{argument}: {type(state).__name__} is not allowed; it must be {{name: (B, H)}}")
    for name in state:
        if name not in cell.state_names:
            raise ValueError(unknown(argument, name, cell.state_names))
        check_like_x(f"{argument}[{name!r}]", state[name], x)
        hint = ""
        if state[name].shape[:1] == x.shape[:1] != x.shape[1:2]:
            hint = f"; x {tuple(x.shape)} looks batch-first: swap its first two axes"
        letters = "(B, H)" if len(shapes[name]) == 1 else "(B, …)"
        check_shape(f"{argument}[{name!r}]", state[name], (B, *shapes[name]), letters, hint)
        if isinstance(state[name], Scaled) and not isinstance(state[name].exponent, int):
            raise ValueError(
                f"{argument}[{name!r}]: a state needs one exponent for all its entries, and this has one per row"
            )
    missing = set(cell.state_names) - set(state)
    if whole and missing:
        raise ValueError(f"{argument}: {', '.join(sorted(missing))} is missing; the cell {cell.name!r} needs all parts")


def check_like_x(name: str, value: Array | Scaled, x: Array) -> None:
    """ValueError unless plain or scaled entries have the library, dtype and device of x."""
    check_alike(name, value.mantissa if isinstance(value, Scaled) else value, "x", x)


def check_shape(name: str, array: Array | Scaled, shape: tuple[int, ...], letters: str, hint: str = "") -> None:
    """ValueError naming the argument, its shape, the shape expected and what its numbers are."""
    if tuple(array.shape) != shape:
        raise ValueError(f"{name}: shape {tuple(array.shape)} does not fit; expected {shape}, which is {letters}{hint}")


def _swapped(grad_hidden: Array | Scaled, x: Array) -> str:
    """What to say where the first two axes of one of them are those of the other in turn."""
    if tuple(grad_hidden.shape[:2]) == (x.shape[1], x.shape[0]):
        return f"; x {tuple(x.shape)} looks batch-first, or this does. Time comes first: swap the first two axes of the one that is wrong"
    return ""
