"""The tiny study, run once for all tests that look at its results."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.shared import made_once
from tests.support.study_project import Project, copy

ARGUMENTS = ("--configfile=studies/tiny.yaml",)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The tiny study after ``snakemake --cores 2`` and ``--report``. Tests must not change it."""
    return Project(made_once(tmp_path_factory, "tiny", finish))


def finish(folder: Path) -> None:
    project = copy(folder)
    project.snakemake(*ARGUMENTS)
    project.snakemake(*ARGUMENTS, "--report", "results/tiny/snakemake-report.html")
