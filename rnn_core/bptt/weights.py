"""Which step writes a weight's gradient: dL/dW = Σ_t G_t, step by step. Derivation: rnn_core/README.md, section 3.3.

G_t = Σ_b dv_t^(b) f_t^(b)^T is a matrix of low rank, from B columns. So neither its norm nor its product with the sum needs it entry by
entry. Some steps are looked at together: a step's samples are columns, and those of many steps stand side by side.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from rnn_core import compiled
from rnn_core.arrays import Array, Params, State, dtype_name, like, namespace, to_numpy
from rnn_core.cells.base import Cell
from rnn_core.choices import unknown
from rnn_core.compiled.kept import KeptSteps
from rnn_core.scaling import LN2, Scaled, exponent_or_zero, in_powers_of_ten, mantissa_and_exponents, times_power_of_two
from rnn_core.tape import Segment, Tape, pieces

WEIGHT = "weight_hh"  # the parameter that is taken apart, but of a user's module
GIVEN = "given"  # beside the parts of dL/dstate_t, of an opaque cell what its steps were given
TOP = 500  # dL/dstate_t is brought to size 2**TOP, so that slopes down to 1e-300 leave a normal number
LOST = 900  # binary digits between dL/dstate_t and dv_t from which on another size is tried
# Share of ‖G_t‖² in what its samples would have by themselves, from which down a Gram matrix loses too many digits.
CANCELLED = {"float64": 1e-3, "float32": 0.05}
LARGEST_PIECE = 2**15  # entries that are looked at together

# dL/dstate_t of some steps: their segment, by part of the state the arrays (steps, H, B), and their exponents (steps,)
Totals = tuple[Segment, dict[str, Array], dict[str, np.ndarray]]


@dataclass(frozen=True, eq=False, repr=False)
class WeightShares:
    """A weight's gradient G = Σ_t G_t, by the steps that it comes from.

    Attributes:
        names: the parameters that the weight stands for: ``weight_hh``; of a user's module all of its own, side by side.
        log_norm: ln ‖G_t‖ (Frobenius), float64 (T,), exact beyond float range; -inf where G_t is exactly zero.
        cosine: of the angle between G_t and G, ⟨G_t, G⟩ / (‖G_t‖ ‖G‖), float64 (T,); nan where one of them is zero or not finite.
        log_norm_sum: ln ‖G‖.
    """

    names: tuple[str, ...]
    log_norm: np.ndarray
    cosine: np.ndarray
    log_norm_sum: float

    @property
    def share(self) -> np.ndarray:
        """⟨G_t, G⟩ / ‖G‖², float64 (T,): what step t adds along G. All together make 1; a step that works against G is negative."""
        with np.errstate(all="ignore"):
            share: np.ndarray = self.cosine * np.exp(self.log_norm - self.log_norm_sum)
        return np.where((self.log_norm == -np.inf) & np.isfinite(self.log_norm_sum), 0.0, share)

    def __repr__(self) -> str:
        """The parameters, how many steps, the norm of the sum, and how many steps work against it."""
        against = int((self.cosine < 0.0).sum())
        norm = f"norm of the sum {in_powers_of_ten(self.log_norm_sum)}"
        return f"WeightShares({', '.join(self.names)}, T={len(self.cosine)}, {norm}, {against} steps work against it)"


class _Terms(NamedTuple):
    """Of some steps ‖G_t‖² = squares * 4**exponent and ⟨G_t, G⟩ = inner * 2**exponent, where G is at size 1; each (steps,)."""

    squares: np.ndarray
    inner: np.ndarray
    exponent: np.ndarray


def weight_shares(
    tape: Tape, sums: dict[str, Array | Scaled], totals: Iterable[Totals], names: tuple[str, ...] = ()
) -> WeightShares:
    """The shares of every step.

    Args:
        sums: the parameter gradients over all steps, by name.
        totals: dL/dstate_t of all steps, in any order of segments; of an opaque cell with what its steps were given.
        names: of an opaque cell some of its parameters; none are all.

    Raises:
        ValueError: a name is not that of such a parameter; the cell has no ``weight_hh``.
    """
    T, cell = tape.x.shape[0], tape.cell
    if not cell.has_matrix:
        raise ValueError(f"tape: its cell {cell.name!r} has no weight_hh whose gradient could be taken apart")
    known = tuple(sums) if cell.opaque else (WEIGHT,)
    for name in names:
        if name not in known:
            raise ValueError(unknown("parameters", name, known))
    names = names or known
    log_norm, cosine = np.full(T, np.nan), np.full(T, np.nan)
    with np.errstate(all="ignore"), cell.holding(tape.params):
        whole, e_whole = _at_one_size({name: sums[name] for name in names})
        norm_of_whole = np.sqrt(sum(float(np.vdot(to_numpy(part), to_numpy(part))) for part in whole.values()))
        for segment, parts, exponent in totals:
            terms = _terms(tape, segment, parts, exponent, whole)
            steps = slice(segment.start, segment.stop)
            log_norm[steps] = 0.5 * np.log(terms.squares) + terms.exponent * LN2
            cosine[steps] = terms.inner / (np.sqrt(terms.squares) * norm_of_whole)
        cosine[~np.isfinite(cosine)] = np.nan
        return WeightShares(names, log_norm, np.clip(cosine, -1.0, 1.0), float(np.log(norm_of_whole) + e_whole * LN2))


def _terms(
    tape: Tape, segment: Segment, parts: State, exponent: dict[str, np.ndarray], whole: dict[str, Array]
) -> _Terms:
    """Of all steps of a segment: by compiled steps where there are any, and what those give up by readable ones."""
    steps = len(segment.saved)
    terms, given_up = _of_compiled(tape, segment, parts, exponent, whole) or (None, np.ones(steps, dtype=bool))
    terms = terms or _Terms(np.empty(steps), np.empty(steps), np.empty(steps, dtype=np.int64))
    read = _of_program if tape.cell.opaque else _of_products if tape.cell.outer_products else _of_form
    entries = sum(math.prod(part.shape[1:]) for part in parts.values())
    edges = np.flatnonzero(np.diff(np.concatenate([[False], given_up, [False]])))
    for start, stop in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
        for piece in pieces(stop - start, entries, LARGEST_PIECE):
            own = slice(start + piece.start, start + piece.stop)
            for array, values in zip(terms, read(tape, segment, own, parts, exponent, whole), strict=True):
                array[own] = values
    return terms


def _of_compiled(
    tape: Tape, segment: Segment, parts: State, exponent: dict[str, np.ndarray], whole: dict[str, Array]
) -> tuple[_Terms, np.ndarray] | None:
    """The same by compiled steps, with those that they give up. None where there are none, or a Gram matrix would be the larger one."""
    cell, (_, B, _) = tape.cell, tape.x.shape
    if not (cell.outer_products and compiled.covers(cell, tape.x) and compiled.knows(cell, segment.saved)):
        return None
    G = whole[WEIGHT]
    if 2 * G.shape[1] < B:
        return None
    nothing = np.zeros(len(segment.saved), dtype=np.int64)
    task = compiled.BackwardTask(
        cell, tape.params, x=tape.x[segment.start : segment.stop], states=segment.states, exponent=segment.exponent,
        kept=compiled.kept_array(segment.saved), direct=None, direct_exponent=nothing, joins=nothing.astype(bool), results=parts,
        first=0, sums_over=len(nothing), window=0, after=0,
    )  # fmt: skip
    terms = compiled.weight_shares(task, exponent, G, CANCELLED[dtype_name(tape.x)])
    return _Terms(terms.squares, terms.inner, terms.exponent), terms.given_up


# ---- cells whose weight multiplies a factor: G_t is a sum of products ------------------------------------------------------


def _of_products(
    tape: Tape, segment: Segment, piece: slice, parts: State, exponent: dict[str, np.ndarray], whole: dict[str, Array]
) -> _Terms:
    """By G_t = Σ_b dv_t^(b) f_t^(b)^T, block by block of rows, for the factors that ``Cell.factors`` names."""
    cell, params = tape.cell, {name: wide_float(value) for name, value in tape.params.items()}
    saved = side_by_side(segment.saved[piece])
    h_prev = columns_of(_states_before(segment, piece))
    B, G = tape.x.shape[1], whole[WEIGHT]
    total, e_total = _totals_at_size({name: parts[name][piece] for name in cell.state_names}, exponent, piece)
    dv, e_dv = _recurrent_gradient(cell, params, saved, total, B)
    factors, rows = _merged(cell.factors(saved, h_prev), dv.shape[0])
    e_h = segment.exponent[:-1][piece]
    terms = []
    for block, factor in zip(rows, factors, strict=True):
        d, e_d = steps_at_size_one(dv[block], B)
        f, e_f = steps_at_size_one(factor, B)
        terms.append(_block(d, f, G[block], B)._replace(exponent=e_d + e_dv + e_total + e_f + e_h))
    return _joined(terms)


def _of_form(
    tape: Tape, segment: Segment, piece: slice, parts: State, exponent: dict[str, np.ndarray], whole: dict[str, Array]
) -> _Terms:
    """Of a cell whose W_hh is made of ``weight_hh``: what ``Cell.recurrent_gradient`` makes of the products of every step."""
    cell, params = tape.cell, {name: wide_float(value) for name, value in tape.params.items()}
    B, G = tape.x.shape[1], to_numpy(whole[WEIGHT])
    total, e_total = _totals_at_size({name: parts[name][piece] for name in cell.state_names}, exponent, piece)
    dv, e_dv = _recurrent_gradient(cell, params, side_by_side(segment.saved[piece]), total, B)
    (d, e_d), (f, e_f) = steps_at_size_one(dv, B), steps_at_size_one(columns_of(_states_before(segment, piece)), B)
    samples = [slice(start, start + B) for start in range(0, d.shape[1], B)]
    shares = [to_numpy(cell.recurrent_gradient(params, d[:, own], f[:, own])) for own in samples]
    squares, inner = np.array([[float(np.vdot(share, by)) for by in (share, G)] for share in shares]).T
    return _Terms(squares, inner, e_d + e_dv + e_total + e_f + segment.exponent[:-1][piece])


def _states_before(segment: Segment, piece: slice) -> Array:
    """h_{t-1} of some steps, (steps, H, B)."""
    return segment.states["hidden"][:-1][piece]


def _recurrent_gradient(cell: Cell, params: Params, saved: Any, total: State, B: int) -> tuple[Array, np.ndarray]:
    """dv_t of steps side by side, (G·H, steps·B), times 2**exponent (steps,); at another size where too much is lost at this one."""
    _, dv, _ = cell.backward(params, saved, total)
    steps = dv.shape[1] // B
    shift, of_dv = np.zeros(steps, dtype=np.int64), _sizes(dv, B)
    of_total = np.max([_sizes(part, B) for part in total.values()], axis=0)
    poor = np.isfinite(of_total) & ~(of_dv > of_total - LOST)  # also where dv is 0, inf or nan
    for t in np.flatnonzero(poor):
        own = slice(int(t) * B, (int(t) + 1) * B)
        kept = _some_columns(saved, own)
        for by in (TOP, -2 * TOP):
            moved = {name: times_power_of_two(part[:, own], by) for name, part in total.items()}
            _, again, _ = cell.backward(params, kept, moved)
            if np.isfinite(_sizes(again, B)).all():
                dv, shift[t] = _with_columns(dv, own, again), -by
                break
    return dv, shift


def _block(d: Array, f: Array, G: Array, B: int) -> _Terms:
    """Of d f^T and G, for steps side by side: d (rows, steps·B), f (H, steps·B), G (rows, H)."""
    xp, (rows, H) = namespace(d), G.shape
    inner = to_numpy(xp.sum(xp.reshape(xp.sum(d * (G @ f), axis=0), (-1, B)), axis=1))
    by_step, factor = _by_step(d, B), _by_step(f, B)
    if B * (rows + H) > rows * H:  # B x B is no smaller than rows x H
        squares = to_numpy(xp.sum((by_step @ xp.matrix_transpose(factor)) ** 2, axis=(1, 2)))
        return _Terms(squares, inner, np.zeros(len(squares)))
    gram = (xp.matrix_transpose(by_step) @ by_step) * (xp.matrix_transpose(factor) @ factor)
    squares = to_numpy(xp.sum(gram, axis=(1, 2)))
    alone = to_numpy(xp.sum(xp.linalg.diagonal(gram), axis=1))  # ‖G_t‖² if its samples were at right angles
    for t in np.flatnonzero(~(squares > CANCELLED["float64"] * alone) & (alone > 0.0)):
        product = by_step[int(t)] @ factor[int(t)].T
        squares[t], inner[t] = float(xp.sum(product**2)), float(xp.sum(product * G))
    return _Terms(squares, inner, np.zeros(len(squares)))


def _merged(factors: list[Array], rows: int) -> tuple[list[Array], list[slice]]:
    """The factors with the rows that each multiplies; neighbours that are one array become one block."""
    height = rows // len(factors)
    merged: list[Array] = []
    own: list[slice] = []
    for i, factor in enumerate(factors):
        if merged and merged[-1] is factor:
            own[-1] = slice(own[-1].start, (i + 1) * height)
        else:
            merged.append(factor)
            own.append(slice(i * height, (i + 1) * height))
    return merged, own


def _joined(terms: list[_Terms]) -> _Terms:
    """The sums over blocks of rows, each step at the exponent of its largest block."""
    if len(terms) == 1:
        return terms[0]
    squares, inner, exponent = (np.stack(arrays) for arrays in zip(*terms, strict=True))
    top = np.max(np.where(squares == 0.0, np.min(exponent, axis=0), exponent), axis=0)
    by = np.clip(exponent - top, -1000, 0).astype(np.int64)
    return _Terms(np.ldexp(squares, 2 * by).sum(axis=0), np.ldexp(inner, by).sum(axis=0), top)


# ---- a user's module: G_t is a gradient of its own for every step ----------------------------------------------------------


def _of_program(
    tape: Tape, segment: Segment, piece: slice, parts: State, exponent: dict[str, np.ndarray], whole: dict[str, Array]
) -> _Terms:
    """By the parameter gradients of one step after the other, from what its steps were given."""
    terms = []
    for t in range(piece.start, piece.stop):
        one = slice(t, t + 1)
        of_step = tape.cell.parameter_gradients(
            tape.params, [segment.saved[t]], parts[GIVEN][one], exponent[GIVEN][one]
        )
        gradients, e = _at_one_size({name: of_step[name] for name in whole if name in of_step})
        pairs = [(to_numpy(value), to_numpy(whole[name])) for name, value in gradients.items()]
        terms.append((sum(float(np.vdot(g, g)) for g, _ in pairs), sum(float(np.vdot(g, G)) for g, G in pairs), e))
    squares, inner, exponents = (np.array(column) for column in zip(*terms, strict=True))
    return _Terms(squares, inner, exponents)


# ---- sizes, and steps side by side -----------------------------------------------------------------------------------------


def wide_float(x: Array) -> Array:
    """``x`` in float64."""
    xp = namespace(x)
    return xp.astype(x, xp.float64, copy=False)


def columns_of(x: Array) -> Array:
    """(steps, rows, B) as (rows, steps·B), float64: the samples of all steps side by side."""
    xp = namespace(x)
    return xp.reshape(xp.moveaxis(wide_float(x), 0, 1), (x.shape[1], -1))


def _by_step(x: Array, B: int) -> Array:
    """(rows, steps·B) as (steps, rows, B), a view."""
    xp = namespace(x)
    return xp.moveaxis(xp.reshape(x, (x.shape[0], -1, B)), 1, 0)


def side_by_side(saved: Any) -> Any:
    """What the steps saved, as what one step with all their samples would have saved."""
    if isinstance(saved, KeptSteps):
        together = saved.together()
        return tuple(map(columns_of, together)) if isinstance(together, tuple) else columns_of(together)
    if not isinstance(saved, list):
        return columns_of(saved)
    xp = namespace(saved[0][0] if isinstance(saved[0], tuple) else saved[0])
    if isinstance(saved[0], tuple):
        return tuple(wide_float(xp.concat(list(arrays), axis=-1)) for arrays in zip(*saved, strict=True))
    return wide_float(xp.concat(saved, axis=-1))


def _some_columns(saved: Any, own: slice) -> Any:
    return tuple(a[:, own] for a in saved) if isinstance(saved, tuple) else saved[:, own]


def _with_columns(x: Array, own: slice, columns: Array) -> Array:
    return namespace(x).concat([x[:, : own.start], columns, x[:, own.stop :]], axis=1)


def _totals_at_size(parts: State, exponent: dict[str, np.ndarray], piece: slice) -> tuple[State, np.ndarray]:
    """dL/dstate_t side by side, the largest entry of every step at 2**TOP; and by step the exponent that this leaves."""
    B, columns = next(iter(parts.values())).shape[2], {name: columns_of(part) for name, part in parts.items()}
    sizes = {name: _sizes(part, B) + exponent[name][piece] for name, part in columns.items()}
    top = _exponents(np.fmax.reduce(list(sizes.values()))) - TOP
    return {name: _times(part, exponent[name][piece] - top, B) for name, part in columns.items()}, top


def steps_at_size_one(x: Array, B: int) -> tuple[Array, np.ndarray]:
    """Every step, or with B = 1 every column, brought to size 1, and the exponents that this leaves."""
    e = _exponents(_sizes(x, B))
    return _times(x, -e, B), e


def _sizes(x: Array, B: int) -> np.ndarray:
    """By step the e with 2**(e-1) <= max|x| < 2**e, of (rows, steps·B); nan where it is zero, inf or nan."""
    xp = namespace(x)
    largest = to_numpy(xp.max(xp.reshape(xp.max(xp.abs(x), axis=0), (-1, B)), axis=1))
    return np.asarray(np.where(np.isfinite(largest) & (largest > 0.0), np.frexp(largest)[1], np.nan))


def _exponents(sizes: np.ndarray) -> np.ndarray:
    return np.asarray(np.nan_to_num(sizes), dtype=np.int64)


def _times(x: Array, exponent: np.ndarray, B: int) -> Array:
    """Every step times 2**exponent, in two halves, each of which float64 holds."""
    by = np.clip(exponent, -2000, 2000)
    for half in (by // 2, by - by // 2):
        if half.any():
            x = x * like(np.repeat(np.ldexp(1.0, half), B), x)
    return x


def _at_one_size(values: dict[str, Array | Scaled]) -> tuple[dict[str, Array], int]:
    """Arrays in float64 with the largest entry of all at size 1, and the exponent that this leaves."""
    pairs = {name: mantissa_and_exponents(value) for name, value in values.items()}
    wide = {name: wide_float(m) for name, (m, _) in pairs.items()}
    own = {name: int(e.max()) if e.size else 0 for name, (_, e) in pairs.items()}  # one for all entries
    sizes = [exponent_or_zero(m) + own[name] for name, m in wide.items() if bool(namespace(m).any(m != 0))]
    top = max(sizes, default=0)
    return {name: times_power_of_two(m, own[name] - top) for name, m in wide.items()}, top
