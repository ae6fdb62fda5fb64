"""Damaged files are found, never used, and made anew by the same command."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from study.data import task_file
from study.files import seal
from study.files.writing import Damaged, FileTrouble, ending_in_words
from study.tables import store
from study.tables.columns import columns_of
from tests.faults.disturbed import STUDY, Disturbed, assert_whole, damage, finished, flip, footer_of

pytestmark = pytest.mark.xdist_group("damage")

SAME_COMMAND = ".damaged; run the same command again and it is made anew. What is finished is kept."


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A sealed table of a few rows."""
    blank = {c.name: [f"{c.name} {i}" if str(c.type) == "string" else i for i in range(5)] for c in columns_of("timings")}  # fmt: skip
    store.write(store.build("timings", blank), tmp_path / "timings.parquet", {"study": "a"})
    return tmp_path / "timings.parquet"


class TestSeal:
    def test_a_whole_file_passes_and_reads_as_it_was_written(self, small: Path) -> None:
        seal.check(small)
        assert pq.read_table(small).num_rows == 5
        assert pq.read_table(small, page_checksum_verification=True).num_rows == 5
        assert store.provenance_of(small) == {"study": "a"}

    def test_every_flipped_bit_of_every_byte_is_found(self, small: Path) -> None:
        """Each byte once, the seal's own too. Page checksums alone let many of them pass."""
        whole, rng, unseen_by_pages = small.read_bytes(), random.Random(3), 0
        expected = pq.read_table(small)
        for position in range(len(whole)):
            flip(small, position, rng.randrange(8))
            with pytest.raises(Damaged):
                seal.check(small)
            unseen_by_pages += reads_something_else(small, expected)
            small.write_bytes(whole)
        assert unseen_by_pages > 100, "page checksums would be enough, and the seal is not needed"

    def test_every_truncation_and_every_extension_is_found(self, small: Path) -> None:
        whole = small.read_bytes()
        for length in range(0, len(whole), 7):
            small.write_bytes(whole[:length])
            with pytest.raises(Damaged, match="it is empty" if length == 0 else "damaged"):
                seal.check(small)
        small.write_bytes(whole + b"\0")
        with pytest.raises(Damaged):
            seal.check(small)

    def test_a_file_without_a_seal_is_not_trusted(self, small: Path) -> None:
        pq.write_table(pq.read_table(small).replace_schema_metadata(None), small)
        with pytest.raises(Damaged, match="no seal"):
            seal.check(small)

    def test_sealing_what_has_no_place_for_it_fails(self, small: Path) -> None:
        pq.write_table(pq.read_table(small).replace_schema_metadata(None), small)
        with pytest.raises(ValueError, match="no blank seal"):
            seal.seal(small)


def reads_something_else(file: Path, expected: object) -> bool:
    """Whether a reader with page checksums takes the damaged file without a word (rows, schema or footer may be wrong)."""
    try:
        return not pq.read_table(file, page_checksum_verification=True).equals(expected, check_metadata=True)
    except Exception:  # it noticed
        return False


def test_a_damaged_file_is_put_aside_and_said_so(tmp_path: Path) -> None:
    file = tmp_path / "runs.parquet"
    file.write_text("edited by hand")
    with pytest.raises(SystemExit) as ended, ending_in_words():
        seal.check(file)
    assert str(ended.value).startswith(f"{file} is damaged: it has no whole footer (of 14 bytes), or no seal.")
    assert str(ended.value).endswith(f"It was renamed to runs.parquet{SAME_COMMAND}")
    assert [f.name for f in tmp_path.iterdir()] == ["runs.parquet.damaged"]


def test_a_file_that_another_job_has_put_aside_is_no_traceback(tmp_path: Path) -> None:
    with (
        pytest.raises(SystemExit, match=r"runs\.parquet cannot be read: it has gone\. Run the same command again"),
        ending_in_words(),
    ):
        seal.check(tmp_path / "runs.parquet")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # NumPy's own, closing half an archive
def test_damaged_sequences_are_found(tmp_path: Path) -> None:
    """Every bit that matters: the archive has a checksum for each array; its dates and such may be anything."""
    file, rng = tmp_path / "mine.npz", np.random.default_rng(0)
    arrays = {"inputs": rng.standard_normal((4, 3, 1)), "loss": np.array("squared_error"), "loss_at": np.array("last")}
    task_file.save(arrays, file)
    whole, found = file.read_bytes(), 0
    for position in range(len(whole)):
        flip(file, position, position % 8)
        try:
            np.testing.assert_array_equal(task_file.load(file)["inputs"], arrays["inputs"])
        except FileTrouble:
            found += 1
        except KeyError:  # an array's name in the archive's index: another name is no array of ours
            found += 1
        file.write_bytes(whole)
    assert found > 0.6 * len(whole)


@pytest.mark.workflow
def test_damaged_blocks_gate_and_tables_are_made_again_from_finished_runs(
    undisturbed: Disturbed, tmp_path: Path
) -> None:
    """Blocks: cut short, emptied, one bit of the data, one of the footer. Each file is found by the job that reads it."""
    project = finished(undisturbed, tmp_path / "project")
    kept = project.finished_runs()
    gate, table = project.results / "checks" / "gate.parquet", project.results / "tables" / "runs.parquet"
    flip(table, footer_of(table) - 20)
    (project.results / "report.html").unlink()
    said = project.run(check=False)
    assert f"results/{STUDY}/tables/runs.parquet is damaged: its content is not what was written." in said
    assert SAME_COMMAND in said
    blocks = sorted((project.results / "blocks").glob("*/*"))
    files = [block / f"{table}.parquet" for block, table in zip(blocks, ("traces", "updates", "runs", "timings"), strict=True)]  # fmt: skip
    damage(files[0], files[0].read_bytes()[:-100])
    damage(files[1], b"")
    flip(files[2], footer_of(files[2]) // 2)
    flip(files[3], footer_of(files[3]) + 40)
    shutil.rmtree(project.results / "tables")
    said = project.run("--keep-going", check=False)
    flip(gate, 100)  # whatever gathers asks for it first, so it is found alone
    said += project.run("--keep-going", check=False)
    for file in (*files, gate):
        assert f"{file.relative_to(project.root)} is damaged: " in said
        assert f"It was renamed to {file.name}{SAME_COMMAND}" in said
    assert f"results/{STUDY}/checks/gate.parquet is damaged: its content is not what was written." in said
    assert "Traceback" not in said
    project.run()
    assert project.finished_runs() == kept
    assert_whole(project, undisturbed)


@pytest.mark.workflow
def test_a_damaged_cache_is_computed_again(undisturbed: Disturbed, tmp_path: Path) -> None:
    """Of four files one is empty, one cut in half, one has a flipped bit, one is whole. No run of it, or of a whole half, is made again."""
    project, rng = finished(undisturbed, tmp_path / "project"), random.Random(5)
    files, all_runs = project.cache_files(), project.finished_runs()
    assert len(files) == 4
    damage(files[0], b"")
    damage(files[1], files[1].read_bytes()[: files[1].stat().st_size // 2])
    flip(files[2], rng.randrange(files[2].stat().st_size * 3 // 4, files[2].stat().st_size), rng.randrange(8))
    whole = project.finished_runs()
    lost = {run for run in all_runs.keys() - whole.keys() if "-verified" not in run}
    assert 11 < len(lost) < len(all_runs) // 2 + 6
    shutil.rmtree(project.results / "blocks")
    shutil.rmtree(project.results / "tables")
    project.run()
    assert whole.items() <= project.finished_runs().items()
    assert_whole(project, undisturbed)
