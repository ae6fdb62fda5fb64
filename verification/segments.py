"""A case against complex-step differentiation: the whole sequence at once where it is short, step by step where it is long.

In a chaotic network two sound trajectories part by rounding alone, and what is accumulated forward through saturated gates loses
digits that the way back keeps. So a long sequence is cut into segments of one step. A segment starts from the engine's state
and ends in the engine's dL/dh. What it sends to the state before it must be the dL/dh that the segment before ends in.

Of several layers each is judged by itself: its inputs are the states below it, its direct part is what the layer above sends.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

import rnn_core as rc
from rnn_core.arrays import Array, like, to_numpy
from rnn_core.experiment import Evaluation
from rnn_core.oracles import complex_step, rounding
from rnn_core.oracles.compare import Abstains, Error, worst
from rnn_core.oracles.problems import options_of, params_of
from rnn_core.oracles.rounding import Precision, Source
from rnn_core.oracles.scaled import whole
from rnn_core.oracles.tensors import as_tensor
from rnn_core.scaling import LN2, Scaled, add, mantissa_and_exponents, plain
from verification.cases import Network

FURTHEST = 900  # powers of two that an exponent is moved by in plain floats
WHOLE = 10  # steps that are taken at once; of longer sequences each step is a segment
SIDE_BY_SIDE = (
    200  # segments in one pass: over more, the imaginary parts of a signal would differ by hundreds of decades
)


def against_complex_step(network: Network, evaluation: Evaluation) -> Error:
    """The worst error of all parameter gradients, of dL/dx, dL/dh (and dL/dc) at every step, and of the initial state.

    Raises:
        Abstains: a state or the loss is not finite, or a derivative is out of the oracle's range.
    """
    tapes = [layer.tape for layer in evaluation.layers]
    scaled = any(isinstance(tape.states(name), Scaled) for tape in tapes for name in tape.cell.state_names)
    if scaled or not math.isfinite(evaluation.loss):
        raise Abstains("a state or the loss is not finite in plain floats")
    errors = []
    for layer in _layers(network, evaluation):
        error = worst(_errors_of_layer(network, layer))
        errors.append(Error(error.relative, error.where + layer.words))
    return worst(errors)


@dataclass(frozen=True)
class _Layer:
    """One layer by itself.

    Attributes:
        tape, gradients: its own; ``tape.x`` are the states below it.
        direct: the direct part of its dL/dh_t, which the layer above sends (T, B, H).
        params: by their plain names.
        words: which it is, of several.
    """

    tape: rc.Tape
    gradients: rc.Gradients
    direct: Array | Scaled
    params: dict[str, np.ndarray]
    words: str


def _layers(network: Network, evaluation: Evaluation) -> Iterator[_Layer]:
    """All layers, the last first."""
    problem, layers = network.problem, evaluation.layers
    direct = evaluation.grad_hidden(0, network.x.shape[0])
    assert direct is not None
    for number in reversed(range(len(layers))):
        tape, gradients, *_ = layers[number]
        params = {n: to_numpy(value) for n, value in params_of(problem, problem.params, number).items()}
        yield _Layer(tape, gradients, direct, params, f", layer {number + 1}" if len(layers) > 1 else "")
        direct = gradients.x


def _errors_of_layer(network: Network, layer: _Layer) -> list[Error]:
    """Beyond what rounding may do: where an error looks like a fault, all is done again from numbers that differ in their last digits."""
    ends, T = _Ends.of(layer), network.x.shape[0]
    precision, lost = _precision_and_lost(layer)
    claimed: dict[str, Scaled] = {}
    floors: dict[str, int] = {}

    def compute(source: Source) -> dict[str, Scaled]:
        rows: dict[str, Scaled] = {}
        sums: dict[str, Array | Scaled] = {}
        for steps, starts in _groups(T):
            segments = _Segments.of(layer, steps, starts, ends, source)
            try:
                derivatives = segments.differentiate(network)
            except complex_step.OutOfRange as reason:
                raise Abstains(f"out of the range of the complex step: {_kind(str(reason))}") from None
            of_signal = max(lost, math.frexp(derivatives.smallest)[1])
            for place in (*segments.steps_by_place(derivatives), *segments.sent_by_place(derivatives)):
                rows[place.where] = whole(Scaled(place.reference, segments.exponent))
                claimed[place.where] = whole(place.ours)
                floors[place.where] = segments.exponent + segments.size(place.segment) + of_signal
            for name, value in derivatives.params.items():
                share = Scaled(value, segments.exponent)
                sums[name] = add(sums[name], share) if name in sums else share
        claimed.update({name: whole(layer.gradients.params[name]) for name in sums})
        return rows | {name: whole(total) for name, total in sums.items()}

    errors = rounding.judged(compute, claimed.__getitem__, precision.eps, lambda: floors)
    return [Error(float(error[0]), where) for where, error in errors.items()]


def _precision_and_lost(layer: _Layer) -> tuple[Precision, int]:
    """(that of the layer's numbers, what underflow may cost a signal of size 1 and one of its weights)."""
    weights = [as_tensor(value) for value in layer.params.values()]
    precision = Precision.of(weights[0])
    return precision, max(precision.lost(weight) for weight in weights)


def _kind(reason: str) -> str:
    """The reason without the place and the number, so that equal ones can be counted."""
    kinds = ("lost to underflow", "no normal float64", "not finite", "too large")
    return next((kind for kind in kinds if kind in reason), reason)


def _groups(T: int) -> Iterator[tuple[int, list[int]]]:
    """(steps in a segment, where segments start): the whole sequence, or its steps, some of them side by side."""
    if T <= WHOLE:
        yield T, [0]
        return
    for first in range(0, T, SIDE_BY_SIDE):
        yield 1, list(range(first, min(first + SIDE_BY_SIDE, T)))


@dataclass(frozen=True)
class _Ends:
    """What a segment may end in, for every step: mantissas (T, B, H) and exponents (T,), by part of the state.

    Attributes:
        totals: the total dL/dh_t; of an LSTM also the part of dL/dc_t that comes through c_{t+1}, and so of other cells' other parts.
        through_hidden: of these parts what comes through h_t, which a segment finds by itself.
    """

    totals: dict[str, tuple[np.ndarray, np.ndarray]]
    through_hidden: dict[str, tuple[np.ndarray, np.ndarray]]

    @classmethod
    def of(cls, layer: _Layer) -> _Ends:
        gradients, tape = layer.gradients, layer.tape
        hidden, e = mantissa_and_exponents(gradients.hidden)
        totals, through_hidden = {"hidden": (to_numpy(hidden), e)}, {}
        _, *others = tape.cell.state_names
        for name in others:
            part, e_part = (np.array(to_numpy(each)) for each in mantissa_and_exponents(gradients.parts[name]))
            through = np.zeros_like(to_numpy(part))
            zeros = dict.fromkeys(others, like(np.zeros(through.shape[:0:-1]), tape.x))
            for t, saved in enumerate(tape.saved):
                if e[t] - e_part[t] > FURTHEST:  # what comes through h_t is far above all of this part
                    part[t], e_part[t] = np.ldexp(to_numpy(part[t]), int(e_part[t] - e[t])), e[t]
                dh = like(np.ldexp(to_numpy(hidden[t]), int(e[t] - e_part[t])).T, tape.x)
                through[t] = to_numpy(tape.cell.total(saved, {"hidden": dh, **zeros})[name]).T
            totals[name], through_hidden[name] = (to_numpy(part) - through, e_part), (through, e_part)
        return cls(totals, through_hidden)


class _Found(NamedTuple):
    """Where, in which segment, what the engine has, and what the oracle has over the segments' power of two."""

    where: str
    segment: int
    ours: Array | Scaled
    reference: np.ndarray


@dataclass(frozen=True)
class _Segments:
    """Segments side by side, as if they were samples of one batch, with one power of two taken out of their losses.

    Attributes:
        steps, starts: how many steps each has, and where it starts.
        exponent: of the power of two; it keeps signals far from 1 in range.
        direct: the direct parts of dL/dh_t over that power, (T, B, H).
        source: where changes of the last digits come from, if there are any.
    """

    layer: _Layer
    ends: _Ends
    steps: int
    starts: list[int]
    exponent: int
    direct: np.ndarray
    source: Source

    @classmethod
    def of(cls, layer: _Layer, steps: int, starts: list[int], ends: _Ends, source: Source) -> _Segments:
        norms = layer.gradients.log_norm[np.array(starts) + steps - 1]
        norms = norms[np.isfinite(norms)]
        exponent = round(float(norms.mean()) / LN2) if norms.size else 0
        mantissa, exponents = mantissa_and_exponents(layer.direct)
        direct = np.ldexp(to_numpy(mantissa), (exponents - exponent)[:, None, None])
        return cls(layer, ends, steps, starts, exponent, _moved(direct, source), source)

    def differentiate(self, network: Network) -> complex_step.Derivatives:
        """The oracle's derivatives; its batch is segment × sample."""
        experiment, tape, x = network.problem.experiment, self.layer.tape, self._moved(to_numpy(self.layer.tape.x))
        losses = [self.direct[start : start + self.steps].copy() for start in self.starts]
        for own in losses:
            own[-1] = 0.0  # it is part of what ends the segment
        blank = np.zeros(self.direct.shape[1:])
        states = {name: self._moved(to_numpy(plain(tape.states(name)))) for name in tape.cell.state_names}
        return complex_step.complex_step_gradients(
            experiment.cell,
            experiment.activation,
            {name: self._moved(value) for name, value in self.layer.params.items()},
            np.concatenate([x[start : start + self.steps] for start in self.starts], axis=1),
            np.concatenate(losses, axis=1),
            {
                name: np.concatenate([value[start - 1] if start else blank for start in self.starts])
                for name, value in states.items()
            },
            {
                name: self._moved(np.concatenate([self._at(end, t) for t in self._last()]))
                for name, end in self.ends.totals.items()
            },
            options_of(network.problem),
        )

    def size(self, segment: int) -> int:
        """The exponent of the signal that goes into a segment, over the power of two."""
        start = self.starts[segment]
        ends = [self._at(end, start + self.steps - 1) for end in self.ends.totals.values()]
        largest = max(float(np.abs(part).max()) for part in (*ends, self.direct[start : start + self.steps]))
        return math.frexp(largest)[1]

    def _last(self) -> list[int]:
        """The last step of every segment."""
        return [start + self.steps - 1 for start in self.starts]

    def _at(self, end: tuple[np.ndarray, np.ndarray], t: int) -> np.ndarray:
        """One step of mantissas and exponents, over the power of two, (B, H)."""
        mantissa, exponent = end
        return np.asarray(np.ldexp(mantissa[t], int(exponent[t]) - self.exponent))

    def _moved(self, a: np.ndarray) -> np.ndarray:
        return _moved(a, self.source)

    def steps_by_place(self, derivatives: complex_step.Derivatives) -> Iterator[_Found]:
        """Of every step of the segments."""
        gradients, B = self.layer.gradients, self.layer.tape.x.shape[1]
        for name, reference in {**derivatives.parts, "x": derivatives.x}.items():
            ours = gradients.x if name == "x" else gradients.parts[name]
            for i, start in enumerate(self.starts):
                for k in range(self.steps):
                    own = reference[k, i * B : (i + 1) * B]
                    yield _Found(f"{name}, t = {start + k + 1}", i, ours[start + k], own)

    def sent_by_place(self, derivatives: complex_step.Derivatives) -> Iterator[_Found]:
        """What segments send to the state before them, with what else acts on it: dL/dh_t, or that of another part."""
        gradients, B = self.layer.gradients, self.layer.tape.x.shape[1]
        for name, value in derivatives.state.items():
            for i, start in enumerate(self.starts):
                sent = value[i * B : (i + 1) * B]
                if start == 0:
                    yield _Found(f"initial state, {name}", i, gradients.state[name], sent)
                    continue
                total, through = gradients.parts[name][start - 1], self.ends.through_hidden
                other = self._at(through[name], start - 1) if name in through else self.direct[start - 1]
                yield _Found(f"{name}, t = {start}, with what step {start + 1} sends", i, total, sent + other)


def _moved(a: np.ndarray, source: Source) -> np.ndarray:
    """With its last digits changed."""
    return np.asarray(rounding.moved(as_tensor(np.ascontiguousarray(a)), source).numpy())
