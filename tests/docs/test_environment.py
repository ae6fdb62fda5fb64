"""After ``make report`` a notebook anywhere may say ``import rnn_core``."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
PROGRAM = "import rnn_core, pathlib; print(pathlib.Path(rnn_core.__file__).resolve())"

# This environment may have rnn_core installed in the same way, from this tree.
FORGET = (
    "import site, sys; sys.meta_path[:] = [f for f in sys.meta_path if '__editable__' not in getattr(f, '__module__', '')]; "
    "[sys.modules.pop(name) for name in list(sys.modules) if name.startswith('__editable__')]"
)


def elsewhere(folder: Path, code: str) -> str:
    """What a Python program prints that is started in another folder, without this tree on its path."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of what is installed."""
    copy = tmp_path / "tree"
    shutil.copytree(ROOT / "rnn_core", copy / "rnn_core", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "LICENSE", ".gitignore"):
        shutil.copy(ROOT / name, copy)
    return copy


def test_an_editable_installation_imports_from_any_folder(tree: Path, tmp_path: Path) -> None:
    """The line of the Makefile no longer makes ``import rnn_core`` work elsewhere, or it leaves the tree dirty."""
    recipe = (ROOT / "Makefile").read_text(encoding="utf-8")
    options = re.search(
        r"pip install --quiet --disable-pip-version-check (--no-deps --editable) \.$", recipe, re.MULTILINE
    )
    assert options
    for command in (["git", "init", "--quiet"], ["git", "add", "--all"]):
        subprocess.run(command, cwd=tree, check=True)
    site = (
        tmp_path / "site"
    )  # instead of an environment of its own, and setuptools from this one instead of the network's
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "install", *options[1].split(), "."]
    offline = ["--no-build-isolation", "--no-index", "--target", str(site)]
    done = subprocess.run([*pip, *offline], cwd=tree, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    hooked = f"{FORGET}; sys.path.insert(0, {str(site)!r}); site.addsitedir({str(site)!r}); {PROGRAM}"
    assert elsewhere(tmp_path, hooked) == str((tree / "rnn_core" / "__init__.py").resolve())
    status = subprocess.run(["git", "status", "--short"], cwd=tree, capture_output=True, text=True, check=True)
    assert not [line for line in status.stdout.splitlines() if line.startswith("??")]


@pytest.mark.skipif(Path(sys.prefix).resolve() != ROOT / ".venv", reason="not the environment that make sets up here")
def test_the_environment_of_make_imports_from_any_folder(tmp_path: Path) -> None:
    """A notebook beside the project says ``import rnn_core`` and does not get this tree's."""
    assert elsewhere(tmp_path, PROGRAM) == str(ROOT / "rnn_core" / "__init__.py")


def test_what_the_site_is_built_with_is_pinned() -> None:
    """The site of tomorrow is built with other versions than that of today."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = {re.split(r"[><=~]", requirement)[0] for requirement in project["optional-dependencies"]["dev"]}
    locks = ("requirements.txt", "requirements-cluster.txt", "requirements-dev.txt")  # each reads the one before
    pinned = [line for name in locks for line in (ROOT / name).read_text(encoding="utf-8").split() if "==" in line]
    assert wanted <= {line.split("==")[0] for line in pinned}


def test_the_start_page_says_the_same_without_make() -> None:
    """Whoever sets up by hand gets an environment that imports ``rnn_core`` in this folder alone."""
    assert "pip install --no-deps -e ." in (ROOT / "docs" / "start.md").read_text(encoding="utf-8")
