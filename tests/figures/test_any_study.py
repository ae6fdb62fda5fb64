"""Every figure of every valid study: it draws without a warning, or says in words what is missing."""

import importlib
import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from study.report import drawing, facets, layout, reader, style
from study.report.words import addresses, plain, spoken

ROOT = Path(__file__).parents[2]
FIGURES = sorted(path.stem for path in (ROOT / "workflow" / "scripts" / "figures").glob("[!_]*.py"))

CELLS = ("vanilla", "gru")
ONE = {"updates": 0, "sequence_length": 10}
TRAIN = {"task": "digits", "updates": 5, "sequence_length": 6}
RADII = [{"spectral_radius": rho} for rho in (0.5, 1.0, 1.5)]
Studies = dict[str, list[dict[str, Any]]]
STARTS: Studies = {  # nothing trains: the figures of training say so
    "one run": [ONE],
    "one run of one step": [ONE | {"sequence_length": 1}],
    "one run of two steps": [ONE | {"sequence_length": 2}],
    "one radius, two lengths": [ONE | {"sequence_length": T, "seed": s} for T in (4, 9) for s in (0, 1)],
    "lengths that differ by activation": [ONE, ONE | {"activation": "relu", "sequence_length": 20}],
    "gaps in the map": [ONE, ONE | {"sequence_length": 20}, ONE | {"spectral_radius": 2.0}],
    "all exactly zero": [ONE | r | {"rate": -math.inf, "seed": s} for r in RADII for s in (0, 1)],
    "one seed exactly zero": [ONE | {"seed": 0}, ONE | {"seed": 1, "rate": -math.inf}, ONE | {"seed": 2}],
    "nothing is a number": [ONE | r | {"rate": math.nan, "seed": s} for r in RADII for s in (0, 1)],
    "rates of exactly zero": [ONE | r | {"rate": 0.0} for r in RADII],
    "identity initialiser": [ONE | r | {"initializer": "identity", "seed": s} for r in RADII for s in (0, 1)],
    "identical seeds": [ONE | r | {"rate": 0.1, "seed": s} for r in RADII for s in (0, 1)],
    "several cells and widths": [
        ONE | {"cell": cell, "hidden_size": H, "seed": s} for cell in CELLS for H in (8, 16) for s in (0, 1)
    ],
    "forty combinations": [ONE | {"activation": f"phi{i}", "initializer": j} for i in range(10) for j in "abcd"],
    "the same run in two sweeps": [ONE | r | {"sweep": sweep} for r in RADII for sweep in ("one", "two")],
    "loss at every step": [ONE | {"loss_at": "every"}],
    "nobody asked which steps write": [ONE | r | {"weights": False} for r in RADII],
}  # fmt: skip
TRAININGS: Studies = {
    "training without clipping": [TRAIN],
    "one update": [TRAIN | {"updates": 1}],
    "updates that differ": [TRAIN, TRAIN | {"updates": 12, "clipping": "norm:1.0"}],
    "a long training": [TRAIN | {"updates": 900, "breaks_at": 611, "sequence_length": 2}],
    "all break down later": [
        TRAIN | {"breaks_at": 2 + s, "seed": s, "clipping": c} for s in (0, 1) for c in ("none", "norm:0.1")
    ],
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
OF_TRAINING = ["clipping_norms", "learning_curves", "remedies", "training_results", "training_traces"]
SLOW = {"forty combinations": ("gradient_norm_by_step", "radius_length_map")}  # growth_rate has as many panels
AT_START = [figure for figure in FIGURES if figure not in (*OF_TRAINING, "engine_checks")]
CASES = [(name, figure) for name in STARTS | BOTH for figure in AT_START if figure not in SLOW.get(name, ())]
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
    return importlib.import_module(f"figures.{request.param}")


def check(module: ModuleType, tables: reader.Tables, crowded: bool = True) -> drawing.Facts:
    """Frame, facts and both pictures come out, and the facts are whole. Only what is crowded is laid out too: that takes longest."""
    data = module.frame(tables)
    facts = module.facts(data, tables.study)
    for inches in (style.PAGE_WIDTH, style.PHONE_WIDTH) if crowded else (style.PAGE_WIDTH,):
        with style.theme(), layout.wide(inches):
            figure = module.draw(data)
            if not crowded:
                figure.set_layout_engine("none")
            figure.draw_without_rendering()
        assert figure.get_size_inches()[0] == inches and figure.get_size_inches()[1] < (16 if inches > 5 else 40)
    assert set(facts) == {"title", "alt", "claims", "shown", "drawn", "answer"}
    assert facts["title"].endswith(".") and spoken(plain(facts["title"])) in facts["alt"]
    assert len(plain(facts["title"])) <= 160
    texts = [plain(text) for text in (facts["title"], facts["alt"], *facts["claims"])]
    assert all(text and not re.search(r"\b(nan|inf|None)\b", text) for text in texts), texts
    assert not any("{" in text or "\ue000" in text for text in texts), texts
    assert not addresses(facts["alt"])  # a screen reader gets plain words
    assert facts["drawn"] == (not data.empty)
    return facts


COUNTED = re.compile("lag|steps back|training update|direction i")  # axes of whole numbers


@pytest.mark.parametrize("count", [1, 2])
def test_what_is_counted_has_whole_ticks(count: int, make_study: Any, module: ModuleType) -> None:
    """The index of a direction had ticks at 0.945 and 0.96, and a lag of two steps at 0.2 and 0.4."""
    start = ONE | {"sequence_length": count + 1, "layers": 2, "loss_at": "last", "spectra": True, "directions": count}
    for run in (start, TRAIN | {"updates": count}):
        data = module.frame(make_study([run | {"seed": s} for s in (0, 1)]))
        with style.theme():
            axes = module.draw(data).axes
        for ax in axes:
            if COUNTED.search(ax.get_xlabel()):
                low, high = sorted(ax.get_xlim())
                ticks = [tick for tick in ax.xaxis.get_majorticklocs() if low <= tick <= high]
                assert ticks and all(tick == round(tick) for tick in ticks), (ax.get_xlabel(), ticks)


@pytest.fixture(scope="module")
def studies(make_study: Any) -> dict[str, reader.Tables]:
    return {name: make_study(runs) for name, runs in STUDIES.items()}


@pytest.mark.parametrize(("name", "figure"), CASES)
def test_any_study_draws(name: str, figure: str, studies: dict[str, reader.Tables]) -> None:
    check(importlib.import_module(f"figures.{figure}"), studies[name], name.startswith(("forty", "many", "several")))


@pytest.mark.parametrize("name", CHECKS)
def test_any_checks_draw(name: str, make_study: Any) -> None:
    facts = check(importlib.import_module("figures.engine_checks"), make_study([], CHECKS[name]))
    assert facts["drawn"] == bool(CHECKS[name])


def test_what_is_missing_is_said(module: ModuleType, make_study: Any) -> None:
    data = module.frame(make_study([], []))
    with style.theme():
        (axes,) = module.draw(data).axes
    assert data.empty and axes.texts[0].get_text().replace("\n", " ") == module.NOTHING.add


def test_training_alone_shows_its_start(studies: dict[str, reader.Tables]) -> None:
    """Without a propagation sweep growth is that of the start of training, once for all clipping rules."""
    growth = importlib.import_module("figures.growth_rate").frame(studies["training only"])
    assert growth["spectral_radius"].tolist() == [0.5, 1.0, 1.5]


def test_a_run_of_two_sweeps_counts_once(studies: dict[str, reader.Tables]) -> None:
    data = importlib.import_module("figures.gradient_norm_by_step").frame(studies["the same run in two sweeps"])
    assert not data.duplicated(["panel", "hue", "lag"]).any() and len(data["hue"].unique()) == 3


def test_what_does_not_fit_is_told(studies: dict[str, reader.Tables]) -> None:
    """Every value of the first axis keeps a panel; the others are named, not passed over."""
    for figure in ("gradient_norm_by_step", "growth_rate"):
        module = importlib.import_module(f"figures.{figure}")
        data = module.frame(studies["forty combinations"])
        assert data["panel"].nunique() <= facets.MOST_PANELS
        facts = module.facts(data, studies["forty combinations"].study)
        shown = " ".join(map(str, data["panel"].unique()))
        told = any("Not drawn" in claim for claim in facts["claims"])
        assert told or all(f"phi{i}" in shown for i in range(10))


RENDER = """
import json, sys
from types import SimpleNamespace
import draw_figures
from study.report import drawing
drawing.DPI = 40
files, folder, names, processes = json.load(sys.stdin)
suffixes = {"png": "png", "svg": "svg", "phone": "phone.svg", "facts": "json"}
output = {kind: [f"{folder}/{name}.{suffix}" for name in names] for kind, suffix in suffixes.items()}
params = SimpleNamespace(study="drawn", figures=names, cache=f"{folder}-kept", code=dict.fromkeys(names, "c"))
draw_figures.main(SimpleNamespace(input=files, output=output, params=params, threads=processes))
"""


def test_one_process_and_three_write_the_same_bytes(studies: dict[str, reader.Tables], tmp_path: Path) -> None:
    tables, contents, some = studies["all break down later"], [], FIGURES[::3]  # they share what writes
    scripts = ROOT / "workflow" / "scripts"
    for seed, processes in (("1", 1), ("2", 3)):
        files = {table: str(file) for table, file in tables.files.items()}
        call = [sys.executable, "-W", "error", "-c", RENDER]
        given = json.dumps([files, str(tmp_path / seed), some, processes])
        subprocess.run(
            call,
            input=given,
            text=True,
            check=True,
            env=os.environ | {"PYTHONPATH": str(scripts), "PYTHONHASHSEED": seed},
        )
        written = sorted((tmp_path / seed).iterdir())
        contents.append({file.name: file.read_bytes() for file in written})
    assert contents[0] == contents[1]
    assert set(contents[0]) == {f"{name}.{suffix}" for name in some for suffix in ("json", "png", "svg", "phone.svg")}
    for name in some:
        module = importlib.import_module(f"figures.{name}")
        found = json.loads(contents[0][f"{name}.json"])
        assert found.pop("sealed").startswith("sha256:") and set(found.pop("pictures")) == {"png", "svg", "phone"}
        assert found == {"study": "drawn", "figure": name, **module.facts(module.frame(tables), tables.study)}
