"""Nothing that a figure says is cut off or printed over: with long names and many values, on a page and on a phone."""

from __future__ import annotations

import importlib
import itertools
from pathlib import Path
from typing import Any

import pytest
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from study.report import layout, reader, style

SCRIPTS = Path(__file__).parents[2] / "workflow" / "scripts"
TRAIN = {"task": "digits", "updates": 6, "trace_every": 3, "sequence_length": 6}
LONG = "a_selective_state_space_model"
RATES = [round(0.001 * 1.5**i, 6) for i in range(15)]
SWEEPS: dict[str, list[dict[str, Any]]] = {
    "initialisers": [{"initializer": kind} for kind in ("antisymmetric", "gaussian", "identity", "orthogonal", "ring")],
    "gated": [{"cell": c, "forget_bias": b} for c in ("gru", "lstm") for b in (0.0, 2.0)],
    "chrono": [{"cell": c, "chrono": 6} for c in ("gru", "lstm")],
    "optimisers": [{"cell": "lstm", "optimizer": o, "learning_rate": r} for o in ("adam", "sgd") for r in (0.1, 0.2)],
    **{cell: [{"cell": cell}] for cell in ("antisymmetric", "layer_norm", "residual")},
    "omega": [{"omega": 2.0}], "flossing": [{"flossing": 20}], "unclipped": [{"clipping": "norm:9.0"}],
}  # fmt: skip
CROWDED: dict[str, list[dict[str, Any]]] = {
    "fifteen learning rates": [TRAIN | {"learning_rate": rate, "seed": s} for rate in RATES for s in (0, 1, 2)],
    "cells with long names": [
        TRAIN | {"task": "heights_to_be_predicted_from_a_file", "cell": f"{LONG} state_size={n}", "clipping": c, "seed": s}
        for n in (4, 16) for c in ("none", "adagc:1.05", "norm:0.125") for s in (0, 1, 2)
    ],
    "success of long names": [
        TRAIN | {"cell": f"{LONG} gain={g}", "sequence_length": T, "success_below": 0.1, "success": s > 0, "updates_to_success": 3 if s else None, "seed": s}
        for g in (0.25, 0.125) for T in (6, 12) for s in (0, 1, 2)
    ],
    "every optimiser": [
        TRAIN | {"optimizer": o, "weight_decay": w, "learning_rate": r, "seed": s, "breaks_at": 2 if o == "sgd" and s == 0 else None}
        for o in ("sgd", "momentum", "adam", "adamw") for w in (0.0, 0.001) for r in (0.001, 0.0316) for s in (0, 1)
    ],
    "sweeps of one panel and of two": [
        TRAIN | varied | {"sweep": sweep, "seed": s, "accuracy": 0.7 + 0.01 * s}
        for sweep, each in SWEEPS.items()
        for varied in each for s in (0, 1)
    ],
}  # fmt: skip
OF_TRAINING = ("clipping_norms", "learning_curves", "remedies", "success_rate", "training_results")
AT_START = ("growth_rate", "gradient_norm_by_step", "seed_distribution", "entry_sizes", "weight_gradient_by_step")
DRAWN_IN = {"clipping_norms": ["cells with long names"], "success_rate": ["success of long names"]}  # else in all
CASES = [(name, figure) for figure in OF_TRAINING for name in DRAWN_IN.get(figure, CROWDED)]
CASES += [("cells with long names", figure) for figure in AT_START] + [
    ("sweeps of one panel and of two", "growth_rate")
]
SLACK = 3.0  # pixels
FIGURES = sorted(path.stem for path in (SCRIPTS / "figures").glob("[!_]*.py"))
START = {"task": "white_noise", "updates": 0, "loss_at": "last", "spectra": True, "sequence_length": 16}
LOW: dict[str, list[dict[str, Any]]] = {  # figures of one row of panels, whose words are long
    "stacks in two directions": [
        {**each, "layers": L, "bidirectional": b, "seed": s}
        for each in (START, *(TRAIN | {"truncation": window, "spectra": True} for window in (None, 4)))
        for L in (1, 2) for b in (False, True) for s in range(6)
    ],
    "kinds over two lengths": [
        START | {"cell": cell, "layers": L, "loss_at": at, "sequence_length": T, "seed": s}
        for cell in ("gru", "indrnn") for L in (1, 3) for at in ("last", "every") for T in (13, 60) for s in (0, 1)
    ],
    "batches and rates": [
        TRAIN | {"task": "digits", "batch_size": B, "learning_rate": rate, "seed": s, "success_below": 0.1, "success": s > 0, "updates_to_success": 3}
        for B in (1, 8, 64) for rate in (0.01, 0.3, 5.0) for s in (0, 1, 2)
    ],
    "rules": [
        TRAIN | {"clipping": rule, "input_size": D, "seed": s} for rule in ("none", "adaptive:0.015", "parameter:0.125") for D in (1, 2) for s in (0, 1)
    ],
    "radii and lengths": [
        START | {"cell": "vanilla", "spectral_radius": r, "sequence_length": T, "seed": s} for r in (0.8, 1.0, 1.2, 1.4) for T in (5, 20, 80) for s in (0, 1)
    ],
}  # fmt: skip


