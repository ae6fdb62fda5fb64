"""A study of any size that nobody ran: block tables with plausible numbers, and the memory and time that tables and figures take of them.

    python tests/workflow/synthetic_study.py --runs 100000 --folder /some/empty/folder

writes 80 % untrained and 20 % trained runs, gathers the tables, draws every figure and renders the page, each in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import yaml

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "workflow" / "scripts")]

import rnn_core as rc  # noqa: E402
from study import plan  # noqa: E402
from study.settings import described_axes  # noqa: E402
from study.tables import store  # noqa: E402
from study.tables.columns import TABLES, columns_of  # noqa: E402
from study.tables.streams import BLOCK_TABLES, BlockWriter  # noqa: E402

FIGURES = [file.stem for file in sorted((ROOT / "workflow" / "scripts" / "figures").glob("[!_]*.py"))]


def config_of(runs: int) -> dict[str, Any]:
    """A study of about so many runs, in its usual shape: seeds make up the number."""
    config: dict[str, Any] = yaml.safe_load((ROOT / "config.yaml").read_text(encoding="utf-8"))
    propagation, clipping = config["sweeps"]["propagation"], config["sweeps"]["clipping"]
    propagation["grid"] |= {"sequence_length": [25, 50, 100, 200]}
    propagation |= {"jobs_over": ["activation", "spectral_radius"], "seeds": max(2, round(0.8 * runs / 160))}
    clipping["grid"] |= {"task": ["input_mean"], "sequence_length": 50, "updates": 20, "trace_every": 20}
    clipping |= {"jobs_over": ["activation", "spectral_radius"], "seeds": max(2, round(0.2 * runs / 24))}
    return {**config, "study": "synthetic", "figures": FIGURES}


def write_blocks(config: dict[str, Any], folder: Path) -> int:
    """The block tables of the whole study, and its checks; how many runs there are."""
    sample = rc.run(rc.Experiment(sequence_length=3, hidden_size=2, batch_size=2)).summary
    rng, runs = np.random.default_rng(0), 0
    for block in plan.blocks(config).values():
        where = folder / "blocks" / block.sweep / block.name
        files = {table: where / f"{table}.parquet" for table in BLOCK_TABLES}
        experiments = sorted((rc.Experiment(**run) for run in block.runs()), key=lambda e: e.key)
        with BlockWriter(block.sweep, files, {"device": "cpu", "engine": "e", "block": asdict(block)}) as writer:
            for experiment in experiments:
                write_run(writer, experiment, sample, rng)
        runs += len(experiments)
    write_checks(config, folder)
    return runs


def write_run(writer: BlockWriter, e: rc.Experiment, sample: dict[str, Any], rng: np.random.Generator) -> None:
    T, key = e.sequence_length, e.key
    rate = np.log(e.spectral_radius) + 0.02 * rng.standard_normal()
    recorded = sorted({*range(0, max(1, e.updates), e.trace_every), max(0, e.updates - 1)})
    t = np.tile(np.arange(1, T + 1), len(recorded))
    traces = {c.name: np.zeros(len(t)) for c in columns_of("traces")[2:]}
    traces |= {"update": np.repeat(recorded, T), "t": t, "lag": T - t, "log10_cell_grad_norm": np.full(len(t), np.nan)}
    traces |= {"log10_grad_norm": (T - t) * rate / np.log(10.0) + 0.1 * rng.standard_normal(len(t))}
    traces |= {"hidden_rms": rng.random(len(t)), "saturation": rng.random(len(t))}
    writer.tables["traces"].add(key, traces)
    U = max(1, e.updates)
    before = rng.standard_normal(U)
    updates = {"update": np.arange(U), "loss": np.exp(-np.arange(U) / 10.0) + 0.1 * rng.random(U), "accuracy": np.full(U, np.nan)}  # fmt: skip
    updates |= {"log10_norm_before": before, "log10_norm_after": np.minimum(before, 0.0), "clip_factor": np.ones(U)}
    updates |= {"truncation_bias": np.full(U, np.nan), "finite": np.arange(U) < (U if rng.random() < 0.9 else U - 1)}
    writer.tables["updates"].add(key, updates)
    ratio = rate * (T - 1) / np.log(10.0)
    broken = None if updates["finite"].all() else U - 1
    row: dict[str, Any] = {name: getattr(e, name) for name in described_axes()} | sample
    row |= {"growth_rate": rate, "log10_gradient_ratio": ratio, "regime": rc.theory.regime(ratio), "device": "cpu", "engine": "e"}  # fmt: skip
    row |= {"verified_error": None, "data": None, "first_nonfinite_update": broken}
    if e.updates:
        row |= {"solved": False, "held_out_loss": np.nan if broken else rng.random()}
    writer.tables["runs"].add(key, {name: [value] for name, value in row.items()})
    writer.tables["timings"].add(key, {"seconds": [0.01], "verify_seconds": [None]})


def write_checks(config: dict[str, Any], folder: Path) -> None:
    """Three checks a block, as a study's verification leaves them."""
    rows = []
    for block in plan.blocks(config).values():
        for run, _ in zip(block.runs(), range(3), strict=False):
            e = rc.Experiment(**run)
            rows.append({"stage": "sweep", "oracle": "torch.autograd", "run_key": e.key, "sweep": block.sweep, "update": 0} | {"task": e.task, "cell": e.cell, "activation": e.activation, "spectral_radius": e.spectral_radius, "sequence_length": e.sequence_length, "dtype": e.dtype, "device": "cpu", "regime": "stable", "relative_error": 1e-14, "where": "t=1", "tolerance": 1e-10})  # fmt: skip
    data = {c.name: [row[c.name] for row in rows] for c in columns_of("checks")}
    store.write(
        store.build("checks", data),
        folder / "checks" / "gate.parquet",
        {"device": "cpu", "table": "checks", "sweeps": config["sweeps"]},
    )


