"""Measure the rates of the cost model (``study/cost/model.py``) on this machine, and write them to ``study/cost/rates.py``: ``make rates``.

Blocks of many shapes are run as a study runs them, one thread each. Rates are the non-negative ones whose predictions are relatively
nearest to what was measured; the worst and the typical misses are printed.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import nullcontext
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import nnls
from threadpoolctl import threadpool_limits

import rnn_core as rc
from rnn_core.compiled import switched_off
from rnn_core.experiment import ASKED
from study import PROJECT, SCRIPTS
from study.cost import model
from study.files.cache import Cache
from study.plan import Block
from study.runs import runner as run_maker
from study.runs.checks import Verifier
from study.runs.runner import BlockRunner
from study.screen.progress import Record
from study.tables import streams
from study.tables.columns import TABLES
from study.tables.streams import BLOCK_TABLES

KEEPING = ("block", "kept", "row")  # work that is not the engine's
REPEATS = 3
SEEDS = 2


def shapes() -> Iterator[dict[str, list[Any]]]:
    """Grids of few runs each, spread over what studies ask for."""
    base: dict[str, list[Any]] = {"input_scale": [0.1], "clipping": ["none"]}
    curves = [["identity"], ["relu"], ["tanh"], ["sigmoid"], ["softsign"]]
    sizes = [(H, T, B) for H, B in ((32, 8), (32, 32), (64, 16), (64, 32), (128, 32)) for T in (25, 100, 400)]
    for index, (H, T, B) in enumerate(
        [(8, 30, 4), (32, 800, 16), (64, 800, 16), (128, 800, 8), (256, 100, 32), *sizes]
    ):
        for activation in (curves[index % 5], curves[(index + 2) % 5]):
            yield base | {"activation": activation, "hidden_size": [H], "sequence_length": [T], "batch_size": [B]}
    several = base | {"sequence_length": [25, 50, 100, 200, 400], "clipping": ["none", "norm:1.0"]}
    for activation in curves:
        yield several | {"activation": activation, "spectral_radius": [0.8, 1.2]}
    for cell in ("residual", "gru", "lstm"):
        given: dict[str, list[Any]] = {"cell": [cell]}
        if cell == "residual":
            given["residual_step"] = [0.1]  # so that it does not leave the range of floats
        for H, T, B in ((32, 50, 16), (64, 400, 16), (96, 100, 32), (256, 50, 32)):
            yield base | given | {"hidden_size": [H], "sequence_length": [T], "batch_size": [B]}
        yield several | given | {"sequence_length": [50, 200]}
    for H, T in ((64, 200), (128, 100)):
        yield base | {"dtype": ["float32"], "hidden_size": [H], "sequence_length": [T]}
    training = base | {"task": ["input_mean"], "loss_at": ["last"]}
    for cell in ("vanilla", "gru"):
        for H, T, U in ((16, 20, 40), (48, 64, 20), (96, 50, 12)):
            shape = {"hidden_size": [H], "sequence_length": [T], "updates": [U], "trace_every": [7]}
            yield training | shape | {"cell": [cell], "activation": ["tanh"] if cell == "gru" else ["relu", "tanh"]}
    trained = training | {"hidden_size": [48], "sequence_length": [64], "batch_size": [32], "updates": [30]}
    yield trained | {"clipping": ["none", "norm:1.0", "value:0.1"], "trace_every": [15]}
    yield trained | {"truncation": [10]}
    yield trained | {"clipping": ["signal:1.0", "none"]}


def recording_shapes() -> Iterator[dict[str, list[Any]]]:
    """Grids whose runs record all that traces can hold."""
    base: dict[str, list[Any]] = {"input_scale": [0.1]}
    for cell, H, T, B in (("vanilla", 64, 400, 16), ("vanilla", 32, 400, 8), ("vanilla", 128, 100, 32), ("gru", 64, 200, 16), ("lstm", 96, 100, 32)):  # fmt: skip
        yield base | {"cell": [cell], "hidden_size": [H], "sequence_length": [T], "batch_size": [B]}


def readable_shapes() -> Iterator[dict[str, list[Any]]]:
    """Grids whose runs are taken by the readable loop, as those of cells without compiled steps are."""
    base: dict[str, list[Any]] = {"input_scale": [0.1]}
    for cell, H, T, B in (("vanilla", 32, 100, 16), ("vanilla", 128, 50, 32), ("gru", 64, 100, 16), ("lstm", 32, 200, 8), ("lstm", 96, 50, 32)):  # fmt: skip
        yield base | {"cell": [cell], "hidden_size": [H], "sequence_length": [T], "batch_size": [B]}


def as_readable(work: model.Work) -> model.Work:
    """The work of these runs where the readable loop does it."""
    return Counter({kind.replace("fast_", "readable_"): count for kind, count in work.items() if kind != "curve"})


def measured(block: Block, folder: Path, first_seed: int, traces: Collection[str] = ()) -> tuple[float, float]:
    """(engine, everything else) in processor seconds, the fastest of several times.

    Each time has other seeds, whose eigenvalues the engine does not remember.
    """
    times = []
    for index in range(REPEATS):
        run_folder, offset = folder / str(index), first_seed + index * SEEDS
        runner = BlockRunner(Cache(run_folder / "cache", "x"), {}, "cpu", traces=traces)
        files = {table: run_folder / f"{table}.parquet" for table in BLOCK_TABLES}
        experiments = [rc.Experiment(**{**run, "seed": run["seed"] + offset}) for run in block.runs()]
        start = time.process_time()
        results = list(runner.compute(experiments))
        computed = time.process_time()
        for experiment, entry in results:
            runner.cache.put(runner.name(replace(experiment, seed=experiment.seed - offset)), entry)
        run_maker.finish(block, runner, Record("", run_folder / "x.json"), files, {"engine": "x"})
        times.append((computed - start, time.process_time() - computed))
    return min(engine for engine, _ in times), min(rest for _, rest in times)


def fitted(rows: list[dict[str, float]], seconds: list[float]) -> dict[str, float]:
    """Non-negative rates with the smallest absolute relative errors. A few large errors count for little.

    The method is least squares, repeated with weights from the errors before.
    """
    names = sorted({name for row in rows for name in row})
    work = np.array([[row.get(name, 0.0) for name in names] for row in rows]) / np.array(seconds)[:, None]
    size, weights = work.max(axis=0), np.ones(len(rows))
    for _ in range(30):
        rates, _ = nnls(work / size * weights[:, None], weights)
        miss = np.abs((work / size) @ rates - 1.0)
        weights = 1.0 / np.sqrt(np.maximum(miss, 0.05))
    print(f"{len(rows)} blocks: predictions miss by {np.median(miss):.0%} in the median, {miss.max():.0%} at most")
    return {f"{name}_seconds": float(f"{rate / s:.4g}") for name, rate, s in zip(names, rates, size, strict=True)}


def engine_rates(folder: Path) -> dict[str, float]:
    """Rates of the engine, and of keeping what it measured."""
    works, engine, keeping_seconds = [], [], []
    recorded = [(grid, tuple(which)) for grid in recording_shapes() for which in (*zip(ASKED), ASKED)]
    compiled_runs = [*((grid, ()) for grid in shapes()), *recorded]
    for index, (grid, traces) in enumerate([*compiled_runs, *((grid, ()) for grid in readable_shapes())]):
        block, readable = Block("rates", "all", {}, grid, SEEDS), index >= len(compiled_runs)
        with switched_off() if readable else nullcontext():
            spent, kept_seconds = measured(block, folder / str(index), SEEDS * REPEATS * index, traces)
        work = model.block_work(block, traces=traces)
        works.append(as_readable(work) if readable else work)
        engine.append(spent)
        keeping_seconds.append(kept_seconds)
    rates = fitted([{k: float(count) for k, count in w.items() if k not in KEEPING} for w in works], engine)
    keeping = [{"block": 1.0, "kept": float(work["kept"]), "row": float(work["row"])} for work in works]
    return rates | fitted(keeping, keeping_seconds)


def processor_time(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def verification_rates() -> dict[str, float]:
    """Seconds of PyTorch a step and an element of a recorded trace."""
    works, seconds = [], []
    for H, T, B in (
        (16, 5, 16),
        (16, 50, 16),
        (64, 50, 16),
        (64, 200, 16),
        (64, 400, 16),
        (64, 400, 64),
        (128, 100, 32),
    ):
        grid = {"hidden_size": [H], "sequence_length": [T], "batch_size": [B]}
        experiment = rc.Experiment(hidden_size=H, sequence_length=T, batch_size=B)
        watched = min(processor_time(partial(rc.run, experiment, watch=Verifier(1e-6))) for _ in range(REPEATS))
        alone = min(processor_time(partial(rc.run, experiment)) for _ in range(REPEATS))
        work = model.block_work(Block("rates", "all", {}, grid, 1))
        works.append({f"verified_{kind}": float(work[kind]) for kind in model.VERIFIED})
        seconds.append(max(watched - alone, 1e-4))
    return fitted(works, seconds)


JOB = """
import json, runpy, sys, time, types
sys.path[:0] = {path!r}
from study.provenance import engine_digest
from study.screen.progress import most_memory
params = types.SimpleNamespace(blocks=[{block!r}], block={block!r}, device="cpu", memory_mb=None, cache="cache", engine=engine_digest(),
    spectra=None, refused="refused", tolerance={{"float64": 1e-10, "float32": 1e-3}}, checked=1)
