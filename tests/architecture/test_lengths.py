"""What is read on one screen stays on one screen, and names say what they hold."""

from __future__ import annotations

import ast
import io
import tokenize
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
FOLDERS = ("rnn_core", "workflow", "verification", "benchmarks", "examples", "docs")
FILES = sorted(file for folder in FOLDERS for file in (ROOT / folder).rglob("*.py"))
A_SCREEN = 60  # lines of a function
A_FILE = 350  # lines of a file; most have fewer than 300
# Files that may be longer, and why they are not cut.
LONGER = {
    "benchmarks/many_gpu.py": "one benchmark, from its settings to its page",
    "rnn_core/bptt/results.py": "what a backward pass returns, beside what collects it",
    "rnn_core/bptt/weights.py": "one subject, a weight's gradient step by step, from its formula to its arrays",
    "rnn_core/compiled/__init__.py": "the one place that hands arrays to C",
    "rnn_core/oracles/complex_step.py": "one method, from its parameters to its gradients",
    "rnn_core/oracles/steps.py": "one check, from the engine's numbers to its error",
    "rnn_core/probing/probe.py": "one call for a notebook, and all that it says",
    "rnn_core/scaling.py": "the arithmetic of one kind of number",
    "rnn_core/tape.py": "what a forward pass keeps, and how a segment is run again",
}
FIGURES = 600  # a figure is one file, so that its numbers, its sentences and its artists stand together
SAYS_NOTHING = {"found", "tops", "room", "foo", "tmp"}  # of a variable


def name(file: Path) -> str:
    return file.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("file", FILES, ids=name)
def test_a_function_is_read_on_one_screen(file: Path) -> None:
    """A function has several ideas: give each a name of its own."""
    functions = [
        node for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))) if isinstance(node, ast.FunctionDef)
    ]
    assert not [(f.name, f.end_lineno) for f in functions if (f.end_lineno or 0) - f.lineno >= A_SCREEN]


@pytest.mark.parametrize("file", FILES, ids=name)
def test_a_file_holds_one_idea(file: Path) -> None:
    """A file has grown: cut it, or say in LONGER what its one idea is."""
    lines = len(file.read_text(encoding="utf-8").splitlines())
    if file.parent.name == "figures":
        assert lines <= FIGURES
    elif name(file) not in LONGER:
        assert lines <= A_FILE


def test_what_may_be_longer_is_there() -> None:
    """A file that was cut, renamed or removed is still excused."""
    assert not [file for file in LONGER if not (ROOT / file).exists()]


@pytest.mark.parametrize("file", FILES, ids=name)
def test_variables_say_what_they_hold(file: Path) -> None:
    """A reader meets a name that may hold anything."""
    tokens = tokenize.generate_tokens(io.StringIO(file.read_text(encoding="utf-8")).readline)
    names = {token.string for token in tokens if token.type == tokenize.NAME}
    assert not names & SAYS_NOTHING
