"""A recurrent cell of the user's own: any torch function or module (x_t, state) -> state. Derivation: rnn_core/README.md, section 2.7.

Its step is differentiated by autograd, one step at a time. Everything else is the engine's: the exponent that is carried apart,
norms, checkpoints, truncation. torch is imported when such a cell is made.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from rnn_core.activations import Activation
from rnn_core.arrays import Array, Params, State, dtype_name, namespace, torch_for
from rnn_core.cells.own.learning import LearnsItsState
from rnn_core.scaling import (
    WINDOW,
    Scaled,
    add,
    all_finite,
    at_first_sound_scale,
    exponents_of,
    plain_if_fits,
    square_limits,
    times_power_of_two,
)

if TYPE_CHECKING:
    from rnn_core.cells.own.checks import Facts
    from rnn_core.cells.own.state import Form

ROWS = 2**18  # numbers of x and of a state that are in work at once
SPREAD = {"float64": 256, "float32": 32}  # powers of two between steps whose shares of a parameter are found together


class TorchCell(LearnsItsState):
    """A torch function or module (x_t, state) -> state as a cell: ``torch.nn.RNNCell``, ``GRUCell``, ``LSTMCell``, or one's own.

    x_t is (B, D); the state is a tensor, or tuples, lists and dicts of tensors of any shapes, the batch first. Complex tensors, of
    states and parameters, are kept as their real and imaginary parts on a last axis. ``forward``, ``backward`` and everything
    that they give work as for other cells. Arrays are torch's, on the CPU or CUDA. Parameters are those of the module, by the
    names of ``named_parameters``; frozen ones have no gradient, and buffers stay as they are.

    Args:
        module: what is called. Of a method, ``model.step``, the parameters are those of the object.
        state_names: names for the parts of the state. Those of a dict or named tuple are its own. The default for others is
            ``hidden``, ``part_2``, …, and ``hidden``, ``cell`` for an LSTMCell. Where containers hold containers it is the way to
            each tensor: ``1.2`` for the second of the first pair, ``layers.1.memory``.
        hidden: the part that the loss acts on. ``grad_hidden``, ``grads.hidden`` and ``log_norm`` are about it. The default is
            the first. ``grads.parts`` and ``grads.log_norms`` have all of them.
        parameters_of: the module whose parameters a plain function uses.

    Where ``forward`` is given no state, it starts from ``module.initial_state(batch_size)`` if there is such a method, else from
    zeros. What they look like then comes from ``module(x_t, None)``, or from ``module.hidden_size``.

    Raises:
        ValueError: ``module`` cannot be called.
    """

    opaque: ClassVar[bool] = True
    gates: ClassVar[tuple[str, ...]] = ()
    name: str  # type: ignore[misc]
    state_names: tuple[str, ...]  # type: ignore[misc]

    def __init__(
        self,
        module: Any,
        state_names: Sequence[str] | None = None,
        hidden: str | None = None,
        parameters_of: Any = None,
    ) -> None:
        torch = torch_for("A cell of your own")
        from rnn_core.cells.own.step import Program

        if not callable(module) or isinstance(module, type):
            given = f"the class {module.__name__}" if isinstance(module, type) else type(module).__name__
            derive = callable(getattr(module, "forward", None)) and not isinstance(module, type)
            raise ValueError(
                f"module: {given} is not allowed; it must be a torch module or a function (x_t, state) -> state"
                f"{f'. It has a method forward: write class {given}(torch.nn.Module)' * derive}"
            )
        if isinstance(state_names, str):
            state_names = (state_names,)
        owner = next(
            (
                each
                for each in (parameters_of, module, getattr(module, "__self__", None))
                if isinstance(each, torch.nn.Module)
            ),
            None,
        )
        if parameters_of is not None and owner is not parameters_of:
            raise ValueError(f"parameters_of: {type(parameters_of).__name__} is not allowed; it must be a torch module")
        self.module, self._source = module, _source_of(module, owner)
        self.given_names, self.given_hidden = (tuple(state_names) if state_names else None), hidden
        self.parameters_of = parameters_of
        self._program = Program(module, owner)
        self._default = ("hidden", "cell") if isinstance(module, torch.nn.LSTMCell) else ("hidden",)
        self._form: Form | None = None
        self._checked: dict[Any, Facts] = {}
        self._acting: tuple[str, ...] = ()
        self._learned_start = False
        self.name = (
            type(module).__name__
            if isinstance(module, torch.nn.Module)
            else getattr(module, "__name__", type(module).__name__)
        )
        self.state_names = self.given_names or self._default

    def params(self) -> Params:
        """The module's parameters by name. They share its memory, and have no autograd history.

        A complex one is given as its real and imaginary parts on a last axis, and so is its gradient.
        """
        return self._program.own_params()

    @property
    def trainable(self) -> tuple[str, ...]:
        """The names of the parameters that ask for a gradient."""
        return self._program.trainable

    @property
    def complex_parameters(self) -> frozenset[str]:
        """The names of the complex parameters: of these ``params()`` has the real and imaginary parts on a last axis."""
        return self._program.complex

    def step(self, params: Params, x: Array, parts: State) -> State:
        """The state after x_t (B, D) from the parts of the state before, each (B, …), all by name. Autograd may go through it."""
        with self.holding(params):
            return self._program.step(self._known_form, x, dict(parts))

    def init_params(self, *_: Any, **__: Any) -> Params:
        """Not for this cell: a module brings its parameters, ``params()``."""
        raise ValueError(f"init_params: the cell {self.name!r} brings its own parameters; take cell.params()")

    # ---- a step, forward above backward ----------------------------------------------------------------------------------

    def holding(self, params: Params) -> AbstractContextManager[None]:
        return self._program.holding(params)

    def state_shapes(self, params: Params) -> dict[str, tuple[int, ...]]:
        return self._known_form.shapes

    @property
    def measured(self) -> tuple[str, ...]:
        first = self.state_names[:1]
        acting = [name for name in self.state_names if name in self._acting]
        return first if not acting or first[0] in acting else (*first, acting[0])

    @property
    def _known_form(self) -> Form:
        if self._form is None:
            raise ValueError(
                f"the cell {self.name!r} has yet to learn what its states look like: take tape.cell of rc.forward"
            )
        return self._form

    def forward(self, params: Params, u: Array, state: State) -> tuple[State, Any]:
        """(state_t, saved) from x_t (D, B) and state_{t-1} (each (rows, B))."""
        from rnn_core.cells.own.state import columns

        with self.holding(params):
            after = self._program.forward(self._known_form, u.T, self._parts(state))
        return {name: columns(part) for name, part in after.items()}, (u, *(state[name] for name in self.state_names))

    def back(
        self, params: Params, saved: Any, dstate: State, after: State | None = None
    ) -> tuple[State, Array, Array, State]:
        from rnn_core.cells.own.state import columns

        u, *before = saved
        given = self._parts({name: dstate[name] for name in self.state_names})
        known = None if after is None else self._parts(after)
        with self.holding(params):
            total, dx, sent = self._program.back(
                self._known_form, u.T, self._parts(dict(zip(self.state_names, before, strict=True))), given, known
            )
        totals, sents = ({name: columns(part) for name, part in parts.items()} for parts in (total, sent))
        every = [dstate[name] for name in self.state_names]
        return totals, dx.T, every[0] if len(every) == 1 else namespace(u).concat(every), sents

    def require_repeated(self, repeated: State, known: State) -> None:
        from rnn_core.cells.own.step import require_repeated

        # On CUDA rounding differs from call to call, and a chaotic state with it.
        if not next(iter(repeated.values())).is_cuda:
            require_repeated(repeated, known)

    def backward(self, params: Params, saved: Any, dstate: State) -> tuple[Array, Array, State]:
        _, du, dv, sent = self.back(params, saved, dstate)
        return du, dv, sent

    def _parts(self, state: State) -> dict[str, Array]:
        """Columns as the module takes them, (B, …), by name."""
        from rnn_core.cells.own.state import batch

        shapes = self._known_form.shapes
        return {name: batch(part, shapes[name]) for name, part in state.items()}

    def nonlinearities(self, saved: Any) -> list[tuple[Activation, Array]]:
        return []

    # ---- sums over time --------------------------------------------------------------------------------------------------

    def parameter_gradients(
        self, params: Params, saved: Sequence[Any], dv: Array, exponent: np.ndarray
    ) -> dict[str, Array | Scaled]:
        """Steps of similar size are taken as one batch, in which a row is a step of a sample; groups of them are added."""
        sums: dict[str, Array | Scaled] = {}
        numbers = sum(part.shape[0] * part.shape[1] for part in saved[0])
        for steps in groups(dv, exponent, most=max(1, ROWS // numbers) if self.any_batch else 1):
            for name, share in self._shares(params, saved[steps], dv[steps], exponent[steps]).items():
                sums[name] = add(sums[name], share) if name in sums else share
        return sums

    def _shares(
        self, params: Params, saved: Sequence[Any], dv: Array, exponent: np.ndarray
    ) -> dict[str, Array | Scaled]:
        """What some steps of similar size add."""
        xp, form = namespace(dv), self._known_form
        rows = [xp.concat(list(parts), axis=-1) for parts in zip(*saved, strict=True)]  # steps side by side, as samples
        x, before = rows[0].T, self._parts(dict(zip(self.state_names, rows[1:], strict=True)))
        common = _common(dv, exponent)
        aligned = Scaled(dv, exponent - common).to_float()
        given_rows = xp.concat(list(aligned), axis=-1)
        given, start = {}, 0
        for name in self.state_names:
            stop = start + rows[1 + self.state_names.index(name)].shape[0]
            given[name], start = given_rows[start:stop], stop
        cotangents = self._parts(given)

        def shares(shift: int) -> dict[str, Array]:
            scaled = {name: times_power_of_two(part, shift) for name, part in cotangents.items()}
            return self._program.parameter_gradients(params, form, x, before, scaled)

        sums, shift = at_first_sound_scale(shares, lambda sums: list(sums.values()), _sound, dv)
        return {name: plain_if_fits(value, common - shift) for name, value in sums.items()}

    def start_gradients(self, params: Params, state: dict[str, Array | Scaled]) -> dict[str, Array | Scaled]:
        if not self._learned_start:
            return {}
        sums: dict[str, Array | Scaled] = {}
        for name, grad in state.items():
            given, e = (grad.mantissa, grad.exponent) if isinstance(grad, Scaled) else (grad, 0)
            for parameter, share in self._program.start_gradients(
                params, self._known_form, self._source, name, given
            ).items():
                value = plain_if_fits(share, e)
                sums[parameter] = add(sums[parameter], value) if parameter in sums else value
        return sums

    def __repr__(self) -> str:
        names = f", state_names={self.state_names}" if self.given_names or self._form else ""
        hidden = f", hidden={self.given_hidden!r}" if self.given_hidden else ""
        return f"TorchCell({self.name}{names}{hidden})"


def _source_of(module: Any, owner: Any) -> Any:
    """What may have ``initial_state`` and ``hidden_size``: the module, the object that a method is of, or the function itself."""
    if isinstance(module, type(owner)):
        return module
    return owner if owner is not None else getattr(module, "__self__", module)


def groups(dv: Array, exponent: np.ndarray, most: int) -> list[slice]:
    """Steps in order, in groups of at most ``most`` whose sizes are less than ``SPREAD`` powers of two apart."""
    sizes, spread = exponents_of(dv) + exponent, SPREAD[dtype_name(dv)]
    slices, start, low, high = [], 0, np.inf, -np.inf
    for t, size in enumerate(sizes):  # nan for a step that sends nothing, which fits everywhere
        low, high = np.fmin(low, size), np.fmax(high, size)
        if t > start and (high - low > spread or t - start >= most):
            slices.append(slice(start, t))
            start, low, high = t, np.fmin(np.inf, size), np.fmax(-np.inf, size)
    return [*slices, slice(start, len(sizes))]


def _common(dv: Array, exponent: np.ndarray) -> int:
    """The exponent of the largest step; 0 where all are well in range."""
    sizes = exponents_of(dv) + exponent
    known = sizes[~np.isnan(sizes)]
    if not known.size or np.abs(known).max() <= WINDOW[dtype_name(dv)]:
        return 0
    return int(known.max())


def _sound(sums: dict[str, Array]) -> bool:
    """Whether no sum shows a sign of over- or underflow; a zero may be a parameter that had no part in it."""
    for value in sums.values():
        lowest, highest = square_limits(value)
        flat = value.reshape(-1)
        square = float(flat @ flat) if len(flat) else 0.0
        if not (square == 0.0 or lowest <= square <= highest):
            return False
    return all_finite(*sums.values())
