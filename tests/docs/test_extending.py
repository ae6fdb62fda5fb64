"""The templates of docs/extending.md work: each is put where the page says, checked by oracles and tests, and run in a study."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pandas as pd
import pytest
import yaml

from tests.support import python_server

pytestmark = [pytest.mark.workflow, pytest.mark.xdist_group("templates")]
ROOT = Path(__file__).resolve().parent.parent.parent
PAGE = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
PARTS = (
    "Snakefile",
    "config.yaml",
    "profiles",
    "rnn_core",
    "workflow",
    "studies",
    "tests",
    "examples",
    "pyproject.toml",
)
DERIVATION = (ROOT / "rnn_core" / "README.md").read_text(encoding="utf-8")
BLOCKS = dict(re.findall(r'^```\w+ title="([^"]+)"\n(.*?)^```', PAGE, flags=re.DOTALL | re.MULTILINE))

# What a newcomer does by hand, besides the blocks: imports, and the cell's name in two lists.
EDITS = {
    "rnn_core/cells/__init__.py": [
        (r"(from rnn_core\.cells\.vanilla import VanillaCell\n)", r"from rnn_core.cells.ugrnn import UGRNNCell\n\1"),
        (r"(for cell in \([^)]*?),?(\s*\))", r"\1, UGRNNCell\2"),
        (r"(__all__ = \[\n)", r'\1    "UGRNNCell",\n'),
    ],
    "rnn_core/tasks/__init__.py": [
        (r"(from rnn_core\.tasks\.generated import)", r"from rnn_core.tasks.first_input import FirstInput\n\1"),
    ],
    "rnn_core/clipping/__init__.py": [(r"(\n    by_parameter,\n)", r"\1    by_rms,\n")],
    "rnn_core/README.md": [(r"(\n## 3 Beyond)", r"\n## {section} The update-gate RNN\n\1")],
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
            "grid": {
                "cell": ["vanilla", "ugrnn"], "activation": ["tanh", "symlog"], "spectral_radius": [0.5, 1.5],
                "sequence_length": [5, 60], "hidden_size": 8, "readout_scale": [1.0, 3.0],
            },
        },
        "trained": {
            "seeds": 2,
            "grid": {
                "task": "first_input", "cell": "ugrnn", "sequence_length": 8, "hidden_size": 8, "updates": 4,
                "clipping": "rms:0.01",
            },
        },
    },
    "figures": ["growth_rate", "singular_values", "clipping_norms", "engine_checks"],
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

TOGETHER = """
import rnn_core as rc

for experiment in (rc.Experiment(readout_scale=3.0, sequence_length=20), rc.Experiment(sequence_length=20)):
    [(_, result)] = rc.run_many([experiment], device="cpu:0")
    alone = rc.run(experiment)
    assert abs(result["loss"][0] / alone["loss"][0] - 1.0) < 1e-9
    assert abs(result["largest_hidden_rms"] / alone["largest_hidden_rms"] - 1.0) < 1e-9
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
        text = file.read_text(encoding="utf-8")
        file.write_text(inserted(text, code, *place.split(maxsplit=1)), encoding="utf-8")
    taken = re.findall(r"^## 2\.(\d+) ", DERIVATION, flags=re.MULTILINE)
    number = f"2.{1 + max(map(int, taken))}"
    cell = root / "rnn_core" / "cells" / "ugrnn.py"
    cell.write_text(cell.read_text(encoding="utf-8").replace("section 2.n", f"section {number}"), encoding="utf-8")
    for path, edits in EDITS.items():
        text = (root / path).read_text(encoding="utf-8")
        for pattern, replacement in edits:
            text, count = re.subn(pattern, replacement.replace("{section}", number), text, count=1)
            assert count == 1, f"{path}: {pattern}"
        (root / path).write_text(text, encoding="utf-8")
    (root / "docs").mkdir()
    done = called(root, "-m", "study.tools.write_docs")  # make docs
    assert done.returncode == 0, done.stderr
    return root


def inserted(text: str, code: str, where: str, name: str) -> str:
    """A file's text with a block ``in`` the brackets of a name (a list, what a function returns, or C's switch), or ``above`` a line."""
    if where == "above":
        line = re.search(rf"^([ ]*){re.escape(name)}\b", text, flags=re.MULTILINE)
        assert line, f"there is no {name}"
        code = textwrap.indent(code, line[1]) if line[1] else code + "\n\n"
        return text[: line.start()] + code + text[line.start() :]
    switch = re.search(
        rf"^[^\n]*\b{re.escape(name)}\(.*?\bswitch \(phi\) \{{[^\n]*\n", text, flags=re.MULTILINE | re.DOTALL
    )
    if switch:
        return text[: switch.end()] + code + text[switch.end() :]
    returned = re.search(rf"^def {name}\b.*?^    return \{{", text, flags=re.MULTILINE | re.DOTALL)
    opening = returned or re.search(rf"^{name}\b[^{{]*?(\{{| = \($)|^ +{name} = \{{", text, flags=re.MULTILINE)
    assert opening, f"there is no {name}"
    return text[: opening.end()] + "\n" + code.rstrip().rstrip(",") + ", " + text[opening.end() :]


