"""A figure that will show nothing is told in the terminal before any run, whatever it lacks."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest
import yaml

from study.config import silent
from study.config.canonical import canonical
from study.config.idle import without_effect
from study.report import measures, reader
from study.report.measures import outcomes
from tests.figures.drawn import grid, write_tables
from tests.support.study_project import ROOT

START = {"task": "white_noise", "updates": 0, "loss_at": "last", "sequence_length": 10}
TRAIN = {"task": "digits", "updates": 20, "sequence_length": 10, "trace_every": 10}
FIGURES = sorted(path.stem for path in (ROOT / "workflow" / "scripts" / "figures").glob("[!_]*.py"))
OF_TRAINING = {"clipping_norms", "learning_curves", "remedies", "success_rate", "training_results", "training_traces"}
ASKED = {"cliff", "depth_time", "entry_sizes", "memory_curse", "spectra", "weight_gradient_by_step"}  # a key, or layers
EVERY = {"task": "input_mean", "loss_at": "every"}
CASES: list[tuple[dict[str, Any], int, set[str]]] = [  # a grid, seeds, and the figures that show nothing
    (START, 2, {*OF_TRAINING, *ASKED, "radius_length_map"}),
    (START | {"sequence_length": 1}, 1, {*OF_TRAINING, *ASKED, "gradient_norm_by_step", "growth_rate", "radius_length_map", "seed_distribution"}),
    (START | {"sequence_length": [5, 10], "spectral_radius": [0.5, 1.5], "clipping": ["none", "norm:1.0"]}, 2, {*OF_TRAINING, *ASKED}),
    (TRAIN, 1, {*ASKED, "clipping_norms", "radius_length_map", "remedies", "seed_distribution", "success_rate"}),
    (TRAIN | {"clipping": ["none", "norm:1.0"]}, 2, {*ASKED, "radius_length_map", "success_rate"}),
    # a gradient comes from every step
    (START | EVERY | {"layers": 2, "spectral_radius": [0.5, 1.5]}, 2, {*OF_TRAINING, *ASKED, "gradient_norm_by_step", "radius_length_map"}),
    (START | EVERY | {"task": "copy_memory"}, 2, {*OF_TRAINING, *ASKED, "gradient_norm_by_step", "radius_length_map"}),
    # a map has two columns and two rows
    (START | {"sequence_length": [1, 5], "spectral_radius": [0.5, 1.5]}, 2, {*OF_TRAINING, *ASKED, "radius_length_map"}),
    (START | {"sequence_length": [5, 10], "activation": ["tanh", "relu"]}, 2, {*OF_TRAINING, *ASKED, "radius_length_map"}),
    # each is a task of its own
    (TRAIN | {"task": ["digits", "temporal_order"], "sequence_length": 20}, 2, {*ASKED, "clipping_norms", "radius_length_map", "remedies", "success_rate"}),
    (TRAIN | EVERY | {"task": "copy_memory", "sequence_length": [10, 30]}, 2, {*ASKED, "clipping_norms", "gradient_norm_by_step", "radius_length_map", "remedies", "success_rate"}),
]  # fmt: skip


def told(config: dict[str, Any]) -> dict[str, str]:
    """The figures of which a note says that they show nothing, and without what."""
    notes = [note.removeprefix("figures: ") for note in without_effect(config) if note.startswith("figures: ")]
    lacks: dict[str, str] = {}
    for note in notes:
        names, _, what = note.replace(" show nothing ", " shows nothing ").partition(" shows nothing without ")
        lacks |= dict.fromkeys(names.replace(" and ", ", ").split(", "), what)
    return lacks


def study(axes: dict[str, Any], seeds: int, figures: list[str], **keys: Any) -> dict[str, Any]:
    config: dict[str, Any] = yaml.safe_load((ROOT / "studies" / "tiny.yaml").read_text(encoding="utf-8"))
    config |= {"figures": figures, "sweeps": {"one": {"seeds": seeds, "grid": axes}}, "traces": [], **keys}
    del config["sequences"]
    return canonical(config)


def guessed(run: dict[str, Any]) -> dict[str, float]:
    """What an answer without memory achieves in copy memory: the share of blanks."""
    lag = run["sequence_length"]
    return {"baseline_accuracy": (lag + 10) / (lag + 20)} if run["task"] == "copy_memory" else {}


@pytest.mark.parametrize(("axes", "seeds", "empty"), CASES)
def test_every_figure_that_shows_nothing_is_told(axes: dict[str, Any], seeds: int, empty: set[str]) -> None:
    """A note came for spectra, depth_time and cliff alone."""
    assert {name for name in FIGURES if told(study(axes, seeds, [name]))} == empty


@pytest.mark.parametrize(("axes", "seeds", "empty"), CASES)
def test_no_note_is_false(axes: dict[str, Any], seeds: int, empty: set[str], tmp_path: Path) -> None:
    """A figure is drawn of which the terminal said that it shows nothing."""
    runs = grid(**axes | {"seed": list(range(seeds))})
    runs = [run | {"weights": False, **guessed(run)} for run in runs]
    tables = reader.Tables(write_tables(tmp_path, runs))
    for name in empty - {"cliff"}:  # a table of its own, which no run has
        assert importlib.import_module(f"figures.{name}").frame(tables).empty, name


def test_figures_that_lack_the_same_share_a_sentence() -> None:
    """A study without training had six notes."""
    notes = without_effect(study(START, 2, ["training_results", "learning_curves", "growth_rate", "remedies"]))
    assert (
        "figures: training_results, learning_curves and remedies show nothing without a sweep with updates above 0"
        in notes
    )


def test_what_is_asked_for_is_not_called_silent() -> None:
    traces = ["entry_quantiles", "parameter_sensitivity", "weight_gradient"]
    config = study(START | {"spectral_radius": [0.5, 0.9]}, 2, ["entry_sizes", "memory_curse", "weight_gradient_by_step"], traces=traces)  # fmt: skip
    assert not told(config)
    for radius in (1.0, 1.5):
        alone = study(START | {"spectral_radius": [0.5, radius]}, 2, ["memory_curse"], traces=traces)
        assert told(alone) == {"memory_curse": "two values of spectral_radius below 1"}


@pytest.mark.parametrize(("task", "is_told"), [("input_mean", True), ("copy_memory", True), ("white_noise", False), ("digits", False)])  # fmt: skip
def test_where_a_task_has_its_loss_is_known(task: str, is_told: bool) -> None:
    """The config says nothing of it."""
    config = study({"task": task, "updates": 0, "sequence_length": 10}, 2, ["gradient_norm_by_step"])
    assert told(config) == ({"gradient_norm_by_step": "a sweep with its loss at the last step"} if is_told else {})


def test_the_loss_is_that_of_the_runs_that_train_nothing() -> None:
    """The figure is of starts of those alone, where there are any."""
    config = study(START | EVERY, 2, ["gradient_norm_by_step"])
    config["sweeps"]["two"] = {"seeds": 2, "grid": TRAIN}
    assert told(config)
    config["sweeps"]["one"]["grid"] = {**START, **EVERY, "updates": 20}
    assert not told(config)


def test_sweeps_may_share_a_map(tmp_path: Path) -> None:
    """Each has one length. A note said that the figure shows nothing, and it was drawn."""
    sweeps = {
        name: START | {"spectral_radius": [0.5, 1.5], "sequence_length": T} for name, T in (("one", 5), ("two", 10))
    }
    config = study(sweeps["one"], 2, ["radius_length_map"])
    config["sweeps"]["two"] = {"seeds": 2, "grid": sweeps["two"]}
    assert not told(config)
    runs = [run | {"sweep": name} for name, axes in sweeps.items() for run in grid(**axes, seed=[0, 1])]
    tables = reader.Tables(write_tables(tmp_path, runs))
    assert not importlib.import_module("figures.radius_length_map").frame(tables).empty


def test_ways_may_be_of_several_sweeps() -> None:
    config = study(TRAIN, 2, ["remedies"])
    config["sweeps"]["again"] = config["sweeps"]["one"]
    assert told(config) == {"remedies": "two ways of training one task"}
    config["sweeps"]["again"] = {"seeds": 2, "grid": TRAIN | {"learning_rate": 0.2}}
    assert not told(config)


def test_the_words_of_the_report_are_those_of_the_config() -> None:
    assert (*silent.OF_RECORDS, silent.UNEQUAL) == (*measures.NOT_COMPARED[1:], outcomes.UNEQUAL)


@pytest.mark.parametrize(
    "file", [ROOT / "config.yaml", *sorted((ROOT / "studies").glob("*.yaml"))], ids=lambda f: f.stem
)
def test_no_study_of_the_project_has_a_silent_figure(file: Path) -> None:
    assert not told(canonical(yaml.safe_load(file.read_text(encoding="utf-8"))))
