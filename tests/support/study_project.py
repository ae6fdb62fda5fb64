"""Copies of the project that tests may run, break and edit."""

from __future__ import annotations

import atexit
import compileall
import functools
import os
import py_compile
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from tests.support import python_server

ROOT = Path(__file__).resolve().parent.parent.parent
COPIED = ("Snakefile", "config.yaml", "profiles", "rnn_core", "workflow", "studies")
REPEATABLE_TABLES = ("traces", "updates", "runs", "checks")  # timings differ from one execution to the next


@dataclass(frozen=True)
class Project:
    """A copy of the project in a folder of its own."""

    root: Path

    def snakemake(self, *arguments: str, check: bool = True, cores: int = 2) -> subprocess.CompletedProcess[str]:
        """Run snakemake in the copy, as a user would."""
        words = self.command(*arguments, cores=cores)[2:]
        done = python_server.run_module(*words, folder=self.root, environment=self.environment())
        if check and done.returncode:
            raise AssertionError(f"snakemake {' '.join(arguments)} failed:\n{done.stdout}\n{done.stderr}")
        return done

    def command(self, *arguments: str, cores: int = 2) -> list[str]:
        return [sys.executable, "-m", "snakemake", "--cores", str(cores), *arguments]

    def environment(self) -> dict[str, str]:
        """Without what a test runner adds, so that the copy and not this tree is imported."""
        return {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTEST_CURRENT_TEST")}

    def rules_to_run(self, *arguments: str) -> dict[str, int]:
        """How many jobs of each rule the next call would run."""
        done = self.snakemake("--dry-run", "--quiet=host", *arguments)
        text = done.stdout + done.stderr
        table = text.split("Job stats:")[1].split("total")[0] if "Job stats:" in text else ""
        rows = [line.split() for line in table.splitlines()]
        return {row[0]: int(row[1]) for row in rows if len(row) == 2 and row[1].isdigit()}

    def config(self, name: str = "tiny") -> dict[str, Any]:
        return dict(yaml.safe_load((self.root / "studies" / f"{name}.yaml").read_text()))

    def write_config(self, name: str, config: dict[str, Any]) -> list[str]:
        """The arguments that run it."""
        file = self.root / "studies" / f"{name}.yaml"
        file.write_text(yaml.safe_dump(config, sort_keys=False))
        return [f"--configfile={file.relative_to(self.root)}"]

    def table(self, name: str, study: str = "tiny") -> pd.DataFrame:
        return pd.read_parquet(self.root / "results" / study / "tables" / f"{name}.parquet")


def copy(target: Path) -> Project:
    """The project as it is in this tree, without results."""
    _copy(_compiled(), target)
    return Project(target)


def _copy(root: Path, target: Path, *left_out: str) -> None:
    target.mkdir(parents=True, exist_ok=True)
    for name in COPIED:
        source = root / name
        if source.is_dir():
            shutil.copytree(source, target / name, ignore=shutil.ignore_patterns(*left_out))
        else:
            shutil.copy(source, target / name)


@functools.cache
def _compiled() -> Path:
    """A copy with Python's byte code. Without it, every job of every copy would spend most of its start on compiling.

    The byte code has a digest of its source, not a time: an edit in a copy always counts.
    """
    root = Path(tempfile.mkdtemp(prefix="project"))
    atexit.register(shutil.rmtree, root, ignore_errors=True)
    _copy(ROOT, root, "__pycache__")
    for folder in ("rnn_core", "workflow/scripts"):
        by_content = py_compile.PycInvalidationMode.CHECKED_HASH
        assert compileall.compile_dir(root / folder, quiet=2, invalidation_mode=by_content)
    return root


def kept_runs(cache: Path) -> dict[str, float]:
    """Identity and key of every whole run in a study's cache -> seconds in the engine, which would differ if it were made again."""
    from study.files.cache import Cache  # not for programs that are started without the workflow's folder

    found: dict[str, float] = {}
    for identity in sorted(folder.name for folder in cache.glob("*") if folder.name != "figures"):
        runs = Cache(cache, identity)
        entries = {key: runs.get(key) for key in runs.keys()}  # noqa: SIM118 - a method that looks at files
        found |= {f"{identity}/{key}": entry.timing["seconds"] for key, entry in entries.items() if entry is not None}
    return found


def without_figures(config: dict[str, Any]) -> dict[str, Any]:
    """The same study with the cheapest figure alone."""
    return {**config, "figures": ["engine_checks"]}


def of_four_blocks(config: dict[str, Any], study: str) -> dict[str, Any]:
    """The tiny study under another name, without data of its own: four blocks and the cheapest figure."""
    small = without_figures(copy_of(config))
    small["study"] = study
    del small["sequences"]
    small["sweeps"]["propagation"]["grid"] |= {"activation": ["tanh", "identity"], "spectral_radius": [0.5, 1.5]}
    small["sweeps"]["propagation"]["seeds"] = 3
    small["sweeps"]["clipping"]["grid"] |= {"task": "input_mean", "activation": ["tanh", "relu"], "updates": 100}
    small["sweeps"]["clipping"]["jobs_over"] = ["activation"]
    return small


def copy_of(config: dict[str, Any]) -> dict[str, Any]:
    """A copy that shares nothing with the original."""
    return dict(yaml.safe_load(yaml.safe_dump(config)))
