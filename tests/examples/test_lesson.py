"""The notebook that a teacher starts from runs, and prints what it shows."""

from __future__ import annotations

import contextlib
import io
import json
import re
import warnings
from pathlib import Path
from typing import Any

import pytest

NOTEBOOK = Path(__file__).resolve().parent.parent.parent / "examples" / "lesson.ipynb"
NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:e[-+]?\d+)?")


def code_cells() -> list[dict[str, Any]]:
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    return [cell for cell in cells if cell["cell_type"] == "code"]


def printed(cell: dict[str, Any]) -> str:
    """What a cell has printed when the notebook was stored."""
    return "".join("".join(o["text"]) for o in cell["outputs"] if o["output_type"] == "stream")


def test_the_lesson_runs_and_prints_what_it_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    """A student runs a cell and gets an error, or other words or numbers than stand below it."""
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("agg")
    monkeypatch.setenv("MPLBACKEND", "agg")
    names: dict[str, Any] = {}
    for cell in code_cells():
        screen = io.StringIO()
        with contextlib.redirect_stdout(screen), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="FigureCanvasAgg is non-interactive")
            exec("".join(cell["source"]), names)
        ours, stored = screen.getvalue(), printed(cell)
        assert NUMBER.sub("#", ours) == NUMBER.sub("#", stored)
        for number, wanted in zip(NUMBER.findall(ours), NUMBER.findall(stored), strict=True):
            assert float(number) == pytest.approx(float(wanted), rel=1e-3, abs=0.02)  # rounded when printed
    names["plt"].close("all")


def test_the_lesson_is_small_and_whole() -> None:
    """The notebook was stored without its outputs, with an error, or with pictures that swell the repository."""
    assert NOTEBOOK.stat().st_size < 150_000
    cells = code_cells()
    assert all(cell["outputs"] for cell in cells[1:])  # the first imports
    assert not [o for cell in cells for o in cell["outputs"] if o["output_type"] == "error"]
    assert sum("image/png" in o.get("data", {}) for cell in cells for o in cell["outputs"]) == 2
