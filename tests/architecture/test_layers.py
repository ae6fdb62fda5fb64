"""The layers: imports point only downward, and every folder holds what it should."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent.parent
SCRIPTS = ROOT / "workflow" / "scripts"
STANDARD = set(__import__("sys").stdlib_module_names)

ENGINE = {"numpy", "scipy", "torch", "array_api_compat", "rnn_core"}
KERNELS = {"triton"}  # torch brings it with its builds for CUDA
TABLES = {"numpy", "pyarrow", "jsonschema", "sklearn"}
DRAWING = {"pandas", "pyarrow", "seaborn", "matplotlib", "numpy", "scipy"}
# What the modules of a folder, or one module, may import of other libraries and of their own folder's parts above
# ``study``; the longest match counts. Nothing below ``study/report`` knows pandas, and no job that makes runs waits for it.
LAYERS = {
    "study": {"numpy", "pyarrow", "rnn_core", "study"},
    "study/config": {"numpy", "yaml", "jsonschema", "rnn_core", "study"},
    "study/data/intake": {"numpy", "pyarrow", "sklearn", "rnn_core", "study"},
    "study/files/lock": {"snakemake", "study"},  # inside the one function that knows its locks
    "study/screen": {"psutil", "study"},
    "study/report": {*DRAWING, "rnn_core", "study"},
    "study/tools": {"numpy", "scipy", "threadpoolctl", "rnn_core", "study"},
    "study/job": {"threadpoolctl", "study"},
    "study/runs": {"numpy", "pyarrow", "rnn_core", "torch", "study"},
    "study/report/page": {"pandas", "pyarrow", "yaml", "docutils", "jinja2", "markupsafe", "rnn_core", "study"},
    "figures": {*DRAWING, "rnn_core", "study"},
    "config_guard": {"snakemake", "study"},
    "draw_figures": {"study"},
    "render_report": {"study"},
    "gather_table": {"pyarrow", "study"},
    "read_sequences": {"study"},
    "take_cell": {"study"},
    "prove_cell": {"rnn_core", "study"},
    "run_block": {"rnn_core", "study"},
    "verify_runs": {"rnn_core", "study"},
    "sample_theory": {"study"},
    "measure_cliff": {"rnn_core", "study"},
    "plan_study": {"threadpoolctl", "rnn_core", "study"},
    "check_engine": {"rnn_core", "study"},
}


def imports(file: Path) -> set[str]:
    """Top-level names of all modules that a file imports, the standard library's left out."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add((node.module or "").split(".")[0])
    return found - STANDARD


def allowed(file: Path) -> set[str]:
    place = file.relative_to(SCRIPTS).with_suffix("").as_posix()
    while place not in LAYERS:
        place = place.rpartition("/")[0]
        assert place, f"{file.name} is in no layer: say what it may import in LAYERS of this test"
    return LAYERS[place]


@pytest.mark.parametrize("file", sorted((ROOT / "rnn_core").rglob("*.py")), ids=lambda f: str(f.relative_to(ROOT)))
def test_the_engine_imports_only_mathematics(file: Path) -> None:
    """But for the digits, which scikit-learn brings: imported inside the one function that asks for them."""
    digits = {"sklearn"} if file.parts[-2:] == ("tasks", "sequences.py") else set()
    kernels = KERNELS if file.parts[-2:] in (("batched", "fused.py"), ("batched", "kernels.py")) else set()
    assert imports(file) <= ENGINE | digits | kernels
    assert not imports_of_module(file) & digits


def imports_of_module(file: Path) -> set[str]:
    """What importing the file imports: not what its functions do."""
    body = [
        node
        for node in ast.parse(file.read_text(encoding="utf-8")).body
        if isinstance(node, ast.Import | ast.ImportFrom)
    ]
    names = [alias.name for node in body if isinstance(node, ast.Import) for alias in node.names]
    return {name.split(".")[0] for name in [*names, *(n.module or "" for n in body if isinstance(n, ast.ImportFrom))]}


@pytest.mark.parametrize("file", sorted((ROOT / "benchmarks").rglob("*.py")), ids=lambda f: str(f.relative_to(ROOT)))
def test_benchmarks_use_the_rest_alone(file: Path) -> None:
    """They use it and nothing uses them; each peer imports its own library alone."""
    library = {"torch": {"torch"}, "jax": {"jax"}}.get(file.stem.split("_")[0], set())
    peer = {"numpy", "benchmarks"} | library
    drawing = {"matplotlib", "study"}
    measuring = {"numpy", "torch", "rnn_core", "benchmarks", "study"}
    names = {"figure": drawing | {"benchmarks"}, "report": {"study", "benchmarks"}}.get(file.stem, measuring)
    assert imports(file) <= (peer if file.parent.name == "peers" else names)


@pytest.mark.parametrize("file", sorted((ROOT / "verification").glob("*.py")), ids=lambda f: str(f.relative_to(ROOT)))
def test_verification_uses_the_rest_alone(file: Path) -> None:
    """It uses the engine, and of the workflow only what draws and writes; a case or an oracle uses nothing of the workflow."""
    further = {
        "run": {"study"},
        "training": {"study"},
        "figure": {"pandas", "matplotlib", "study"},
    }.get(file.stem, set())
    assert imports(file) <= {"numpy", "torch", "rnn_core", "verification"} | further


