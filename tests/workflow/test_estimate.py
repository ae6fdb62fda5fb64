"""How far a call is and how long it will take, from jobs that begin, end, find their runs finished or take longer than predicted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from study import PROJECT, plan
from study.cost import forecast, kinds
from study.cost.forecast import Estimate, Job
from study.cost.rates import RATES
from study.runs import gate
from study.screen import progress as job_progress
from study.screen.progress import Record

NOW = 1_000_000.0


def block(name: str = "a", seconds: float = 10.0, runs: int = 100, **known: float) -> Job:
    return job("runs", f"block sweep/{name}", seconds, runs=runs, **known)


def job(kind: str, name: str, seconds: float, **known: float) -> Job:
    return Job(kind, name, seconds, submitted="began" in known, **known)


def with_record(job: Job, finished: int, reused: int = 0) -> Job:
    job.record = Record("run_block", Path("x.json"), runs=job.runs, finished=finished, reused=reused)
    return job


def at(jobs: list[Job], cores: int = 1, seconds: float = 0.0) -> forecast.Progress:
    return Estimate(dict(enumerate(jobs)), cores, NOW).at(NOW + seconds)


def test_the_line_says_runs_rate_time_left_and_what_goes_on() -> None:
    half = with_record(block(seconds=60.0, began=NOW), finished=50)
    progress = at([half, block("b", 60.0), job("verification", "v", 20.0), job("page", "page", 10.0)], seconds=30.0)
    assert progress.line() == "50 of 200 runs (25 %), 1.67 runs/s, about 2 min 0 s left: runs"
    assert at([block()]).line() == "0 of 100 runs (0 %), about 10 s left: runs"
    assert at([job("figures", "f", 3.0, began=NOW), job("figures", "g", 3.0)]).line() == (
        "about 6 s left: figures (0 of 2)"
    )


def test_the_time_left_holds_verification_tables_figures_and_the_page() -> None:
    """Stage by stage, on all cores, and no stage shorter than its longest job."""
    jobs = [job("engine check", "e", 4.0), block(seconds=10.0), block("b", 2.0), job("verification", "v", 8.0)]
    jobs += [job("tables", "t", 1.0), job("tables", "u", 1.0), job("figures", "f", 3.0), job("page", "p", 2.0)]
    assert at(jobs, cores=1).left == pytest.approx(4 + 20 + 2 + 3 + 2)
    assert at(jobs, cores=2).left == pytest.approx(12 + 1 + 3 + 2)
    assert at(jobs, cores=1000).left == pytest.approx(10 + 1 + 3 + 2)


def test_a_run_that_is_verified_does_not_slow_the_runs(capsys: pytest.CaptureFixture[str]) -> None:
    """One core: a block ends after 1 s, its verification takes 60 s instead of 2. The rate stays, and what is left is the verification's."""
    ended = with_record(block(seconds=1.0, runs=10, began=NOW, ended=NOW + 1.0), finished=10)
    jobs = [ended, block("b", 1.0, 10), job("verification", "v", 2.0, began=NOW + 1.0), job("page", "p", 2.0)]
    before, after = at(jobs, seconds=1.5), at(jobs, seconds=61.0)
    assert before.rate == after.rate == pytest.approx(10.0)
    assert before.left is not None and after.left is not None
    assert after.left < before.left + 0.2 * 60.0, "the wait of one verification was taken for the speed of the runs"


def test_further_verifications_are_expected_to_be_as_slow_as_the_first() -> None:
    slow = job("verification", "v", 2.0, began=NOW, ended=NOW + 60.0)
    progress = at([slow, job("verification", "w", 2.0)], seconds=60.0)
    assert progress.left is not None and 30.0 < progress.left < 60.0


def test_runs_that_were_found_cost_nothing_and_tell_nothing_of_the_speed() -> None:
    found = with_record(block(seconds=100.0, began=NOW), finished=50, reused=50)
    progress = at([found], seconds=0.5)
    assert (progress.finished, progress.rate) == (50, None)
    assert progress.left == pytest.approx(49.5)
    found.record.finished = 75  # type: ignore[union-attr]
    progress = at([found], seconds=25.0)
    assert progress.rate == pytest.approx(1.0)
    assert progress.left == pytest.approx(25.0)


def test_a_slow_engine_check_slows_what_compares_with_pytorch_and_nothing_else() -> None:
    """It is of long sequences, takes 100 s instead of 4, and says nothing of how fast figures are drawn."""
    jobs = [job("engine check", "e", 4.0, began=NOW), job("figures", "f", 3.0), job("page", "p", 2.0)]
    progress = at(jobs, seconds=100.0)
    assert progress.left == pytest.approx(0.1 * 100 + 3.0 + 2.0)
    jobs.append(job("verification", "v", 2.0))
    slower = at(jobs, seconds=100.0)
    assert slower.left is not None and progress.left is not None and 20.0 < slower.left - progress.left < 50.0


