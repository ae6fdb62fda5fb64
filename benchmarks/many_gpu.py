"""Many runs at once on a GPU: ``python -m benchmarks.many_gpu`` measures, ``section`` makes the part of docs/benchmarks.md of it.

Two comparisons. *Engine work*: trace and all parameter gradients of networks and inputs that are on the device, R runs together.
Its peers are cuDNN run by run (which gives no trace), and vmap over the same R runs by torch.func and by JAX. *Whole runs*: from
settings to results by ``run_many``, on the GPU and on one core of the same machine.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

import rnn_core as rc
from benchmarks import ROOT, check
from benchmarks.peers.torch_arrays import finished
from benchmarks.work import BATCH, INPUTS, Measured, Prepared, Work
from rnn_core import compiled
from rnn_core.batched import Shape, Together
from rnn_core.batched.sums import parameter_gradients
from rnn_core.batched.trace import read_gradients
from rnn_core.scaling import plain_if_fits

RESULTS = ROOT / "benchmarks" / "results-many-gpu.json"
SIZES, DTYPES, STEPS = (32, 64, 128, 256), ("float32", "float64"), 500
RADIUS, INPUT_SCALE = 1.0, 0.01  # nearly linear networks: no peer meets denormal numbers
RUNS = (256, 1024)
DIFFERENT = (
    8  # networks with inputs of their own; more runs repeat them, because drawing takes longer than all that is timed
)
JAX_RUNS = (128, 512)  # of H = 64 more no longer fit
ALONE = 8  # runs that cuDNN does one after another
ROUNDS = 5
GOALS = {"float32": 40.0, "float64": 150.0}  # cuDNN run by run over ours, at H = 64
JAX_GOAL = 3.0
SWEEP_RADII, SWEEP_SEEDS, SWEEP_ON_CPU = 32, 32, 12
TRAINED = 6  # updates
TRAINED_CELLS, TRAINED_SIZES = ("vanilla", "lstm"), (64, 256, 512)


# ---- engine work ---------------------------------------------------------------------------------------------------------


class Ours:
    """R runs by ``Together``: load, forward, backward, norms of every step, parameter gradients."""

    def __init__(self, works: Sequence[Work], device: str) -> None:
        first = works[0]
        T, B, D = first.x.shape
        dtype = str(first.x.dtype)
        self.shape = Shape(rc.VanillaCell("tanh"), T, B, D, first.hidden_size, dtype, device)
        self.together = Together(self.shape, len(works))
        self.params = {name: _stacked([work.params[name] for work in works], device) for name in first.params}
        self.x, self.g = (_stacked([getattr(work, name) for work in works], device) for name in ("x", "g"))

    def __call__(self) -> Any:
        together = self.together
        together.load(self.params, self.x)
        together.forward()
        together.backward(self.g.transpose(1, 2))
        return read_gradients(together, lost=False), parameter_gradients(together)

    def read(self, result: Any) -> list[Measured]:
        """Of the different runs."""
        gradients, sums = result
        norms = gradients.log_norm.cpu().numpy()
        return [
            Measured(
                norms[:, run],
                {
                    name: np.asarray(plain_if_fits(value[run].cpu().numpy(), int(sums.exponent[run])))
                    for name, value in sums.mantissa.items()
                },
            )
            for run in range(min(DIFFERENT, norms.shape[1]))
        ]


def _stacked(values: Sequence[np.ndarray], device: str) -> torch.Tensor:
    different = torch.tensor(np.stack(values[:DIFFERENT]), device=device)
    return different.repeat(-(-len(values) // len(different)), *[1] * (different.ndim - 1))[: len(values)].contiguous()


def make(size: int, dtype: str, seed: int, steps: int, batch: int, device: str) -> Work:
    """The work of one run; other seeds are other networks and inputs."""
    rng = np.random.default_rng([seed, size])
    params = rc.VanillaCell("tanh").init_params(rng, INPUTS, size, "gaussian", RADIUS, INPUT_SCALE)
    x, g = rng.standard_normal((steps, batch, INPUTS)), rng.standard_normal((batch, size)) / batch
    typed = {name: value.astype(dtype) for name, value in params.items()}
    return Work("vanilla", "tanh", typed, x.astype(dtype), g.astype(dtype), device=device)


def worst_of(name: str, measured: Sequence[Measured], expected: Sequence[Measured], dtype: str) -> float:
    """The worst relative error of all runs.

    Raises:
        WrongNumbers: it is above the tolerance.
    """
    worst = max(check.errors(*pair).worst for pair in zip(measured, expected, strict=True))
    if not worst <= check.TOLERANCE[dtype]:
        raise check.WrongNumbers(f"{name}: a relative error of {worst:.1e} in {dtype}: it computes something else")
    return worst


def repeated(works: Sequence[Work], runs: int) -> list[Work]:
    """So many runs of the different works, one after the other and again."""
    return [works[run % len(works)] for run in range(runs)]


def alone(works: Sequence[Work], module: Callable[[Sequence[Work]], Prepared]) -> Callable[[], None]:
    """A peer that does run after run."""
    calls = [module([work]).call for work in works]

    def call() -> None:
        for each in calls:
            each()

    return call


def median_us(call: Callable[[], Any], runs: int, rounds: int = ROUNDS) -> dict[str, float]:
    """Microseconds a run: median and extremes over rounds, after three calls that are not timed."""
    for _ in range(3):
        call()
    seconds = []
    for _ in range(rounds):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    low, middle, high = (1e6 / runs * value for value in (min(seconds), float(np.median(seconds)), max(seconds)))
    return {"us": round(middle, 3), "lowest_us": round(low, 3), "highest_us": round(high, 3), "runs": runs}


def expected_of(works: Sequence[Work]) -> list[Measured]:
    """By the engine in NumPy."""
    from benchmarks.ours import public_face

    results = []
    for work in works:
        ready = public_face([replace(work, device="cpu")])
        results += ready.read(ready.call())
    return results


def measure(size: int, dtype: str, device: str, runs: Sequence[int], steps: int) -> dict[str, Any]:
    """Everybody at one size; numbers are checked before times are taken.

    Raises:
        WrongNumbers: somebody computes something else.
    """
    from benchmarks.peers import torch_func, torch_nn

    works = [make(size, dtype, seed, steps, BATCH, device) for seed in range(DIFFERENT)]
    expected = expected_of(works)
    row: dict[str, Any] = {"hidden_size": size, "dtype": dtype, "steps": steps, "ours": {}, "errors": {}}
    runs = fitting(size, dtype, device, runs, steps)
    for count in runs:
        ours = Ours(repeated(works, count), device)
        row["errors"]["ours"] = worst_of("ours", ours.read(ours()), expected[:count], dtype)
        row["ours"][str(count)] = median_us(finished(ours, device), count)
        row.setdefault("parts", {})[str(count)] = parts_of(ours, device)
        row["fused"] = ours.together._fused is not None
        if row["fused"]:
            ours.together._fused = None
            row["errors"]["graphs"] = worst_of("graphs", ours.read(ours()), expected[:count], dtype)
            row.setdefault("graphs", {})[str(count)] = median_us(finished(ours, device), count)
        del ours
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
    row["torch_rnn"] = median_us(alone(works[:ALONE], torch_nn.module), min(ALONE, len(works)), 3)
    row["torch_func"] = vmapped(torch_func.over_runs, works, runs, expected, dtype, row["errors"], "torch_func")
    return row


def measure_jax(size: int, dtype: str, steps: int) -> dict[str, Any]:
    """vmap over many runs by JAX."""
    row: dict[str, Any] = {"hidden_size": size, "dtype": dtype, "errors": {}}
    try:
        from benchmarks.peers import jax_many
    except ModuleNotFoundError as error:
        return {**row, "missing": f"{error.name} is not installed"}
    works = [make(size, dtype, seed, steps, BATCH, "cuda") for seed in range(DIFFERENT)]
    row["times"] = vmapped(jax_many.over_runs, works, JAX_RUNS, expected_of(works), dtype, row["errors"], "jax")
    return row


def fitting(size: int, dtype: str, device: str, runs: Sequence[int], steps: int) -> list[int]:
    """The numbers of runs that the device's memory holds; the largest that it holds in the place of what is too many."""
    most = Shape(rc.VanillaCell("tanh"), steps, BATCH, INPUTS, size, dtype, device).runs(size)
    return sorted({min(count, most) for count in runs})


