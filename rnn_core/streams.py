"""Random streams that are named after what they feed.

A run's seed and a stream's name decide its numbers, nothing else does: every spectral radius rescales the same matrix, every
activation sees the same inputs, and because inputs are drawn time first a shorter sequence is a prefix of a longer one.
"""

from __future__ import annotations

import zlib

import numpy as np

STREAMS = ("weights", "readout", "inputs", "targets", "batches", "held_out", "held_out_targets")


def stream(seed: int, name: str, index: int = 0) -> np.random.Generator:
    """The generator for one purpose of one run; ``index`` tells batches of the same stream apart."""
    if name not in STREAMS:
        raise ValueError(f"stream {name!r} is not one of {', '.join(STREAMS)}")
    return np.random.default_rng(np.random.SeedSequence([seed, zlib.crc32(name.encode()), index]))
