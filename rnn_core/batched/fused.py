"""All steps of a run in one kernel, by Triton: for CUDA devices, small networks, and cells that act entry by entry.

A program is one run and some samples of its batch. W_hh stays in its multiprocessor's memory and the signal in its registers from the
first step to the last, so only what later passes read is written. The bits of a run do not depend on how many runs there are. The
numbers are those of ``passes``, to rounding; products of float32 are taken as six of bfloat16, which hold all 24 bits of each factor.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.language.extra import libdevice

from rnn_core.batched.powers import Range
from rnn_core.batched.shapes import Shape
from rnn_core.cells import ResidualCell, VanillaCell

PHI = ("tanh", "relu", "identity")  # those whose slope and value stand in ``_phi``
SIZES = (16, 32, 64, 128)  # of H: W_hh of 256 would not fit
STAGES = {"float32": 1, "float64": 2}  # of the forward loop: the fastest on an H100, as the warps and stages below
PRECISION = {"float32": "bf16x6", "float64": "ieee"}


def covers(shape: Shape) -> bool:
    """Whether these kernels take the steps of such runs."""
    return (
        torch.device(shape.device).type == "cuda"
        and type(shape.cell) in (VanillaCell, ResidualCell)
        and shape.phi.name in PHI
        and shape.H in SIZES
        and shape.B % 16 == 0
        and shape.columns - shape.H <= 64
    )


@triton.jit
def _phi(a, PHI: tl.constexpr):
    """(phi(a), phi'(a)); of tanh both from one exponential."""
    if PHI == "tanh":
        e = libdevice.exp(-2.0 * tl.abs(a))
        half = 1.0 / (1.0 + e)
        far = (1.0 - e) * half  # tanh |a|, which cancels near 0
        near = _tanh_near_0(a)
        slope = 4.0 * e * half * half  # 1/cosh²
        return tl.where(tl.abs(a) < 0.35, near, tl.where(a < 0, -far, far)), slope
    elif PHI == "relu":
        return tl.where(a < 0, 0.0, a), tl.where(a > 0, 1.0, 0.0).to(a.dtype)
    else:
        return a, tl.full(a.shape, 1.0, a.dtype)


@triton.jit
def _tanh_near_0(a):
    """The first 13 terms of its series: what they leave is below the last digit of float64 for |a| < 0.35."""
    x = a * a
    s = tl.full(a.shape, 1.5918905069328964e-05, a.dtype) * x - 3.927832388331683e-05
    s = s * x + 9.691537956929451e-05
    s = s * x - 0.00023912911424355248
    s = s * x + 0.000590027440945586
    s = s * x - 0.0014558343870513183
    s = s * x + 0.003592128036572481
    s = s * x - 0.008863235529902197
    s = s * x + 0.021869488536155203
    s = s * x - 0.05396825396825397
    s = s * x + 0.13333333333333333
    s = s * x - 0.3333333333333333
    return a + a * x * s


@triton.jit(do_not_specialize=["T", "R"])
def _forward(
    W, z, slopes, numbers, T, R, B,
    H: tl.constexpr, K: tl.constexpr, KX: tl.constexpr, SAMPLES: tl.constexpr, PHI: tl.constexpr, RESIDUAL: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """h_t into z (T + 1, R, K, B) from its row 0 and its inputs, phi'(a_t) into ``slopes`` (T, R, H, B)."""
    run = tl.program_id(0).to(tl.int64)
    i, k = tl.arange(0, H), tl.arange(0, KX)
    b = tl.program_id(1) * SAMPLES + tl.arange(0, SAMPLES)
    W_row = W + run * H * K + i[:, None] * K
    there = H + k < K
    W_hh = tl.load(W_row + i[None, :])
    W_ih = tl.load(W_row + H + k[None, :], mask=there[None, :], other=0.0)
    step, keep = tl.load(numbers), tl.load(numbers + 1)
    states, inputs = i[:, None] * B + b[None, :], (H + k)[:, None] * B + b[None, :]
    z_t, slopes_t = z + run * K * B, slopes + run * H * B
    h = tl.load(z_t + states)
    for _ in range(T):
        x = tl.load(z_t + inputs, mask=there[:, None], other=0.0)
        a = tl.dot(W_ih, x, input_precision=PRECISION, out_dtype=h.dtype)
        a = tl.dot(W_hh, h, acc=a, input_precision=PRECISION, out_dtype=h.dtype)
        value, slope = _phi(a, PHI)
        if RESIDUAL:  # noqa: SIM108, known when the kernel is compiled
            h = keep * h + step * value
        else:
            h = value
        z_t += R.to(tl.int64) * K * B
        tl.store(slopes_t + states, slope)
        tl.store(z_t + states, h)
        slopes_t += R.to(tl.int64) * H * B


@triton.jit(do_not_specialize=["T", "R", "C", "EVERY", "LAST_BLOCK"])
def _backward(
    W, slopes, da_out, dh, blocks, floor, W_ho, dy, numbers, T, R, B, C, EVERY, LAST_BLOCK,
    H: tl.constexpr, K: tl.constexpr, SAMPLES: tl.constexpr, RESIDUAL: tl.constexpr, JOINS: tl.constexpr, KEEP: tl.constexpr,
    PRECISION: tl.constexpr, MANTISSA: tl.constexpr, BIAS: tl.constexpr, TOP: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    """dL/dh_t into dh (T + 1, R, H, B) from its last row, da_t into ``da_out`` (T, R, H, B), exponents into ``blocks``."""
    run = tl.program_id(0).to(tl.int64)
    i = tl.arange(0, H)
    b = tl.program_id(1) * SAMPLES + tl.arange(0, SAMPLES)
    W_T = tl.load(W + run * H * K + i[None, :] * K + i[:, None])
    step, keep = tl.load(numbers), tl.load(numbers + 1)
    entries = i[:, None] * B + b[None, :]
    R_long = R.to(tl.int64)
    dh_t = dh + (T * R_long + run) * H * B
    d = tl.load(dh_t + entries)
    now = tl.load(blocks + (LAST_BLOCK * R_long + run) * B + b)
    lowest = tl.load(floor + run * B + b)
    for back in range(T):
        t = T - 1 - back
        at = (t * R_long + run) * H * B
        da = tl.load(slopes + at + entries) * d
        if RESIDUAL:
            da = step * da
        if KEEP:
            tl.store(da_out + at + entries, da)
        if RESIDUAL:
            d = tl.dot(W_T, da, acc=keep * d, input_precision=PRECISION, out_dtype=d.dtype)
        else:
            d = tl.dot(W_T, da, input_precision=PRECISION, out_dtype=d.dtype)
        if JOINS:  # noqa: SIM102, known when the kernel is compiled
            if t > 0:
                power = tl.maximum(BIAS - now, 0).to(WIDE) << MANTISSA
                shrink = power.to(d.dtype, bitcast=True)
                for c in range(C):
                    dy_c = tl.load(dy + (((t - 1) * R_long + run) * C + c) * B + b)
                    w_c = tl.load(W_ho + (run * C + c) * H + i)
                    d += w_c[:, None] * (dy_c * shrink)[None, :]
        if (t > 0) & (t % EVERY == 0):
            bits = tl.max(tl.abs(d), axis=0).to(WIDE, bitcast=True) >> MANTISSA
            shift = TOP + BIAS - 1 - bits.to(tl.int64)
            shift = tl.minimum(shift, now - lowest)
            shift = tl.minimum(tl.maximum(shift, 1 - BIAS), BIAS)
            factor = ((shift + BIAS).to(WIDE) << MANTISSA).to(d.dtype, bitcast=True)
            d = d * factor[None, :]
            now = now - shift
            tl.store(blocks + ((t // EVERY) * R_long + run) * B + b, now)
        tl.store(dh + at + entries, d)


def numbers_of(shape: Shape, like_this: Tensor) -> Tensor:
    """(eta, 1 - lambda) of a residual cell, (2,); (1, 0) of another."""
    cell = shape.cell
    pair = (cell.step, 1.0 - cell.leak) if isinstance(cell, ResidualCell) else (1.0, 0.0)
    return torch.tensor(pair, dtype=like_this.dtype, device=like_this.device)


def _common(shape: Shape) -> dict[str, object]:
    return {
        "H": shape.H,
        "K": shape.columns,
        "SAMPLES": 32 if shape.B % 32 == 0 else 16,
        "RESIDUAL": type(shape.cell) is ResidualCell,
        "PRECISION": PRECISION[shape.dtype],
        "num_warps": 8 if shape.H > 64 else 4,
        "num_stages": 2 if shape.H > 64 and shape.dtype == "float64" else 3,  # three do not fit there
    }


def forward(shape: Shape, W: Tensor, z: Tensor, slopes: Tensor, numbers: Tensor) -> None:
    """All steps forward: h_t into z, phi'(a_t) into ``slopes``."""
    common = _common(shape)
    grid = (z.shape[1], shape.B // int(common["SAMPLES"]))  # type: ignore[call-overload]
    inputs = max(16, triton.next_power_of_2(shape.columns - shape.H))
    common["num_stages"] = STAGES[shape.dtype]
    _forward[grid](W, z, slopes, numbers, shape.T, z.shape[1], shape.B, KX=inputs, PHI=shape.phi.name, **common)


def backward(
    shape: Shape,
    W: Tensor,
    slopes: Tensor,
    keep: bool,
    dh: Tensor,
    blocks: Tensor,
    floor: Tensor,
    direct: tuple[Tensor, Tensor] | None,
    numbers: Tensor,
    limits: Range,
) -> None:
    """All steps backward: dL/dh_t into dh, exponents into ``blocks``, and where ``keep`` da_t into the place of the slopes."""
    common = _common(shape)
    R = dh.shape[1]
    grid = (R, shape.B // int(common["SAMPLES"]))  # type: ignore[call-overload]
    W_ho, dy = direct if direct is not None else (W, W)
    C = W_ho.shape[1] if direct is not None else 0
    _backward[grid](
        W, slopes, slopes, dh, blocks, floor, W_ho, dy, numbers, shape.T, R, shape.B, C, limits.every, len(blocks) - 1,
        JOINS=direct is not None, KEEP=keep, MANTISSA=limits.mantissa, BIAS=limits.bias, TOP=limits.top,
        WIDE=tl.int64 if shape.dtype == "float64" else tl.int32, **common,
    )  # fmt: skip
