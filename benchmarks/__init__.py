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
# XLA's flags pin its matrix products alone; the pool that runs independent operations side by side has as many threads as the
# machine has cores unless these say otherwise (JAX took 1.2 to 1.5 threads with the flags alone).
os.environ.update({"NPROC": "1", "PJRT_NPROC": "1"})
os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
sys.path.append(str(ROOT / "workflow" / "scripts"))  # the figures' style and safe writing, which have no package
# What keeps a library to AVX2 on a processor that has AVX-512; each reads its own when it is loaded.
AVX2 = {
    "RNN_CORE_CFLAGS": "-mno-avx512f",
    "ATEN_CPU_CAPABILITY": "avx2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "MKL_ENABLE_INSTRUCTIONS": "AVX2",
    "OPENBLAS_CORETYPE": "Haswell",
    "NPY_DISABLE_CPU_FEATURES": "X86_V4 AVX512_ICL AVX512_SPR",
}


def narrow() -> bool:
    """Whether everybody is kept to AVX2."""
    return AVX2.items() <= os.environ.items()