def called(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Python in the copy."""
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=root, env=environment(root), capture_output=True, text=True, timeout=600)


def environment(root: Path) -> dict[str, str]:
    """The copy is imported, and not this tree."""
    kept = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTEST_CURRENT_TEST")}
    quick_to_build = {"RNN_CORE_CFLAGS": "-O1"}  # the copy has a kernel of its own
    return {**kept, **quick_to_build, "PYTHONPATH": os.pathsep.join([str(root), str(root / "workflow" / "scripts")])}


def test_the_cell_agrees_with_every_oracle(project: Path) -> None:
    """The cell's template has a wrong formula, or the page's equations for the oracles differ from it."""
    done = called(project, "-c", ORACLES)
    assert done.returncode == 0, done.stderr
    errors = json.loads(done.stdout)
    assert set(errors) == {"autograd", "complex step"}
    assert all(0 < error < 1e-12 for error in errors.values()), errors


def test_a_study_runs_with_all_of_them(project: Path) -> None:
    """A template cannot be used in a config, stops the study, or leaves no rows, no figure or no caption."""
    folder = project / "studies" / "templates.yaml"
    folder.write_text(yaml.safe_dump(STUDY, allow_unicode=True), encoding="utf-8")
    words = ("snakemake", "--cores", "2", "--configfile", str(folder))
    done = python_server.run_module(*words, folder=project, environment=environment(project))
    assert done.returncode == 0, done.stdout + done.stderr
    results = project / "results" / "templates"
    runs = pd.read_parquet(results / "tables" / "runs.parquet")
    assert set(runs["cell"]) == {"vanilla", "ugrnn"}
    trained = runs[runs["task"] == "first_input"]
    assert len(trained) == 2
    assert set(runs["activation"]) == {"tanh", "symlog"}
    assert runs["largest_hidden_rms"].between(0.0, 10.0, inclusive="neither").all()
    assert set(trained["clipping"]) == {"rms:0.01"}
    updates = pd.read_parquet(results / "tables" / "updates.parquet")
    assert (updates[updates["run_key"].isin(trained["run_key"])]["clip_factor"] < 1.0).all()
    assert trained["held_out_loss"].notna().all()
    checks = pd.read_parquet(results / "tables" / "checks.parquet")
    assert (checks["cell"] == "ugrnn").any()
    page = (results / "report.html").read_text(encoding="utf-8")
    facts = json.loads((results / "figures" / "singular_values.json").read_text(encoding="utf-8"))
    assert facts["drawn"]
    assert "singular value of the recurrent matrix" in page
    assert "readout scale" in page  # the axis has its label
    assert "The rule <em>rms</em> scales each parameter" in page and "The rule rms scales each parameter" in page


# What the project's own tests say of the copy: of the forgotten places, and, as the page's command, of each new name.
TESTS = {
    "tests/architecture/test_registries.py": "test_registries",
    "tests/workflow/test_config.py": "up_to_date",
    "tests/rnn_core": "ugrnn or symlog or first_input",
    "tests/rnn_core/experiment/test_clipping.py": "test_clipping and rms",
    "tests/rnn_core/experiment/test_experiment.py": "run_keys_are_frozen or every_field_is_in_the_key",
    "tests/rnn_core/batched/test_run_many.py": "do_not_heed",
}


def test_the_projects_own_tests_pass_with_them(project: Path) -> None:
    """A place that the page does not name is asked for, or a test fails for whoever adds what the page describes.

    Or a reader is not told which tests to run.
    """
    assert not [tests for tests in TESTS if tests not in PAGE]
    chosen = " or ".join(f"({names})" for names in TESTS.values())
    done = called(project, "-m", "pytest", "-v", "-p", "no:cacheprovider", *TESTS, "-k", chosen)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr
    for tests in TESTS:
        assert f"\n{tests}" in done.stdout, f"no test of {tests} was run"


def test_a_gpus_batches_do_not_ignore_the_new_setting(project: Path) -> None:
    """``run_many`` on a torch device, which draws networks by itself, makes runs without the setting, or measures another column."""
    done = called(project, "-c", TOGETHER)
    assert done.returncode == 0, done.stderr