def texts_of(figure: Figure) -> list[Text]:
    """All that can be read; an axis has numbers beyond its ends, which are not drawn."""
    every = [each for ax in figure.axes for each in (ax, *ax.child_axes)]
    beyond = {id(text) for ax in every for axis in (ax.xaxis, ax.yaxis) for text in not_drawn(axis)}
    return [
        text
        for text in figure.findobj(Text)
        if text.get_visible() and text.get_text().strip() and id(text) not in beyond
    ]


def not_drawn(axis: Axis) -> list[Text]:
    place = axis.get_transform().transform  # a logarithmic axis has its own
    low, high = sorted(map(float, place(axis.get_view_interval())))
    margin = 1e-6 * (high - low)
    ticks = [t for t in axis.get_major_ticks() if not low - margin <= float(place(t.get_loc())) <= high + margin]
    return [text for tick in ticks for text in (tick.label1, tick.label2)]


def extent(text: Text) -> Bbox:
    return text.get_window_extent()


def outside(figure: Figure) -> list[str]:
    """The texts that the picture's edge cuts off."""
    whole = figure.bbox
    return [
        text.get_text()
        for text in texts_of(figure)
        if extent(text).x0 < whole.x0 - SLACK or extent(text).x1 > whole.x1 + SLACK
        or extent(text).y0 < whole.y0 - SLACK or extent(text).y1 > whole.y1 + SLACK
    ]  # fmt: skip


def printed_over(figure: Figure) -> list[tuple[str, str]]:
    """Neighbouring numbers or names of an axis, labels of axes, titles, and names at the ends of lines, that share some place."""
    pairs = []
    for ax in figure.axes:
        for axis in (ax.xaxis, ax.yaxis):
            drawn = [text for text in axis.get_ticklabels() if text not in not_drawn(axis)]
            shown = [
                text for text in drawn if text.get_visible() and text.get_text().strip() and not text.get_rotation()
            ]
            pairs += list(itertools.pairwise(shown))
        direct = [text for text in ax.texts if text.get_gid() == "direct"]
        pairs += list(itertools.combinations(direct, 2))
    titles = [ax.title for ax in figure.axes] + [ax._left_title for ax in figure.axes]  # type: ignore[attr-defined]
    labels = [ax.yaxis.label for ax in figure.axes]
    for each in (titles, labels):
        pairs += list(itertools.combinations([text for text in each if text.get_text().strip()], 2))
    found = []
    for one, other in pairs:
        common = Bbox.intersection(extent(one), extent(other))
        if common is not None and common.width > SLACK and common.height > SLACK:
            found.append((one.get_text(), other.get_text()))
    return found


def squeezed(figure: Figure) -> list[float]:
    """Widths of panels, as shares of their columns', to which words beside them have left less than half."""
    lefts = {round(ax.get_window_extent().x0) for ax in figure.axes}
    shares = [ax.get_window_extent().width * len(lefts) / figure.bbox.width for ax in figure.axes]
    return [round(share, 2) for share in shares if share < 0.45]


@pytest.fixture(scope="module")
def studies(make_study: Any) -> dict[str, reader.Tables]:
    return {name: make_study(runs) for name, runs in CROWDED.items()}


@pytest.mark.parametrize(("name", "figure"), CASES)
def test_every_word_has_its_room(name: str, figure: str, studies: dict[str, reader.Tables]) -> None:
    """A legend of eight learning rates was cut off on both sides, and their numbers below an axis ran into each other. Long names left a panel 50 px."""
    module = importlib.import_module(f"figures.{figure}")
    data = module.frame(studies[name])
    assert not data.empty
    for inches in (style.PAGE_WIDTH, style.PHONE_WIDTH):
        with style.theme(), layout.wide(inches):
            picture = module.draw(data)
            picture.draw_without_rendering()
            assert not outside(picture), (inches, outside(picture))
            assert not printed_over(picture), (inches, printed_over(picture))
            assert not squeezed(picture), (inches, squeezed(picture))


@pytest.fixture(scope="module")
def low_studies(make_study: Any) -> dict[str, reader.Tables]:
    return {name: make_study(runs) for name, runs in LOW.items()}


def saved(picture: Figure) -> Figure:
    """As its file has it: laid out once, and drawn with the file's resolution."""
    engine = picture.get_layout_engine()
    assert engine is not None
    engine.execute(picture)
    picture.set_layout_engine(None)
    picture.set_dpi(style.DPI)
    picture.draw_without_rendering()
    return picture


