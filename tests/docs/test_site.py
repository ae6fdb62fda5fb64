"""The site is built strictly, needs nothing from elsewhere, and its formulas are formulas."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent


def build(tree: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict"]  # --quiet would let warnings pass
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    return subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True, timeout=300)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of what the site is made of."""
    for folder in ("docs", "rnn_core"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("mkdocs.yml", "CONTRIBUTING.md", "CHANGELOG.md"):
        shutil.copy(ROOT / name, tmp_path)
    return tmp_path


def test_the_site_is_whole(tree: Path) -> None:
    """A page loads something from another host, a formula was left as LaTeX, or a page of the menu is missing."""
    done = build(tree)
    assert done.returncode == 0, done.stdout + done.stderr
    pages = {page.name: page.read_text(encoding="utf-8") for page in (tree / "site").glob("*.html")}
    assert len(pages) > 15
    for name, text in pages.items():
        loaded = re.findall(r"<(?:script|img|iframe)[^>]*\ssrc=\"(https?:[^\"]+)", text)
        loaded += re.findall(r"<link[^>]*rel=\"(?:stylesheet|preconnect)\"[^>]*href=\"(https?:[^\"]+)", text)
        assert not loaded, f"{name} loads {loaded}"
        assert 'class="arithmatex"' not in text, name
    assert pages["derivation.html"].count("<math") > 300
    assert (tree / "site" / "assets" / "STIXTwoMath-Regular.ttf").stat().st_size > 100_000


@pytest.mark.parametrize(
    ("slip", "said"),
    [
        ("[gone](nowhere.md) and [gone](studies.md#no-such-heading)", ["nowhere.md", "no-such-heading"]),
        (r"A formula $\frobnicate{a}$.", ["frobnicate"]),
        ("::: rnn_core.no_such_name", ["no_such_name"]),
    ],
)
def test_a_slip_ends_the_build(slip: str, said: list[str], tree: Path) -> None:
    """A broken link, anchor, formula or name goes into the site without a word."""
    page = tree / "docs" / "start.md"
    page.write_text(page.read_text(encoding="utf-8") + f"\n{slip}\n", encoding="utf-8")
    done = build(tree)
    assert done.returncode != 0
    assert all(name in done.stdout + done.stderr for name in said)
