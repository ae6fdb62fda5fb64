"""docs/benchmarks.md, its figure and the sentence that other pages quote, from the results alone: the same files give the same page."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import ROOT, cases, figure, many_gpu, ratios, training, work
from benchmarks.check import CHECKED, SPREADS, TOLERANCE
from study.files.writing import written_aside

RESULTS, RESULTS_AVX2, RESULTS_GPU = (ROOT / "benchmarks" / f"results{which}.json" for which in ("", "-avx2", "-gpu"))
PAGE = ROOT / "docs" / "benchmarks.md"
PICTURE = ROOT / "docs" / "benchmarks.png"
QUOTING = (ROOT / "README.md", ROOT / "docs" / "engine.md")  # pages that have the sentence about speed
_SENTENCE = (
    "On one CPU thread, over a grid of {} settings, a run was {} times as fast as the fastest other program that counts. "
    "A program counts if its answer is right; PyTorch counts whatever its answer. "
    "The worst was {}; the best was {}."
)
ALONE = 0.9  # CPU time by wall time below which other work had part of the core
Results = dict[str, Any]


def page(results: Results, avx2: Results | None = None, gpu: Results | None = None) -> str:
    """The page in Markdown."""
    parts = [
        "# Benchmarks",
        "<!-- written by `make bench` from benchmarks/results*.json: do not edit -->",
        _lead(results),
        "![heat map of the ratio at every place of the grid](benchmarks.png)",
        _targets(results),
        _beside_each(results),
        _rates(results),
        "\n".join(training.section()),
        _every_ratio(results),
        _sweep(results),
        _method(results),
        _machine(results),
        _avx2(avx2),
        _gpu(gpu),
        "\n".join(many_gpu.section()),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def sentence(results: Results) -> str:
    """What other pages say of speed: the range over the whole grid."""
    ends = ratios.worst(results["grid"]), ratios.best(results["grid"])
    span = " to ".join(ratios.short(ratios.ratio(end)[0]) for end in ends)
    worst, best = (
        f"{end['cell']}, {end['regime']}, {end['dtype']}, beside {ratios.label(end, ratios.ratio(end)[1])}"
        for end in ends
    )
    return _SENTENCE.format(len(results["grid"]), span, worst, best)


def _lead(results: Results) -> str:
    entries = results["grid"]
    low, high = ratios.worst(entries), ratios.best(entries)
    values = [ratios.ratio(entry)[0] for entry in entries]
    alone = sum(not ratios.some_right(entry) for entry in entries)
    every = min(value for entry in entries for value in ratios.times(entry, lambda *_: True).values())
    return "\n\n".join(
        [
            f"**The worst ratio of the grid is {ratios.short(ratios.ratio(low)[0])}**: {ratios.where(low, ratios.ratio(low)[1])}.",
            "A ratio is another program's time divided by ours. Above 1, `rnn_core` is faster. "
            "At every place of the grid it is the fastest other program that counts. Every program whose answer is right counts. PyTorch counts whatever its answer.",
            f"`rnn_core` is behind at {sum(value < 1.0 for value in values)} of {len(values)} places. The median ratio is {ratios.short(median(values))}. "
            f"The best is {ratios.short(max(values))}: {ratios.where(high, ratios.ratio(high)[1])}.",
            f"At {alone} places no other program's answer is right (marked °). Beside every program, right or wrong, the worst ratio of the grid is {ratios.short(every)}.",
        ]
    )


def _targets(results: Results) -> str:
    judged = {name: places for name, places in ratios.judged(results).items() if places}
    missed = [name for name, places in judged.items() if not all(place.met for place in places)]
    lines = [
        "## Targets", "",
        f"{len(judged) - len(missed)} of {len(judged)} targets are met everywhere in the run shown here.", "",
        "| target | met | worst | bound there | where |", "|---|---|---|---|---|",
    ]  # fmt: skip
    for name, places in judged.items():
        low = min(places, key=lambda place: place.slack)
        met = sum(place.met for place in places)
        verdict = "everywhere" if met == len(places) else f"**not met** at {len(places) - met} of {len(places)}"
        bound = f"{'at most' if low.at_most else 'at least'} {low.bound:.2f}"
        lines.append(f"| {name} | {verdict} | {low.value:.3f} | {bound} | {low.place} |")
    return "\n".join(lines)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _names(results: Results) -> list[str]:
    return [name for name in cases.NAMES if any(entry["cell"] == name for entry in results["grid"])]


def _beside_each(results: Results) -> str:
    entries, names = results["grid"], _names(results)
    labels = {name: row["label"] for entry in entries for name, row in entry["contenders"].items() if name != "ours"}
    rows = []
    for peer, label in labels.items():
        cells = []
        for cell in names:
            shared = [entry for entry in entries if entry["cell"] == cell and peer in entry["contenders"]]
            values = [ratios.by_itself(entry, peer) for entry in shared]
            right = sum(entry["contenders"][peer]["right"] for entry in shared)
            cells.append(
                f"{ratios.short(min(values))} · {ratios.short(median(values))} · {right}/{len(shared)}"
                if values
                else ""
            )
        rows.append([label, *cells])
    said = "Worst ratio · median ratio · places at which the answer is right, of all; right or wrong, each program by itself."
    return f"## Beside each program\n\n{said}\n\n{_table(['', *names], rows)}"


def _rates(results: Results) -> str:
    rows = []
    for rate in results["rates"]:
        wanted = ratios.FRACTION[results["machine"]["instructions"]].get(rate["hidden_size"])
        inside, beyond = (f"{each['fraction']:.3f}" for each in rate["ours"].values())
        rows.append([str(rate["hidden_size"]), inside, beyond, f"{wanted:.2f}" if wanted else "", f"{rate['product']['gflops']:.1f} ({rate['product']['by']})"])  # fmt: skip
    said = (
        "How much of the time would be left if a run were its three recurrent products alone, as fast as one large product. "
        f"Vanilla tanh, float64, T = {results['rates'][0]['length'] if rows else 0}."
    )
    head = ["H", "in range", "beyond the range of floats", "target", "matrix-product rate, GFLOP/s"]
    return f"## Fraction of the matrix-product rate\n\n{said}\n\n{_table(head, rows)}" if rows else ""


def _every_ratio(results: Results) -> str:
    entries = results["grid"]
    sizes = sorted({entry["hidden_size"] for entry in entries})
    at = {tuple(entry[name] for name in ("cell", "dtype", "regime", "hidden_size")): entry for entry in entries}
    rows = []
    for cell in _names(results):
        for dtype in cases.DTYPES:
            lengths = {entry["hidden_size"]: entry["length"] for key, entry in at.items() if key[:2] == (cell, dtype)}
            if not lengths:
                continue
            rows.append([f"**{cell}, {dtype}**, T =", *(str(lengths.get(size, "")) for size in sizes)])
            for regime in cases.REGIMES:
                row = (at.get((cell, dtype, regime, size)) for size in sizes)
                rows.append([regime, *("" if entry is None else _place(entry) for entry in row)])
    said = "As in the figure, with our milliseconds a run: forward, backward, every ln ‖∂L/∂h_t‖ and all parameter gradients."
    return f"## Every ratio\n\n{said}\n\n{_table(['', *(f'H = {size}' for size in sizes)], rows)}"


def _place(entry: ratios.Entry) -> str:
    value = ratios.ratio(entry)[0]
    mark = "" if ratios.some_right(entry) else "°"
    said = f"**{ratios.short(value)}**" if value < 1.0 else ratios.short(value)
    return f"{said}{mark} ({_three(entry['contenders']['ours']['median_ms'])})"


def _three(value: float) -> str:
    """Three digits, as times are not known to more."""
    return f"{value:.{max(0, 2 - max(0, len(str(int(value))) - 1))}f}"


def _sweep(results: Results) -> str:
    sweep = results.get("sweep")
    if not sweep:
        return ""
    setting = sweep["setting"]
    counts = f"{setting['lengths']} lengths × {len(setting['clipping'])} clipping settings × {setting['radii']} radii"
    said = (
        f"{sweep['runs']} runs: {counts}; vanilla tanh, H = {setting['hidden_size']}, {setting['dtype']}. Ours shares forward passes among lengths. "
        "It shares gradients among clipping settings (`run_many`). A peer does run after run. *Engine work* is traces, parameter gradients and their norms after clipping. "
        "Its networks and inputs are there before. *Whole runs* go from settings to results. Ours measures all that a run measures (spectra, theory, saturation …). "
        "The best peer draws the same networks and inputs by the same code, and does its engine work."
    )
    rows = []
    for name, row in sweep["engine"]["contenders"].items():
        whole = sweep["whole"]["contenders"].get(name)
        rows.append([row["label"], _seconds(row), "" if whole is None else _seconds(whole)])
    both = [sweep[part]["ours_vs_best_peer"] for part in ("engine", "whole")]
    rows.append(["**ours vs best peer**", *(f"**{ratio:.3f}**" for ratio in both)])
    rows.append(["target 4.00", *("met" if ratio >= 4.0 else "not met" for ratio in both)])
    return f"## A sweep\n\n{said}\n\n{_table(['seconds, median (quartiles)', 'engine work', 'whole runs'], rows)}"


def _spread(row: Mapping[str, Any], by: float = 1.0) -> str:
    low, middle, high = (row[name] / by for name in ("lower_quartile_ms", "median_ms", "upper_quartile_ms"))
    return f"{_three(middle)} ({_three(low)}–{_three(high)})"


def _seconds(row: Mapping[str, Any]) -> str:
    return _spread(row, 1e3)


def _method(results: Results) -> str:
    rows = [row for entry in results["grid"] for row in entry["contenders"].values()]
    compiling = [row["compile_seconds"] for row in rows if "compile_seconds" in row]
    rounds = [row["rounds"] for row in rows]
    threads = [row["threads"] for row in rows]
    bearable = ", ".join(str(length) for length in cases.LENGTHS)
    lines = [
        "## Method", "",
        f"- **The work.** A network runs along T steps, and its gradient goes back. B = {work.BATCH}, D = {work.INPUTS}, loss at the last step: L = Σ g ∘ h_T. "
        "Ours is called as a user calls it: `rc.forward`, `rc.backward`.",
        f"- **The grid.** Six cells, four regimes, five sizes, two dtypes. T is {bearable} in turn, or less where a run would take much more than 0.1 s. "
        f"At H = {cases.LARGEST} there are two of the four regimes. What is missing would take too long.",
        *_regimes(results["grid"]),
        "- **Side by side.** All programs run in one process, one after the other, round after round, in an order that changes. All regimes of one network take part in the same rounds. "
        f"Every ratio is one of medians of {results['clock']}, of {_span(rounds)} rounds. A short call is repeated, and preceded by an untimed one that refills the caches.",
        f"- **One thread each.** The process is bound to one core. CPU time by wall time confirms it: at most {max(threads, default=0):.2f} here. Above 1.1 the benchmark stops.{_shared(threads)}",
        f"- **Right or wrong.** Our answer is compared with the readable engine's over {CHECKED} steps. Other answers are compared with ours over all steps: each ‖∂L/∂h_t‖, if a program gives them, and each parameter's gradient. "
        f"An answer is right if it is within {TOLERANCE['float64']:.0e} in float64, {TOLERANCE['float32']:.0e} in float32. An answer with 0, inf or nan is wrong. "
        f"A network that amplifies rounding may differ by {SPREADS:g} times what a rounding of its weights changes. In the critical regime everybody must be right, or the benchmark stops.",
        "- **Wrong programs are timed, too.** A user of PyTorch waits for its 0 or inf as for any number. Where a signal falls below the smallest normal number, the processor takes many times as long. "
        "This slows the other programs down near the end of the range, and we leave it so: a user would see it.",
        "- **Others in their best form.** Inputs' products are one product before the loop, and are unbound, not indexed. All gates take one product a step. "
        "Weights' gradients are one product after the loop. NumPy works in buffers that are there. JAX is tried unrolled, too. "
        "The fastest form competes. `torch.nn` gives no trace: it shows what a user without one pays. It has no sigmoid and no residual cell.",
        "- **Matrix-product rate.** It is 2 · 1024³ operations by the time of one product of 1024 × 1024 matrices, by the fastest library, in the same rounds. A run counts "
        "6 H² B T operations: W_hh h, W_hhᵀ da and da hᵀ. All else takes time and counts nothing.",
        *([f"- **Compiling** is not in any time. JAX took {min(compiling):.1f} to {max(compiling):.1f} s for each shape."] if compiling else []),
        *_left_out(results),
    ]  # fmt: skip
    return "\n".join(lines)


def _span(values: Sequence[int]) -> str:
    ends = sorted({min(values, default=0), max(values, default=0)})
    return " to ".join(str(end) for end in ends)


def _shared(threads: Sequence[float]) -> str:
    """Whether other work had part of the core, for then ratios near 1 say little."""
    least = min(threads, default=1.0)
    if least >= ALONE:
        return ""
    return f" It fell to {least:.2f}: other programs had the core in between. So a ratio near 1 may lie on either side of it."


def _regimes(entries: Sequence[ratios.Entry]) -> list[str]:
    growth = [10 ** (entry["decades"][1] / entry["length"]) for entry in entries if entry["regime"] == "exploding"]
    return [
        "- **Vanishing.** The spectral radius is small and gates keep little. The gradient shrinks by about 100 a step, in the residual cell by 10.",
        "- **Critical.** Inputs of scale 1. The radius is such that the gradient neither grows nor shrinks.",
        f"- **Exploding.** The radius is large: the gradient grows by {min(growth, default=1):.1f} to {max(growth, default=1):.1f} a step.",
        "- **Saturated.** Inputs of scale 5 at radius 1: most units are far from their linear part. The residual cell only adds, so its state runs away.",
    ]


def _machine(results: Results) -> str:
    machine = results["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    return (
        "## The machine that was measured\n\n"
        f"{machine['processor']}, {machine['cores']} cores, {machine['device']}, {machine['instructions']}; {versions}; rnn_core's fast path: {machine['fast_path']}. "
        f"The benchmark took {results['minutes']:.1f} minutes.\n\n"
        "Ratios carry over to other machines better than times do. `make bench` measures yours and writes this page again. `make bench-narrow` keeps everybody to AVX2, `make bench-gpu` measures a GPU."
    )


def _left_out(results: Results) -> list[str]:
    return [f"- `{name}` was not run: {why}." for name, why in results.get("missing", {}).items()]


def _avx2(results: Results | None) -> str:
    if results is None:
        return ""
    parts = [_lead(results), _targets(results).replace("## ", "### "), _rates(results).replace("## ", "### "), _every_ratio(results).replace("## ", "### ")]  # fmt: skip
    said = (
        f"The same grid, everybody kept to AVX2, on a machine with this processor: {results['machine']['processor']}."
    )
    return "\n\n".join(
        ["## Without AVX-512", said, *(["\n".join(_left_out(results))] if results["missing"] else []), *parts]
    )


def _gpu(results: Results | None) -> str:
    if results is None:
        return "## On a GPU\n\nNot measured yet: `make bench-gpu` needs a CUDA device and adds its tables here."
    entries = results.get("grid") or results["single"]
    parts = [
        f"## On a GPU, one run at a time: {results['machine']['device']}",
        "The engine's torch path, vanilla tanh, in range, T = 500. Milliseconds a run, median (quartiles).",
    ]
    for dtype in dict.fromkeys(entry["dtype"] for entry in entries):
        mine = [entry for entry in entries if entry["dtype"] == dtype]
        labels = {name: row["label"] for entry in mine for name, row in entry["contenders"].items()}
        rows = [[label, *(_spread(entry["contenders"][name]) for entry in mine)] for name, label in labels.items()]
        rows.append(
            [
                "**fastest other by ours**",
                *(f"**{min(ratios.times(entry, lambda *_: True).values()):.3f}**" for entry in mine),
            ]
        )
        parts.append(f"### {dtype}\n\n" + _table(["", *(f"H = {entry['hidden_size']}" for entry in mine)], rows))
    return "\n\n".join(parts)


def as_json(results: Results) -> str:
    """Results as a file: a line for each place of the grid, so that two files can be compared."""
    lines = (json.dumps(entry, ensure_ascii=False) for entry in results["grid"])
    rest = json.dumps({**results, "grid": []}, indent=1, ensure_ascii=False)
    return rest.replace('"grid": []', '"grid": [\n  ' + ",\n  ".join(lines) + "\n ]") + "\n"


def with_sentence(text: str, results: Results) -> str:
    """A page with its sentence about speed as these results have it."""
    return re.sub(_SENTENCE.format("[0-9]+", ".+?", "[^;]+", r"(?:[^.]|\.(?=\S))+"), lambda _: sentence(results), text)


def load(file: Path) -> Results | None:
    """What a file holds, None where it is not there."""
    return json.loads(file.read_text(encoding="utf-8")) if file.exists() else None


def write(
    results_file: Path = RESULTS, page_file: Path = PAGE, picture: Path = PICTURE, quoting: Iterable[Path] = QUOTING
) -> None:
    """The page, its figure, and the sentence on other pages."""
    results = load(results_file)
    if results is None:
        raise FileNotFoundError(f"{results_file.name}: make bench writes it")
    written = {page_file: page(results, load(RESULTS_AVX2), load(RESULTS_GPU))}
    written |= {file: with_sentence(file.read_text(encoding="utf-8"), results) for file in quoting}
    for file, text in written.items():
        with written_aside(file) as aside:
            aside.write_text(text, encoding="utf-8")
    figure.save(results, picture)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.parse_args()
    write()


if __name__ == "__main__":
    main()