STEP = """
import json, runpy, sys, time, types
sys.path[:0] = {path!r}
sys.argv = ["step"]
from study.screen.progress import most_memory

class Named(dict):
    __getattr__ = dict.__getitem__

arguments = json.loads({arguments!r})
start = time.perf_counter()
job = types.SimpleNamespace(rule={script!r}, **{{name: Named(value) if isinstance(value, dict) else value for name, value in arguments.items()}})
runpy.run_path({path!r}[1] + "/{script}.py", {{"snakemake": job}}, "__main__")
print(json.dumps([time.perf_counter() - start, most_memory()]))
"""


def step(script: str, **arguments: Any) -> tuple[float, float]:
    """(seconds, most MiB) of one script of the workflow, in a process of its own."""
    path = [str(ROOT), str(ROOT / "workflow" / "scripts")]
    code = STEP.format(path=path, script=script, arguments=json.dumps(arguments))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr)
    seconds, memory = json.loads(done.stdout.splitlines()[-1])
    return float(seconds), float(memory)


def gather(config: dict[str, Any], folder: Path, table: str) -> tuple[float, float]:
    blocks = [str(folder / "blocks" / b.sweep / b.name / f"{table}.parquet") for b in plan.blocks(config).values()]
    gate = str(folder / "checks" / "gate.parquet")
    return step(
        "gather_table",
        wildcards={"table": table},
        input={"blocks": [gate] if table == "checks" else blocks, "gate": gate},
        output={"table": str(folder / "tables" / f"{table}.parquet")},
        params={"config": config},
        log=[str(folder / "log")],
    )


def tables_of(folder: Path) -> dict[str, str]:
    return {table: str(folder / "tables" / f"{table}.parquet") for table in TABLES}


def plot(folder: Path, figure: str) -> tuple[float, float]:
    kinds = {"png": "png", "svg": "svg", "phone": "phone.svg", "facts": "json"}
    return step(
        "draw_figures",
        input=tables_of(folder),
        output={kind: [str(folder / "figures" / f"{figure}.{suffix}")] for kind, suffix in kinds.items()},
        params={"study": "synthetic", "figures": [figure], "cache": str(folder / "kept"), "code": {figure: "c"}},
        threads=1,
        log=[str(folder / "log")],
    )


def render(config: dict[str, Any], folder: Path) -> tuple[float, float]:
    kinds = {"png": "png", "svg": "svg", "phone": "phone.svg", "facts": "json"}
    drawn = {kind: [str(folder / "figures" / f"{f}.{suffix}") for f in FIGURES] for kind, suffix in kinds.items()}
    return step("render_report", input={**tables_of(folder), **drawn, "data": []}, output={"page": str(folder / "report.html")}, params={"config": config}, log=[str(folder / "log")])  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=100_000)
    parser.add_argument("--folder", type=Path, required=True)
    arguments = parser.parse_args()
    config, folder = config_of(arguments.runs), arguments.folder
    if not (folder / "checks" / "gate.parquet").exists():
        start = time.perf_counter()
        runs = write_blocks(config, folder)
        print(f"{runs} runs written in {time.perf_counter() - start:.0f} s", flush=True)
    steps = [(f"gather {table}", lambda table=table: gather(config, folder, table)) for table in TABLES]
    steps += [(f"plot {figure}", lambda figure=figure: plot(folder, figure)) for figure in FIGURES]
    for name, measure in [*steps, ("page", lambda: render(config, folder))]:
        seconds, memory = measure()
        print(f"{name:30s} {seconds:7.1f} s {memory:7.0f} MiB", flush=True)


if __name__ == "__main__":
    main()
