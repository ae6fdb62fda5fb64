"""What jobs ask of a cluster follows from the plan, and grows with every attempt."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from study import plan
from study.cost import model
from study.cost import resources as job_resources
from study.runs.gate import LONGEST as LONGEST_CHECKED
from study.sampling import verification_jobs
from tests.support.study_project import ROOT, copy, without_figures

TINY = yaml.safe_load((ROOT / "studies" / "tiny.yaml").read_text(encoding="utf-8"))
PROFILES = ROOT / "workflow" / "profiles"


def asked(config: dict[str, Any], attempt: int = 1) -> dict[str, dict[str, int]]:
    """Block -> resource -> amount."""
    blocks = plan.blocks(config)
    resources = job_resources.of_blocks(blocks, config)
    return {
        name: {
            resource: amount(SimpleNamespace(sweep=sweep, block=name), attempt=attempt) if callable(amount) else amount
            for resource, amount in resources.items()
        }
        for sweep, name in blocks
    }


def test_every_block_asks_for_what_it_is_predicted_to_need_with_head_room() -> None:
    found = asked(TINY)
    for block in plan.blocks(TINY).values():
        cost = model.block_cost(block, TINY)
        assert found[block.name]["mem_mb"] >= 1.4 * cost.memory_mb + 340  # two Snakemakes of 170 MiB
        assert found[block.name]["runtime"] * 60 >= 2 * cost.seconds + 60
        assert found[block.name]["disk_mb"] >= 2 * cost.disk_mb


def test_a_verification_asks_for_what_it_is_predicted_to_need_with_head_room() -> None:
    groups = verification_jobs(plan.blocks(TINY), TINY)
    resources = job_resources.of_verifications(groups, TINY)
    assert groups
    for group, blocks in groups.items():
        cost, job = model.verification_cost(blocks, TINY), SimpleNamespace(group=group)
        assert callable(resources["mem_mb"]) and callable(resources["runtime"])
        assert resources["mem_mb"](job, attempt=1) >= 1.4 * cost.memory_mb + 340
        assert resources["runtime"](job, attempt=1) * 60 >= 2 * cost.seconds + 60


def test_a_larger_block_asks_for_more() -> None:
    large = {**TINY, "sweeps": {**TINY["sweeps"]}}
    large["sweeps"]["propagation"] = {**TINY["sweeps"]["propagation"], "seeds": 2000}
    large["sweeps"]["propagation"]["grid"] = {**TINY["sweeps"]["propagation"]["grid"], "hidden_size": 512}
    before, after = asked(TINY), asked(large)
    for name in ("activation=tanh", "activation=identity"):
        assert after[name]["runtime"] > 5 * before[name]["runtime"]
        assert after[name]["disk_mb"] > before[name]["disk_mb"]
    assert after["task=waves"] == before["task=waves"]


def test_every_attempt_asks_for_one_more_share() -> None:
    first, second, third = (asked(TINY, attempt) for attempt in (1, 2, 3))
    for name, resources in first.items():
        for resource in ("mem_mb", "disk_mb"):
            assert second[name][resource] == pytest.approx(2 * resources[resource], abs=job_resources.ROUND_MB)
            assert third[name][resource] == pytest.approx(3 * resources[resource], abs=job_resources.ROUND_MB * 2)
        assert second[name]["runtime"] > 1.8 * resources["runtime"] - 1


def test_the_gate_asks_for_the_largest_network_of_the_study() -> None:
    def gate(**grid: Any) -> int:
        sweeps = {"one": {"grid": {"hidden_size": 8}}, "other": {"grid": grid}}
        mem_mb = job_resources.of_gate({"device": "cpu", "sweeps": sweeps})["mem_mb"]
        assert callable(mem_mb)
        return mem_mb(None, attempt=1)

    small = gate(hidden_size=8)
    vanilla, gated = (
        gate(hidden_size=512, sequence_length=2000, cell=cell) for cell in ("vanilla", ["vanilla", "gru"])
    )
    assert gated > 2 * vanilla
    assert gate(hidden_size=[8, 512], sequence_length=[10, 2000]) > small + 1000
    longest = gate(sequence_length=LONGEST_CHECKED)
    assert gate(sequence_length=100 * LONGEST_CHECKED) == longest > small


def test_tables_of_a_large_study_stay_bounded() -> None:
    def tables(seeds: int) -> tuple[int, int]:
        config = {**TINY, "sweeps": {"propagation": {**TINY["sweeps"]["propagation"], "seeds": seeds}}}
        found = job_resources.of_tables(plan.blocks(config), config)
        assert callable(found["mem_mb"]) and callable(found["runtime"])
        return found["mem_mb"](None, attempt=1), found["runtime"](None, attempt=1)

    (small, soon), (large, late) = tables(2), tables(100_000)
    assert small < large <= 1.5 * job_resources.TABLE_LIMIT_MB + job_resources.AROUND_MB + job_resources.ROUND_MB
    assert late > soon


@pytest.mark.parametrize(("device", "gpus"), [("cpu", None), ("cuda", 1), ("auto", 1)])
def test_a_gpu_is_asked_for_where_the_study_may_use_one(device: str, gpus: int | None) -> None:
    config = {**TINY, "device": device}
    for resources in [*asked(config).values(), job_resources.of_gate(config)]:
        assert resources.get("gpu") == gpus
    assert "gpu" not in job_resources.of_tables(plan.blocks(config), config)


def profile(name: str) -> dict[str, Any]:
    return dict(yaml.safe_load((PROFILES / name / "config.yaml").read_text(encoding="utf-8")))


def test_no_rule_has_retries_of_its_own() -> None:
    """They would be repeated inside every Slurm job, with the memory that was too little."""
    for file in [ROOT / "workflow" / "Snakefile", *(ROOT / "workflow" / "rules").glob("*.smk")]:
        assert not re.search(r"^\s*retries:", file.read_text(encoding="utf-8"), re.MULTILINE), file
    assert profile("slurm")["retries"] >= 1
    assert "slurm-array-jobs" not in profile("slurm")


@pytest.mark.parametrize("name", ["slurm", "gpu"])
def test_a_profile_replaces_the_default_one_and_repeats_it(name: str) -> None:
    default = profile("default")
    ours = {key: profile(name)[key] for key in default}
    if name == "slurm":  # quiet about rules, Snakemake hides why sbatch refused a job
        assert "rules" not in ours["quiet"]
        ours["quiet"] = [*ours["quiet"], "rules"]
    assert ours == default


@pytest.mark.workflow
def test_one_gpu_job_at_a_time_with_the_gpu_profile(tmp_path: Path) -> None:
    """By Snakemake's own log: no block starts while another has not finished, although there are two cores."""
    project = copy(tmp_path / "project")
    config = without_figures({**project.config(), "device": "auto"})
    del config["sweeps"]["clipping"], config["sequences"]
    arguments = project.write_config("tiny", config)
    gpu = "--workflow-profile=workflow/profiles/gpu"
    done = project.snakemake(*arguments, gpu, "--quiet=host", "results/tiny/tables/runs.parquet", check=False)
    text = done.stdout + done.stderr
    assert done.returncode == 0, text
    running = most = 0
    block = set()
    for line in text.splitlines():
        if match := re.match(r"\s+jobid: (\d+)", line):
            last = match[1]
        elif "gpu=1" in line:
            block.add(last)
            running += 1
            most = max(most, running)
        elif (match := re.match(r"Finished jobid: (\d+)", line)) and match[1] in block:
            running -= 1
    assert len(block) >= 4  # the engine check, three blocks, and what verifies them
    assert most == 1
