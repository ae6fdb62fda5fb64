"""A full disk and a read-only folder: said in plain words, which file and what to do; then the same command finishes."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from study.files import obstacles, writing
from tests.faults.disturbed import STUDY, Disturbed, assert_whole, finished, fresh, mounted, remount
from tests.support.study_project import ROOT

pytestmark = pytest.mark.xdist_group("disk")

FULL = "cannot be written: the disk is full. Free some space there, then run the same command again. What is finished is kept."
READ_ONLY = "cannot be written: it is on a file system that can only be read. Make it writable, or work in a copy of the project elsewhere."


def fill(filler: Path, leave: int) -> None:
    """Take all space but ``leave`` bytes."""
    disk = os.statvfs(filler.parent)
    filler.write_bytes(bytes(disk.f_bavail * disk.f_frsize - leave))


@pytest.mark.workflow
@pytest.mark.usefixtures("mount")
def test_a_disk_that_fills_up_in_every_phase(undisturbed: Disturbed, tmp_path: Path) -> None:
    """Too small for the runs; then for the tables; then for the figure; then large enough."""
    project = fresh(tmp_path / "project")
    results, kept = project.root / "results", {}
    with mounted(results, "-t", "tmpfs", "-o", "size=160k", "tmpfs"):
        for phases, before in (
            (
                ("cache/", "blocks/", "logs/run_block/"),
                (),
            ),  # a block's record grows once a second: on a slow machine first
            (("tables/",), ("run_block", "verify_runs", "check_engine")),  # all that tables wait for
            (("figures/",), ("gather_table",)),
        ):
            if before:
                remount(results, "size=8m")
                project.run("--until", *before)
                fill(results / "filler", leave=2**13)
            said = project.run(check=False)
            refused = [
                line for line in said.splitlines() if FULL in line
            ]  # jobs run side by side: any may be the first
            assert any(f"results/{STUDY}/{phase}" in line for line in refused for phase in phases), said
            assert "Traceback" not in said
            assert project.leftovers() == []
            assert kept.items() <= project.finished_runs().items()
            kept = project.finished_runs()
            (results / "filler").unlink(missing_ok=True)
        project.run()
        assert kept and kept.items() <= project.finished_runs().items()
        assert_whole(project, undisturbed)


@pytest.mark.workflow
@pytest.mark.usefixtures("mount")
def test_a_disk_that_is_full_at_the_start_stops_before_the_first_job(tmp_path: Path) -> None:
    project = fresh(tmp_path / "project")
    with mounted(project.root / "results", "-t", "tmpfs", "-o", "size=64k", "tmpfs"):
        fill(project.root / "results" / "filler", leave=0)
        said = project.run(check=False)
    assert f"The folder results/{STUDY} {FULL}" in said
    assert "rule check_engine" not in said and "Finished jobid" not in said


@pytest.mark.workflow
@pytest.mark.usefixtures("mount")
@pytest.mark.parametrize("what", ["new results", "old results", "everything"])
def test_what_can_only_be_read_is_refused_before_the_first_job(
    undisturbed: Disturbed, tmp_path: Path, what: str
) -> None:
    """And whoever only wants to look may look."""
    project = fresh(tmp_path / "project") if what == "new results" else finished(undisturbed, tmp_path / "project")
    folder = project.root if what == "everything" else project.root / "results"
    named = ".snakemake" if what == "everything" else f"results/{STUDY}"
    (project.results / "report.html").unlink(missing_ok=True)  # something to do
    with mounted(folder, "--bind", str(folder)):
        remount(folder, "bind,ro")
        said = project.run(check=False)
        if what == "old results":
            assert project.rules_to_run(*project.arguments) == {"render_report": 1, "study": 1}
    assert f"The folder {named} {READ_ONLY}" in said
    assert "Traceback" not in said and "Finished jobid" not in said


@pytest.mark.parametrize("place", ["results", f"results/{STUDY}", f"results/{STUDY}/cache", f"results/{STUDY}/tables"])
@pytest.mark.parametrize("kind", ["a file", "a link that leads nowhere"])
def test_what_stands_where_a_folder_belongs_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, kind: str
) -> None:
    """A file called like the study was a traceback of Snakemake's, and one called cache stopped the study after its first runs."""
    monkeypatch.chdir(tmp_path)
    assert obstacles.in_the_way(f"results/{STUDY}") == ""
    Path(place).parent.mkdir(parents=True, exist_ok=True)
    if kind == "a file":
        Path(place).touch()
    else:
        Path(place).symlink_to(tmp_path / "an unmounted disk")
    said = obstacles.in_the_way(f"results/{STUDY}")
    assert said.startswith(f"{place} is {kind}, and the study needs a folder of that name. Move it away")
    Path(place).unlink()
    (tmp_path / "elsewhere").mkdir()
    Path(place).symlink_to(tmp_path / "elsewhere")
    assert obstacles.in_the_way(f"results/{STUDY}") == ""


@pytest.mark.workflow
def test_a_file_in_a_folders_place_stops_the_study_before_any_job(tmp_path: Path) -> None:
    project = fresh(tmp_path / "project")
    project.results.mkdir(parents=True)
    (project.results / "tables").touch()
    said = project.run(check=False)
    assert f"results/{STUDY}/tables is a file, and the study needs a folder" in said
    assert "Traceback" not in said and "Finished jobid" not in said


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody else")
def test_somebody_elses_folder_is_refused() -> None:
    """Root is stopped by no permission bits; so this is asked as nobody, who cannot reach pytest's own folder either."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        code = f"import os, sys; sys.path.insert(0, {str(ROOT / 'workflow' / 'scripts')!r}); from study.files import writing; os.setuid(65534); print(writing.refusal({folder!r}))"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert f"The folder {folder} cannot be written: you may not write there. Change the folder's" in done.stdout
        assert writing.refusal(folder) == ""


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "Free some space"),
        (errno.EDQUOT, "quota"),
        (errno.EROFS, "Make it writable"),
        (errno.EACCES, "permissions"),
        (errno.EIO, "the disk reports an error"),
        (errno.EFBIG, "ulimit -f"),
        (errno.EMFILE, "When that is mended, run the same command again"),
    ],
)
def test_every_error_in_writing_names_the_file_and_what_to_do(tmp_path: Path, number: int, words: str) -> None:
    target = tmp_path / "deep" / "runs.parquet"
    with (
        pytest.raises(SystemExit, match=words) as ended,
        writing.ending_in_words(),
        writing.written_aside(target) as aside,
    ):
        aside.write_text("half")
        raise OSError(number, os.strerror(number), str(aside))
    assert str(ended.value).startswith(f"{target} cannot be written: ")
    assert list(target.parent.iterdir()) == []


@pytest.mark.usefixtures("mount")
def test_a_full_disk_is_known_even_where_a_library_loses_the_errors_number(tmp_path: Path) -> None:
    folder = tmp_path / "small"
    with mounted(folder, "-t", "tmpfs", "-o", "size=64k", "tmpfs"):
        with (
            pytest.raises(writing.FileTrouble, match="the disk is full"),
            writing.written_aside(folder / "a.npy") as aside,
        ):
            fill(aside, leave=0)
            raise OSError("24 requested and 0 written")  # what NumPy makes of it
        assert list(folder.iterdir()) == []
