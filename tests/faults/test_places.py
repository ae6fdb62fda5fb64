"""A whole file in another one's place is noticed, never used, and the right one is made by the same command."""

from __future__ import annotations

import shutil
import zlib
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from study import plan
from study.files import places
from study.files.cache import Cache, Entry
from study.files.writing import FileTrouble, Misplaced
from study.sampling import verification_jobs
from study.tables import store
from study.tables.columns import schema_of
from tests.faults.disturbed import STUDY, Disturbed, assert_whole, finished

pytestmark = pytest.mark.xdist_group("places")

CONFIG: dict[str, Any] = {
    "study": "mine",
    "gate": {"checked_runs_per_job": 1},
    "sweeps": {
        "one": {"seeds": 2, "jobs_over": ["activation"], "grid": {"activation": ["tanh", "relu"]}},
        "two": {"seeds": 2, "jobs_over": ["activation"], "grid": {"activation": ["tanh", "relu"]}},
    },
}


class TestCache:
    ENTRY = Entry({"t": np.arange(3)}, {"finite": np.array([True])}, {"seed": 0})

    def test_another_runs_file_is_no_entry(self, tmp_path: Path) -> None:
        """Neither a file in another one's place, nor an index that gives an entry another name."""
        for name in ("aa1", "aa2", "bb1"):
            cache = Cache(tmp_path, "e", own=name)
            cache.put(name, self.ENTRY)
            cache.join()
        first, second, third = (next(tmp_path.rglob(f"{name}/*.runs")) for name in ("aa1", "aa2", "bb1"))
        shutil.copy(first, second)
        content = third.read_bytes().replace(b'"bb1":', b'"cc1":', 1)
        length = int.from_bytes(content[4:8])
        third.write_bytes(zlib.crc32(content[8 : 8 + length]).to_bytes(4) + content[4:])
        cache = Cache(tmp_path, "e")
        assert cache.keys() == {"aa1", "cc1"}
        assert [cache.get(name) is None for name in ("aa1", "aa2", "bb1", "cc1")] == [False, True, True, True]

    def test_of_two_files_that_cannot_be_written_the_first_is_told(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Runs that take long are written on the way. On a full disk the file of what waits, written last, was named instead."""
        told: list[str] = []

        def full(cache: Cache, entries: object, name: str) -> Path:
            told.append(name)
            raise FileTrouble(f"{name} cannot be written: the disk is full")

        monkeypatch.setattr("study.files.cache.EVERY", 0.0)  # every run is written on the way
        monkeypatch.setattr(Cache, "_write", full)
        cache = Cache(tmp_path, "e")
        with pytest.raises(FileTrouble) as trouble, cache.joined():
            cache.put("aa1", self.ENTRY)
        assert len(told) == 2 and str(trouble.value).startswith(told[0]) and told[0].startswith("part-")

    def test_the_same_run_of_another_engine_is_no_entry(self, tmp_path: Path) -> None:
        old = Cache(tmp_path, "old")
        old.put("aa1", self.ENTRY)
        old.join()
        (tmp_path / "old").rename(tmp_path / "new")
        assert Cache(tmp_path, "new").keys() == {"aa1"} and Cache(tmp_path, "new").get("aa1") is None


def written(root: Path, place: str, columns: str, **made: Any) -> Path:
    """An empty table of the study ``mine`` with the ``columns`` of that table, whose footer says ``made``."""
    file = root / "results" / "mine" / place
    store.write(schema_of(columns).empty_table(), file, made)
    return file


def block(sweep: str, name: str, config: dict[str, Any] = CONFIG) -> dict[str, Any]:
    return asdict(plan.blocks(config)[sweep, name])


GROUPS = verification_jobs(plan.blocks(CONFIG), CONFIG)
GROWN = {**CONFIG, "sweeps": {name: {**sweep, "seeds": 3} for name, sweep in CONFIG["sweeps"].items()}}
TANH, RELU = "activation=tanh", "activation=relu"
PLACES: list[tuple[str, str, dict[str, Any], list[tuple[dict[str, Any], str]]]] = [
    (
        f"blocks/one/{TANH}/runs.parquet",
        "runs",
        {"table": "runs", "block": block("one", TANH)},
        [
            ({"table": "runs", "block": block("one", RELU)}, f"says '{RELU}' where '{TANH}' belongs, as the name of the block"),
            ({"table": "runs", "block": block("two", TANH)}, "says 'two' where 'one' belongs, as the sweep of the block"),
            ({"table": "runs", "block": block("one", TANH, GROWN)}, "holds other values for the seeds of the block"),
            ({"table": "timings", "block": block("one", TANH)}, "says 'timings' where 'runs' belongs, as the table"),
            ({"table": "runs"}, "does not name the block"),
        ],
    ),
    (
        "verified/1-of-1/checks.parquet",
        "checks",
        {"table": "checks", "blocks": [asdict(each) for each in GROUPS["1-of-1"]]},
        [
            ({"table": "checks", "blocks": [asdict(each) for each in GROUPS["1-of-1"][1:]]}, "holds other values for the blocks"),
            ({"table": "checks", "sweeps": CONFIG["sweeps"]}, "does not name the blocks"),
        ],
    ),
    (
        "checks/gate.parquet",
        "checks",
        {"table": "checks", "sweeps": CONFIG["sweeps"]},
        [({"table": "checks", "sweeps": GROWN["sweeps"]}, "holds other values for the seeds of the one of the sweeps")],
    ),
    (
        "tables/runs.parquet",
        "runs",
        {"table": "runs", "study": "mine"},
        [
            ({"table": "runs", "study": "yours"}, "says 'yours' where 'mine' belongs, as the study"),
            ({"table": "updates", "study": "mine"}, "says 'updates' where 'runs' belongs, as the table"),
        ],
    ),
]  # fmt: skip


@pytest.mark.parametrize(("place", "table", "own", "others"), PLACES, ids=[place for place, *_ in PLACES])
def test_a_table_of_another_place_is_told_from_its_own(
    tmp_path: Path, place: str, table: str, own: dict[str, Any], others: list[tuple[dict[str, Any], str]]
) -> None:
    places.require(written(tmp_path, place, table, **own, engine="e"), CONFIG)
    for other, words in others:
        with pytest.raises(Misplaced) as caught:
            places.require(written(tmp_path, place, table, **other, engine="e"), CONFIG)
        assert "is another file than belongs there: its footer " + words in str(caught.value)


def exchange(first: Path, second: Path) -> None:
    """Two files change places, and their times of change stay with the places."""
    aside = first.with_name("aside")
    for source, target in ((first, aside), (second, first), (aside, second)):
        source.rename(target)


@pytest.mark.workflow
def test_blocks_in_each_others_places_are_made_again(undisturbed: Disturbed, tmp_path: Path) -> None:
    """A restored backup, a slip of rsync. The runs' own files are whole, and are not computed again."""
    project = finished(undisturbed, tmp_path / "project")
    kept = project.finished_runs()
    one, two = sorted((project.results / "blocks" / "propagation").glob("*"))
    for table in ("runs", "timings"):
        exchange(one / f"{table}.parquet", two / f"{table}.parquet")
    shutil.rmtree(project.results / "tables")
    said = project.run("--keep-going", check=False)
    for table in ("runs", "timings"):
        for folder in (one, two):
            assert (
                f"{(folder / table).relative_to(project.root)}.parquet is another file than belongs there: its footer"
                in said
            )
    assert "Traceback" not in said
    project.run()
    assert kept.items() <= project.finished_runs().items()
    assert_whole(project, undisturbed)


@pytest.mark.workflow
def test_a_run_in_another_ones_place_is_computed_again(undisturbed: Disturbed, tmp_path: Path) -> None:
    """As the reviewers did it: one finished run's file copied over another's, and blocks and tables made anew."""
    project = finished(undisturbed, tmp_path / "project")
    files = project.cache_files()
    shutil.copy(files[0], files[1])
    shutil.rmtree(project.results / "blocks")
    shutil.rmtree(project.results / "tables")
    project.run()
    assert_whole(project, undisturbed)


@pytest.mark.workflow
@pytest.mark.parametrize(
    ("put", "named"),
    [
        (lambda results: shutil.copy(results / "tables" / "updates.parquet", results / "tables" / "traces.parquet"), "tables/traces.parquet"),
        (lambda results: foreign(results / "tables" / "runs.parquet"), "tables/runs.parquet"),
    ],
    ids=["another table", "another study's"],
)  # fmt: skip
def test_a_table_in_another_ones_place_is_made_again(
    undisturbed: Disturbed, tmp_path: Path, put: Callable[[Path], None], named: str
) -> None:
    project = finished(undisturbed, tmp_path / "project")
    put(project.results)
    (project.results / "report.html").unlink()
    said = project.run(check=False)
    assert f"results/{STUDY}/{named} is another file than belongs there: its footer says" in said
    assert "Traceback" not in said
    project.run()
    assert_whole(project, undisturbed)


def foreign(file: Path) -> None:
    """The same rows, as another study has them."""
    rows = store.pq.read_table(file)
    store.write(rows, file, store.provenance_of(file) | {"study": "another"})
