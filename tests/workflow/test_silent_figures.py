"""A figure that will show nothing is told in the terminal before any run, whatever it lacks."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest
import yaml

from study.config.canonical import canonical
from study.config.idle import without_effect
from study.report import reader
from tests.figures.drawn import grid, write_tables
from tests.support.study_project import ROOT

START = {"task": "white_noise", "updates": 0, "loss_at": "last", "sequence_length": 10}
TRAIN = {"task": "digits", "updates": 20, "sequence_length": 10, "trace_every": 10}
FIGURES = sorted(path.stem for path in (ROOT / "workflow" / "scripts" / "figures").glob("[!_]*.py"))
OF_TRAINING = {"clipping_norms", "learning_curves", "remedies", "success_rate", "training_results", "training_traces"}
ASKED = {"cliff", "depth_time", "entry_sizes", "memory_curse", "spectra", "weight_gradient_by_step"}  # a key, or layers
CASES: list[tuple[dict[str, Any], int, set[str]]] = [  # a grid, seeds, and the figures that show nothing
    (START, 2, {*OF_TRAINING, *ASKED, "radius_length_map"}),
    (START | {"sequence_length": 1}, 1, {*OF_TRAINING, *ASKED, "gradient_norm_by_step", "growth_rate", "radius_length_map", "seed_distribution"}),
    (START | {"sequence_length": [5, 10], "spectral_radius": [0.5, 1.5], "clipping": ["none", "norm:1.0"]}, 2, {*OF_TRAINING, *ASKED}),
    (TRAIN, 1, {*ASKED, "clipping_norms", "radius_length_map", "remedies", "seed_distribution", "success_rate"}),
    (TRAIN | {"clipping": ["none", "norm:1.0"]}, 2, {*ASKED, "radius_length_map", "success_rate"}),
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


@pytest.mark.parametrize(("axes", "seeds", "silent"), CASES)
def test_every_figure_that_shows_nothing_is_told(axes: dict[str, Any], seeds: int, silent: set[str]) -> None:
    """A note came for spectra, depth_time and cliff alone."""
    assert {name for name in FIGURES if told(study(axes, seeds, [name]))} == silent


@pytest.mark.parametrize(("axes", "seeds", "silent"), CASES)
def test_no_note_is_false(axes: dict[str, Any], seeds: int, silent: set[str], tmp_path: Path) -> None:
    """A figure is drawn of which the terminal said that it shows nothing."""
    runs = grid(**axes | {"seed": list(range(seeds))})
    tables = reader.Tables(write_tables(tmp_path, [run | {"weights": False} for run in runs]))
    for name in silent - {"cliff"}:  # a table of its own, which no run has
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
    alone = study(START | {"spectral_radius": [0.5, 1.5]}, 2, ["memory_curse"], traces=traces)
    assert told(alone) == {"memory_curse": "two values of spectral_radius below 1"}


@pytest.mark.parametrize(
    "file", [ROOT / "config.yaml", *sorted((ROOT / "studies").glob("*.yaml"))], ids=lambda f: f.stem
)
def test_no_study_of_the_project_has_a_silent_figure(file: Path) -> None:
    assert not told(canonical(yaml.safe_load(file.read_text(encoding="utf-8"))))
