"""Every step of a backward pass against torch's derivative of that step. ``autograd.py`` says why each is judged by itself.

Several steps are taken as one batch, whose rows are step × sample. Between steps arrays have an exponent for every step, so that
the check holds beyond floating-point range.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from rnn_core.arrays import Array, dtype_name
from rnn_core.oracles import tensors
from rnn_core.oracles.compare import ALLOWED, SUSPECT, Error, beyond_rounding, relative_error, step_errors
from rnn_core.scaling import LN2, Scaled, add, exponents_of, log_norms, mantissa_and_exponents

ROWS = 2**18  # numbers of one state that are in work at once
# Powers of two between the steps of a batch, whose shares of a parameter are added.
SPREAD = {"float64": 256, "float32": 32}
ROUNDING = 2.0  # times eps: by how much numbers are changed to find out what rounding does
TRIALS = 4  # as many times
PARTS = (
    "hidden",
    "cell",
)  # of a state, that have a field of their own among gradients; c_t acts through h_t within the step


@dataclass(frozen=True)
class Step:
    """What a step is made of besides the engine's results.

    Attributes:
        forward: one step of the oracles' equations.
        p, x, direct: parameters, inputs (T, B, D), the direct parts of dL/dh_t (T, B, H), plain or scaled.
        kernel: another program of the same step, whose h_t need not be computed from the c_t that it returns.
    """

    forward: tensors.Step
    p: dict[str, Tensor]
    x: Tensor
    direct: Tensor | Scaled
    kernel: tensors.Step | None = None


class Claims(NamedTuple):
    """The engine's totals dL/dh_t, and dL/dc_t of an LSTM, for some steps."""

    totals: dict[str, Scaled]
    states: dict[str, Tensor]
    first: int


def recurrent_errors(ours: Array, states: dict[str, Tensor], step: Step) -> list[Error]:
    """The worst error over t of the states and of every field of ``Gradients``, and that of every parameter.

    Args:
        ours: the engine's ``Gradients``.
        states: the engine's states after every step, each (T, B, H), from a zero state.
    """
    T = step.x.shape[0]
    claimed = {name: _tensors(_total_of(ours, name)) for name in states}
    leaves = {name: value for name, value in step.p.items() if not name.endswith("_ho")}
    step = replace(step, p=leaves)
    by_name: dict[str, np.ndarray] = {}
    chunks = [_Chunk(claimed, states, step, start, stop) for start, stop in _chunks(claimed, states["hidden"])]
    for chunk in chunks:
        for name, errors in chunk.errors(ours).items():
            by_name.setdefault(name, np.zeros(T))[chunk.start : chunk.start + len(errors)] = errors
    worst_errors = []
    for name, errors in by_name.items():
        t = int(np.argmax(errors))
        worst_errors.append(Error(float(errors[t]), name if name.startswith("initial") else f"{name}, t = {t + 1}"))
    return worst_errors + _parameter_errors(ours.params, chunks)


def _total_of(ours: Array, name: str) -> Array | Scaled:
    """The engine's total gradient of a part of the state."""
    return getattr(ours, name) if name in PARTS else ours.parts[name]


def _parameter_errors(ours: dict[str, Array | Scaled], chunks: list[_Chunk]) -> list[Error]:
    """The errors of the sums over all steps; near a minimum of the loss their terms cancel, and rounding shows."""
    totals, suspect = _sums(chunks), SUSPECT * chunks[0].eps
    errors = {name: relative_error(ours[name], total) for name, total in totals.items()}
    if max(errors.values()) > suspect:
        again = [_sums(chunks, noise(trial)) for trial in range(TRIALS)]
        errors = {n: beyond_rounding(ours[n], total, [each[n] for each in again]) for n, total in totals.items()}
    return [Error(error, name) for name, error in errors.items()]


def _sums(chunks: list[_Chunk], noise: torch.Generator | None = None) -> dict[str, Array | Scaled]:
    """The parameter gradients."""
    sums: dict[str, Array | Scaled] = {}
    for chunk in chunks:
        for name, share in chunk.shares(noise).items():
            sums[name] = add(sums[name], share) if name in sums else share
    return sums


def noise(trial: int) -> torch.Generator:
    """Where a trial takes its changes from."""
    return torch.Generator().manual_seed(trial)


