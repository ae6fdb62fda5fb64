"""``make bench`` and ``make bench-gpu``: measure everybody, write results.json, then the page and its figure."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from benchmarks import peers, single, sweep, work
from rnn_core import compiled
from rnn_core.arrays import device_name
from study.files.writing import written_aside

LIBRARIES = ("numpy", "torch", "jax")


def machine(device: str) -> dict[str, Any]:
    """What the times depend on; nothing that names the machine."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "device": "one thread" if device == "cpu" else device_name(device),
        "fast_path": compiled.describe(),
        "versions": {"Python": platform.python_version(), **{name: _version(name) for name in LIBRARIES}},
    }


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    named = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())


def measure(sizes: list[int], dtypes: list[str], device: str, with_sweep: bool) -> dict[str, Any]:
    """All results, said one by one as they come."""
    start = time.perf_counter()
    contenders, missing = peers.load(device)
    for name, why in missing.items():
        print(f"{name} is left out: {why}", flush=True)
    measured = []
    for dtype in dtypes:
        for size in sizes:
            measured.append(single.measure(size, dtype, contenders, device))
            _say(measured[-1])
    results: dict[str, Any] = {"machine": machine(device), "missing": missing, "single": measured}
    if with_sweep:
        results["sweep"] = sweep.measure(contenders)
        for part in ("engine", "whole"):
            print(f"sweep, {part}: {results['sweep'][part]['ours_vs_best_peer']:.2f} × the best peer", flush=True)
    return {**results, "minutes": round((time.perf_counter() - start) / 60, 2)}


def _say(size: dict[str, Any]) -> None:
    ours = size["contenders"]["ours"]["median_ms"]
    print(
        f"{size['dtype']} H = {size['hidden_size']}: {ours:.1f} ms, {size['ours_vs_best_peer']:.2f} × {size['best_peer']}, "
        f"{size['fraction_of_product_rate']['ours']:.2f} of the matrix-product rate",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--sizes", nargs="+", type=int, default=list(work.SIZES), metavar="H")
    parser.add_argument("--dtypes", nargs="+", default=list(work.DTYPES), choices=work.DTYPES)
    parser.add_argument("--no-sweep", action="store_true")
    parser.add_argument("--output", type=Path, help="a file for the results alone; the page stays as it is")
    given = parser.parse_args()
    if given.device == "cuda":
        _need_cuda()
    else:
        _on_one_core()
    results = measure(given.sizes, given.dtypes, given.device, given.device == "cpu" and not given.no_sweep)
    from benchmarks import report  # plotting comes after measuring: its libraries start threads

    usual = report.RESULTS if given.device == "cpu" else report.RESULTS_GPU
    with written_aside(given.output or usual) as aside:
        aside.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    if given.output is None:
        report.write()


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