files = {{t: f"{{t}}.parquet" for t in {tables!r}}}
job = types.SimpleNamespace(params=params, input={{}}, output=files, log=["log"], rule={script!r},
    wildcards=types.SimpleNamespace(group="rates"))
runpy.run_path({path!r}[1] + "/{script}.py", {{"snakemake": job}}, "__main__")
print(json.dumps([time.process_time(), most_memory()]))
"""


def job(script: str, tables: tuple[str, ...], folder: Path, seeds: int = 1, **grid: Any) -> tuple[float, float]:
    """(processor seconds, most MiB) of a job in a process of its own."""
    block = Block("rates", "all", {}, {name: [value] for name, value in grid.items()}, seeds)
    path = [str(PROJECT), str(SCRIPTS)]
    code = JOB.format(path=path, script=script, block=asdict(block), tables=tables)
    ended = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True)
    spent, memory = json.loads(ended.stdout.splitlines()[-1])
    return float(spent), float(memory)


def job_rates(folder: Path) -> dict[str, float]:
    """What a job takes before its first run; and how many copies of a run's states it holds."""
    rates: dict[str, float] = {}
    verified = ("checks", "timings", "traces")
    for script, tables, prefix in (("run_block", BLOCK_TABLES, ""), ("verify_runs", verified, "verify_")):
        spent, least = job(script, tables, folder, hidden_size=2, sequence_length=2)
        rates |= {f"{prefix}job_seconds": round(spent, 2), f"{prefix}job_mb": round(least)}
        large = {"hidden_size": 64, "batch_size": 64, "sequence_length": 2000}
        most = job(script, tables, folder, **large)[1]
        copies = (most - least) / (64 * 64 * 2000 * 8 / model.MIB)
        rates["verified_states_copies" if prefix else "states_copies"] = round(copies, 1)
    return rates


