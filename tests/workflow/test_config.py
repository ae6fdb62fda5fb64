"""A wrong config stops before any job, with one clear message: which key, what was given, what is allowed, the nearest."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator
from study_project import ROOT, Project
from study_project import copy as copy_project

import rnn_core as rc
import study_config
import write_schema
from study_tables import SCHEMA_FILE

STUDIES = [ROOT / "config.yaml", *sorted((ROOT / "studies").glob("*.yaml"))]


def load(file: Path) -> dict[str, Any]:
    return dict(yaml.safe_load(file.read_text(encoding="utf-8")))


@pytest.fixture
def config() -> dict[str, Any]:
    return load(ROOT / "studies" / "tiny.yaml")


def put(config: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """A copy with one key set."""
    changed = copy.deepcopy(config)
    *parents, last = path.split(".")
    place = changed
    for parent in parents:
        place = place[parent]
    place[last] = value
    return changed


@pytest.mark.parametrize("file", STUDIES, ids=lambda f: f.name)
def test_every_study_of_the_project_is_valid(file: Path) -> None:
    study_config.check(load(file), ROOT)


MISTAKES = [
    # key, value, what the message must hold
    ("figuers", ["growth_rate"], ["figuers", "no such key", "Did you mean 'figures'"]),
    ("sweeps.propagation.grid.activaton", ["tanh"], ["grid.activaton", "Did you mean 'activation'"]),
    ("sweeps.propagation.grid.activation", ["tanh", "relo"], ["grid.activation[1]", "'relo'", "allowed: identity, relu", "Did you mean 'relu'"]),
    ("sweeps.propagation.grid.activation", "tahn", ["grid.activation", "'tahn'", "Did you mean 'tanh'"]),
    ("sweeps.propagation.grid.activation", [], ["grid.activation", "empty"]),
    ("sweeps.propagation.grid.sequence_length", [-5], ["grid.sequence_length[0]", "-5", "at least 1"]),
    ("sweeps.propagation.grid.sequence_length", 2.5, ["grid.sequence_length", "2.5", "whole number"]),
    ("sweeps.propagation.grid.spectral_radius", ["0.9"], ["grid.spectral_radius[0]", "'0.9'", "a number", "text"]),
    ("sweeps.propagation.grid.spectral_radius", 0, ["grid.spectral_radius", "0", "above 0"]),
    ("sweeps.propagation.grid.spectral_radius", float("inf"), ["grid.spectral_radius", "inf", "finite"]),
    ("sweeps.propagation.grid.spectral_radius", [0.9, 0.9], ["grid.spectral_radius", "twice"]),
    ("sweeps.propagation.grid.hidden_size", True, ["grid.hidden_size", "True", "whole number"]),
    ("sweeps.propagation.grid.seed", [1, 2], ["grid.seed", "no such key"]),
    ("sweeps.clipping.grid.clipping", ["none", "norm:0"], ["grid.clipping[1]", "'norm:0'", "threshold above 0"]),
    ("sweeps.clipping.grid.clipping", "nrom:1.0", ["grid.clipping", "'nrom:1.0'", "norm:THRESHOLD"]),
    ("sweeps.clipping.grid.clipping", "norm:-1", ["grid.clipping", "'norm:-1'", "above 0"]),
    ("sweeps.clipping.grid.learning_rate", "1e-3", ["grid.learning_rate", "'1e-3'", "1.0e-3"]),
    ("sweeps.clipping.grid.task", ["digist"], ["grid.task[0]", "'digist'", "Did you mean 'digits'"]),
    ("sweeps.clipping.grid.sequence_length", [24, 65], ["grid.sequence_length", "65", "64 pixels"]),
    ("sweeps.clipping.grid.clipping", "norm:1e-400", ["grid.clipping", "'norm:1e-400'", "above 0 and finite"]),
    ("sweeps.clipping.grid.batch_size", 5000, ["grid.batch_size", "1438 digits"]),
    ("sweeps.clipping.grid.input_size", 3, ["grid.input_size", "1 input a step"]),
    ("sweeps.clipping.grid.loss_at", "every", ["grid.loss_at", "one label"]),
    ("sweeps.clipping.seeds", 0, ["sweeps.clipping.seeds", "0", "at least 1"]),
    ("sweeps.clipping.jobs_over", ["taks"], ["jobs_over", "'taks'", "Did you mean 'task'"]),
    ("sweeps", {}, ["sweeps", "empty"]),
    ("sweeps.Clipping", {"seeds": 1, "grid": {}}, ["'Clipping'", "lower-case"]),
    ("study", "My Study", ["study", "'My Study'", "lower-case"]),
    ("device", "gpu", ["device", "'gpu'", "cpu, cuda, auto"]),
    ("gate.tolerance.float64", 0, ["gate.tolerance.float64", "above 0"]),
    ("figures", ["growth_rat"], ["figures[0]", "Did you mean 'growth_rate'"]),
    ("sequences.waves.file", "studies/data/wave.csv", ["sequences.waves.file", "does not exist"]),
    ("sequences.waves.file", "studies/data/waves.xlsx", ["sequences.waves.file", ".csv or .parquet"]),
    ("sequences.waves.loss", "cross_entropy", ["sequences.waves.loss", "Did you mean 'softmax_cross_entropy'"]),
    ("sequences.digits", None, ["sequences.digits"]),
]  # fmt: skip


@pytest.mark.parametrize(("key", "value", "expected"), MISTAKES, ids=[f"{k}={v}" for k, v, _ in MISTAKES])
def test_a_mistake_is_named_with_its_remedy(config: dict[str, Any], key: str, value: Any, expected: list[str]) -> None:
    if key == "sequences.digits":
        value = config["sequences"]["waves"]
    with pytest.raises(study_config.ConfigError) as error:
        study_config.check(put(config, key, value), ROOT)
    for part in expected:
        assert part in str(error.value)


def test_all_mistakes_are_named_at_once(config: dict[str, Any]) -> None:
    wrong = put(put(config, "device", "gpu"), "sweeps.propagation.seeds", -1)
    with pytest.raises(study_config.ConfigError) as error:
        study_config.check(wrong, ROOT)
    assert "device" in str(error.value)
    assert "sweeps.propagation.seeds" in str(error.value)


def test_a_missing_key_is_named(config: dict[str, Any]) -> None:
    del config["gate"]
    del config["device"]
    with pytest.raises(study_config.ConfigError) as error:
        study_config.check(config, ROOT)
    assert str(error.value) == "The config has a mistake:\n  top level: device, gate is missing"


def test_schema_and_columns_page_are_up_to_date() -> None:
    """`make docs` was run after the last change of Experiment, a registry, a column or a figure."""
    assert json.loads(SCHEMA_FILE.read_text(encoding="utf-8")) == json.loads(json.dumps(write_schema.schema()))
    assert write_schema.COLUMNS_PAGE.read_text(encoding="utf-8") == write_schema.columns_page()
    assert write_schema.SETTINGS_PAGE.read_text(encoding="utf-8") == write_schema.settings_page()


def test_every_key_of_the_schema_is_described() -> None:
    def visit(schema: dict[str, Any], path: str) -> None:
        for name, inner in schema.get("properties", {}).items():
            assert inner.get("description"), f"{path}.{name} has no description"
            visit(inner, f"{path}.{name}")
        if isinstance(schema.get("additionalProperties"), dict):
            visit(schema["additionalProperties"], f"{path}.*")

    schema = write_schema.schema()
    Draft202012Validator.check_schema(schema)
    visit(schema, "")


def test_every_key_of_the_default_config_has_a_comment() -> None:
    """A reader of config.yaml is told what each key means where it stands."""
    text = (ROOT / "config.yaml").read_text(encoding="utf-8")
    seen: dict[str, bool] = {}
    for line in text.splitlines():
        key, colon, rest = line.strip().partition(":")
        if colon and key.isidentifier():
            seen[key] = seen.get(key, False) or "#" in rest
    undescribed = [key for key, commented in seen.items() if not commented]
    assert not undescribed


@pytest.mark.parametrize("text", ["none", "norm:1.0", "value:0.1", "norm:1e-3", "norm:.5", "norm:0", "norm:0.0", "none:1", "norm", "norm:x", "value:-1"])  # fmt: skip
def test_schema_and_engine_agree_on_clipping_rules(config: dict[str, Any], text: str) -> None:
    def allowed(call: Any, *arguments: Any) -> bool:
        try:
            call(*arguments)
        except (ValueError, study_config.ConfigError):
            return False
        return True

    in_config = allowed(study_config.check, put(config, "sweeps.clipping.grid.clipping", text), ROOT)
    assert in_config == allowed(rc.parse_clipping, text)


@pytest.mark.workflow
def test_a_wrong_config_stops_snakemake_before_any_job(tmp_path: Path) -> None:
    project: Project = copy_project(tmp_path / "project")
    wrong = put(project.config(), "sweeps.propagation.grid.activation", ["tahn"])
    done = project.snakemake(*project.write_config("wrong", wrong), check=False)
    assert done.returncode != 0
    message = done.stdout + done.stderr
    assert "sweeps.propagation.grid.activation[0]: 'tahn' is not known" in message
    assert "Did you mean 'tanh'?" in message
    assert "Traceback" not in message
    assert not (project.root / "results").exists()


@pytest.mark.workflow
def test_a_given_config_replaces_the_default_and_is_not_merged_into_it(tmp_path: Path) -> None:
    project = copy_project(tmp_path / "project")
    small = project.config()
    del small["sweeps"]["clipping"]
    jobs = project.rules_to_run(*project.write_config("small", small))
    assert jobs["run_block"] == 3


@pytest.mark.parametrize("cells", ["lstm", ["residual", "gru"], None])
def test_a_setting_of_another_cell_is_named_before_any_job(config: dict[str, Any], cells: Any) -> None:
    """residual_leak beside an LSTM is found only when the gate runs."""
    grid = next(iter(config["sweeps"].values()))["grid"]
    grid["residual_leak"] = 0.5
    if cells:
        grid["cell"] = cells
    with pytest.raises(
        study_config.ConfigError, match=r"residual_leak: only the cell 'residual' has it, not .*sweep of"
    ):
        study_config.check(config)
    grid["cell"] = "residual"
    study_config.check(config)
