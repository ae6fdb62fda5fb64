"""docs/benchmarks.md and its figure, from results.json alone: the same file gives the same page."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from benchmarks import ROOT, figure, targets, work
from benchmarks.check import TOLERANCE
from study.files.writing import written_aside

RESULTS = ROOT / "benchmarks" / "results.json"
RESULTS_GPU = ROOT / "benchmarks" / "results-gpu.json"
PAGE = ROOT / "docs" / "benchmarks.md"
PICTURE = ROOT / "docs" / "benchmarks.png"


def page(results: dict[str, Any], gpu: dict[str, Any] | None = None) -> str:
    """The page in Markdown."""
    parts = [
        "# Benchmarks",
        "<!-- written by `make bench` from benchmarks/results.json: do not edit -->",
        _verdicts(results),
        "![time of every peer relative to rnn_core, and fraction of the matrix-product rate, by hidden size](benchmarks.png)",
        *(_table(results, dtype) for dtype in _dtypes(results)),
        _sweep(results),
        _method(results),
        _machine(results),
        _gpu(gpu),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _dtypes(results: dict[str, Any]) -> list[str]:
    return list(dict.fromkeys(size["dtype"] for size in results["single"]))


def _sizes(results: dict[str, Any], dtype: str) -> list[dict[str, Any]]:
    return [size for size in results["single"] if size["dtype"] == dtype]


def judged(results: dict[str, Any]) -> list[tuple[str, str, float, float | None]]:
    """(where, what, value, target) of every ratio that has one."""
    rows: list[tuple[str, str, float, float | None]] = []
    for size in results["single"]:
        H, where = size["hidden_size"], f"{size['dtype']}, H = {size['hidden_size']}"
        rows.append((where, "ours vs best peer", size["ours_vs_best_peer"], targets.RATIO.get(H)))
        fraction = size["fraction_of_product_rate"]["ours"]
        rows.append((where, "fraction of the matrix-product rate", fraction, targets.FRACTION.get(H)))
    for part, name in (("engine", "engine work"), ("whole", "whole runs")):
        if results.get("sweep"):
            value = results["sweep"][part]["ours_vs_best_peer"]
            rows.append((f"sweep, {name}", "ours vs best peer", value, targets.SWEEP))
    return rows


def _verdicts(results: dict[str, Any]) -> str:
    rows = [row for row in judged(results) if row[3] is not None]
    missed = [row for row in rows if targets.verdict(row[2], row[3]) == "not met"]
    lines = [f"{len(rows) - len(missed)} of {len(rows)} targets are met in the run shown here."]
    if missed:
        lines += ["", "Not met:", "", "| where | ratio | measured | target |", "|---|---|---|---|"]
        lines += [f"| {where} | {what} | {value:.3f} | {target:.2f} |" for where, what, value, target in missed]
    return "\n".join(lines)


def _table(results: dict[str, Any], dtype: str) -> str:
    sizes = _sizes(results, dtype)
    names = list(dict.fromkeys(name for size in sizes for name in size["contenders"]))
    lines = [
        f"## One run, {dtype}",
        "",
        "Milliseconds a run, median (quartiles); forward, backward, every ln ‖∂L/∂h_t‖ and all parameter gradients, one thread.",
        "",
        "| | " + " | ".join(f"H = {size['hidden_size']}" for size in sizes) + " |",
        "|---|" + "---|" * len(sizes),
    ]
    for name in names:
        label = next(size["contenders"][name]["label"] for size in sizes if name in size["contenders"])
        lines.append(f"| {label} | " + " | ".join(_cell(size, name) for size in sizes) + " |")
    lines += [
        _row("**ours vs best peer**", [f"**{size['ours_vs_best_peer']:.3f}**" for size in sizes]),
        _row("target", [_target(size["ours_vs_best_peer"], targets.RATIO.get(size["hidden_size"])) for size in sizes]),
        _row("best peer", [size["contenders"][size["best_peer"]]["label"] for size in sizes]),
        _row("ours vs NumPy, derived by hand", [_by_hand(size) for size in sizes]),
        _row("**fraction of the matrix-product rate**", [f"**{_fraction(size):.3f}**" for size in sizes]),
        _row("target", [_target(_fraction(size), targets.FRACTION.get(size["hidden_size"])) for size in sizes]),
        _row("matrix-product rate, GFLOP/s", [_rate(size) for size in sizes]),
    ]
    return "\n".join(lines)


def _row(name: str, cells: list[str]) -> str:
    return f"| {name} | " + " | ".join(cells) + " |"


def _cell(size: dict[str, Any], name: str) -> str:
    row = size["contenders"].get(name)
    return "" if row is None else _time(row)


def _time(row: dict[str, Any]) -> str:
    return f"{_three(row['median_ms'])} ({_three(row['lower_quartile_ms'])}–{_three(row['upper_quartile_ms'])})"


def _three(value: float) -> str:
    """Three digits, as times are not known to more."""
    return f"{value:.{max(0, 2 - max(0, len(str(int(value))) - 1))}f}"


def _by_hand(size: dict[str, Any]) -> str:
    ratio = size["ours_vs_each"].get(targets.BY_HAND)
    return "" if ratio is None else f"{ratio:.3f}"


def _fraction(size: dict[str, Any]) -> float:
    return float(size["fraction_of_product_rate"]["ours"])


def _target(value: float, target: float | None) -> str:
    return targets.verdict(value, target) if target is None else f"{target:.2f}: {targets.verdict(value, target)}"


def _rate(size: dict[str, Any]) -> str:
    return f"{size['product']['gflops']:.1f} ({size['product']['by']})"


def _sweep(results: dict[str, Any]) -> str:
    sweep = results.get("sweep")
    if not sweep:
        return ""
    setting = sweep["setting"]
    counts = f"{setting['lengths']} lengths × {len(setting['clipping'])} clipping settings × {setting['radii']} radii"
    lines = [
        "## A sweep",
        "",
        f"{sweep['runs']} runs: {counts}; H = {setting['hidden_size']}, {setting['dtype']}. Ours shares forward passes among lengths and gradients among "
        "clipping settings (`run_many`). A peer does run after run; the two that are fastest by a trial run compete. *Engine work*: traces, parameter gradients and their norms after clipping, from "
        "networks and inputs that are there. *Whole runs*: from settings to results. Ours measures all that a run measures (spectra, theory, saturation …). "
        "The best peer draws the same networks and inputs by the same code and does its engine work, nothing more. Peers are given ∂L/∂h_T and the readout's "
        "gradients; ours computes them.",
        "",
        "| seconds, median (quartiles) | engine work | whole runs |",
        "|---|---|---|",
    ]
    for name in sweep["engine"]["contenders"]:
        both = [sweep[part]["contenders"].get(name) for part in ("engine", "whole")]
        label = "ours" if name == "ours" else _label(results, name)
        lines.append(_row(label, ["" if row is None else _seconds(row) for row in both]))
    both_ratios = [sweep[part]["ours_vs_best_peer"] for part in ("engine", "whole")]
    lines.append(_row("**ours vs best peer**", [f"**{ratio:.3f}**" for ratio in both_ratios]))
    lines.append(_row("target", [_target(ratio, targets.SWEEP) for ratio in both_ratios]))
    return "\n".join(lines)


def _seconds(row: dict[str, Any]) -> str:
    values = (row[name] / 1e3 for name in ("median_ms", "lower_quartile_ms", "upper_quartile_ms"))
    return "{} ({}–{})".format(*(_three(value) for value in values))


def _label(results: dict[str, Any], name: str) -> str:
    rows = (size["contenders"] for size in results["single"])
    return next((str(each[name]["label"]) for each in rows if name in each), name)


def _method(results: dict[str, Any]) -> str:
    forms = _forms(results)
    errors = [row["relative_error"] for size in results["single"] for row in size["contenders"].values()]
    compiles = [row["compile_seconds"] for size in results["single"] for row in size["contenders"].values()]
    threads = [row["threads"] for size in results["single"] for row in size["contenders"].values()]
    seconds = [value for value in compiles if value is not None]
    missing = results.get("missing", {})
    lines = [
        "## Method",
        "",
        f"- **The work.** h_t = tanh(W_ih x_t + b_ih + W_hh h_(t−1) + b_hh), T = {work.STEPS}, B = {work.BATCH}, D = {work.INPUTS}, loss at the last step. The network has {work.SETTING}.",
        "- **Side by side.** All contenders run in one process, one after the other, round after round, in an order that rotates. Every ratio is one of medians "
        "from the same rounds. A call below 0.15 s is preceded by an untimed one that refills the caches, and one below 30 ms is repeated within its turn.",
        f"- **One thread each**: the process is bound to one core. CPU time by wall time confirms it: at most {max(threads, default=0):.2f} here; above 1.1 the benchmark stops.",
        f"- **Right numbers first.** Before its time counts, everything a contender computes is compared with the readable engine, per step and per parameter. The relative error is at "
        f"most {TOLERANCE['float64']:.0e} in float64 and {TOLERANCE['float32']:.0e} in float32. The worst here: {max(errors, default=0):.1e}.",
        "- **Targets are against programs that differentiate by themselves** (PyTorch, JAX). A NumPy loop, hand-derived as ours is, is shown beside them and has "
        "no target; it is not exact beyond the range of floats.",
        "- **Peers in their best form.** A peer has several forms; at every size the fastest competes. Of vmap over runs the time is per run. "
        "`torch.nn.RNN` gives no trace: it shows the least time that a user without a trace pays. It counts as a peer, too.",
        "- **Matrix-product rate.** 2 · 1024³ operations by the time of one product of 1024 × 1024 matrices, in the same rounds, by the fastest library. A run counts "
        "6 H² B T operations, those of its three recurrent products (W_hh h, W_hhᵀ da, da hᵀ) alone. Input products, tanh and norms cost time and count nothing.",
    ]
    if seconds:
        lines.append(
            f"- **Compiling** is not in any time. JAX took {min(seconds):.1f} to {max(seconds):.1f} s for each shape."
        )
    lines += [f"- `{name}` was not run: {why}." for name, why in missing.items()]
    lines += ["", "Forms that competed, by H:", "", *forms]
    return "\n".join(lines)


def _forms(results: dict[str, Any]) -> list[str]:
    lines = []
    for dtype in _dtypes(results):
        sizes = _sizes(results, dtype)
        for name in dict.fromkeys(name for size in sizes for name in size["contenders"]):
            rows = {size["hidden_size"]: size["contenders"][name] for size in sizes if name in size["contenders"]}
            used: dict[str, list[str]] = {}
            for H, row in rows.items():
                used.setdefault(row["form"], []).append(str(H))
            said = "; ".join(f"{form} ({', '.join(at)})" for form, at in used.items())
            lines.append(f"- {dtype}, {next(iter(rows.values()))['label']}: {said}")
    return lines


def _machine(results: dict[str, Any]) -> str:
    machine = results["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    return "\n".join(
        [
            "## The machine that was measured",
            "",
            f"{machine['processor']}, {machine['cores']} cores, {machine['device']}; {versions}; rnn_core's fast path: {machine['fast_path']}. "
            f"The benchmark took {results['minutes']:.1f} minutes.",
            "",
            "Ratios carry over to other machines better than times do; `make bench` measures yours and writes this page again, `make bench-gpu` a GPU's.",
        ]
    )


def _gpu(results: dict[str, Any] | None) -> str:
    if results is None:
        return "## On a GPU\n\nNot measured yet: `make bench-gpu` needs a CUDA device and adds its tables here."
    tables = [_table(results, dtype).replace("## One run", "### One run") for dtype in _dtypes(results)]
    note = "The engine's torch path; targets are those of the CPU, set for one thread."
    return "\n\n".join([f"## On a GPU: {results['machine']['device']}", note, *tables])


def write(results_file: Path = RESULTS, page_file: Path = PAGE, picture: Path = PICTURE) -> None:
    """The page and its figure."""
    results = json.loads(results_file.read_text(encoding="utf-8"))
    gpu = json.loads(RESULTS_GPU.read_text(encoding="utf-8")) if RESULTS_GPU.exists() else None
    with written_aside(page_file) as aside:
        aside.write_text(page(results, gpu), encoding="utf-8")
    figure.save(results, picture)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.parse_args()
    write()


if __name__ == "__main__":
    main()
