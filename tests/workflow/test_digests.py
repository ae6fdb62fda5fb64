"""The digests that decide what is kept across calls: over a script and all that it imports."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from study import SCRIPTS, provenance


def imported(file: Path) -> set[Path]:
    """The files of this folder that a file imports, as Python's own parser has it."""
    names: list[str] = []
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
    return {found for found in map(provenance._module, names) if found is not None}


FILES = {str(file.relative_to(SCRIPTS)): file for file in sorted(SCRIPTS.rglob("*.py"))}


@pytest.mark.parametrize("name", FILES)
def test_what_is_read_from_the_text_is_what_python_imports(name: str) -> None:
    """A module that is overlooked may be edited, and old results are kept."""
    read, true = set(provenance._imported(FILES[name])), imported(FILES[name])
    assert true <= read
    if not name.startswith("study/tools/"):  # one of them has a program in a string
        assert read == true


def test_imports_of_every_form_are_read(tmp_path: Path) -> None:
    file = tmp_path / "script.py"
    file.write_text(
        "import json, study.plan as planning\n"
        "from study import counts, wide as broad  # one line\n"
        "from study.tables import (\n    columns,  # which (and in what order)\n    store as kept,\n)\n"
        "def later():\n    from figures import cliff\n    import study.cost.model\n"
    )
    found = {str(each.relative_to(SCRIPTS)).removesuffix(".py") for each in provenance._imported(file)}
    named = {"study/plan", "study/counts", "study/wide", "study/tables/columns", "study/tables/store", "figures/cliff", "study/cost/model"}  # fmt: skip
    assert found == named | {"study/__init__", "study/tables/__init__", "figures/__init__"}


@pytest.fixture
def forget() -> Iterator[Callable[[], None]]:
    """Forgets what was read; at the end of a test, of a folder that is no more."""

    def now() -> None:
        for function in (provenance.script_digest, provenance._imported, provenance._content, provenance._module):
            function.cache_clear()

    yield now
    now()


def test_an_edit_behind_two_imports_is_another_digest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, forget: Callable[[], None]
) -> None:
    def digest() -> str:
        forget()
        return provenance.script_digest("script")

    monkeypatch.setattr(provenance, "SCRIPTS", tmp_path)
    (tmp_path / "script.py").write_text("from helper import one\n")
    (tmp_path / "helper.py").write_text("from deeper import one\n")
    (tmp_path / "deeper.py").write_text("one = 1\n")
    before = digest()
    (tmp_path / "deeper.py").write_text("one = 2\n")
    assert digest() != before
