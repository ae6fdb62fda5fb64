"""The plan: a pure function of the config."""

from __future__ import annotations

import dataclasses
import os
import time
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from yaml import safe_load

import rnn_core as rc
from rnn_core import bptt, initializers
from rnn_core.bptt import stack
from rnn_core.experiment.measures import prediction
from study import plan as planning
from study.config import approval
from study.cost import model, outlook
from study.plan import Block
from study.sampling import verification_jobs
from tests.support.study_project import ROOT, copy


@pytest.fixture
def config() -> dict[str, Any]:
    return dict(safe_load((ROOT / "config.yaml").read_text(encoding="utf-8")))


def test_the_default_study_is_what_was_asked_for(config: dict[str, Any]) -> None:
    propagation, clipping = config["sweeps"]["propagation"], config["sweeps"]["clipping"]
    grid = propagation["grid"]
    assert set(grid["activation"]) >= {"identity", "relu", "sigmoid", "tanh"}
    assert len(grid["spectral_radius"]) >= 7
    assert min(grid["spectral_radius"]) == 0.5
    assert max(grid["spectral_radius"]) >= 1.5
    assert min(grid["sequence_length"]) == 25
    assert max(grid["sequence_length"]) == 400
    assert len(grid["sequence_length"]) >= 4
    assert propagation["seeds"] >= 8  # fewer than six can settle no comparison (statistics.FEWEST_SEEDS)
    assert grid["loss_at"] == "last"
    for sweep in (clipping, config["sweeps"]["breakdown"]):
        assert set(sweep["grid"]["clipping"]) == {"none", "norm:1.0"}
        assert sweep["grid"]["task"] == "digits"
        assert sweep["grid"]["updates"] >= 100
        assert sweep["seeds"] >= 8
    assert len(clipping["grid"]["learning_rate"]) == 2


def test_blocks_hold_every_run_once(config: dict[str, Any]) -> None:
    keys = [rc.Experiment(**run).key for block in planning.blocks(config).values() for run in block.runs()]
    expected = 1
    total = 0
    for sweep in config["sweeps"].values():
        expected = sweep["seeds"]
        for values in sweep["grid"].values():
            expected *= len(planning.as_list(values))
        total += expected
    assert len(keys) == len(set(keys)) == total
    assert sum(map(len, planning.blocks(config).values())) == total


def test_a_grown_axis_adds_blocks_and_leaves_the_others_alone(config: dict[str, Any]) -> None:
    before = planning.blocks(config)
    config["sweeps"]["propagation"]["grid"]["spectral_radius"].append(1.7)
    after = planning.blocks(config)
    assert {name: after[name] for name in before} == before
    assert set(after) - set(before) == {("propagation", "spectral_radius=1.7")}


def test_jobs_over_does_not_change_the_runs(config: dict[str, Any]) -> None:
    def keys() -> set[str]:
        return {rc.Experiment(**run).key for block in planning.blocks(config).values() for run in block.runs()}

    expected = keys()
    config["sweeps"]["propagation"]["jobs_over"] = ["activation", "sequence_length"]
    config["sweeps"]["clipping"]["jobs_over"] = ["clipping"]
    assert keys() == expected
    assert ("clipping", "clipping=norm-1.0") in planning.blocks(config)  # no colon in a file name