def vmapped(
    over_runs: Callable[[Sequence[Work]], Prepared],
    works: Sequence[Work],
    runs: Sequence[int],
    expected: list[Measured],
    dtype: str,
    errors: dict[str, float],
    name: str,
) -> dict[str, Any]:
    """A peer over many runs at once, for every number of runs that its memory holds."""
    times: dict[str, Any] = {}
    for count in runs:
        try:
            ready = over_runs(repeated(works, count))
            measured = ready.read(ready.call())[: len(works)]
            errors[name] = worst_of(name, measured, expected[:count], dtype)
            times[str(count)] = {**median_us(ready.call, count, 3), "compile_seconds": ready.compile_seconds}
            del ready, measured
        except RuntimeError as error:  # out of memory
            times[str(count)] = {"missing": str(error)[:160]}
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
    return times


def parts_of(ours: Ours, device: str) -> dict[str, float]:
    """Where ours spends its time, microseconds a run."""
    together, g = ours.together, ours.g.transpose(1, 2)
    parts = {
        "load": lambda: together.load(ours.params, ours.x),
        "forward": together.forward,
        "backward": lambda: together.backward(g),
        "sums": lambda: parameter_gradients(together),
    }
    return {name: median_us(finished(call, device), together.R, 3)["us"] for name, call in parts.items()}


