"""Verification: the engine against every oracle, beside the benchmarks (how right · how fast). ``make verify`` runs it.

Importing this package gives every BLAS one thread, which works only before NumPy and torch are imported. So bits are the same on
any machine, and each of its processes has one thread.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
for _variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")
sys.path.append(
    str(ROOT / "workflow" / "scripts")
)  # tables, safe writing and the figures' style, which have no package
