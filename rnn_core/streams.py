"""Random streams, each named after what it feeds.

The seed of a run and the name of a stream decide its numbers, and nothing else does. So every spectral radius rescales the same
matrix, and every activation sees the same inputs. Inputs are drawn time first, so a shorter sequence is a prefix of a longer one.
"""

from __future__ import annotations

import zlib

import numpy as np

from rnn_core.scalars import is_integer

STREAMS = (
    "weights",
    "weights_reverse",
    "biases",
    "biases_reverse",
    "readout",
    "inputs",
    "targets",
    "batches",
    "held_out",
    "held_out_targets",
    "sensitivity",
)


def stream(seed: int, name: str, index: int = 0) -> np.random.Generator:
    """The generator for one purpose of one run.

    Args:
        seed: of the run, at least 0.
        name: one of ``STREAMS``.
        index: tells the batches of one stream apart, at least 0.

    Raises:
        ValueError: an argument is none of these.
    """
    if name not in STREAMS:
        raise ValueError(f"stream {name!r} is not one of {', '.join(STREAMS)}")
    for argument, value in (("seed", seed), ("index", index)):
        if not (is_integer(value) and value >= 0):
            raise ValueError(f"{argument}: {value!r} is not allowed; it must be an integer of at least 0")
    return np.random.default_rng(np.random.SeedSequence([seed, zlib.crc32(name.encode()), index]))