@pytest.mark.parametrize("figure", FIGURES)
@pytest.mark.parametrize("name", LOW)
def test_no_word_leaves_the_file(name: str, figure: str, low_studies: dict[str, reader.Tables]) -> None:
    """Names of remedies lost their first letters: they were laid out with the letters of another resolution. In a single row, a label lost its first."""
    module, tables = importlib.import_module(f"figures.{figure}"), low_studies[name]
    data = module.frame(tables)
    if data.empty:
        return
    for inches in (style.PAGE_WIDTH, style.PHONE_WIDTH):
        with style.theme(), layout.wide(inches):
            picture = module.draw(data)
            if inches == style.PAGE_WIDTH:
                layout.headline(picture, "A title of two lines. " * 7)  # as long as titles may be
            assert not outside(saved(picture)), inches


def test_the_low_studies_show_every_figure(low_studies: dict[str, reader.Tables]) -> None:
    """The test above passes over a figure that none of its studies has."""
    modules = {figure: importlib.import_module(f"figures.{figure}") for figure in FIGURES}
    unseen = {f for f, module in modules.items() if all(module.frame(t).empty for t in low_studies.values())}
    assert unseen == {"cliff", "memory_curse", "training_traces"}  # tests of their own make what they show


def test_what_is_cut_off_or_printed_over_is_found() -> None:
    """The test above sees nothing."""
    figure = Figure(figsize=(3, 2))
    ax = figure.subplots()
    ax.set_xticks([0.5, 0.52], ["one number", "another"])
    figure.text(0.9, 0.5, "leaves at the right")
    figure.draw_without_rendering()
    assert outside(figure) == ["leaves at the right"] and printed_over(figure) == [("one number", "another")]


def test_a_long_name_is_broken_behind_an_underscore() -> None:
    """It was broken anywhere: a_selective_state_space_mo / del."""
    assert layout.wrapped("a_selective_state_space_model gain=2", 14) == "a_selective_\nstate_space_\nmodel gain=2"
    assert layout.wrapped("gru_reset_before is one", 16) == "gru_reset_before\nis one" and layout.wrapped("", 9) == ""


def test_no_dot_is_cut_in_half(studies: dict[str, reader.Tables]) -> None:
    """The outermost networks of the spread lay on the edge of their panel."""
    module = importlib.import_module("figures.seed_distribution")
    with style.theme():
        ax = module.draw(module.frame(studies["cells with long names"])).axes[-1]
    (dots,) = [each for each in ax.collections if each.get_gid() == "networks"]
    low, high = ax.get_xlim()
    assert low < dots.get_offsets()[:, 0].min() - 0.02 * (high - low) and high > dots.get_offsets()[
        :, 0
    ].max() + 0.02 * (high - low)


def test_words_below_an_axis_stay_words(studies: dict[str, reader.Tables]) -> None:
    """Two were put together: modelstate_size=2."""
    module = importlib.import_module("figures.training_results")
    data = module.frame(studies["success of long names"])
    with style.theme():
        labels = [label.get_text() for ax in module.draw(data).axes for label in ax.get_xticklabels()]
    assert labels and {label.replace("_\n", "_").replace("\n", " ") for label in labels} <= {"6", "12"} | {
        f"{LONG} gain={g}" for g in (0.25, 0.125)
    }


@pytest.mark.parametrize("low", [1e-5, 0.063, 0.3, 1.0, 70.0])
@pytest.mark.parametrize("ratio", [1.5, 2.0, 2.7, 4.0, 9.0, 90.0, 200.0, 1e5])
def test_an_axis_of_losses_has_a_scale(low: float, ratio: float) -> None:
    """Losses from 0.065 to 0.17 had one tick, 0.1: nothing told how large a step upwards is."""
    ax = Figure().subplots()
    ax.set_yscale("log")
    ax.set_ylim(low, low * ratio)
    layout.plain_log_ticks(ax)
    inside = [tick for tick in ax.yaxis.get_majorticklocs() if low <= tick <= low * ratio]
    shown = ax.yaxis.get_major_formatter().format_ticks(inside)
    assert 2 <= len(set(shown)) == len(shown) <= 7


@pytest.mark.parametrize("low", [0.011, 0.3, 2.0, 15.0])
def test_a_logarithmic_axis_of_remedies_has_a_scale(low: float) -> None:
    """Costs from 15 to 160 had one tick, 100."""
    locator = layout.log_locator(low, 12.0 * low, layout.DECADES, layout.WITHIN_DECADE)
    assert sum(low <= tick <= 12.0 * low for tick in locator.tick_values(low, 12.0 * low)) >= 2