def disk_rates(folder: Path) -> dict[str, float]:
    """Bytes a row of traces and a row of updates take, in the cache and in the block's tables."""
    runner = BlockRunner(Cache(folder / "disk", "x"), {}, "cpu")
    files = {table: folder / f"{table}.parquet" for table in BLOCK_TABLES}
    block = Block("rates", "all", {}, {"sequence_length": [400], "activation": ["tanh", "relu"]}, 8)
    run_maker.finish(block, runner, Record("", folder / "x.json"), files, {"engine": "x"})
    kept = sum(file.stat().st_size for file in (folder / "disk").rglob("*.runs")) - model.ENTRY_BYTES * len(block)
    return {
        "row_bytes": round((kept + files["traces"].stat().st_size) / (400 * len(block)), 1),
        "update_bytes": 130,  # ten columns, kept twice, hardly compressed
    }


FIGURE = """
import runpy, sys, time, types
sys.path[:0] = {path!r}
class Named(dict):
    __getattr__ = dict.__getitem__
import draw_figures
imported = time.process_time()
output = Named(png=["f.png"], svg=["f.svg"], phone=["f.phone.svg"], facts=["f.json"])
params = Named(study=None, figures=["growth_rate"], cache="figures", code={{"growth_rate": "c"}})
job = types.SimpleNamespace(params=params, input=Named({tables!r}), output=output, log=["log"], rule="draw_figures", threads=1)
runpy.run_path({path!r}[1] + "/draw_figures.py", {{"snakemake": job}}, "__main__")
print(imported, time.process_time() - imported)
"""


