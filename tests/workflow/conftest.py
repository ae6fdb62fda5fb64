"""The tiny study, run once for all tests that look at its results."""

from __future__ import annotations

import pytest

from tests.support.study_project import Project, copy

ARGUMENTS = ("--configfile=studies/tiny.yaml",)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The tiny study after ``snakemake --cores 2`` and ``--report``. Tests must not change it."""
    project = copy(tmp_path_factory.mktemp("tiny") / "project")
    project.snakemake(*ARGUMENTS)
    project.snakemake(*ARGUMENTS, "--report", "results/tiny/snakemake-report.html")
    return project
