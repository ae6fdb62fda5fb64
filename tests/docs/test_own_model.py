"""``docs/own_model.md`` as a newcomer follows it: its files are written where it says, and its commands are run."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.support.study_project import ROOT, Project, copy

pytestmark = [pytest.mark.workflow, pytest.mark.xdist_group("own cells")]


def files() -> dict[str, str]:
    """Every block of the page that has a file's name."""
    text = (ROOT / "docs" / "own_model.md").read_text(encoding="utf-8")
    return dict(re.findall(r'^```\w+ title="([^"]+)"\n(.*?)^```', text, flags=re.DOTALL | re.MULTILINE))


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    folder = copy(tmp_path_factory.mktemp("newcomer"))
    for name, text in files().items():
        (folder.root / name).write_text(text, encoding="utf-8")
    return folder


def test_the_look_runs(project: Project) -> None:
    done = subprocess.run(
        [sys.executable, "look.py"], cwd=project.root, env=project.environment() | {"PYTHONPATH": str(project.root)},
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "growth" in done.stdout


def test_the_study_runs(project: Project) -> None:
    """With fewer seeds, which is quicker."""
    config = yaml.safe_load(files()["mine.yaml"])
    config["sweeps"]["starts"]["seeds"] = 2
    (project.root / "mine.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    project.snakemake("--configfile=mine.yaml")
    runs = project.table("runs", "mine")
    assert set(runs["cell"]) == {"mgu", "gru"} and len(runs) == 4 * 2 * 2
    page = (project.root / "results/mine/report.html").read_text()
    assert "mgu forget_bias=2.0" in page


def test_the_page_names_files_that_there_are() -> None:
    assert set(files()) == {"my_cell.py", "look.py", "mine.yaml"}
    assert sorted(file.stem for file in Path(ROOT / "studies" / "own_cells").glob("*.py")) == ["lru", "mamba", "slstm"]
