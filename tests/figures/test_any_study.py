"""Every figure of every valid study: it draws without a warning, or says in words what is missing."""

import importlib
import json
import math
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

import study_figures as sf
from plot_learning_curves import typical

ROOT = Path(__file__).parents[2]
FIGURES = sorted(path.stem.removeprefix("plot_") for path in (ROOT / "workflow" / "scripts").glob("plot_*.py"))

ONE = {"updates": 0, "sequence_length": 10}
TRAIN = {"task": "digits", "updates": 5, "sequence_length": 6}
RADII = [{"spectral_radius": rho} for rho in (0.5, 1.0, 1.5)]
Studies = dict[str, list[dict[str, Any]]]
STARTS: Studies = {  # nothing trains: clipping_norms and learning_curves say so
    "one run": [ONE],
    "one run of one step": [ONE | {"sequence_length": 1}],
    "one run of two steps": [ONE | {"sequence_length": 2}],
    "one seed": [ONE | r for r in RADII],
    "one radius, two lengths": [ONE | {"sequence_length": T, "seed": s} for T in (4, 9) for s in (0, 1)],
    "lengths that differ by activation": [ONE, ONE | {"activation": "relu", "sequence_length": 20}],
    "gaps in the map": [ONE, ONE | {"sequence_length": 20}, ONE | {"spectral_radius": 2.0}],
    "all exactly zero": [ONE | r | {"rate": -math.inf, "seed": s} for r in RADII for s in (0, 1)],
    "one seed exactly zero": [ONE | {"seed": 0}, ONE | {"seed": 1, "rate": -math.inf}, ONE | {"seed": 2}],
    "nothing is a number": [ONE | r | {"rate": math.nan, "seed": s} for r in RADII for s in (0, 1)],
    "rates of exactly zero": [ONE | r | {"rate": 0.0} for r in RADII],
    "identity initialiser": [ONE | r | {"initializer": "identity", "seed": s} for r in RADII for s in (0, 1)],
    "identical seeds": [ONE | r | {"rate": 0.1, "seed": s} for r in RADII for s in (0, 1)],
    "several cells, tasks and widths": [
        ONE | {"cell": cell, "task": task, "hidden_size": H, "seed": s}
        for cell in ("vanilla", "gru") for task in ("white_noise", "my_task_") for H in (8, 16) for s in (0, 1)
    ],
    "forty combinations": [ONE | {"activation": f"phi{i}", "initializer": j} for i in range(10) for j in ("a", "b", "c", "d")],
    "the same run in two sweeps": [ONE | r | {"sweep": sweep} for r in RADII for sweep in ("one", "two")],
    "loss at every step": [ONE | {"loss_at": "every"}],
    "float32": [ONE | {"dtype": "float32"}, ONE | {"dtype": "float64"}],
}  # fmt: skip
TRAININGS: Studies = {
    "training without clipping": [TRAIN],
    "one update": [TRAIN | {"updates": 1}],
    "updates that differ": [TRAIN, TRAIN | {"updates": 12, "clipping": "norm:1.0"}],
    "a long training": [TRAIN | {"updates": 900, "breaks_at": 611, "sequence_length": 2}],
    "all break down later": [TRAIN | {"breaks_at": 2 + s, "seed": s, "clipping": c} for s in (0, 1) for c in ("none", "norm:0.1")],
    "no accuracy": [TRAIN | {"accuracy": None, "seed": s} for s in (0, 1)],
    "gradients of exactly zero in training": [TRAIN | {"norm": -math.inf, "seed": s} for s in (0, 1)],
    "gradients beyond range in training": [TRAIN | {"norm": 500.0, "clipping": c} for c in ("none", "norm:1.0")],
    "many rules": [TRAIN | {"clipping": f"norm:{i}.5"} for i in range(12)],
    "many tasks": [TRAIN | {"task": f"task{i}", "activation": phi} for i in range(6) for phi in ("relu", "tanh")],
}  # fmt: skip
BOTH: Studies = {
    "nothing at all": [],
    "training only": [TRAIN | r | {"clipping": c, "loss_at": "every"} for r in RADII for c in ("none", "norm:1.0")],
    "all break down at once": [TRAIN | r | {"breaks_at": 0, "seed": s} for r in RADII for s in (0, 1)],
    "many radii": [run | {"spectral_radius": 0.1 * i} for i in range(1, 31) for run in (ONE, TRAIN)],
}  # fmt: skip
STUDIES = STARTS | TRAININGS | BOTH
OF_TRAINING = ["clipping_norms", "learning_curves"]
AT_START = [figure for figure in FIGURES if figure not in (*OF_TRAINING, "engine_checks")]
CASES = [(name, figure) for name in STARTS | BOTH for figure in AT_START]
CASES += [(name, figure) for name in TRAININGS | BOTH for figure in OF_TRAINING]
CHECKS: Studies = {
    "no checks": [],
    "nothing finite": [{"relative_error": None}],
    "all exact": [{"relative_error": 0.0}],
    "both dtypes": [{}, {"dtype": "float32", "tolerance": 1e-3, "relative_error": 3e-7}],
    "two cells": [{}, {"cell": "gru", "stage": "sweep", "relative_error": 1e-9}],
}


