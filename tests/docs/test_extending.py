"""The templates of docs/extending.md work: each is put where the page says, checked by the oracles, and run in a study."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml

pytestmark = [pytest.mark.workflow, pytest.mark.xdist_group("templates")]
ROOT = Path(__file__).resolve().parent.parent.parent
PAGE = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
PARTS = ("Snakefile", "config.yaml", "profiles", "rnn_core", "workflow", "studies")
BLOCKS = dict(re.findall(r'^```\w+ title="([^"]+)"\n(.*?)^```', PAGE, flags=re.DOTALL | re.MULTILINE))

# What a newcomer does by hand, besides the blocks: imports, and the cell's name in two lists.
EDITS = {
    "rnn_core/cells/__init__.py": [
        (r"(from rnn_core\.cells\.vanilla import VanillaCell\n)", r"from rnn_core.cells.ugrnn import UGRNNCell\n\1"),
        (r"(for cell in \([^)]*?),?(\s*\))", r"\1, UGRNNCell\2"),
    ],
    "rnn_core/tasks/__init__.py": [
        (r"(from rnn_core\.tasks\.generated import)", r"from rnn_core.tasks.first_input import FirstInput\n\1"),
    ],
}
STUDY = {
    "study": "templates",
    "title": "The templates",
    "question": "Do the templates work?",
    "device": "cpu",
    "gate": {"tolerance": {"float64": 1e-10, "float32": 1e-3}, "checked_runs_per_job": 2},
    "sweeps": {
        "untrained": {
            "seeds": 2,
            "grid": {"cell": ["vanilla", "ugrnn"], "spectral_radius": [0.5, 1.5], "sequence_length": [5, 60], "hidden_size": 8},
        },
        "trained": {
            "seeds": 2,
            "grid": {"task": "first_input", "cell": "ugrnn", "sequence_length": 8, "hidden_size": 8, "updates": 4},
        },
    },
    "figures": ["singular_values", "engine_checks"],
}  # fmt: skip

# The new cell beside both differentiating oracles: in range, exploding, and vanishing beyond the range of floats.
ORACLES = """
import json
import numpy as np
import rnn_core as rc
from rnn_core.oracles import autograd
from rnn_core.oracles.compare import relative_error
from rnn_core.oracles.complex_step import complex_step_gradients

errors = {"autograd": 0.0, "complex step": 0.0}
for activation in ("tanh", "relu"):
    for radius, steps in ((0.5, 12), (3.0, 12), (0.2, 900)):
        problem = rc.prepare(rc.Experiment(
            cell="ugrnn", activation=activation, spectral_radius=radius, sequence_length=steps, hidden_size=5, batch_size=3))
        params = problem.params | {name: value + 0.1 for name, value in problem.params.items() if name.startswith("bias_")}
        x, target = problem.batch(0)
        evaluation = rc.evaluate(problem, params, x, target)
        errors["autograd"] = max(errors["autograd"], autograd.check(problem, params, x, target, evaluation).relative)
        if steps > 12:
            continue
        own = {name: value for name, value in params.items() if not name.endswith("ho")}
        grad_hidden = np.random.default_rng(0).standard_normal((steps, 3, 5))
        ours = rc.backward(rc.forward(problem.cell, own, x), grad_hidden)
        reference = complex_step_gradients("ugrnn", activation, own, x, grad_hidden)
        pairs = [(ours.params[name], reference.params[name]) for name in own]
        pairs += [(ours.hidden, reference.hidden), (ours.x, reference.x), (ours.state["hidden"], reference.state["hidden"])]
        errors["complex step"] = max(errors["complex step"], *(relative_error(a, b) for a, b in pairs))
print(json.dumps(errors))
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project with every template in its place."""
    root = tmp_path_factory.mktemp("templates")
    for part in PARTS:
        source = ROOT / part
        if source.is_dir():
            shutil.copytree(source, root / part, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, root / part)
    for title, code in BLOCKS.items():
        path, _, place = title.partition(", ")
        file = root / path
        if not place:
            assert not file.exists(), f"{path}: the template would replace a file of the project"
            file.write_text(code, encoding="utf-8")
            continue
        where, name = place.split()
        text = file.read_text(encoding="utf-8")
        opening = re.search(rf"^{name}\b[^{{]*\{{", text, flags=re.MULTILINE)
        assert opening, f"{path}: there is no {name}"
        row = code if code.endswith(",\n") else f"{code.rstrip()}, "
        new = (
            code + "\n\n" + opening[0]
            if where == "above"
            else opening[0] + ("\n" if code.endswith(",\n") else "") + row
        )
        file.write_text(text[: opening.start()] + new + text[opening.end() :], encoding="utf-8")
    for path, edits in EDITS.items():
        text = (root / path).read_text(encoding="utf-8")
        for pattern, replacement in edits:
            text, count = re.subn(pattern, replacement, text, count=1)
            assert count == 1, f"{path}: {pattern}"
        (root / path).write_text(text, encoding="utf-8")
    return root


def environment(root: Path) -> dict[str, str]:
    """The copy is imported, and not this tree."""
    kept = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTEST_CURRENT_TEST")}
    return {**kept, "PYTHONPATH": os.pathsep.join([str(root), str(root / "workflow" / "scripts")])}


def test_the_cell_agrees_with_every_oracle(project: Path) -> None:
    """The cell's template has a wrong formula, or the page's equations for the oracles differ from it."""
    command = [sys.executable, "-c", ORACLES]
    done = subprocess.run(command, cwd=project, env=environment(project), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    errors = json.loads(done.stdout)
    assert set(errors) == {"autograd", "complex step"}
    assert all(0 < error < 1e-12 for error in errors.values()), errors


def test_a_study_runs_with_all_of_them(project: Path) -> None:
    """A template cannot be used in a config, stops the study, or leaves no rows, no figure or no caption."""
    folder = project / "studies" / "templates.yaml"
    folder.write_text(yaml.safe_dump(STUDY, allow_unicode=True), encoding="utf-8")
    command = [sys.executable, "-m", "snakemake", "--cores", "2", "--configfile", str(folder)]
    done = subprocess.run(command, cwd=project, env=environment(project), capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    results = project / "results" / "templates"
    runs = pd.read_parquet(results / "tables" / "runs.parquet")
    assert set(runs["cell"]) == {"vanilla", "ugrnn"}
    trained = runs[runs["task"] == "first_input"]
    assert len(trained) == 2
    assert trained["held_out_loss"].notna().all()
    checks = pd.read_parquet(results / "tables" / "checks.parquet")
    assert (checks["cell"] == "ugrnn").any()
    page = (results / "report.html").read_text(encoding="utf-8")
    facts = json.loads((results / "figures" / "singular_values.json").read_text(encoding="utf-8"))
    assert facts["drawn"]
    assert "singular value of the recurrent matrix" in page
