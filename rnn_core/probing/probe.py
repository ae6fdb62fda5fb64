"""``probe``: one call that shows what the gradients of a recurrent model do on their way back."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, overload

import numpy as np

from rnn_core import theory
from rnn_core.arguments import warn_if_batch_first
from rnn_core.arrays import Array, Params, dtype_name, like, namespace, torch_for
from rnn_core.bptt import Gradients, NotKept, backward, run_forward
from rnn_core.cells.base import Cell
from rnn_core.cells.own import TorchCell
from rnn_core.formats import FORMATS, first_lost, lost_fractions
from rnn_core.oracles.compare import Error
from rnn_core.probing.derivatives import SOUND, check_derivatives
from rnn_core.probing.whole import InputTrace, input_trace
from rnn_core.scalars import is_integer
from rnn_core.scaling import LN2, LN10, Scaled, log_norm, log_norms, mantissa_and_exponents
from rnn_core.tape import Tape
from rnn_core.theory import Growth

_WHOLE = "If the model takes whole sequences and shows no step: rc.probe(model, x, whole_sequence=True)"
LAG = 100  # steps over which singular values are found
MOST_UNITS = 256  # of a state whose singular values are found: the time grows with their cube


@dataclass(frozen=True, eq=False, repr=False)
class Probe:
    """What ``probe`` found. Arrays are NumPy's, and norms are exact beyond the range of floats.

    Attributes:
        model: its name.
        tape, gradients: what ``forward`` and ``backward`` gave.
        log10_grad_norm: log10 ‖dL/dh_t‖ of the part that the loss acts on, float64 (T,).
        log10_grad_norms: the same of every part of the state, by name.
        log10_grad_norm_samples: of every sequence by itself, (T, B), of the part that ``growth`` is about.
        log10_grad_norm_x: log10 ‖dL/dx_t‖, (T,); None where ``memory_budget`` has no room for dL/dx.
        log10_grad_norm_params: log10 of the norm of every parameter's gradient, by name.
        growth: how the gradient of ``growth_of`` grows per step back, in ln, with its error.
        growth_of: the part of the state that ``growth`` and ``regime`` are about: the first whose gradient goes back through time.
        window: the steps (t - 1) that ``growth`` is taken from.
        regime: vanishing, stable or exploding; None where the gradient is not finite.
        spectrum: the largest Lyapunov exponents of the first sequence, inside ``window``; None if they were not asked for.
        log_singular_values: ln σ_i of the product of the last ``lag`` Jacobians of the first sequence, (S,), descending; None if they were
            not asked for, or the state has more than ``MOST_UNITS`` numbers.
        lag: how many steps those are.
        derivatives: the worst difference between the module's derivatives and differences of its steps; None for cells of ours.
    """

    model: str
    tape: Tape
    gradients: Gradients
    log10_grad_norm: np.ndarray
    log10_grad_norms: dict[str, np.ndarray]
    log10_grad_norm_samples: np.ndarray
    log10_grad_norm_x: np.ndarray | None
    log10_grad_norm_params: dict[str, float]
    growth: Growth
    growth_of: str
    window: slice
    regime: str | None
    spectrum: Any = None
    log_singular_values: np.ndarray | None = None
    lag: int = 0
    derivatives: Error | None = None

    @cached_property
    def lost(self) -> dict[str, np.ndarray]:
        """The fractions of the entries of the gradient of ``growth_of`` that float32, bfloat16 and float16 would flush to zero or
        overflow, each (T,); empty where ``memory_budget`` has no room for that gradient."""
        if self.growth_of == self.tape.cell.state_names[0]:
            return self.gradients.lost
        if isinstance(self.gradients.parts[self.growth_of], NotKept):
            return {}
        return lost_fractions(*mantissa_and_exponents(self.gradients.parts[self.growth_of]))

    @cached_property
    def first_lost(self) -> dict[str, int | None]:
        """By ``<format>_flushed_at`` the first step on the way back at which a format keeps nothing, by ``…_overflowed_at`` at which one
        entry overflows; None where there is none."""
        return first_lost(self.lost) if self.lost else {}

    @property
    def surviving_directions(self) -> float:
        """How many of the S directions keep 1 % of what the best one keeps over the last ``lag`` steps; nan where that is not known."""
        return math.nan if self.log_singular_values is None else theory.surviving_directions(self.log_singular_values)

    @property
    def first_nonfinite_step(self) -> int | None:
        """The first step whose state plain floats do not hold; None where they hold all."""
        return self.tape.first_nonfinite_step

    def __repr__(self) -> str:
        T, B, D = self.tape.x.shape
        sizes = ", ".join(f"{name} {'×'.join(map(str, shape))}" for name, shape in self.tape.shapes.items())
        lines = [f"Probe of {self.model}: T={T}, B={B}, D={D}, state {sizes}, {dtype_name(self.tape.x)}"]
        if (broken := self.first_nonfinite_step) is not None:
            lines.append(f"  states: not finite from step t={broken} on, so no gradient before it means anything")
        norms = self.log10_grad_norms[self.growth_of]
        finite = np.flatnonzero(np.isfinite(norms))
        if finite.size:
            first, last = finite[0], finite[-1]
            end = f"{norms[first]:.2f} at t={first + 1}" + ", exactly zero before" * bool(
                np.isneginf(norms[:first]).any()
            )
            start = f"{norms[last]:.2f} at t={last + 1}, " if last > first else ""
            lines.append(
                f"  gradient of {self.growth_of}: log10 of its norm {start}{end}: {self.regime or 'not finite'}"
            )
        if math.isfinite(self.growth.rate):
            error = "" if math.isnan(self.growth.error) else f" ± {self.growth.error:.1g}"
            lines.append(
                f"  growth: {self.growth.rate:+.4g}{error} per step back (ln, mean over sequences, t={self.window.start + 1}…{self.window.stop})"
            )
        lines.append(f"  formats: {self._formats()}")
        if self.spectrum is not None:
            exponents = np.asarray(self.spectrum.exponents)
            lines.append(
                f"  Lyapunov exponents: {', '.join(f'{each:.3g}' for each in exponents[:4])}{', …' if len(exponents) > 4 else ''}"
            )
        if self.log_singular_values is not None and not math.isnan(self.surviving_directions):
            lines.append(
                f"  directions: {self.surviving_directions:.0f} of {len(self.log_singular_values)} keep "
                f"{100 * theory.SURVIVES:g} % of what the best one keeps over the last {self.lag} steps"
            )
        if self.derivatives is not None:
            right = self.derivatives.relative <= SOUND
            said = "right, as differences of steps say" if right else f"WRONG, {self.derivatives.where}"
            lines.append(f"  derivatives: {said if broken != 1 or not right else 'not known, no step is finite'}")
        return "\n".join(lines)

    def _formats(self) -> str:
        if not self.lost:
            return "not known, the memory budget has no room for this gradient"
        texts = []
        for each in FORMATS:
            flushed, overflowed = (self.first_lost[f"{each.name}_{kind}_at"] for kind in ("flushed", "overflowed"))
            if overflowed is not None:
                texts.append(f"{each.name} overflows from t={overflowed} back")
            elif flushed is not None:
                texts.append(f"{each.name} keeps nothing from t={flushed} back")
            else:
                lost = self.lost[f"{each.name}_flushed"]
                texts.append(
                    f"{each.name} loses {'no entry' if not lost.any() else f'up to {100 * lost.max():.2g} % of the entries'}"
                )
        return ", ".join(texts)

    def plot(self, axes: Any = None) -> Any:
        """Draws the traces, what formats lose and the spectrum, if there is one, on two or three matplotlib axes, and returns them.

        Args:
            axes: to draw on; None makes new ones, where ``matplotlib.pyplot`` has been imported.

        Raises:
            RuntimeError: no axes are given, and ``matplotlib.pyplot`` has not been imported.
        """
        from rnn_core.probing import drawing

        draw = [drawing.draw_traces, drawing.draw_lost, *([drawing.draw_spectrum] if self.spectrum is not None else [])]
        axes = drawing.new_axes(len(draw)) if axes is None else axes
        return [each(self, own) for each, own in zip(draw, np.ravel(axes), strict=False)]


@overload
def probe(
    model: Any,
    x: Array,
    params: Params | None = ...,
    state: Any = ...,
    grad: Array | None = ...,
    *,
    exponents: int = ...,
    lag: int = ...,
    check: bool = ...,
    whole_sequence: Literal[True],
    memory_budget: int | None = ...,
    seed: int = ...,
) -> InputTrace: ...


@overload
def probe(
    model: Any,
    x: Array,
    params: Params | None = ...,
    state: Any = ...,
    grad: Array | None = ...,
    *,
    exponents: int = ...,
    lag: int = ...,
    check: bool = ...,
    whole_sequence: Literal[False] = ...,
    memory_budget: int | None = ...,
    seed: int = ...,
) -> Probe: ...


def probe(
    model: Any,
    x: Array,
    params: Params | None = None,
    state: Any = None,
    grad: Array | None = None,
    *,
    exponents: int = 8,
    lag: int = LAG,
    check: bool = True,
    whole_sequence: bool = False,
    memory_budget: int | None = None,
    seed: int = 0,
) -> Probe | InputTrace:
    """What the gradients of a recurrent model do on their way back from a loss at the last step.

    Args:
        model: a torch module or function (x_t, state) -> state, a ``torch.nn.RNN``, ``GRU`` or ``LSTM`` of any number of layers, or a
            cell.
        x: (T, B, D), torch or NumPy.
        params: by name; None takes the module's own.
        state: to start from, as ``forward`` takes it.
        grad: dL/d(the last h) (B, …); None is drawn from a normal distribution with ``seed``, so that no direction is preferred.
        exponents: how many Lyapunov exponents to find; 0 is none.
        lag: over how many of the last steps singular values are found, so that surviving directions can be counted; 0 is none.
        check: whether to hold the module's derivatives against differences of some steps (``check_derivatives``).
        whole_sequence: the model maps a whole x to outputs and shows no step. What is found then is an ``InputTrace``.
        memory_budget: in bytes, for the tape, as ``forward`` takes it.

    Raises:
        ValueError: the model has no step, or an argument does not fit, as ``forward`` says.
    """
    for name, number in (("exponents", exponents), ("lag", lag)):
        if not (is_integer(number) and number >= 0):
            raise ValueError(f"{name}: {number!r} is not allowed; it must be an integer of at least 0")
    if whole_sequence:
        return input_trace(model, _as_its_arrays(model, x), grad, seed)
    cell = _cell_of(model)
    own = isinstance(cell, TorchCell)
    x = _as_its_arrays(cell.module, x) if isinstance(cell, TorchCell) else x
    if params is None:
        if not isinstance(cell, TorchCell):
            raise ValueError(f"params: is needed; the cell {cell.name!r} is equations without arrays")
        params = cell.params()
    try:
        tape = run_forward(cell, params, x, state, memory_budget)
    except ValueError as error:
        if own and state is None and str(error).startswith("state: "):
            raise ValueError(f"{error}. {_WHOLE}") from error
        raise
    warn_if_batch_first(tape.x, stacklevel=2)
    main = tape.cell.state_names[0]
    size = (x.shape[1], *tape.shapes[main])
    if grad is None:
        grad = np.random.default_rng(seed).standard_normal(size)
    gradients = backward(tape, grad_state={main: grad if isinstance(grad, Scaled) else like(grad, tape.x)})
    derivatives = check_derivatives(cell, x, state, seed=seed) if own and check else None
    return _found(cell, tape, gradients, exponents, min(lag, x.shape[0]), derivatives)


def _found(cell: Cell, tape: Tape, gradients: Gradients, exponents: int, lag: int, derivatives: Error | None) -> Probe:
    measured = _part_that_goes_back(tape, gradients)
    samples = _log_norms_of_samples(gradients, tape, measured)
    reached = np.flatnonzero(
        ~np.isneginf(gradients.log_norms[measured])
    )  # a part that the last output does not come from starts later
    end = int(reached[-1]) + 1 if reached.size else len(samples)
    window = theory.settled_window(_rms(tape, measured)[:end])
    with np.errstate(invalid="ignore"):  # inf - inf, where a gradient is not finite
        growth = theory.growth(samples[:end], window)
    spectrum = None
    if exponents:
        spectrum = _spectrum(tape, window, exponents)
    units = sum(math.prod(shape) for shape in tape.shapes.values())
    counted = lag > 0 and units <= MOST_UNITS
    return Probe(
        model=cell.name,
        tape=tape,
        gradients=gradients,
        log10_grad_norm=gradients.log_norm / LN10,
        log10_grad_norms={name: norms / LN10 for name, norms in gradients.log_norms.items()},
        log10_grad_norm_samples=samples / LN10,
        log10_grad_norm_x=None if isinstance(gradients.x, NotKept) else log_norms(gradients.x) / LN10,
        log10_grad_norm_params={name: log_norm(value) / LN10 for name, value in gradients.params.items()},
        growth=growth,
        growth_of=measured,
        window=window,
        regime=theory.regime(growth.ratio),
        spectrum=spectrum,
        log_singular_values=theory.log_singular_values(tape, len(tape.x) - lag) if counted else None,
        lag=lag,
        derivatives=derivatives,
    )


def _spectrum(tape: Tape, window: slice, exponents: int) -> theory.Spectrum:
    """Of the steps between those at which ``growth`` looks; of all where there are none."""
    T, settle = tape.x.shape[0], window.start + 1
    burn_in, settle = (T - window.stop, settle) if window.stop > settle else (0, 0)
    total = sum(math.prod(shape) for shape in tape.shapes.values())
    return theory.lyapunov_spectrum(tape, min(exponents, total), burn_in, 0, settle)


def _cell_of(model: Any) -> Cell:
    if isinstance(model, Cell):
        return model
    torch = torch_for("A probe of your own model")

    if isinstance(model, torch.nn.RNNBase):
        from rnn_core.probing.layers import LayersStep

        cell = TorchCell(LayersStep(model))
        cell.name = type(model).__name__
        return cell
    return TorchCell(model)


def _as_its_arrays(model: Any, x: Array) -> Array:
    """NumPy's x as a tensor of the model's dtype and device."""
    import torch

    if isinstance(x, torch.Tensor):
        return x
    own = next(iter(model.parameters()), None) if isinstance(model, torch.nn.Module) else None
    return (
        torch.as_tensor(np.asarray(x))
        if own is None
        else torch.as_tensor(np.asarray(x), dtype=own.dtype.to_real(), device=own.device)
    )


def _part_that_goes_back(tape: Tape, gradients: Gradients) -> str:
    """The first part whose gradient reaches the first half of the sequence: an output acts on no later step."""
    T = tape.x.shape[0]
    norms: Mapping[str, np.ndarray] = gradients.log_norms
    return next(
        (name for name in tape.cell.state_names if T == 1 or not np.isneginf(norms[name][: T - 1]).all()),
        tape.cell.state_names[0],
    )


def _rms(tape: Tape, name: str) -> np.ndarray:
    """The root mean square of one part of the state at every step, (T,)."""
    parts = [log_norms(segment.after(name)) for segment in tape.segments()]
    with np.errstate(over="ignore", invalid="ignore"):
        return np.asarray(np.exp(np.concatenate(parts)) / math.sqrt(tape.x.shape[1] * math.prod(tape.shapes[name])))


def _log_norms_of_samples(gradients: Gradients, tape: Tape, name: str) -> np.ndarray:
    """ln of the norm of every sample of the gradient of one part, (T, B); of the whole batch, (T, 1), where that was not kept."""
    if name == tape.cell.state_names[0]:
        return gradients.log_norm_samples
    if isinstance(gradients.parts[name], NotKept):
        return gradients.log_norms[name][:, None]
    mantissa, exponent = mantissa_and_exponents(gradients.parts[name])
    T, B = mantissa.shape[:2]
    rows = namespace(mantissa).reshape(mantissa, (T * B, -1))
    return log_norms(rows).reshape(T, B) + exponent[:, None] * LN2
