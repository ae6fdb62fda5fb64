"""The house: imports point only downward, and every room holds what DESIGN promises."""

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
TABLES = {"numpy", "pyarrow", "jsonschema", "sklearn"}
# What the page says and how it is drawn: these import pandas or SciPy, so no job that makes runs may import them.
SENTENCES = {"study_phrases", "study_start_sentences", "study_training_sentences", "study_answer_tables"}
SAYING = {"study_words", "study_statistics", "study_measures", "study_findings", *SENTENCES}
FLOOR_1 = {f.stem for f in SCRIPTS.glob("study_*.py")} - {"study_figures", *SAYING}
# what a module may import besides the standard library and floor 1
ALLOWED = {
    "study_plan": set(),
    "study_files": set(),
    "study_counts": set(),
    "study_data_words": {"numpy", "rnn_core"},
    "study_lock": {"snakemake"},  # inside the one function that knows its locks
    "study_data": {"numpy", "pyarrow", "rnn_core"},  # inside its functions: see the test of its imports
    "study_seal": set(),
    "study_tables": {"pyarrow", "rnn_core"},  # columns that the engine measures
    "study_progress": set(),
    "study_estimate": set(),
    "study_screen": set(),
    "study_session": set(),
    "study_job_log": set(),
    "study_stop": {"psutil"},
    "study_cost": set(),
    "study_rates": set(),
    "study_words": {"pandas"},
    "study_statistics": {"numpy", "scipy"},
    "study_measures": {"pandas", "numpy", "study_statistics", "study_words"},
    "study_phrases": {"pandas", "study_words", "study_statistics", "study_measures"},
    "study_start_sentences": {"pandas", "numpy", *SAYING},
    "study_training_sentences": {"pandas", "numpy", *SAYING},
    "study_answer_tables": {"pandas", "numpy", *SAYING},
    "study_findings": {"pandas", "numpy", *SAYING},
    "study_figures": {"pandas", "seaborn", "matplotlib", "numpy", "pyarrow", *SAYING},
    "plot_": {"pandas", "pyarrow", "seaborn", "matplotlib", "numpy", "study_figures", *SAYING},
    "render_report": {"pandas", "pyarrow", "yaml", "docutils", "jinja2", "markupsafe", *SAYING},
    "gather_table": {"pyarrow"},
    "read_sequences": set(),
    "run_block": {"threadpoolctl", "rnn_core", "torch"},
    "verify_runs": {"numpy", "threadpoolctl", "rnn_core", "pyarrow", "oracle_checks", "run_block"},
    "plan_study": {"numpy", "threadpoolctl", "rnn_core", "check_engine", "run_block"},
    "measure_rates": {"numpy", "scipy", "threadpoolctl", "rnn_core", "oracle_checks", "run_block"},
    "check_engine": {"numpy", "threadpoolctl", "rnn_core", "oracle_checks"},
    "oracle_checks": {"rnn_core"},
    "write_schema": {"numpy", "rnn_core"},
    "release_lock": set(),
    "study_yaml": {"yaml"},
    "study_config": {"rnn_core"},
    "study_mistakes": {"jsonschema", "rnn_core"},
    "verify_results": set(),
    "config_guard": {"snakemake"},
    "verification_cases": {"numpy", "rnn_core"},
    "verification_oracles": {"numpy", "rnn_core", "verification_cases"},
    "verify_engine": {"torch", "rnn_core", "verification_cases", "verification_oracles"},
    "draw_verification": {"pandas", "matplotlib", "numpy", "study_figures", "study_words"},
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


def allowed(name: str) -> set[str]:
    if name in FLOOR_1:
        return ALLOWED.get(name, TABLES) | FLOOR_1
    for prefix, names in ALLOWED.items():
        if name.startswith(prefix):
            return names | FLOOR_1
    raise AssertionError(f"{name}.py is on no floor: say what it may import in this test")


@pytest.mark.parametrize("file", sorted((ROOT / "rnn_core").rglob("*.py")), ids=lambda f: str(f.relative_to(ROOT)))
def test_the_engine_imports_only_mathematics(file: Path) -> None:
    """But for the digits, which scikit-learn brings: imported inside the one function that asks for them."""
    digits = {"sklearn"} if file.parts[-2:] == ("tasks", "sequences.py") else set()
    assert imports(file) <= ENGINE | digits
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
def test_benchmarks_stand_beside_the_house(file: Path) -> None:
    """They use it and nothing uses them; each peer imports its own library alone."""
    library = {"torch": {"torch"}, "jax": {"jax"}}.get(file.stem.split("_")[0], set())
    peer = {"numpy", "benchmarks"} | library
    drawing = {"matplotlib", "study_figures", "study_files", "study_words"}
    measuring = {"numpy", "torch", "rnn_core", "benchmarks", "study_files"}
    names = {"figure": drawing | {"benchmarks"}, "report": {"study_files", "benchmarks"}}.get(file.stem, measuring)
    assert imports(file) <= (peer if file.parent.name == "peers" else names)


def test_nothing_uses_the_benchmarks() -> None:
    for folder in ("rnn_core", "workflow", "examples"):
        assert not [file for file in (ROOT / folder).rglob("*.py") if "benchmarks" in imports(file)]


@pytest.mark.parametrize("file", sorted(SCRIPTS.glob("*.py")), ids=lambda f: f.name)
def test_scripts_import_only_downward(file: Path) -> None:
    assert imports(file) <= allowed(file.stem)


def test_oracles_do_not_use_the_engines_backward_code() -> None:
    for file in (ROOT / "rnn_core" / "oracles").glob("*.py"):
        if file.stem == "torch_modules":  # it runs the engine itself, to compare with
            continue
        modules = {n.module or "" for n in ast.walk(ast.parse(file.read_text())) if isinstance(n, ast.ImportFrom)}
        backward = ("bptt", "tape", "wide", "cells", "activations", "losses", "readout")
        assert not [
            m for m in modules if m.split(".")[0] == "rnn_core" and m.split(".")[1:2] and m.split(".")[1] in backward
        ]


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
    scripts = {f.stem.removeprefix("plot_") for f in SCRIPTS.glob("plot_*.py")}
    captions = {f.stem for f in (ROOT / "workflow" / "report").glob("*.rst")} - {"page", "workflow"}
    assert scripts == captions
    config = yaml.safe_load((ROOT / "config.yaml").read_text(encoding="utf-8"))
    assert set(config["figures"]) == scripts


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
