"""The plan: a pure function of the config."""

from __future__ import annotations

import dataclasses
import time
from collections import Counter
from types import SimpleNamespace
from typing import Any

import pytest
from study_project import ROOT
from yaml import safe_load

import plan_study
import rnn_core as rc
import study_config
import study_cost
import study_plan
from rnn_core import bptt, initializers
from rnn_core.activations import ACTIVATIONS
from rnn_core.cells import CELLS, make_cell
from rnn_core.experiment.measures import prediction
from study_plan import Block


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
    assert propagation["seeds"] >= 8  # fewer than six can settle no comparison (study_statistics.FEWEST_SEEDS)
    assert grid["loss_at"] == "last"
    for sweep in (clipping, config["sweeps"]["breakdown"]):
        assert set(sweep["grid"]["clipping"]) == {"none", "norm:1.0"}
        assert sweep["grid"]["task"] == "digits"
        assert sweep["grid"]["updates"] >= 100
        assert sweep["seeds"] >= 8
    assert len(clipping["grid"]["learning_rate"]) == 2


def test_blocks_hold_every_run_once(config: dict[str, Any]) -> None:
    keys = [rc.Experiment(**run).key for block in study_plan.blocks(config).values() for run in block.runs()]
    expected = 1
    total = 0
    for sweep in config["sweeps"].values():
        expected = sweep["seeds"]
        for values in sweep["grid"].values():
            expected *= len(study_plan.as_list(values))
        total += expected
    assert len(keys) == len(set(keys)) == total
    assert sum(map(len, study_plan.blocks(config).values())) == total


def test_a_grown_axis_adds_blocks_and_leaves_the_others_alone(config: dict[str, Any]) -> None:
    before = study_plan.blocks(config)
    config["sweeps"]["propagation"]["grid"]["spectral_radius"].append(1.7)
    after = study_plan.blocks(config)
    assert {name: after[name] for name in before} == before
    assert set(after) - set(before) == {("propagation", "spectral_radius=1.7")}


def test_jobs_over_does_not_change_the_runs(config: dict[str, Any]) -> None:
    def keys() -> set[str]:
        return {rc.Experiment(**run).key for block in study_plan.blocks(config).values() for run in block.runs()}

    expected = keys()
    config["sweeps"]["propagation"]["jobs_over"] = ["activation", "sequence_length"]
    config["sweeps"]["clipping"]["jobs_over"] = ["clipping"]
    assert keys() == expected
    assert ("clipping", "clipping=norm-1.0") in study_plan.blocks(config)  # no colon in a file name