def table_rates(folder: Path) -> dict[str, float]:
    """What gathering a row of traces takes, drawing a figure, and Snakemake, which plans and starts the jobs."""
    block = Block("rates", "all", {}, {"sequence_length": [400], "spectral_radius": [0.9, 1.1]}, 32)
    files = {table: folder / f"{table}.parquet" for table in BLOCK_TABLES}
    record = Record("", folder / "x.json")
    run_maker.finish(block, BlockRunner(Cache(folder / "tables", "x"), {}, "cpu"), record, files, {"engine": "x"})
    tables = {table: str(folder / f"all-{table}.parquet") for table in TABLES}
    for table, file in files.items():  # the first call of gather imports
        streams.gather(table, [file], tables[table], {})
    again = min(
        processor_time(lambda: streams.gather("traces", [files["traces"]], tables["traces"], {}))
        for _ in range(REPEATS)
    )
    gathered = again / (400 * len(block))
    streams.gather("checks", [], tables["checks"], {})
    code = FIGURE.format(path=[str(PROJECT), str(SCRIPTS)], tables=tables)
    drawn = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True)
    imported, figure = map(float, drawn.stdout.split())
    before = os.times().children_user
    command = [sys.executable, "-m", "snakemake", "-n", "--quiet", "all"]
    subprocess.run(command, cwd=PROJECT, capture_output=True, check=True)
    return {
        "gathered_row_seconds": float(f"{gathered:.3g}"),
        "figures_job_seconds": round(imported, 1),
        "figure_seconds": round(figure, 1),
        "snakemake_seconds": round(os.times().children_user - before, 1),
    }


def memory_rates(folder: Path) -> dict[str, float]:
    """Bytes that a run takes in the list of its block's runs and until it is written, whatever its length; and that a row takes."""
    small: dict[str, Any] = {"hidden_size": 4, "batch_size": 1}
    least, many = (job("run_block", BLOCK_TABLES, folder, seeds, **small, sequence_length=2)[1] for seeds in (1, 2000))
    run_bytes = (many - least) * model.MIB / 2000
    of_rows = job("run_block", BLOCK_TABLES, folder, 500, **small, sequence_length=400)[1]
    held = (of_rows - least) * model.MIB - 500 * run_bytes
    return {
        "listed_bytes": memory_in_list(),
        "run_bytes": round(run_bytes),
        "held_row_bytes": round(held / (500 * 400)),
    }


def memory_in_list() -> float:
    tracemalloc.start()
    block = Block("rates", "all", {}, {"spectral_radius": [1.0 + i / 1e5 for i in range(50_000)]}, 1)
    experiments = {experiment.key: experiment for experiment in (rc.Experiment(**run) for run in block.runs())}
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return round(most / len(experiments))


def main() -> None:
    with tempfile.TemporaryDirectory() as name, threadpool_limits(1):
        folder = Path(name)
        rates = engine_rates(folder) | verification_rates() | job_rates(folder) | memory_rates(folder)
        rates |= disk_rates(folder) | table_rates(folder)
    lines = [f"    {json.dumps(name)}: {value!r},\n" for name, value in rates.items()]
    text = '"""Rates of the cost model, written by study/tools/measure_rates.py (``make rates``): edit nothing here."""\n\nRATES = {\n'
    (SCRIPTS / "study/cost/rates.py").write_text(text + "".join(lines) + "}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