def test_planning_imports_nothing_slow() -> None:
    """The Snakefile is parsed again in every job of a cluster, and would wait for it."""
    import subprocess
    import sys

    modules = "config.approval", "cost.resources", "data.intake", "plan", "provenance", "screen.session", "tables.store"
    code = "\n".join(f"import study.{module}" for module in modules)
    code += (
        "\nimport sys; print([m for m in ('torch', 'pandas', 'scipy', 'sklearn', 'matplotlib') if m in sys.modules])"
    )
    path = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "workflow" / "scripts")])}
    done = subprocess.run([sys.executable, "-c", code], env=path, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_library_that_is_missing_is_named(tmp_path: Path) -> None:
    """A visitor has installed Snakemake alone, and meets a traceback."""
    import subprocess
    import sys

    project = copy(tmp_path / "project")
    (tmp_path / "pyarrow.py").write_text("raise ModuleNotFoundError(\"No module named 'pyarrow'\", name='pyarrow')\n")
    command = [sys.executable, "-m", "snakemake", "-n", "--configfile", "studies/tiny.yaml"]
    path = os.environ | {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run(command, cwd=project.root, env=path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    printed = done.stdout + done.stderr
    assert "with pyarrow, which its Python does not have: pip install -r requirements.txt" in printed
    assert "Traceback" not in printed


def test_planning_is_quick_for_many_runs(config: dict[str, Any]) -> None:
    """100 000 runs: check, blocks, verification jobs and the cost of every block, far below the five seconds promised."""
    config["sweeps"]["propagation"]["grid"]["spectral_radius"] = [round(0.5 + 0.01 * i, 2) for i in range(100)]
    config["sweeps"]["propagation"] |= {"seeds": 63, "jobs_over": ["spectral_radius", "activation"]}
    start = time.process_time()
    approval.check(config, folders=[ROOT])
    blocks = planning.blocks(config)
    groups = verification_jobs(blocks, config)
    costs = [model.block_cost(block, config) for block in blocks.values()]
    spent = time.process_time() - start
    assert sum(map(len, blocks.values())) >= 100_000
    assert sum(map(len, groups.values())) == len(blocks) == len(costs)
    assert spent < 2.0


def test_verification_jobs_hold_every_block_once_and_keep_their_groups(config: dict[str, Any]) -> None:
    config["sweeps"]["propagation"]["grid"]["spectral_radius"] = [round(0.5 + 0.01 * i, 2) for i in range(70)]
    config["sweeps"]["propagation"]["grid"] |= {"sequence_length": 700, "hidden_size": 64, "batch_size": 16}
    before = verification_jobs(planning.blocks(config), config)
    names = [(block.sweep, block.name) for group in before.values() for block in group]
    assert sorted(names) == sorted(planning.blocks(config))
    assert len(before) == 4
    config["sweeps"]["propagation"]["grid"]["spectral_radius"].append(1.7)
    after = verification_jobs(planning.blocks(config), config)
    changed = [group for group in after if after[group] != before[group]]
    assert set(before) == set(after)
    assert len(changed) == 1


def test_runs_that_two_sweeps_share_are_noticed(config: dict[str, Any]) -> None:
    defaults = {name: axis.default for name, axis in fields_of_experiment().items()}
    assert planning.shared_runs(config, defaults) == {}
    first = config["sweeps"]["propagation"]
    again = {
        **first,
        "seeds": 2,
        "grid": {**first["grid"], "activation": ["tanh", "gelu"], "sequence_length": [100, 200]},
    }
    config["sweeps"] = {"a": first, "b": again}
    keys = {name: {rc.Experiment(**run).key for block in planning.blocks(config).values() if block.sweep == name for run in block.runs()} for name in "ab"}  # fmt: skip
    assert planning.shared_runs(config, defaults) == {("a", "b"): len(keys["a"] & keys["b"])} == {("a", "b"): 20}


def fields_of_experiment() -> dict[str, Any]:
    return {field.name: field for field in dataclasses.fields(rc.Experiment)}


# ---- what it costs


def work(grid: dict[str, list[Any]], seeds: int = 1, shared: bool = False) -> model.Work:
    return model.block_work(Block("s", "all", {}, grid, seeds), shared)


def steps_of(counted: model.Work) -> float:
    return counted["fast_step"] + counted["readable_step"]


SMALL: dict[str, list[Any]] = {"hidden_size": [5], "batch_size": [3], "sequence_length": [8, 4], "activation": ["tanh"]}
TRAINED = SMALL | {"task": ["input_mean"], "loss_at": ["last"]}


@pytest.mark.parametrize("cell", ["indrnn", "lru", "mingru"])
def test_units_that_do_not_mix_take_no_products(cell: str) -> None:
    """Of twice as many units the plan says four times the time, for a product that these cells do not have."""
    few, many = (work(SMALL | {"cell": [cell], "hidden_size": [H]}) for H in (8, 16))
    assert many["fast_flop"] == 2 * few["fast_flop"] > 0
    assert many["fast_element"] == 2 * few["fast_element"] > 0


@pytest.mark.parametrize("shared", [False, True], ids=["one by one", "together"])
@pytest.mark.parametrize(
    "grid",
    [
        SMALL,
        SMALL | {"cell": ["lstm"]},
        SMALL | {"loss_at": ["every"], "clipping": ["none", "norm:1.0"]},
        SMALL | {"clipping": ["none", "signal:1.0"], "truncation": [2]},
        SMALL | {"activation": ["tanh", "relu"], "spectral_radius": [0.9, 1.1], "cell": ["vanilla", "residual", "gru"]},
        TRAINED | {"updates": [3], "clipping": ["none", "norm:1.0"]},
        TRAINED | {"updates": [5], "trace_every": [2], "truncation": [2]},
        TRAINED | {"updates": [3], "clipping": ["signal:1.0"]},
        SMALL | {"layers": [1, 3], "loss_at": ["every"]},
        TRAINED | {"layers": [2, 4], "updates": [3], "truncation": [2], "cell": ["vanilla", "lstm"]},
    ],
)
def test_counted_work_is_what_the_engine_does(
    grid: dict[str, list[Any]], shared: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every forward and backward pass, eigenvalue problem and fixed point of the engine is counted; the model must have counted the same."""
    made = Counter[str]()

    def counting(kind: str, run: Any, amount: Any) -> Any:
        def counted(*arguments: Any, **named: Any) -> Any:
            made[kind] += amount(arguments)
            return run(*arguments, **named)

        return counted

    forward, backward = bptt.run_forward, bptt.backward
    monkeypatch.setattr(stack, "run_forward", counting("step", forward, lambda a: len(a[2])))
    for module in (bptt, stack):
        monkeypatch.setattr(module, "backward", counting("step", backward, lambda a: len(a[0].x)))
    monkeypatch.setattr(
        prediction, "fixed_point", counting("theory", prediction.fixed_point, lambda a: not a[0].homogeneous)
    )
    at_point = counting("cubed", prediction.operating_rate, lambda a: len(a[0]) ** 3)
    monkeypatch.setattr(prediction, "operating_rate", at_point)
    singular = initializers._Remembered(counting("cubed", initializers._sigma_max.measure, lambda a: len(a[0]) ** 3))
    monkeypatch.setattr(initializers, "_sigma_max", singular)  # of the matrix whose eigenvalues are asked for, too
    experiments = [rc.Experiment(**settings) for settings in Block("s", "all", {}, grid, 2).runs()]
    for _, result in rc.run_many(experiments) if shared else [(e, rc.run(e)) for e in experiments]:
        made["row"] += len(result.traces["t"]) + len(result.layers.get("t", ()))
        made["update"] += len(result.updates["update"])
        made["kept"] += 1
    counted = work(grid, seeds=2, shared=shared)
    draws = 2 * 5**3 * max(model.GATES[cell] for cell in grid.get("cell", ["vanilla"])) * max(grid.get("layers", [1]))
    assert {kind: counted[kind] for kind in ("row", "update", "kept", "theory")} == {kind: made[kind] for kind in ("row", "update", "kept", "theory")}  # fmt: skip
    assert steps_of(counted) == made["step"]
    assert counted["cubed"] == draws + made["cubed"]


def test_work_that_is_shared_is_counted_once() -> None:
    grid = SMALL | {"clipping": ["none", "norm:1.0", "norm:0.1"]}
    alone, together = work(grid), work(grid, shared=True)
    assert steps_of(alone) == 3 * (8 + 4) * 2
    assert steps_of(together) == 8 + (8 + 4)  # one forward pass of the longest, one backward pass a length
    assert (alone["kept"], alone["row"]) == (together["kept"], together["row"]) == (6, 36)
    assert all(alone[kind] == 3 * together[kind] for kind in ("trace", "theory", "network"))
    training = grid | {"updates": [2]}
    assert work(training, shared=True) == work(training)


def test_omega_costs_more_than_a_backward_pass() -> None:
    """A plan that does not know of Ω says half of the time."""
    steps = {alpha: steps_of(work(TRAINED | {"updates": [10], "omega": [alpha]})) for alpha in (0.0, 4.0)}
    assert steps[4.0] == pytest.approx(steps[0.0] + 1.6 * (8 + 4) * 10)


def test_flossing_is_counted_once_a_network() -> None:
    """A plan that does not know of flossing says a tenth of the time, or counts it for every way to train."""
    grid = SMALL | {"flossing": [0, 40], "flossing_exponents": [2, 4]}
    seconds = [model.flossing_seconds(Block("s", "all", {}, g, 3)) for g in (SMALL, grid, grid | {"clipping": ["none", "norm:1.0"], "learning_rate": [0.1, 0.2]})]  # fmt: skip
    assert seconds[0] == 0.0 and seconds[1] == seconds[2] > 3 * 2 * 40 * 8 * model.FLOSSING_STEP
    twice = model.flossing_seconds(Block("s", "all", {}, grid | {"spectral_radius": [0.5, 1.5]}, 3))
    assert twice == pytest.approx(2.0 * seconds[1])
    block = Block("s", "all", {}, grid, 3)
    without = Block("s", "all", {}, grid | {"flossing": [0, 0]}, 3)
    asked: dict[str, Any] = {"gate": {"checked_runs_per_job": 1}}
    assert model.block_cost(block, asked).seconds == pytest.approx(
        model.block_cost(without, asked).seconds + seconds[1]
    )


def test_eigenvalues_are_counted_again_where_the_engine_has_forgotten_them() -> None:
    few, many = (work(SMALL | {"activation": ["tanh", "relu"]}, seeds=seeds) for seeds in (100, 1000))
    at_points = 2 * 2 * 5**3  # a seed: of both activations and both lengths, at the operating point
    assert few["cubed"] == 100 * (2 * 5**3 + at_points)
    assert many["cubed"] == 1000 * (2 * 2 * 5**3 + at_points)


def test_costs_grow_with_what_they_are_made_of(config: dict[str, Any]) -> None:
    blocks = planning.blocks(config)
    block = blocks["propagation", "spectral_radius=1.0"]
    cost = model.block_cost(block, config)
    twice = model.block_cost(dataclasses.replace(block, seeds=2 * block.seeds), config)
    fixed = model.RATES["job_seconds"] + model.RATES["block_seconds"]
    assert twice.seconds - fixed == pytest.approx(2 * (cost.seconds - fixed))
    assert twice.disk_mb == pytest.approx(2 * cost.disk_mb)
    long = dataclasses.replace(block, grid={**block.grid, "sequence_length": [1_000_000]})
    states = 1_000_000 * 16 * 64 * 8 / 2**20
    unbounded, bounded = (model.block_cost(long, {**config, "memory_mb": m}).memory_mb for m in (None, 512))
    assert unbounded > states
    assert bounded < unbounded


@pytest.mark.parametrize("factor", [0.5, 1.0, 20.0])
def test_only_the_engines_part_is_scaled_by_what_was_timed(
    config: dict[str, Any], factor: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a compiler the engine is twenty times slower; starts of jobs, tables and figures are not."""
    monkeypatch.setattr(outlook, "speed", lambda *arguments: (factor, 5))
    nothing_kept = SimpleNamespace(cache=SimpleNamespace(keys=set))
    blocks = planning.blocks(config)
    for sweep in config["sweeps"]:
        own = [block for block in blocks.values() if block.sweep == sweep]
        plan = outlook.plan_sweep(own, config, nothing_kept, 1.0)  # type: ignore[arg-type]
        engine = sum(model.seconds(outlook.engine_work(block, traces=config["traces"])) for block in own)
        costs = [model.block_cost(block, config).seconds for block in own]
        assert 0.0 < engine < sum(costs) - len(own) * model.RATES["job_seconds"]
        assert plan.predicted == pytest.approx(sum(costs))
        assert plan.spent == pytest.approx(sum(costs) + (factor - 1.0) * engine)
        assert plan.left == pytest.approx(plan.spent)
        assert plan.longest * (1.0 + 1e-12) >= plan.spent / len(own)
        assert plan.longest <= plan.spent
        finished = dataclasses.replace(plan, open=[0.0] * len(own))
        assert finished.left == 0.0
    around = outlook.around(config, blocks)
    assert around["tables"][1].engine == around["figures, page"][1].engine == 0.0
    for name, job in (("engine check", 1), ("verification", around["verification"][0])):
        times = around[name][1]
        assert times.engine > 0.0
        assert times.rest > job * model.RATES["verify_job_seconds"]
    groups = verification_jobs(blocks, config).values()
    expected = sum(model.verification_cost(group, config).seconds for group in groups)
    assert around["verification"][1].at(1.0) == pytest.approx(expected)


def test_the_printed_plan_scales_a_sweep_of_which_nothing_could_be_timed(config: dict[str, Any]) -> None:
    """Such a sweep takes the others' factor: in its time, in what is left of it and in its longest job."""
    timed = outlook.SweepPlan("a", 10, 0, [outlook.Times(100.0, 10.0)], [1.0], 3.0, 5, 1.0, 1.0)
    untimed = dataclasses.replace(timed, sweep="b", factor=3.0, sampled=0, open=[0.5])
    rest = {"engine check": (1, outlook.Times(1.0, 2.0)), "figures, page": (2, outlook.Times(0.0, 40.0))}
    text = outlook.report(config, [timed, untimed], rest, 2)
    rows = {line.split("  ")[0]: line for line in text.splitlines()}
    assert "5.2 min" in rows["a"]
    assert rows["b"].split()[4:10] == ["5.2", "min", "2.6", "min", "110.0", "s"]
    assert rows["engine check"].split()[3:5] == ["5.0", "s"]
    assert rows["figures, page"].split()[3:5] == ["40.0", "s"]
    assert "in the engine this machine takes 3.00 times what the model says" in text
    wall = model.RATES["snakemake_seconds"] + 5.0 + 310.0 + 20.0
    assert f"about {outlook.shown(wall)}." in text


def test_two_ways_to_write_one_rule_are_noticed(config: dict[str, Any]) -> None:
    config["sweeps"]["clipping"]["grid"]["clipping"] = ["none", "norm:1", "norm:1.0"]
    with pytest.raises(approval.ConfigError, match=r"'norm:1' and 'norm:1.0' are the same rule; leave one out"):
        approval.check(config, folders=[ROOT])
