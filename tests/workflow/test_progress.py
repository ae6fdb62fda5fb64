"""Records that jobs keep, and where the time went."""

from __future__ import annotations

import json
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from study.screen import progress
from study.screen.progress import Record, Session


def record(folder: Path, name: str, rule: str = "run_block", **known: float) -> Record:
    found = Record(rule, folder / rule / f"{name}.json")
    for key, value in known.items():
        setattr(found, key, value)
    return found


def test_a_record_survives_its_file_and_a_damaged_one_is_none(tmp_path: Path) -> None:
    one = record(tmp_path, "a", runs=10, reused=2, finished=5)
    one.write()
    found = progress.read(one.file)
    assert found is not None
    assert (found.runs, found.reused, found.finished, found.started) == (10, 2, 5, one.started)
    assert found.cpu > 0
    assert found.memory_mb > 1
    one.file.write_text(one.file.read_text()[:-10])
    assert progress.read(one.file) is None
    assert progress.read(tmp_path / "none.json") is None


def test_a_record_is_written_once_a_second_at_most(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = []
    monkeypatch.setattr(progress, "written_aside", _counting(written))
    one = record(tmp_path, "a")
    for _ in range(1000):
        one.ran(0.001)
    assert one.finished == 1000
    assert one.engine == pytest.approx(1.0)
    assert len(written) == 1


def _counting(written: list[Path]) -> object:
    original = progress.written_aside

    def counted(file: Path) -> object:
        written.append(file)
        return original(file)

    return counted


def test_shares_of_time_add_up_to_cores_times_wall(tmp_path: Path) -> None:
    now = time.time()
    (tmp_path / "session.json").write_text(json.dumps({"started": now - 100.0, "cores": 2}))
    earlier = record(tmp_path, "old", started=now - 500, before=0.0)
    for job in (
        record(tmp_path, "a", started=now - 90, before=0.0, engine=60.0),
        record(tmp_path, "gate", "check_engine"),
        record(tmp_path, "f", "draw_figures"),
        earlier,
    ):
        job.write()
    for name, rule, cpu in (("a", "run_block", 81.0), ("gate", "check_engine", 5.0), ("f", "draw_figures", 4.0), ("old", "run_block", 400.0)):  # fmt: skip
        file = tmp_path / rule / f"{name}.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | {"cpu": cpu}))
    rows = {part: (seconds, share) for part, seconds, share in progress.spent(tmp_path)}
    assert rows["engine"][0] == pytest.approx(
        60.0 * 81.0 / 90.0, rel=1e-2
    )  # the job had its core nine tenths of the time
    assert rows["starting jobs, cache and block tables"][0] == pytest.approx(81.0 - rows["engine"][0])
    assert (rows["engine check"][0], rows["figures"][0], rows["verification"][0]) == (5.0, 4.0, 0.0)
    assert sum(share for _, share in rows.values() if share is not None) == pytest.approx(1.0)
    assert sum(seconds for seconds, _ in rows.values()) == pytest.approx(200.0, rel=1e-2)


def test_on_a_cluster_there_are_seconds_and_no_shares(tmp_path: Path) -> None:
    """Jobs took more than this machine's cores could have given; and without a session nothing is said at all."""
    assert progress.spent(tmp_path) == []
    progress.start_session(tmp_path, 1)
    job = record(tmp_path, "a")
    job.write()
    job.file.write_text(json.dumps(json.loads(job.file.read_text()) | {"cpu": 1e4}))
    assert {share for *_, share in progress.spent(tmp_path)} == {None}


def test_a_job_that_fails_leaves_no_record_of_its_end(tmp_path: Path) -> None:
    snakemake = SimpleNamespace(log=[str(tmp_path / "x.log")], rule="draw_figures")
    with pytest.raises(ValueError, match="no"), progress.recorded(snakemake):
        raise ValueError("no")
    assert not (tmp_path / "x.json").exists()
    with progress.recorded(snakemake):
        pass
    assert progress.read(tmp_path / "x.json") is not None


def test_sessions_are_remembered(tmp_path: Path) -> None:
    session = progress.start_session(tmp_path, 8)
    assert Session(**json.loads((tmp_path / "session.json").read_text())) == session