# ---- whole runs ----------------------------------------------------------------------------------------------------------


def sweep(size: int, dtype: str, radii: int, seeds: int, steps: int) -> list[rc.Experiment]:
    """Runs of one shape: every seed at several spectral radii."""
    return [
        rc.Experiment(
            hidden_size=size, batch_size=BATCH, input_size=INPUTS, sequence_length=steps, dtype=dtype, input_scale=0.5,
            spectral_radius=round(0.5 + 1.5 * k / radii, 6), seed=seed,
        )
        for seed in range(seeds)
        for k in range(radii)
    ]  # fmt: skip


def whole_runs(size: int, dtype: str, device: str, radii: int, seeds: int, steps: int) -> dict[str, Any]:
    """``run_many`` on the GPU, the first time and again, on a core of the same machine, and ``run`` on the GPU."""
    todo = sweep(size, dtype, radii, seeds, steps)
    times = []
    for _ in range(2):
        start = time.perf_counter()
        there = dict(rc.run_many(todo, device=device))
        times.append((time.perf_counter() - start) / len(todo) * 1e6)
    some = todo[:: max(1, len(todo) // SWEEP_ON_CPU)]
    start = time.perf_counter()
    here = dict(rc.run_many(some))
    cpu = (time.perf_counter() - start) / len(some) * 1e6
    start = time.perf_counter()
    rc.run(some[0], device=device)
    alone_there = (time.perf_counter() - start) * 1e6
    differ = max(
        float(np.abs(here[e].traces["log10_grad_norm"] - there[e].traces["log10_grad_norm"]).max()) for e in some
    )
    return {
        "hidden_size": size, "dtype": dtype, "runs": len(todo), "seeds": seeds, "first_us": round(times[0], 1),
        "us": round(times[1], 1), "cpu_us": round(cpu, 1), "alone_us": round(alone_there, 1), "log10_norms_differ_by": differ,
    }  # fmt: skip


# ---- training ------------------------------------------------------------------------------------------------------------


def training(cell: str, size: int, device: str) -> dict[str, Any]:
    """Milliseconds that an update of a run takes, on a core and on the device; the evaluation after the last one is counted as another."""
    times = {}
    for where in ("cpu", device):
        run = rc.Experiment(task="input_mean", cell=cell, hidden_size=size, sequence_length=100, batch_size=BATCH)
        rc.run(replace(run, updates=1), device=where)  # once untimed
        start = time.perf_counter()
        rc.run(replace(run, updates=TRAINED), device=where)
        times[where] = round((time.perf_counter() - start) / (TRAINED + 1) * 1e3, 2)
    return {
        "cell": cell,
        "hidden_size": size,
        "steps": run.sequence_length,
        "cpu_ms": times["cpu"],
        "gpu_ms": times[device],
    }


# ---- all of it -----------------------------------------------------------------------------------------------------------


def everything(arguments: argparse.Namespace) -> Iterator[tuple[str, dict[str, Any]]]:
    """(kind, row) of everything that is measured, the most wanted first; JAX last, because it keeps the memory that it has had."""
    sizes = sorted(arguments.sizes, key=lambda size: (size != 64, size))
    for size in sizes:
        for dtype in DTYPES:
            yield "engine", measure(size, dtype, arguments.device, arguments.runs, arguments.steps)
        if size == 64:
            for dtype in DTYPES:
                sizes_of_sweep = (arguments.radii, arguments.seeds, arguments.steps)
                yield "whole", whole_runs(size, dtype, arguments.device, *sizes_of_sweep)
    for size in arguments.trained:
        for cell in TRAINED_CELLS:
            yield "training", training(cell, size, arguments.device)
    for size in arguments.jax:
        for dtype in DTYPES:
            yield "jax", measure_jax(size, dtype, arguments.steps)


def section(results: dict[str, Any] | None = None) -> list[str]:
    """The part of docs/benchmarks.md on many runs at once, as lines of Markdown; none without results.

    Args:
        results: as results-many-gpu.json has them; None reads the file.
    """
    if results is None:
        if not RESULTS.exists():
            return []
        results = json.loads(RESULTS.read_text(encoding="utf-8"))
    engine, whole = results["engine"], results["whole"]
    lines = [
        f"## Many runs at once on a GPU: {results['device']}",
        "",
        f"`run_many` takes untrained runs of one shape together. Vanilla tanh, T = {engine[0]['steps']}, B = {BATCH}, D = {INPUTS}. Microseconds a run, "
        "median: forward, backward, every ln ‖∂L/∂h_t‖ and all parameter gradients. Numbers were checked first. "
        "cuDNN (`torch.nn.RNN`) does one run after another, without a trace. The others take many runs at once; the best number of runs counts.",
        "",
        "| | " + " | ".join(f"{row['dtype']}, H = {row['hidden_size']}" for row in engine) + " |",
        "|---|" + "---|" * len(engine),
    ]
    ours = [_best(row["ours"]) for row in engine]
    cudnn = [float(row["torch_rnn"]["us"]) for row in engine]
    jax = [_jax_time(results, row) for row in engine]
    times: dict[str, Sequence[float | None]] = {
        "rnn_core": ours,
        "rnn_core, without kernels of its own": [_best(row.get("graphs", {})) for row in engine],
        "cuDNN, run by run": cudnn,
        "torch.func, vmap over runs": [_best(row["torch_func"]) for row in engine],
        "JAX, scan and vmap over runs": jax,
    }
    lines += [_line(label, [_said(time_us) for time_us in of_rows]) for label, of_rows in times.items()]
    func = [_best(row["torch_func"]) for row in engine]
    compared: dict[str, tuple[Sequence[float | None], dict[str, float] | None]] = {
        "cuDNN": (cudnn, GOALS),
        "JAX": (jax, dict.fromkeys(GOALS, JAX_GOAL)),
        "torch.func": (func, None),
    }
    for label, (theirs, goals) in compared.items():
        ratios = [_ratio(a, b) for a, b in zip(theirs, ours, strict=True)]
        lines.append(_line(f"**{label} ÷ rnn_core**", ["" if r is None else f"**{r:.1f}**" for r in ratios]))
        if goals:
            lines.append(_line("goal at H = 64", [_verdict(*pair, goals) for pair in zip(engine, ratios, strict=True)]))
    remarks = [f"- {remark}" for remark in results.get("remarks", [])]
    return [*lines, "", *_parts_said(engine), *_whole_said(whole), *remarks, *_training_said(results["training"])]


def _line(label: str, cells: list[str]) -> str:
    return f"| {label} | " + " | ".join(cells) + " |"


def _best(times: dict[str, Any]) -> float | None:
    """Of several numbers of runs, the fastest; None where none was timed."""
    return min((float(each["us"]) for each in times.values() if "us" in each), default=None)


def _jax_time(results: dict[str, Any], row: dict[str, Any]) -> float | None:
    same = [each for each in results.get("jax", []) if all(each[k] == row[k] for k in ("hidden_size", "dtype"))]
    times = same[0].get("times", {}) if same else row.get("jax", {})
    return _best(times)


def _ratio(theirs: float | None, ours: float | None) -> float | None:
    return None if theirs is None or ours is None else theirs / ours


def _said(time_us: float | None) -> str:
    return "" if time_us is None else f"{time_us:.0f}" if time_us >= 100 else f"{time_us:.1f}"


def _verdict(row: dict[str, Any], ratio: float | None, goals: dict[str, float]) -> str:
    if row["hidden_size"] != 64 or ratio is None:
        return ""
    goal = goals[row["dtype"]]
    return f"{goal:.0f}: {'met' if ratio >= goal else 'not met'}"


def _parts_said(engine: list[dict[str, Any]]) -> list[str]:
    """Where the time goes, at the largest number of runs."""
    names = {
        "load": "loading",
        "forward": "forward",
        "backward": "backward",
        "sums": "parameter gradients",
    }
    lines = []
    for row in engine:
        runs, parts = max(row["parts"].items(), key=lambda pair: int(pair[0]))
        said = ", ".join(f"{name} {parts[key]:.1f}" for key, name in names.items())
        rest = row["ours"][runs]["us"] - sum(parts[key] for key in names)
        lines.append(f"- {row['dtype']}, H = {row['hidden_size']}, {runs} runs together: {said}, norms {rest:.1f}.")
    return ["Where the microseconds go:", "", *lines, ""]


def _whole_said(whole: list[dict[str, Any]]) -> list[str]:
    """From settings to results."""
    lines = []
    for row in whole:
        lines.append(
            f"- Whole runs, {row['dtype']}, H = {row['hidden_size']}, {row['runs']} runs of {row['seeds']} seeds: {row['us'] / 1e3:.2f} ms a run. "
            f"On one core of the same machine `run_many` took {row['cpu_us'] / 1e3:.1f} ms a run, and `run` on the GPU {row['alone_us'] / 1e3:.0f} ms."
        )
    return lines


def _training_said(training: list[dict[str, Any]]) -> list[str]:
    """An update on the GPU beside one on a core."""
    if not training:
        return []
    steps = training[0]["steps"]
    lines = [
        f"Training goes run by run, also on a GPU. Milliseconds an update, T = {steps}, B = {BATCH}, float64, all that a run does for it:",
        "",
        "| cell | H | one core of that machine | GPU | core ÷ GPU |",
        "|---|---|---|---|---|",
    ]
    for row in training:
        times = f"{row['cpu_ms']:.3g} | {row['gpu_ms']:.3g} | {row['cpu_ms'] / row['gpu_ms']:.2g}"
        lines.append(f"| {row['cell']} | {row['hidden_size']} | {times} |")
    return ["", *lines, ""]


def main() -> None:
    """Measure until the seconds are over, and keep what there is after every row."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--sizes", type=int, nargs="*", default=list(SIZES))
    parser.add_argument("--runs", type=int, nargs="*", default=list(RUNS))
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--radii", type=int, default=SWEEP_RADII)
    parser.add_argument("--seeds", type=int, default=SWEEP_SEEDS)
    parser.add_argument(
        "--jax", type=int, nargs="*", default=[], help="sizes at which JAX is timed, installed with CUDA"
    )
    parser.add_argument("--trained", type=int, nargs="*", default=list(TRAINED_SIZES), help="sizes at which training is timed")  # fmt: skip
    parser.add_argument("--seconds", type=float, default=1e9)
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    begun = time.perf_counter()
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    results: dict[str, Any] = {
        "device": device,
        "fast_path": compiled.describe(),
        "versions": {"Python": sys.version.split()[0], "torch": torch.__version__, "numpy": np.__version__},
        "engine": [],
        "whole": [],
        "training": [],
        "jax": [],
    }
    for kind, row in everything(arguments):
        results[kind].append(row)
        arguments.out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
        print(kind, json.dumps(row), f"{time.perf_counter() - begun:.0f} s", flush=True)
        if time.perf_counter() - begun > arguments.seconds:
            break


if __name__ == "__main__":
    main()
