"""Work that a job shares out among forks of its process: every item once, and no failure without words."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from study.forks import MOST, share_out
from tests.support.study_project import ROOT

CODE = """
import os, signal, sys, time
sys.path.insert(0, {scripts!r})
from study.forks import share_out
parent = os.getpid()

def work(item):
    open(item, "x").write(str(os.getpid()))
    time.sleep(0.05)
    if os.getpid() != parent:
        {fault}

share_out(work, {items!r}, {processes})
print("the job ends well")
"""


def shared(folder: Path, fault: str = "pass", processes: int = 3) -> subprocess.CompletedProcess[str]:
    items = [str(folder / f"{number}") for number in range(20)]
    code = CODE.format(scripts=str(ROOT / "workflow" / "scripts"), fault=fault, items=items, processes=processes)
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("processes", [1, 3, 40])
def test_every_item_is_done_once_and_by_so_many_processes(tmp_path: Path, processes: int) -> None:
    done = shared(tmp_path, processes=processes)  # a second time for an item would be an error: its file is there
    assert (done.returncode, done.stdout, done.stderr) == (0, "the job ends well\n", "")
    written = [file.read_text() for file in tmp_path.iterdir()]
    assert len(written) == 20
    if sys.platform == "linux":
        assert len(set(written)) == min(processes, 20) if processes < 20 else len(set(written)) > 3


@pytest.mark.skipif(sys.platform != "linux", reason="nothing is forked")
@pytest.mark.parametrize(
    ("fault", "status", "words"),
    [
        ("raise SystemExit('the disk is full')", 1, "the disk is full"),
        ("raise ValueError('no such column')", 1, "ValueError: no such column"),
        ("os.kill(os.getpid(), signal.SIGKILL)", 1, "A process of this job was killed (signal 9)"),
    ],
)
def test_a_failing_fork_fails_the_job_in_words(tmp_path: Path, fault: str, status: int, words: str) -> None:
    done = shared(tmp_path, fault)
    assert done.returncode == status
    assert words in done.stderr and "the job ends well" not in done.stdout


def test_more_items_than_a_byte_counts_are_refused() -> None:
    with pytest.raises(ValueError, match="257 items are more than 256"):
        share_out(lambda item: None, [str(number) for number in range(MOST + 1)], 1)
