"""Reductions over the buffers by Triton, for CUDA devices: each reads its buffer once, where torch's operations take several passes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.language.extra import libdevice

from rnn_core.batched.columns import NOTHING, Columns
from rnn_core.scaling import LN2

if TYPE_CHECKING:
    from rnn_core.batched.passes import Together

PRECISION = {"float32": "bf16x6", "float64": "ieee"}  # of products: six of bfloat16 hold float32's 24 bits
STEPS_A_PROGRAM = 8
SPLIT = 4  # parts of the sequence whose products are summed apart, so that few runs fill a GPU too
LARGEST = 128  # rows and columns of a product that a program holds


@triton.jit(do_not_specialize=["T", "R", "EVERY"])
def _columns(
    d, blocks, log_norm, largest_out, smallest_out, nonzero_out, highest, T, R, H, B, EVERY,
    STEPS: tl.constexpr, ROWS: tl.constexpr, SAMPLES: tl.constexpr, MANTISSA: tl.constexpr, BIAS: tl.constexpr, WIDE: tl.constexpr,
    LN2: tl.constexpr, NOTHING: tl.constexpr,
):  # type: ignore[no-untyped-def]  # fmt: skip
    """``Columns`` of d (T + 1, R, H, B), whose row 0 does not count."""
    run = tl.program_id(0).to(tl.int64)
    R_long = R.to(tl.int64)
    i = tl.arange(0, ROWS)
    b = tl.program_id(2) * SAMPLES + tl.arange(0, SAMPLES)
    inside = b < B
    ln2 = tl.full([SAMPLES], LN2, tl.float64)
    top = tl.full([SAMPLES], NOTHING, tl.int32)
    for k in range(STEPS):
        t = tl.program_id(1) * STEPS + k
        if t < T:
            at = ((t + 1) * R_long + run) * H * B
            square = tl.zeros([SAMPLES], tl.float64)
            largest = tl.zeros([SAMPLES], d.dtype.element_ty)
            smallest = tl.full([SAMPLES], float("inf"), d.dtype.element_ty)
            nonzero = tl.zeros([SAMPLES], tl.int32)
            for first in range(0, H, ROWS):
                there = ((first + i)[:, None] < H) & inside[None, :]
                x = tl.abs(tl.load(d + at + (first + i)[:, None] * B + b[None, :], mask=there, other=0.0))
                wide = x.to(tl.float64)
                square += tl.sum(wide * wide, axis=0)
                largest = tl.maximum(largest, tl.max(x, axis=0))
                smallest = tl.minimum(smallest, tl.min(tl.where(x == 0.0, float("inf"), x), axis=0))
                nonzero += tl.sum((x != 0.0).to(tl.int32), axis=0)
            block = tl.maximum((t + EVERY) // EVERY, 1)
            e = tl.load(blocks + (block * R_long + run) * B + b, mask=inside, other=0)
            out = (t * R_long + run) * B + b
            tl.store(log_norm + out, 0.5 * libdevice.log(square) + e.to(tl.float64) * ln2, mask=inside)
            tl.store(largest_out + out, largest, mask=inside)
            tl.store(smallest_out + out, smallest, mask=inside)
            tl.store(nonzero_out + out, nonzero.to(largest.dtype), mask=inside)
            own = (largest.to(WIDE, bitcast=True) >> MANTISSA).to(tl.int32) - (BIAS - 1) + e.to(tl.int32)
            top = tl.maximum(top, tl.where((largest > 0.0) & inside, own, NOTHING))
    tl.atomic_max(highest + run, tl.max(top, axis=0))


def columns(together: Together, part: Tensor) -> Columns:
    """``columns.Columns`` of dL/dh_t or dL/dc_t, (T + 1, R, H, B)."""
    limits, (T, R, H, B) = together.limits, (part.shape[0] - 1, *part.shape[1:])
    log_norm = torch.empty((T, R, B), dtype=torch.float64, device=part.device)
    largest, smallest, nonzero = (torch.empty((T, R, B), dtype=part.dtype, device=part.device) for _ in range(3))
    highest = torch.full((R,), NOTHING, dtype=torch.int32, device=part.device)
    samples = min(64, triton.next_power_of_2(B))
    grid = (R, triton.cdiv(T, STEPS_A_PROGRAM), triton.cdiv(B, samples))
    _columns[grid](
        part, together.blocks, log_norm, largest, smallest, nonzero, highest, T, R, H, B, limits.every,
        STEPS=STEPS_A_PROGRAM, ROWS=min(64, triton.next_power_of_2(H)), SAMPLES=samples, MANTISSA=limits.mantissa,
        BIAS=limits.bias, WIDE=tl.int64 if part.dtype == torch.float64 else tl.int32, LN2=LN2, NOTHING=NOTHING,
    )  # fmt: skip
    return Columns(log_norm, largest, smallest, nonzero, highest.to(torch.int64))


@triton.jit(do_not_specialize=["T", "R", "EVERY"])
def _sums(
    da, z, blocks, common, out, T, R, B, EVERY,
    M: tl.constexpr, K: tl.constexpr, ROWS: tl.constexpr, COLS: tl.constexpr, SAMPLES: tl.constexpr, PARTS: tl.constexpr,
    PRECISION: tl.constexpr, MANTISSA: tl.constexpr, BIAS: tl.constexpr, WIDE: tl.constexpr,
):  # type: ignore[no-untyped-def]  # fmt: skip
    """Σ_t da_t z_t^T 2**(exponent - common) of one part of the sequence, da (T, R, M, B), z (T + 1, R, K, B), out (PARTS, R, M, K)."""
    run = tl.program_id(0).to(tl.int64)
    part = tl.program_id(2)
    R_long = R.to(tl.int64)
    i = (tl.program_id(1) % tl.cdiv(M, ROWS)) * ROWS + tl.arange(0, ROWS)
    j = (tl.program_id(1) // tl.cdiv(M, ROWS)) * COLS + tl.arange(0, COLS)
    b = tl.arange(0, SAMPLES)
    highest = tl.load(common + run)
    total = tl.zeros([ROWS, COLS], da.dtype.element_ty)
    length = tl.cdiv(T, PARTS)
    for t in range(part * length, tl.minimum((part + 1) * length, T)):
        block = tl.maximum((t + EVERY) // EVERY, 1)
        for first in range(0, B, SAMPLES):
            inside = first + b < B
            e = tl.load(blocks + (block * R_long + run) * B + first + b, mask=inside, other=0) - highest
            power = tl.minimum(tl.maximum(e + BIAS, 0), 2 * BIAS).to(WIDE) << MANTISSA
            factor = power.to(da.dtype.element_ty, bitcast=True)
            rows = (i[:, None] < M) & inside[None, :]
            cols = (j[:, None] < K) & inside[None, :]
            d = tl.load(da + ((t * R_long + run) * M + i[:, None]) * B + first + b[None, :], mask=rows, other=0.0)
            s = tl.load(z + ((t * R_long + run) * K + j[:, None]) * B + first + b[None, :], mask=cols, other=0.0)
            total = tl.dot(
                d * factor[None, :], tl.trans(s), acc=total, input_precision=PRECISION, out_dtype=da.dtype.element_ty
            )
    where = out + ((part * R_long + run) * M + i[:, None]) * K + j[None, :]
    tl.store(where, total, mask=(i[:, None] < M) & (j[None, :] < K))


def sums(together: Together, common: Tensor) -> Tensor:
    """Σ_t da_t z_t^T · 2**(exponent - common), (R, rows, K)."""
    limits, shape = together.limits, together.shape
    T, R, M, B = together.a.shape
    out = together.a.new_empty((SPLIT, R, M, shape.columns))
    rows, cols, warps = _tiles(M, shape.columns)
    grid = (R, triton.cdiv(M, rows) * triton.cdiv(shape.columns, cols), SPLIT)
    _sums[grid](
        together.a, together.z, together.blocks, common, out, T, R, B, limits.every,
        M=M, K=shape.columns, ROWS=rows, COLS=cols, SAMPLES=max(16, min(32, triton.next_power_of_2(B))), PARTS=SPLIT,
        PRECISION=PRECISION[shape.dtype], MANTISSA=limits.mantissa, BIAS=limits.bias,
        WIDE=tl.int64 if shape.dtype == "float64" else tl.int32, num_warps=warps,
    )  # fmt: skip
    return out.sum(dim=0)


def _tiles(M: int, K: int) -> tuple[int, int, int]:
    """Rows, columns and warps of a program's part of a product (M, K)."""
    rows = max(16, min(64, triton.next_power_of_2(M)))
    cols = max(16, triton.next_power_of_2(K)) if K <= LARGEST else 64
    return rows, cols, 8 if rows * cols > 64 * 64 else 4


def sums_cover(together: Together) -> bool:
    """Whether ``sums`` is faster than torch's product of copies: a large product is not."""
    return together.a.shape[2] * together.shape.columns <= 2 * LARGEST**2