def test_the_engine_check_is_predicted_from_the_networks_that_it_takes(config: dict[str, Any]) -> None:
    cases = len(list(gate.cases(config["sweeps"])))
    known, start = kinds.check_seconds(config), RATES["verify_job_seconds"]
    assert 2.0 + 0.004 * cases < known < 2.0 + 0.1 * cases
    longer = config["sweeps"]["propagation"]["grid"]
    longer["sequence_length"] = [5, 8000]
    assert kinds.check_seconds(config) - start > 10 * (known - start)
    longer["sequence_length"] = [5, 8000, 10**7]
    longer["truncation"] = [None, 5]
    assert kinds.check_seconds(config) < 20 * known


def test_blocks_whose_records_stay_elsewhere_count_when_they_end() -> None:
    jobs = [
        block(began=NOW, ended=NOW + 1.0),
        block("b", began=NOW),
        block("c", began=NOW, ended=NOW + 1.0, failed=True),
    ]
    assert at(jobs, seconds=2.0).line().startswith("100 of 300 runs (33 %)")


def test_a_slow_machine_is_learnt_from_what_ended() -> None:
    ended = with_record(block(seconds=1.0, began=NOW, ended=NOW + 10.0), finished=100)
    progress = at([ended, *(block(str(n), 1.0) for n in range(9))], seconds=10.0)
    assert progress.left == pytest.approx(9 * (10.0 + 0.5) / 1.5, rel=1e-3)


def test_stages_never_fall_and_a_failure_takes_the_promise_back() -> None:
    jobs = {0: job("sequences", "s", 1.0), 1: block(), 2: job("page", "p", 1.0)}
    estimate, stages = Estimate(jobs, 1, NOW), []
    for number in jobs:
        stages.append(estimate.look().stage)
        estimate.begin(number)
        estimate.end(number)
    stages.append(estimate.look().stage)
    assert stages == sorted(set(stages))
    estimate.begin(1)
    estimate.end(1, failed=True)
    estimate.begin(2)
    assert estimate.look().left is None
    assert estimate.look().line() == "0 of 100 runs (0 %): waiting for 1 job after a failure"
    estimate.begin(1)  # retried
    assert estimate.look().left is not None


def test_records_of_an_earlier_call_are_not_counted(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    record = Record("run_block", job_progress.record_file(log), runs=10, finished=7, started=NOW - 1.0)
    record.write()
    estimate = Estimate({0: Job("runs", "block a", 1.0, logs=(str(log),), runs=10)}, 1, NOW)
    estimate.begin(0)
    assert estimate.look().finished == 0
    record.file.write_text(json.dumps(json.loads(record.file.read_text()) | {"started": NOW + 1.0}))
    assert estimate.look().finished == 7


def test_the_wait_in_a_queue_is_no_slowness(tmp_path: Path) -> None:
    """A block that was submitted is no running one; it runs from the moment of which its record tells."""
    log = tmp_path / "a.log"
    jobs = {0: Job("engine check", "e", 4.0), 1: Job("runs", "block a", 10.0, logs=(str(log),), runs=10)}
    estimate = Estimate(jobs, 1, NOW, queued=True)
    for number in jobs:
        estimate.begin(number)
    estimate.end(0)
    assert estimate.at(NOW + 1e6).left == pytest.approx(10.0)
    Record("run_block", job_progress.record_file(log), runs=10, finished=5, started=NOW + 1e6).write()
    estimate.look()
    assert estimate.at(NOW + 1e6 + 5.0).rate == pytest.approx(1.0)
    assert estimate.at(NOW + 1e6 + 5.0).left == pytest.approx(5.0)


def test_every_rule_that_makes_something_has_a_kind_and_a_predicted_time(config: dict[str, Any]) -> None:
    blocks = list(plan.blocks(config).values())
    for rule in kinds.KIND_OF_RULE:
        seconds, starts = kinds.predicted(rule, blocks[:1], config, rows=1e4)
        assert 0 <= starts < seconds < 3600, rule
    rules = {line.split()[1].rstrip(":") for file in (PROJECT / "workflow").glob("rules/*.smk") for line in file.read_text().splitlines() if line.startswith("rule ")}  # fmt: skip
    assert rules - {"plan"} == set(kinds.KIND_OF_RULE)


@pytest.fixture
def config() -> dict[str, Any]:
    from yaml import safe_load

    from tests.support.study_project import ROOT

    return dict(safe_load((ROOT / "studies" / "tiny.yaml").read_text(encoding="utf-8")))
