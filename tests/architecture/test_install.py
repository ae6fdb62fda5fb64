"""The engine is installed by pip like any package, and the image of cloud jobs holds what jobs need."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml

pytestmark = pytest.mark.xdist_group("install")  # one set-up for all

ROOT = Path(__file__).resolve().parent.parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
# Run where nothing of this tree can be imported (python -I leaves out the working folder and PYTHONPATH).
PROGRAM = """
import json, pydoc, sys
sys.path.insert(0, sys.argv[1])
import rnn_core as rc
from importlib.resources import files
text = pydoc.render_doc(rc, renderer=pydoc.plaintext)
result = rc.run(rc.Experiment(sequence_length=20, hidden_size=8, updates=2, task="input_mean"))
print(json.dumps({
    "file": rc.__file__, "rate": result.summary["growth_rate"], "help": text, "shown": str(result),
    "typed": files("rnn_core").joinpath("py.typed").is_file(), "torch": "torch" in sys.modules,
    "derivation": files("rnn_core").joinpath("README.md").is_file(),
}))
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty folder, then ``pip install --target`` of a wheel built from a copy of the tree; nothing is downloaded."""
    import shutil

    folder = tmp_path_factory.mktemp("install")
    source = folder / "source"  # setuptools leaves build/ behind
    source.mkdir()
    shutil.copytree(ROOT / "rnn_core", source / "rnn_core", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "LICENSE"):
        shutil.copy(ROOT / name, source)
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    for command in (
        ["wheel", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", str(folder), str(source)],
        [
            "install",
            "--no-deps",
            "--no-index",
            "--target",
            str(folder / "site"),
            "--find-links",
            str(folder),
            "rnn-core",
        ],
    ):
        done = subprocess.run([*pip, *command], capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_the_installed_engine_runs_without_this_tree(installed: Path, tmp_path: Path) -> None:
    import rnn_core as rc

    command = [sys.executable, "-I", "-c", PROGRAM, str(installed / "site")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    installed_run = json.loads(done.stdout)
    assert Path(installed_run["file"]).is_relative_to(installed / "site")
    result = rc.run(rc.Experiment(sequence_length=20, hidden_size=8, updates=2, task="input_mean"))
    assert installed_run["rate"] == result.summary["growth_rate"] and installed_run["shown"] == str(result)
    assert "help on package rnn_core" in installed_run["help"] or "rnn_core - Gradients of" in installed_run["help"]
    assert installed_run["typed"] and installed_run["derivation"] and not installed_run["torch"]


WITHOUT_TORCH = """
import sys
sys.path.insert(0, sys.argv[1])

class NotInstalled:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "torch":
            raise ModuleNotFoundError("No module named 'torch'", name="torch")

sys.meta_path.insert(0, NotInstalled())
import numpy as np
import rnn_core as rc
x = np.ones((4, 2, 2))
calls = {
    "A cell of your own": lambda: rc.TorchCell(lambda x, h: h),
    "A probe of your own model": lambda: rc.probe(lambda x, h: h, x),
    "check_derivatives": lambda: rc.check_derivatives(lambda x, h: h, x),
    "device: 'cuda'": lambda: rc.run(rc.Experiment(sequence_length=4), device="cuda"),
    "device: 'cuda:0'": lambda: list(rc.run_many([rc.Experiment(sequence_length=4)], device="cuda:0")),
}
for what, call in calls.items():
    try:
        call()
    except ModuleNotFoundError as error:
        assert str(error) == (
            f"{what} needs torch, which is not installed: pip install torch, or pip install '.[torch]' in the project's folder"
        ), error
    else:
        raise AssertionError(what)
print(rc.run(rc.Experiment(sequence_length=20, hidden_size=8)).summary["growth_rate"])
"""


def test_without_torch_the_engine_runs_and_says_what_needs_it(installed: Path, tmp_path: Path) -> None:
    """Who installs the engine alone reads "No module named 'torch'", and not what for."""
    command = [sys.executable, "-I", "-c", WITHOUT_TORCH, str(installed / "site")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 0.0


def test_the_wheel_holds_the_engine_and_nothing_else(installed: Path) -> None:
    (wheel,) = installed.glob("*.whl")
    kinds = (".py", ".c", ".h", "py.typed")  # without its C sources the installed engine would be right and slow
    files = {name for name in zipfile.ZipFile(wheel).namelist() if name.endswith(kinds)}
    engine = (file for file in (ROOT / "rnn_core").rglob("*") if file.name.endswith(kinds))
    assert files == {str(file.relative_to(ROOT)) for file in engine}
    folders = {str(file.parent.relative_to(ROOT)) for file in (ROOT / "rnn_core").rglob("__init__.py")}
    assert (
        {str(Path(file).parent) for file in files} == folders >= {"rnn_core/experiment/measures", "rnn_core/compiled"}
    )


def test_the_image_installs_the_pinned_libraries_and_the_engine() -> None:
    """It cannot be built here; what it names must at least exist, and jobs need a storage plugin in it."""
    lines = (ROOT / "workflow" / "envs" / "Dockerfile").read_text(encoding="utf-8").splitlines()
    copied = [word for line in lines if line.startswith("COPY ") for word in line.split()[1:-1]]
    assert copied
    for name in copied:
        assert (ROOT / name).exists(), name
    text = "\n".join(lines)
    for needed in ("requirements.txt", "rsync", "git", "gcc", "libc6-dev"):
        assert needed in text
    assert re.search(r"^FROM python:3\.\d+-slim", text, re.MULTILINE)


def test_the_cluster_extra_is_pinned() -> None:
    """What the profiles name as plugins is in the extra, and in the lock that the tests run with."""
    extra = {re.split(r"[><=~]", requirement)[0] for requirement in PROJECT["optional-dependencies"]["cluster"]}
    profile = yaml.safe_load((ROOT / "workflow" / "profiles" / "slurm" / "config.yaml").read_text(encoding="utf-8"))
    assert f"snakemake-executor-plugin-{profile['executor']}" in extra
    lock = (ROOT / "requirements-cluster.txt").read_text(encoding="utf-8").split()
    assert extra <= {line.split("==")[0] for line in lock if "==" in line}
    assert "requirements-cluster.txt" in (ROOT / "requirements-dev.txt").read_text(encoding="utf-8")