@pytest.fixture(params=FIGURES)
def module(request: pytest.FixtureRequest) -> ModuleType:
    return importlib.import_module(f"plot_{request.param}")


def check(module: ModuleType, tables: sf.Tables) -> sf.Facts:
    """Frame, facts and figure come out, and the facts are whole."""
    data = module.frame(tables)
    facts = module.facts(data)
    with sf.theme():
        figure = module.draw(data)
        sf.headline(figure, facts["title"])
        figure.draw_without_rendering()
    assert set(facts) == {"title", "alt", "numbers", "claims", "drawn"}
    assert facts["title"].endswith(".") and sf.spoken(facts["title"]) in facts["alt"]
    texts = [facts["title"], facts["alt"], *facts["numbers"].values(), *facts["claims"].values()]
    assert all(isinstance(text, str) and text and "nan" not in text.split() for text in texts), texts
    assert facts["drawn"] == (not data.empty)
    assert figure.get_size_inches()[0] == sf.WIDTH and figure.get_size_inches()[1] < 16
    return facts


@pytest.fixture(scope="module")
def studies(make_study: Any) -> dict[str, sf.Tables]:
    return {name: make_study(runs) for name, runs in STUDIES.items()}


@pytest.mark.parametrize(("name", "figure"), CASES)
def test_any_study_draws(name: str, figure: str, studies: dict[str, sf.Tables]) -> None:
    check(importlib.import_module(f"plot_{figure}"), studies[name])


@pytest.mark.parametrize("name", CHECKS)
def test_any_checks_draw(name: str, make_study: Any) -> None:
    facts = check(importlib.import_module("plot_engine_checks"), make_study([], CHECKS[name]))
    assert facts["drawn"] == bool(CHECKS[name])


def test_what_is_missing_is_said(module: ModuleType, make_study: Any) -> None:
    data = module.frame(make_study([], []))
    with sf.theme():
        (axes,) = module.draw(data).axes
    assert data.empty and axes.texts[0].get_text().replace("\n", " ") == module.NOTHING.add


def test_training_alone_shows_its_start(studies: dict[str, sf.Tables]) -> None:
    """Without a propagation sweep growth is that of the start of training, once for all clipping rules."""
    growth = importlib.import_module("plot_growth_rate").frame(studies["training only"])
    assert growth["seeds"].tolist() == [1, 1, 1]


def test_a_run_of_two_sweeps_counts_once(studies: dict[str, sf.Tables]) -> None:
    data = importlib.import_module("plot_gradient_norm_by_step").frame(studies["the same run in two sweeps"])
    assert set(data["seeds"]) == {1}


def test_what_does_not_fit_is_told(studies: dict[str, sf.Tables]) -> None:
    for figure in ("gradient_norm_by_step", "growth_rate"):
        module = importlib.import_module(f"plot_{figure}")
        data = module.frame(studies["forty combinations"])
        assert data["panel"].nunique() == sf.MOST_PANELS
        assert module.facts(data)["claims"]["left_out"].startswith("28 further combinations")


def test_panels_name_what_varies(studies: dict[str, sf.Tables]) -> None:
    module = importlib.import_module("plot_growth_rate")
    data = module.frame(studies["several cells, tasks and widths"])
    assert "tanh, my_task_, gru, hidden size H = 8" in set(data["panel"])
    assert data["panel"].nunique() == 8


def test_lost_runs_count_as_the_worst(studies: dict[str, sf.Tables]) -> None:
    module = importlib.import_module("plot_learning_curves")
    data = module.frame(studies["all break down later"])
    assert typical(data)["median"].tolist() == [0.0, 0.0]
    assert "0 %" in module.facts(data)["title"]


def test_rendering_twice_gives_the_same_bytes(
    module: ModuleType, studies: dict[str, sf.Tables], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sf, "DPI", 40)
    tables, contents = studies["all break down later"], []
    name = module.__name__.removeprefix("plot_")
    for folder in (tmp_path / "first", tmp_path / "second"):
        output = SimpleNamespace(png=folder / f"{name}.png", svg=folder / f"{name}.svg", facts=folder / f"{name}.json")
        module.main(SimpleNamespace(input=SimpleNamespace(**tables.files), output=output))
        contents.append([file.read_bytes() for file in sorted(folder.iterdir())])
        assert {file.name for file in folder.iterdir()} == {f"{name}.{suffix}" for suffix in ("json", "png", "svg")}
    assert contents[0] == contents[1]
    facts = json.loads((tmp_path / "first" / f"{name}.json").read_text(encoding="utf-8"))
    assert facts == {"figure": name, **module.facts(module.frame(tables))}