def test_planning_does_not_import_the_engine() -> None:
    """The Snakefile is parsed again in every job of a cluster: no NumPy, no torch, no rnn_core for that."""
    import subprocess
    import sys

    code = "import sys, study_config, study_cost, study_plan, study_progress, study_provenance; print([m for m in ('torch', 'rnn_core', 'pandas') if m in sys.modules])"  # fmt: skip
    scripts = ROOT / "workflow" / "scripts"
    done = subprocess.run([sys.executable, "-c", code], cwd=scripts, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_planning_is_quick_for_many_runs(config: dict[str, Any]) -> None:
    """100 000 runs: check, blocks, verification jobs and the cost of every block, far below the five seconds promised."""
    config["sweeps"]["propagation"]["grid"]["spectral_radius"] = [round(0.5 + 0.01 * i, 2) for i in range(100)]
    config["sweeps"]["propagation"] |= {"seeds": 63, "jobs_over": ["spectral_radius", "activation"]}
    start = time.process_time()
    study_config.check(config, folders=[ROOT])
    blocks = study_plan.blocks(config)
    groups = study_plan.verification_jobs(blocks)
    costs = [study_cost.block_cost(block, config) for block in blocks.values()]
    spent = time.process_time() - start
    assert sum(map(len, blocks.values())) >= 100_000
    assert sum(map(len, groups.values())) == len(blocks) == len(costs)
    assert spent < 2.0


def test_verification_jobs_hold_every_block_once_and_keep_their_groups(config: dict[str, Any]) -> None:
    config["sweeps"]["propagation"]["grid"]["spectral_radius"] = [round(0.5 + 0.01 * i, 2) for i in range(70)]
    before = study_plan.verification_jobs(study_plan.blocks(config))
    names = [block.name for (sweep, _), group in before.items() if sweep == "propagation" for block in group]
    assert len(names) == len(set(names)) == 70
    assert len([group for group in before if group[0] == "propagation"]) == 16
    config["sweeps"]["propagation"]["grid"]["spectral_radius"].append(1.7)
    after = study_plan.verification_jobs(study_plan.blocks(config))
    changed = [group for group in after if after[group] != before[group]]
    assert set(before) == set(after)
    assert len(changed) == 1


def test_runs_that_two_sweeps_share_are_noticed(config: dict[str, Any]) -> None:
    defaults = {name: axis.default for name, axis in fields_of_experiment().items()}
    assert study_plan.shared_runs(config, defaults) == {}
    first = config["sweeps"]["propagation"]
    again = {
        **first,
        "seeds": 2,
        "grid": {**first["grid"], "activation": ["tanh", "gelu"], "sequence_length": [100, 200]},
    }
    config["sweeps"] = {"a": first, "b": again}
    keys = {name: {rc.Experiment(**run).key for block in study_plan.blocks(config).values() if block.sweep == name for run in block.runs()} for name in "ab"}  # fmt: skip
    assert study_plan.shared_runs(config, defaults) == {("a", "b"): len(keys["a"] & keys["b"])} == {("a", "b"): 20}


def fields_of_experiment() -> dict[str, Any]:
    return {field.name: field for field in dataclasses.fields(rc.Experiment)}


# ---- what it costs


def work(grid: dict[str, list[Any]], seeds: int = 1, shared: bool = False) -> study_cost.Work:
    return study_cost.block_work(Block("s", "all", {}, grid, seeds), shared)


def steps_of(counted: study_cost.Work) -> float:
    return counted["fast_step"] + counted["readable_step"]


SMALL: dict[str, list[Any]] = {"hidden_size": [5], "batch_size": [3], "sequence_length": [8, 4], "activation": ["tanh"]}
TRAINED = SMALL | {"task": ["input_mean"], "loss_at": ["last"]}


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

    monkeypatch.setattr(bptt, "run_forward", counting("step", bptt.run_forward, lambda a: len(a[2])))
    monkeypatch.setattr(bptt, "backward", counting("step", bptt.backward, lambda a: len(a[0].x)))
    monkeypatch.setattr(
        prediction, "fixed_point", counting("theory", prediction.fixed_point, lambda a: not a[0].homogeneous)
    )
    at_point = counting("cubed", prediction.operating_rate, lambda a: len(a[0]) ** 3)
    monkeypatch.setattr(prediction, "operating_rate", at_point)
    singular = initializers._Remembered(counting("cubed", initializers._sigma_max.measure, lambda a: len(a[0]) ** 3))
    monkeypatch.setattr(initializers, "_sigma_max", singular)  # of the matrix whose eigenvalues are asked for, too
    experiments = [rc.Experiment(**settings) for settings in Block("s", "all", {}, grid, 2).runs()]
    for _, result in rc.run_many(experiments) if shared else [(e, rc.run(e)) for e in experiments]:
        made["row"] += len(result.traces["t"])
        made["update"] += len(result.updates["update"])
        made["kept"] += 1
    counted = work(grid, seeds=2, shared=shared)
    draws = 2 * 5**3 * max(study_cost.GATES[cell] for cell in grid.get("cell", ["vanilla"]))
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


def test_eigenvalues_are_counted_again_where_the_engine_has_forgotten_them() -> None:
    few, many = (work(SMALL | {"activation": ["tanh", "relu"]}, seeds=seeds) for seeds in (100, 1000))
    at_points = 2 * 2 * 5**3  # a seed: of both activations and both lengths, at the operating point
    assert few["cubed"] == 100 * (2 * 5**3 + at_points)
    assert many["cubed"] == 1000 * (2 * 2 * 5**3 + at_points)


def test_the_model_knows_which_activations_are_straight_and_which_cells_are_fast() -> None:
    """Planning imports no engine, so the names stand in the model, too."""
    assert set(study_cost.HOMOGENEOUS) == {name for name, phi in ACTIVATIONS.items() if phi.homogeneous}
    cells = {name: make_cell(name, "tanh") for name in CELLS}
    covered = {name for name, cell in cells.items() if isinstance(cell, (rc.VanillaCell, rc.ResidualCell))}
    assert set(study_cost.FAST) == covered
    assert set(study_cost.GATES) == set(cells)


def test_costs_grow_with_what_they_are_made_of(config: dict[str, Any]) -> None:
    blocks = study_plan.blocks(config)
    block = blocks["propagation", "spectral_radius=1.0"]
    cost = study_cost.block_cost(block, config)
    twice = study_cost.block_cost(dataclasses.replace(block, seeds=2 * block.seeds), config)
    fixed = study_cost.RATES["job_seconds"] + study_cost.RATES["block_seconds"]
    assert twice.seconds - fixed == pytest.approx(2 * (cost.seconds - fixed))
    assert twice.disk_mb == pytest.approx(2 * cost.disk_mb)
    long = dataclasses.replace(block, grid={**block.grid, "sequence_length": [1_000_000]})
    states = 1_000_000 * 16 * 64 * 8 / 2**20
    unbounded, bounded = (study_cost.block_cost(long, {**config, "memory_mb": m}).memory_mb for m in (None, 512))
    assert unbounded > states
    assert bounded < unbounded


@pytest.mark.parametrize("factor", [0.5, 1.0, 20.0])
def test_only_the_engines_part_is_scaled_by_what_was_timed(
    config: dict[str, Any], factor: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a compiler the engine is twenty times slower; starts of jobs, tables and figures are not."""
    monkeypatch.setattr(plan_study, "speed", lambda *arguments: (factor, 5))
    nothing_kept = SimpleNamespace(cache=SimpleNamespace(keys=set))
    blocks = study_plan.blocks(config)
    for sweep in config["sweeps"]:
        own = [block for block in blocks.values() if block.sweep == sweep]
        plan = plan_study.plan_sweep(own, config, nothing_kept, 1.0)  # type: ignore[arg-type]
        engine = sum(study_cost.seconds(plan_study.engine_work(block)) for block in own)
        costs = [study_cost.block_cost(block, config).seconds for block in own]
        assert 0.0 < engine < sum(costs) - len(own) * study_cost.RATES["job_seconds"]
        assert plan.predicted == pytest.approx(sum(costs))
        assert plan.spent == pytest.approx(sum(costs) + (factor - 1.0) * engine)
        assert plan.left == pytest.approx(plan.spent)
        assert plan.longest * (1.0 + 1e-12) >= plan.spent / len(own)
        assert plan.longest <= plan.spent
        finished = dataclasses.replace(plan, open=[0.0] * len(own))
        assert finished.left == 0.0
    around = plan_study.around(config, blocks)
    assert around["tables"][1].engine == around["figures, page"][1].engine == 0.0
    for name, job in (("engine check", 1), ("verification", around["verification"][0])):
        times = around[name][1]
        assert times.engine > 0.0
        assert times.rest > job * study_cost.RATES["verify_job_seconds"]
    groups = study_plan.verification_jobs(blocks).values()
    expected = sum(study_cost.verification_cost(group, config).seconds for group in groups)
    assert around["verification"][1].at(1.0) == pytest.approx(expected)


def test_the_printed_plan_scales_a_sweep_of_which_nothing_could_be_timed(config: dict[str, Any]) -> None:
    """Such a sweep takes the others' factor: in its time, in what is left of it and in its longest job."""
    timed = plan_study.SweepPlan("a", 10, 0, [plan_study.Times(100.0, 10.0)], [1.0], 3.0, 5, 1.0, 1.0)
    untimed = dataclasses.replace(timed, sweep="b", factor=3.0, sampled=0, open=[0.5])
    rest = {"engine check": (1, plan_study.Times(1.0, 2.0)), "figures, page": (2, plan_study.Times(0.0, 40.0))}
    text = plan_study.report(config, [timed, untimed], rest, 2)
    rows = {line.split("  ")[0]: line for line in text.splitlines()}
    assert "5.2 min" in rows["a"]
    assert rows["b"].split()[4:10] == ["5.2", "min", "2.6", "min", "110.0", "s"]
    assert rows["engine check"].split()[3:5] == ["5.0", "s"]
    assert rows["figures, page"].split()[3:5] == ["40.0", "s"]
    assert "in the engine this machine takes 3.00 times what the model says" in text
    wall = study_cost.RATES["snakemake_seconds"] + 5.0 + 310.0 + 20.0
    assert f"about {plan_study.shown(wall)}." in text


def test_two_ways_to_write_one_rule_are_noticed(config: dict[str, Any]) -> None:
    config["sweeps"]["clipping"]["grid"]["clipping"] = ["none", "norm:1", "norm:1.0"]
    with pytest.raises(study_config.ConfigError, match=r"'norm:1' and 'norm:1.0' are the same rule; leave one out"):
        study_config.check(config, folders=[ROOT])