def _chunks(claimed: dict[str, Scaled], hidden: Tensor) -> Iterator[tuple[int, int]]:
    """(start, stop) of batches of steps: not too many rows, and totals of not too different size."""
    T, width = len(hidden), math.prod(hidden.shape[1:])
    most, spread = max(1, ROWS // width), SPREAD[dtype_name(hidden)]
    sizes = np.fmax.reduce(
        [exponents_of(total.mantissa) + mantissa_and_exponents(total)[1] for total in claimed.values()]
    )
    start = 0
    while start < T:
        stop, low, high = start, math.inf, -math.inf
        while stop < min(T, start + most):
            if not np.isnan(sizes[stop]):
                low, high = min(low, sizes[stop]), max(high, sizes[stop])
            if high - low > spread:
                break
            stop += 1
        yield start, stop
        start = stop


class _Chunk:
    """Steps start + 1 … stop, and as many after them as are needed to know what these send back."""

    def __init__(
        self, claimed: dict[str, Scaled], states: dict[str, Tensor], step: Step, start: int, stop: int
    ) -> None:
        self.claimed, self.states, self.step, self.start, self.stop = claimed, states, step, start, stop
        self.T, self.B = step.x.shape[:2]
        self.eps = float(torch.finfo(step.x.dtype).eps)
        # What is sent to the c before each step, for a kernel that knows no total dL/dc_t.
        self._sent_by_equations = _scaled(step.x[:0])

    def errors(self, ours: Array) -> dict[str, np.ndarray]:
        """Relative errors by what is compared; of each step, but of the initial state."""
        reference = self._reference()
        errors = {name: step_errors(self._ours(ours, name), value) for name, value in reference.items()}
        if any((each > SUSPECT * self.eps).any() for each in errors.values()):
            changes = {name: np.zeros_like(each) for name, each in errors.items()}
            for trial in range(TRIALS):
                again = self._reference(noise(trial))
                for name, value in again.items():
                    changes[name] = np.fmax(changes[name], step_errors(value, reference[name]))
            errors = {name: np.maximum(0.0, each - ALLOWED * changes[name]) for name, each in errors.items()}
        norms = {**ours.log_norms, "hidden": ours.log_norm, "cell": ours.log_norm_cell}
        for name, log_norm in norms.items():
            if name in reference:  # a norm is that of the engine's own total, which is compared by itself
                own = _part(self.claimed[name], slice(self.start, self.stop))
                errors[f"log_norm of {name}"] = _log_errors(log_norm[self.start : self.stop], own)
        return errors

    def _ours(self, ours: Array, name: str) -> Scaled:
        """What the engine has for an entry of ``_reference``."""
        kind, _, part = name.partition(" ")
        own = slice(self.start, self.stop)
        if kind == "state":
            return _scaled(self.states[part][own])
        if kind == "initial":
            return _tensors(ours.state[name.rpartition(" ")[2]], whole=True)
        if name == "cell" and self.step.kernel:
            return self._sent_by_equations
        return _part(_tensors(ours.x if name == "x" else _total_of(ours, name)), own)

    def _reference(self, noise: torch.Generator | None = None) -> dict[str, Scaled]:
        """What torch says: states, totals and dL/dx of the steps, and dL/d(initial state) where they are the first."""
        kernel = self.step.kernel
        further = min(self.stop + 1, self.T)  # one more step: what it sends back is part of a total
        if kernel:
            claims = self._claims_for_kernel(further, noise)
            after, sent, through = self._back(kernel, claims, noise, fixed_cell=False)
        else:
            with_cell = "cell" in self.states
            after, sent, through = self._back(self.step.forward, self._claims(further), noise, fixed_cell=with_cell)
        n = self.stop - self.start
        direct = _part(_tensors(self.step.direct), slice(self.start, self.stop))
        direct = Scaled(moved(direct.mantissa, noise), direct.exponent)
        expected = {f"state {name}": _scaled(part[:n]) for name, part in after.items()}
        expected["x"] = _part(sent["x"], slice(0, n))
        expected["hidden"] = _sum(direct, self._from_next(sent["hidden"], n))
        if "cell" in self.states:
            if kernel:
                expected["cell"] = _part(sent["cell"], slice(0, n))
            else:
                expected["cell"] = _sum(_part(through, slice(0, n)), self._from_next(sent["cell"], n))
        for name in self.states:  # what acts on later steps alone
            if name not in PARTS:
                expected[name] = self._from_next(sent[name], n)
        if self.start == 0:
            expected |= {f"initial state, {name}": _part(sent[name], slice(0, 1)) for name in self.states}
        return expected

    def _from_next(self, sent: Scaled, n: int) -> Scaled:
        """What every step receives from the one after it; the last of all nothing."""
        following = _part(sent, slice(1, n + 1))
        if len(following) == n:
            return following
        nothing = torch.zeros_like(sent.mantissa[:1])
        return Scaled(torch.cat([following.mantissa, nothing]), np.append(mantissa_and_exponents(following)[1], 0))

    def _claims(self, stop: int) -> Claims:
        """Totals and the states before of steps start + 1 … stop."""
        totals = _joined({name: _part(total, slice(self.start, stop)) for name, total in self.claimed.items()})
        before = {}
        for name, part in self.states.items():
            first = part[self.start - 1 : self.start] if self.start else torch.zeros_like(part[:1])
            before[name] = torch.cat([first, part[self.start : stop - 1]])
        return Claims(totals, before, self.start)

    def _claims_for_kernel(self, stop: int, noise: torch.Generator | None = None) -> Claims:
        """``_claims`` with, for dL/dc_t, only what c_{t+1} sends to c_t: what comes through h_t the kernel adds by itself."""
        if "cell" not in self.states:
            return self._claims(stop)
        further = self._claims(min(stop + 1, self.T))
        _, sent, _ = self._back(self.step.forward, further, noise, fixed_cell=True)
        self._sent_by_equations = _part(sent["cell"], slice(0, self.stop - self.start))
        n = stop - self.start
        hidden, cell = _part(further.totals["hidden"], slice(0, n)), self._from_next(sent["cell"], n)
        states = {name: part[:n] for name, part in further.states.items()}
        return Claims(_joined({"hidden": hidden, "cell": cell}), states, self.start)

    def _back(
        self, step: tensors.Step, claims: Claims, noise: torch.Generator | None, fixed_cell: bool
    ) -> tuple[dict[str, Tensor], dict[str, Scaled], Scaled]:
        """(states after, what is sent to the states before and to x, what h_t sends to c_t) of every step, each (steps, B, …)."""
        given = {name: moved(total.mantissa, noise) for name, total in claims.totals.items()}
        graph = _Graph(self.step, step, claims, noise, fixed_cell)
        exponent = mantissa_and_exponents(claims.totals["hidden"])[1]
        wanted = [*graph.before.values(), graph.x]
        own = graph.grad(given, wanted)
        shaped = {name: d.reshape(len(exponent), self.B, -1) for name, d in zip([*graph.before, "x"], own, strict=True)}
        sent = {name: Scaled(d, exponent) for name, d in shaped.items()}
        after = {name: part.detach().reshape(given["hidden"].shape) for name, part in graph.after.items()}
        through = torch.zeros_like(given["hidden"])
        if graph.through is not None:
            through = graph.through.reshape(through.shape)
        return after, sent, Scaled(through, exponent)

    def shares(self, noise: torch.Generator | None = None) -> dict[str, Scaled]:
        """What the steps add to the parameter gradients, each at one exponent."""
        kernel = self.step.kernel
        step = kernel or self.step.forward
        claims = self._claims_for_kernel(self.stop, noise) if kernel else self._claims(self.stop)
        exponent = mantissa_and_exponents(claims.totals["hidden"])[1]
        totals = {
            name: Scaled(moved(t.mantissa, noise), exponent - exponent.max()) for name, t in claims.totals.items()
        }
        given = {name: total.to_float() for name, total in totals.items()}
        graph = _Graph(self.step, step, claims, noise, fixed_cell="cell" in self.states and not kernel)
        derivatives = graph.grad(given, list(graph.leaves.values()))
        return {name: Scaled(d, int(exponent.max())) for name, d in zip(graph.leaves, derivatives, strict=True)}


class _Graph:
    """One step forward for a batch of steps × samples, ready to be differentiated."""

    def __init__(
        self, of: Step, step: tensors.Step, claims: Claims, noise: torch.Generator | None, fixed_cell: bool
    ) -> None:
        n = len(claims.totals["hidden"])
        self.leaves = {name: moved(value, noise).clone().requires_grad_() for name, value in of.p.items()}
        self.before = {name: _flat(moved(part, noise)).requires_grad_() for name, part in claims.states.items()}
        self.x = _flat(moved(of.x[claims.first : claims.first + n], noise)).requires_grad_()
        self.after = step(self.leaves, self.x, self.before)
        self.through: Tensor | None = None
        self._cell: Tensor | None = None
        self.fixed_cell = fixed_cell
        if fixed_cell:
            self.after["cell"].register_hook(self._put_total)

    def _put_total(self, through_hidden: Tensor) -> Tensor | None:
        """What arrives at c_t came through h_t; on from there goes the engine's total dL/dc_t, which holds it."""
        self.through = through_hidden.detach().clone()
        return self._cell

    def grad(self, given: dict[str, Tensor], wanted: list[Tensor]) -> tuple[Tensor, ...]:
        """The derivatives of Σ given · after; zero for what nothing depends on."""
        self._cell = _flat(given["cell"]) if self.fixed_cell else None
        names = [name for name in self.after if name in given and not (self.fixed_cell and name == "cell")]
        outputs, cotangents = [self.after[name] for name in names], [_flat(given[name]) for name in names]
        return tuple(torch.autograd.grad(outputs, wanted, cotangents, allow_unused=True, materialize_grads=True))


# ---- arrays with an exponent for every step -----------------------------------------------------------------------------


def _tensors(x: Array | Scaled, whole: bool = False) -> Scaled:
    """As torch tensors, with an exponent for every leading index; ``whole`` is one step without its leading index."""
    mantissa, exponent = (x.mantissa, x.exponent) if isinstance(x, Scaled) else (x, 0)
    tensor = torch.as_tensor(mantissa).detach()
    return _scaled(tensor[None], exponent) if whole else _scaled(tensor, exponent)


def _scaled(x: Tensor, exponent: int | np.ndarray = 0) -> Scaled:
    return Scaled(x, np.broadcast_to(np.asarray(exponent, dtype=np.int64), (len(x),)))


def _part(x: Scaled, where: slice) -> Scaled:
    mantissa, exponent = mantissa_and_exponents(x)
    return Scaled(mantissa[where], exponent[where])


def _flat(x: Tensor) -> Tensor:
    """(steps, B, K) to (steps · B, K), a copy of its own."""
    return x.detach().reshape(-1, x.shape[-1]).clone()


def _joined(arrays: dict[str, Scaled]) -> dict[str, Scaled]:
    """The same values, every step of all parts at one exponent, its largest mantissa between 1/2 and 1."""
    largest = np.fmax.reduce(
        [exponents_of(each.mantissa) + mantissa_and_exponents(each)[1] for each in arrays.values()]
    )
    common = np.nan_to_num(largest).astype(np.int64)
    return {name: Scaled(Scaled(m, e - common).to_float(), common) for name, (m, e) in ((n, mantissa_and_exponents(v)) for n, v in arrays.items())}  # fmt: skip


def _sum(a: Scaled, b: Scaled) -> Scaled:
    """a + b, step by step."""
    aligned = _joined({"a": a, "b": b})
    return Scaled(aligned["a"].mantissa + aligned["b"].mantissa, aligned["a"].exponent)


def moved(x: Tensor, noise: torch.Generator | None) -> Tensor:
    """``x`` with its last digit changed at random; as it is without ``noise``."""
    if noise is None:
        return x
    change = 2.0 * torch.rand(x.shape, generator=noise, dtype=torch.float64).to(x) - 1.0
    return x * (1.0 + ROUNDING * torch.finfo(x.dtype).eps * change)


def _log_errors(ours: np.ndarray, total: Scaled) -> np.ndarray:
    """Relative errors of norms given by their logarithms, beyond what rounding does to a logarithm of this size."""
    expected = log_norms(total.mantissa) + mantissa_and_exponents(total)[1] * LN2
    rounding = 4.0 * np.maximum(1.0, np.abs(expected)) * float(np.finfo(np.float64).eps)
    with np.errstate(invalid="ignore", over="ignore"):
        errors = np.maximum(0.0, np.abs(np.expm1(np.minimum(ours - expected, 700.0))) - rounding)
    errors = np.where(np.isfinite(expected) & ~np.isnan(ours), errors, math.inf)
    return np.where(ours == expected, 0.0, errors)
