"""The whole workflow without a shared file system: sources, inputs and outputs travel through Snakemake's default storage.

The ``fs`` storage plugin stands in for object storage. Jobs run in empty folders that are thrown away (``plugins/``), as on Kubernetes
or in a cloud's batch service: what they need and is not in the storage is missing, and what they leave elsewhere is lost.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from study.tables.columns import TABLES
from tests.support.study_project import REPEATABLE_TABLES, ROOT, Project, copy

pytestmark = [pytest.mark.workflow, pytest.mark.xdist_group("storage")]
PLUGINS = Path(__file__).parent / "plugins"
FIGURES = ["engine_checks", "growth_rate"]


def study(project: Project) -> dict[str, Any]:
    """A user's own sequences, generated tasks, two figures and the report."""
    config = {**project.config(), "figures": FIGURES}
    config["sweeps"]["propagation"]["grid"] |= {"activation": ["identity", "tanh"], "sequence_length": 30}
    config["sweeps"]["clipping"]["grid"] |= {"task": ["waves"], "spectral_radius": 0.9, "updates": 4}
    return config


@dataclass(frozen=True)
class Remote:
    """A project whose files are in ``storage`` and whose jobs run elsewhere."""

    project: Project
    storage: Path
    machines: Path

    def snakemake(self, *arguments: str) -> str:
        """Run it and give back what it says; a failure fails the test."""
        storage = ["--default-storage-provider=fs", f"--default-storage-prefix={self.storage}"]
        command = [sys.executable, "-m", "snakemake", *arguments, *storage, "--configfile=studies/tiny.yaml"]
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])  # the image's "python"
        environment = {**self.project.environment(), "PATH": path, "TMPDIR": str(self.machines)}
        environment["PYTHONPATH"] = str(PLUGINS)
        done = subprocess.run(
            command, cwd=self.project.root, env=environment, capture_output=True, text=True, timeout=600
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    def elsewhere(self, *arguments: str) -> str:
        return self.snakemake("--executor=elsewhere", "--jobs=3", "--quiet=host", *arguments)

    @property
    def results(self) -> Path:
        return self.storage / "results" / "tiny"

    def assert_same_rows(self, local: Project) -> None:
        for table in REPEATABLE_TABLES:
            ours = pd.read_parquet(self.results / "tables" / f"{table}.parquet")
            pd.testing.assert_frame_equal(ours, local.table(table), check_exact=True)


def remote(folder: Path) -> Remote:
    """A git clone, for Snakemake sends to its jobs what git knows; the user's own sequences are not among it."""
    made = Remote(copy(folder / "project"), folder / "storage", folder / "machines")
    made.project.write_config("tiny", study(made.project))
    shutil.copy(ROOT / ".gitignore", made.project.root)
    for command in (["init", "--quiet"], ["add", "--all"], ["rm", "--cached", "--quiet", "studies/data/waves.csv"]):
        subprocess.run(["git", *command], cwd=made.project.root, check=True)
    made.storage.mkdir()
    made.machines.mkdir()
    return made


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The same study on this machine's own file system."""
    project = copy(tmp_path_factory.mktemp("local") / "project")
    arguments = project.write_config("tiny", study(project))
    project.snakemake(*arguments, *(f"results/tiny/tables/{table}.parquet" for table in REPEATABLE_TABLES))
    return project


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Remote:
    """The whole study, every job elsewhere."""
    if shutil.which("rsync") is None:
        if os.environ.get("REQUIRE_STORAGE") == "1":
            pytest.fail("REQUIRE_STORAGE=1, but rsync is not installed")
        pytest.skip("the fs storage plugin needs rsync (apt-get install rsync; REQUIRE_STORAGE=1 makes this a failure)")
    made = remote(tmp_path_factory.mktemp("remote"))
    made.elsewhere()
    return made


def test_the_rows_are_those_of_a_shared_file_system(finished: Remote, local: Project) -> None:
    finished.assert_same_rows(local)


def test_every_promised_file_is_in_the_storage(finished: Remote) -> None:
    for table in TABLES:
        assert (finished.results / "tables" / f"{table}.parquet").is_file()
    for figure in FIGURES:
        for suffix in ("png", "svg", "json"):
            assert (finished.results / "figures" / f"{figure}.{suffix}").stat().st_size > 100
    assert (finished.results / "report.html").stat().st_size > 10_000


def test_nothing_stays_behind(finished: Remote) -> None:
    """Neither results beside the sources, nor folders of jobs; the cache of runs was each job's own and went with it."""
    assert not [path for path in (finished.project.root / "results").rglob("*") if path.suffix in (".parquet", ".npz")]
    assert not [path for path in finished.machines.iterdir() if path.is_dir()]
    assert not list(finished.storage.rglob("*.runs")) and not (finished.results / "cache").exists()


def test_nothing_is_left_to_do_and_a_lost_block_is_made_again(finished: Remote, local: Project) -> None:
    assert "Nothing to be done" in finished.elsewhere()
    lost = finished.results / "blocks" / "propagation" / "activation=tanh" / "updates.parquet"
    table = finished.results / "tables" / "updates.parquet"
    lost.unlink()
    table.unlink()
    said = finished.elsewhere("results/tiny/tables/updates.parquet")
    assert said.count("rule run_block:") == 1
    assert lost.is_file() and table.is_file()
    finished.assert_same_rows(local)


def test_jobs_on_this_machine_with_files_in_the_storage(finished: Remote, local: Project, tmp_path: Path) -> None:
    """No executor plugin, default storage all the same; the cache of runs stays on this machine."""
    here = remote(tmp_path)
    here.snakemake("--cores=2", "--shared-fs-usage=none")
    here.assert_same_rows(local)
    assert [path for path in (here.project.root / "results" / "tiny" / "cache").rglob("*") if path.is_file()]
    assert not (here.results / "cache").exists()
