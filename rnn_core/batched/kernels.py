"""Reductions over the buffers by Triton, for CUDA devices: each reads its buffer once, where torch's operations take several passes."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

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
# Warps, samples that are multiplied together, and stages were chosen by their times on an H100, H = 64, B = 32.
COLUMN_WARPS = {"float32": 1, "float64": 2}
TOGETHER = {"float32": (32, 2), "float64": (16, 3)}  # samples whose products are summed in one operation, and stages
SPLIT = 4  # parts of the sequence whose products are summed apart, so that few runs fill a GPU too
LARGEST = 128  # rows and columns of products that are taken here


@triton.jit(do_not_specialize=["T", "R", "EVERY"])
def _columns(
    d, blocks, log_norm, largest_out, smallest_out, nonzero_out, highest, T, R, H, B, EVERY,
    STEPS: tl.constexpr, ROWS: tl.constexpr, SAMPLES: tl.constexpr, MANTISSA: tl.constexpr, BIAS: tl.constexpr, WIDE: tl.constexpr,
    LN2: tl.constexpr, NOTHING: tl.constexpr,
):  # fmt: skip
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
    limits, T = together.limits, len(part) - 1
    _, R, H, B = part.shape
    log_norm = torch.empty((T, R, B), dtype=torch.float64, device=part.device)
    largest, smallest, nonzero = (torch.empty((T, R, B), dtype=part.dtype, device=part.device) for _ in range(3))
    highest = torch.full((R,), NOTHING, dtype=torch.int32, device=part.device)
    samples = min(64, triton.next_power_of_2(B))
    grid = (R, triton.cdiv(T, STEPS_A_PROGRAM), triton.cdiv(B, samples))
    _columns[grid](
        part, together.blocks, log_norm, largest, smallest, nonzero, highest, T, R, H, B, limits.every,
        STEPS=STEPS_A_PROGRAM, ROWS=min(64, triton.next_power_of_2(H)), SAMPLES=samples, MANTISSA=limits.mantissa,
        BIAS=limits.bias, WIDE=tl.int64 if part.dtype == torch.float64 else tl.int32, LN2=LN2, NOTHING=NOTHING, num_warps=COLUMN_WARPS[together.shape.dtype],
    )  # fmt: skip
    return Columns(log_norm, largest, smallest, nonzero, highest.to(torch.int64))


@triton.jit(do_not_specialize=["T", "R", "EVERY"])
def _sums(
    da, z, blocks, common, out, T, R, B, EVERY,
    M: tl.constexpr, K: tl.constexpr, ROWS: tl.constexpr, COLS: tl.constexpr, REST: tl.constexpr, TOGETHER: tl.constexpr,
    PARTS: tl.constexpr, PRECISION: tl.constexpr, MANTISSA: tl.constexpr, BIAS: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    """Σ_t da_t z_t^T 2**(exponent - common) of one part of the sequence, da (T, R, M, B), z (T + 1, R, K, B), out (PARTS, R, M, K).

    A program has COLS columns, and the last one beside them the REST that is no multiple of COLS.
    """
    across = K // COLS
    tile, part = tl.program_id(0), tl.program_id(2)
    run = tl.program_id(1).to(tl.int64)
    R_long = R.to(tl.int64)
    i = (tile // across) * ROWS + tl.arange(0, ROWS)
    j = (tile % across) * COLS + tl.arange(0, COLS)
    b = tl.arange(0, TOGETHER)
    highest = tl.load(common + run)
    total = tl.zeros([ROWS, COLS], da.dtype.element_ty)
    entries_d, entries_z = i[:, None] * B + b[None, :], j[:, None] * B + b[None, :]
    if REST > 0:
        j_rest = tl.where(tile % across == across - 1, across * COLS, K) + tl.arange(0, REST)
        entries_rest = j_rest[:, None] * B + b[None, :]
        total_rest = tl.zeros([ROWS, REST], da.dtype.element_ty)
    length = tl.cdiv(T, PARTS)
    for t in range(part * length, tl.minimum((part + 1) * length, T)):
        at = t * R_long + run
        exponents = blocks + (tl.maximum((t + EVERY) // EVERY, 1) * R_long + run) * B
        for first in range(0, B, TOGETHER):
            inside = first + b < B
            e = tl.load(exponents + first + b, mask=inside, other=0) - highest
            power = tl.minimum(tl.maximum(e + BIAS, 0), 2 * BIAS).to(WIDE) << MANTISSA
            factor = power.to(da.dtype.element_ty, bitcast=True)
            d = tl.load(da + at * M * B + first + entries_d, mask=(i[:, None] < M) & inside[None, :], other=0.0)
            d = d * factor[None, :]
            z_t = z + at * K * B + first
            s = tl.load(z_t + entries_z, mask=inside[None, :], other=0.0)
            total = tl.dot(d, tl.trans(s), acc=total, input_precision=PRECISION, out_dtype=da.dtype.element_ty)
            if REST > 0:
                s = tl.load(z_t + entries_rest, mask=(j_rest[:, None] < K) & inside[None, :], other=0.0)
                total_rest = tl.dot(
                    d, tl.trans(s), acc=total_rest, input_precision=PRECISION, out_dtype=da.dtype.element_ty
                )
    rows = out + ((part * R_long + run) * M + i[:, None]) * K
    tl.store(rows + j[None, :], total, mask=i[:, None] < M)
    if REST > 0:
        tl.store(rows + j_rest[None, :], total_rest, mask=(i[:, None] < M) & (j_rest[None, :] < K))


class Tiles(NamedTuple):
    """How a product (M, K) is split among programs: rows and columns of each, columns that are left, samples at a time, warps, stages."""

    rows: int
    cols: int
    rest: int
    together: int
    warps: int
    stages: int


def tiles_of(M: int, K: int, dtype: str) -> Tiles:
    """For any product: K is a multiple of 8 and above 16."""
    rows = max(16, min(64, triton.next_power_of_2(M)))
    cols = min(64, 1 << (K.bit_length() - 1))
    rest = K % cols
    return Tiles(
        rows, cols, max(16, triton.next_power_of_2(rest)) if rest else 0, TOGETHER[dtype][0], 4, TOGETHER[dtype][1]
    )


def sums(together: Together, common: Tensor) -> Tensor:
    """Σ_t da_t z_t^T · 2**(exponent - common), (R, rows, K)."""
    limits, shape = together.limits, together.shape
    T, R, M, B = together.a.shape
    K, tiles = shape.columns, tiles_of(M, shape.columns, shape.dtype)
    out = together.a.new_empty((SPLIT, R, M, K))
    grid = (triton.cdiv(M, tiles.rows) * (K // tiles.cols), R, SPLIT)
    _sums[grid](
        together.a, together.z, together.blocks, common, out, T, R, B, limits.every,
        M=M, K=K, ROWS=tiles.rows, COLS=tiles.cols, REST=tiles.rest, TOGETHER=tiles.together, PARTS=SPLIT,
        PRECISION=PRECISION[shape.dtype], MANTISSA=limits.mantissa, BIAS=limits.bias,
        WIDE=tl.int64 if shape.dtype == "float64" else tl.int32, num_warps=tiles.warps, num_stages=tiles.stages,
    )  # fmt: skip
    return out.sum(dim=0)


def sums_cover(together: Together) -> bool:
    """Whether ``sums`` takes it, and is faster than torch's product of copies: a large product is not."""
    M, K = together.a.shape[2], together.shape.columns
    return bool(K >= 16 and M * K <= 2 * LARGEST**2)
