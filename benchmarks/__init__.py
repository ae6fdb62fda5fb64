"""Benchmarks: the engine beside its peers, in one run. ``make bench`` and ``make bench-gpu``; what they found is docs/benchmarks.md.

Importing this package pins every thread pool to one thread, which works only before NumPy, torch and JAX are imported.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
_ONE_THREAD = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
os.environ.update(dict.fromkeys(_ONE_THREAD, "1"))
os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
sys.path.append(str(ROOT / "workflow" / "scripts"))  # the figures' style and safe writing, which have no package
