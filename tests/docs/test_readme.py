"""What the README says is so: its config is a study, its code runs, its paths exist; and it is read in four minutes."""

from __future__ import annotations

import math
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

import rnn_core as rc
from study import plan
from study.config import approval

ROOT = Path(__file__).resolve().parent.parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
REPEATED = ("docs/studies.md", "config/README.md")  # where the README's config stands, too


def block(language: str, text: str = README, index: int = 0) -> str:
    """A block of code of a page, without its fences."""
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)[index]


def test_it_is_read_in_four_minutes() -> None:
    """The README has grown again: a page of docs/ is the place for more."""
    assert len(README.split()) <= 900
    assert len(README.splitlines()) <= 100


def test_its_config_is_a_study_and_is_planned() -> None:
    """A newcomer types the README's config and is refused, or gets other runs than it says."""
    text = block("yaml")
    assert len(text.splitlines()) == 8
    approved = approval.check(yaml.safe_load(text))
    assert not approved.notes
    assert plan.count(approved.config) == (6 * 2 * 3 * 2, 1)
    assert [b.sweep for b in plan.blocks(approved.config).values()] == ["cells"]


@pytest.mark.parametrize("page", REPEATED)
def test_its_config_stands_elsewhere_unchanged(page: str) -> None:
    """The same example differs from page to page."""
    assert block("yaml") == block("yaml", (ROOT / page).read_text(encoding="utf-8"))


def test_its_code_runs(tmp_path: Path) -> None:
    """A newcomer pastes the README's code and gets an error, or another number than the engine's."""
    code = block("python")
    assert len([line for line in code.splitlines() if line.strip()]) <= 12
    command = [sys.executable, "-c", code]
    environment = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    first, *shape = done.stdout.split(maxsplit=1)
    names: dict[str, object] = {}
    exec(code.replace("print(", "shown = ("), names)
    grads = names["grads"]
    assert isinstance(grads, rc.Gradients)
    assert math.isclose(float(first), float(np.asarray(grads.log_norm)[0]))
    assert shape == ["(64, 64)\n"]


def test_its_paths_exist() -> None:
    """The tree names a folder that is not there."""
    for line in block("text").splitlines():
        paths = [word for word in line.split() if word.endswith("/") or word in ("config.yaml", "Snakefile")]
        assert paths, line
        for path in paths:
            assert (ROOT / path).exists(), path


def test_it_can_be_a_module_of_another_workflow(tmp_path: Path) -> None:
    """The Snakefile of docs/studies.md does not load this workflow, or plans other jobs than the workflow itself."""
    snakefile = block("python", (ROOT / "docs" / "studies.md").read_text(encoding="utf-8"))
    (tmp_path / "studies").mkdir()
    (tmp_path / "studies" / "mine.yaml").write_text(block("yaml"), encoding="utf-8")
    (tmp_path / "Snakefile").write_text(snakefile.replace("path/to/the/clone", str(ROOT)), encoding="utf-8")
    command = [sys.executable, "-m", "snakemake", "--dry-run", "--cores", "1"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    jobs = {name: int(count) for name, count in re.findall(r"^(\w+) +(\d+)$", said, flags=re.MULTILINE)}
    assert jobs["run_block"] == 1
    assert jobs["draw_figures"] == 1
