"""``make bench`` and ``make bench-gpu``: measure everybody, write the results, then the page and its figure."""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import AVX2, cases, grid, narrow, peers, ratios, sweep, timing
from rnn_core import compiled
from rnn_core.arrays import device_name
from study.files.writing import written_aside

LIBRARIES = ("numpy", "torch", "jax")
QUICK = timing.Rounds(3, 5, 1.0, by_cpu=True)
TOUCHED = 2**31  # bytes: more than any contender has at a time


def machine(device: str) -> dict[str, Any]:
    """What the times depend on; nothing that names the machine."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "device": "one thread" if device == "cpu" else device_name(device),
        "instructions": _instructions(),
        "fast_path": compiled.describe(),
        "versions": {"Python": platform.python_version(), **{name: _version(name) for name in LIBRARIES}},
    }


def _instructions() -> str:
    """The widest that everybody may use, by which the targets differ."""
    may = not narrow() and "avx512f" in _cpuinfo("flags")
    return "AVX-512" if may else "AVX2"


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def _processor() -> str:
    return _cpuinfo("model name") or platform.processor() or platform.machine()


def _cpuinfo(what: str) -> str:
    """A line of Linux's description of the first core; empty elsewhere."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith(what)), "")


def measure(groups: Sequence[cases.Group], device: str, rounds: timing.Rounds | None, rates: Sequence[int]) -> dict[str, Any]:  # fmt: skip
    """All results, said one by one as they come."""
    start = time.perf_counter()
    _touch_memory()
    contenders, missing = peers.load(device)
    for name, why in missing.items():
        print(f"{name} is left out: {why}", flush=True)
    entries: list[dict[str, Any]] = []
    for group in groups:
        measured = grid.measure(group, contenders, rounds, device=device)
        entries += measured
        for entry in measured:
            print(f"{time.perf_counter() - start:5.0f} s  {ratios.said(entry)}", flush=True)
    fractions = []
    for size in rates:
        fractions.append(grid.rate(size, rounds))
        shares = ", ".join(f"{each['fraction']:.3f} {regime}" for regime, each in fractions[-1]["ours"].items())
        print(f"H = {size}: of the matrix-product rate {shares}", flush=True)
    minutes = round((time.perf_counter() - start) / 60, 2)
    print(f"CPU time: {time.process_time() / 60:.1f} minutes", flush=True)
    clock = "CPU time" if rounds is not None and rounds.by_cpu else "wall time"
    facts = {"machine": machine(device), "missing": missing, "minutes": minutes, "clock": clock}
    return {**facts, "rates": fractions, "grid": entries}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--sizes", nargs="+", type=int, default=list(cases.SIZES), metavar="H")
    parser.add_argument("--dtypes", nargs="+", default=list(cases.DTYPES), choices=cases.DTYPES)
    parser.add_argument("--cells", nargs="+", default=cases.NAMES, choices=cases.NAMES)
    parser.add_argument("--lengths", nargs="+", type=int, help="every length, not the grid's")
    parser.add_argument("--quick", action="store_true", help="few rounds, by CPU time: rough ratios in a few minutes on a machine that others use; the page stays as it is")  # fmt: skip
    parser.add_argument("--avx2", action="store_true", help="everybody without AVX-512")
    parser.add_argument("--output", type=Path, help="a file for the results alone; the page stays as it is")
    given = parser.parse_args()
    if given.avx2 and not narrow():  # libraries read it when they are loaded: start again
        os.execve(sys.executable, [sys.executable, "-m", "benchmarks.run", *sys.argv[1:]], {**os.environ, **AVX2})
    if given.device == "cuda":
        _need_cuda()
        groups = cases.on_gpu(given.sizes, given.dtypes)
    else:
        _on_one_core()
        groups = cases.grid(given.sizes, given.dtypes, given.cells, given.lengths)
    results = measure(groups, given.device, QUICK if given.quick else None, given.sizes if given.device == "cpu" else [])  # fmt: skip
    if not (given.quick or given.avx2 or given.device == "cuda"):
        start = time.perf_counter()
        results["sweep"] = sweep.measure(peers.load()[0])
        results["minutes"] = round(results["minutes"] + (time.perf_counter() - start) / 60, 2)
    for line in ratios.summary(results):
        print(line)
    if given.quick and given.output is None:
        return
    from benchmarks import report  # plotting comes after measuring: its libraries start threads

    usual = report.RESULTS_GPU if given.device == "cuda" else report.RESULTS_AVX2 if given.avx2 else report.RESULTS
    with written_aside(given.output or usual) as aside:
        aside.write_text(report.as_json(results), encoding="utf-8")
    if given.output is None:
        report.write()


def _touch_memory() -> None:
    """Memory that a virtual machine has not used yet costs whoever takes it first: ours of 512 units seemed a quarter slower in range."""
    np.ones(TOUCHED // 8)


def _on_one_core() -> None:
    """Threads that no setting reaches (JAX has such) then share the core with the one that waits for them."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


def _need_cuda() -> None:
    try:
        import torch
    except ModuleNotFoundError:
        sys.exit("The benchmark on a GPU needs torch: make bench-gpu installs it.")
    if not torch.cuda.is_available():
        sys.exit(
            "torch finds no CUDA device, so there is nothing to measure. On a machine with one, install torch's CUDA build "
            "into .venv and run make bench-gpu again; make bench measures the CPU."
        )


if __name__ == "__main__":
    main()