@pytest.mark.parametrize("beside", ["benchmarks", "verification"])
def test_nothing_uses_benchmarks_or_verification(beside: str) -> None:
    """The engine, the workflow and the examples run without it."""
    folders = {"rnn_core", "workflow", "examples", "benchmarks", "verification"} - {beside}
    files = [file for folder in folders for file in (ROOT / folder).rglob("*.py")]
    assert not [file for file in files if beside in imports(file)]
    assert not [
        file
        for file in (ROOT / "workflow").rglob("*.smk")
        if re.search(rf"\bimport {beside}|from {beside}\b", file.read_text())
    ]


@pytest.mark.parametrize("file", sorted(SCRIPTS.rglob("*.py")), ids=lambda f: f.relative_to(SCRIPTS).as_posix())
def test_scripts_import_only_downward(file: Path) -> None:
    assert imports(file) <= allowed(file)


@pytest.mark.parametrize(
    "file", sorted((SCRIPTS / "study").rglob("*.py")), ids=lambda f: f.relative_to(SCRIPTS).as_posix()
)
def test_only_the_report_knows_the_report(file: Path) -> None:
    """Its modules import pandas and SciPy: a job that makes runs would wait for both."""
    if "report" not in file.relative_to(SCRIPTS).parts:
        modules = [n.module or "" for n in ast.walk(ast.parse(file.read_text())) if isinstance(n, ast.ImportFrom)]
        assert not [module for module in modules if module.startswith("study.report")]


def test_oracles_do_not_use_the_engines_backward_code() -> None:
    """An oracle that shares a cell, an activation or the time loop with the engine shares its mistakes."""
    backward = {"bptt", "tape", "wide", "cells", "activations", "losses", "readout", "compiled"}
    harmless = {"Gradients", "Tape"}  # of rnn_core's own names: what an evaluation hands over
    for file in (ROOT / "rnn_core" / "oracles").glob("*.py"):
        nodes = list(ast.walk(ast.parse(file.read_text(encoding="utf-8"))))
        names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
        assert not {name for name in names if name.split(".")[0] == "rnn_core"}, file.name
        for node in nodes:
            if not isinstance(node, ast.ImportFrom) or (node.module or "").split(".")[0] != "rnn_core":
                continue
            if node.module == "rnn_core.bptt" and file.stem == "torch_modules":  # it runs the engine, to compare with
                continue
            imported = (node.module or "").split(".")[1:2]
            assert not backward & set(imported), f"{file.name} imports {node.module}"
            assert imported or {alias.name for alias in node.names} <= harmless, f"{file.name} imports from rnn_core"


def test_importing_the_engine_imports_no_torch() -> None:
    import subprocess
    import sys

    code = "import sys, rnn_core; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_rules_hold_no_mathematics() -> None:
    for file in (ROOT / "workflow" / "rules").glob("*.smk"):
        assert not re.search(r"\b(numpy|torch|rnn_core|pandas|seaborn)\b", file.read_text().replace("rnn_core/", ""))


def test_there_is_one_handler_of_each_kind() -> None:
    """Of two ``onstart`` Snakemake keeps the last one without a word."""
    files = [ROOT / "workflow" / "Snakefile", *(ROOT / "workflow" / "rules").glob("*.smk")]
    text = "\n".join(file.read_text() for file in files)
    for handler in ("onstart:", "onsuccess:", "onerror:"):
        assert len(re.findall(rf"^{handler}", text, re.MULTILINE)) == 1, handler


def test_every_figure_has_its_script_and_its_caption() -> None:
    scripts = {f.stem for f in (SCRIPTS / "figures").glob("[!_]*.py")}
    captions = {f.stem for f in (SCRIPTS / "figures").glob("*.rst")}
    assert scripts == captions
    config = yaml.safe_load((ROOT / "config.yaml").read_text(encoding="utf-8"))
    assert set(config["figures"]) <= scripts


def test_conda_environment_names_the_same_libraries_and_ranges_as_pyproject() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = {
        r.replace("torch", "pytorch") for r in [*project["dependencies"], *project["optional-dependencies"]["study"]]
    }
    environment = yaml.safe_load((ROOT / "workflow" / "envs" / "environment.yaml").read_text())
    found = {line.replace(" ", "") for line in environment["dependencies"]} - {f"python{project['requires-python']}"}
    assert found == wanted


def test_the_lock_pins_every_library_of_pyproject_and_torch_exactly() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lock = {
        line.split("==")[0].lower().replace("_", "-"): line for line in (ROOT / "requirements.txt").read_text().split()
    }
    for requirement in [*project["dependencies"], *project["optional-dependencies"]["study"]]:
        assert re.split(r"[><=~]", requirement)[0] in lock
    assert lock["torch"] == "torch==2.13.0"
    bench = (ROOT / "requirements-bench.txt").read_text().split()
    for requirement in project["optional-dependencies"]["bench"]:
        assert any(line.startswith(re.split(r"[><=~]", requirement)[0] + "==") for line in bench)
    assert all("==" in line for line in lock.values())
