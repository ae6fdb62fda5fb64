"""The figures of what traces hold besides: which steps write the recurrent weights' gradient, and how large a gradient's entries are."""

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest

from figures import entry_sizes
from figures import weight_gradient_by_step as figure
from rnn_core.experiment.measures.traces import QUANTILES
from study.report import reader, style
from study.report.sentences.weights import kinds_of
from study.report.words import addresses, plain
from tests.figures.drawn import LN10, PROPAGATION, grid, lines, render, show, weight_parts
from tests.figures.drawn import rate_of as synthetic_rate
from tests.page.second_opinion_start import KINDS

RUNS = grid(
    **PROPAGATION,
    activation=["relu", "tanh"],
    spectral_radius=[0.5, 0.9, 1.2, 1.5],
    sequence_length=[7, 50],
    seed=[0, 1, 2],
)


@pytest.fixture(scope="module")
def tables(make_study: Any) -> reader.Tables:
    return make_study(RUNS)


def parts_by_hand(run: dict[str, Any]) -> np.ndarray:
    """⟨G_t, G⟩ over the sum of magnitudes, by lag."""
    parts = weight_parts(run, synthetic_rate(run))
    along = np.array([cosine * 10.0**norm for norm, cosine in parts])
    return along / np.abs(along).sum()


def test_bars_are_what_the_steps_contribute(tables: reader.Tables) -> None:
    """A bar leaves steps out, has another sign, or is not the mean over networks."""
    data, facts, axes = show(figure, tables)
    assert list(data["panel"].cat.categories)[:2] == ["relu (ρ = 0.5)", "relu (ρ = 0.9)"]
    assert data["panel"].nunique() == 6  # three of four radii
    assert {"bins", "three scales", "mean", "against", "several"} == set(facts["shown"])
    for (panel, rows), ax in zip(data.groupby("panel", observed=True), axes, strict=True):
        activation, radius = panel[:4], float(panel.split("= ")[1][:-1])
        runs = [
            r for r in RUNS if (r["activation"], r["spectral_radius"], r["sequence_length"]) == (activation, radius, 50)
        ]
        each = np.array([parts_by_hand(run) for run in runs])
        assert len(each) == 3
        for row in rows.to_dict("records"):
            own = each[:, row["first"] : row["last"] + 1]
            assert row["with_it"] == pytest.approx(np.maximum(own, 0).sum(axis=1).mean())
            assert row["against"] == pytest.approx(np.minimum(own, 0).sum(axis=1).mean())
        assert rows["with_it"].sum() - rows["against"].sum() == pytest.approx(1.0)
        assert list(rows["first"]) == [0, *(rows["last"][:-1] + 1)]
        assert set(rows["last"] - rows["first"]) == {4}  # equally many steps
        assert rows["last"].iloc[-1] == 49
        upwards, downwards = ([bar for bar in ax.patches if bar.get_gid() == gid] for gid in ("with", "against"))
        np.testing.assert_allclose([bar.get_height() for bar in upwards], rows["with_it"])
        np.testing.assert_allclose([bar.get_height() for bar in downwards], rows["against"])
        low, high = ax.get_ylim()
        assert low < rows["against"].min() and rows["with_it"].max() < high


def test_what_it_says_is_the_median_networks(tables: reader.Tables) -> None:
    """The title names another setting than that with the fewest or the most steps."""
    _, facts, _ = show(figure, tables)
    kinds = {kind.name: kind for part in tables.study.start_parts for kind in kinds_of(part)}
    assert len(kinds) == 8
    low, high = (pick(kinds.values(), key=lambda kind: kind.share) for pick in (min, max))
    for kind, runs in ((low, "tanh"), (high, "relu")):
        assert kind.networks == 3 and kind.all_steps == 50, runs
    for kind in (low, high):
        activation, radius = kind.name.split(" (ρ = ")
        own = [
            r
            for r in RUNS
            if (r["activation"], r["spectral_radius"], r["sequence_length"]) == (activation, float(radius[:-1]), 50)
        ]
        steps = []
        for run in own:
            largest = np.sort(parts_by_hand(run))[::-1]
            steps.append(int(np.argmax(np.cumsum(largest) >= largest.sum() / 2 * (1 - 1e-12))) + 1)
        assert kind.steps.value == np.median(steps)
    title = plain(facts["title"])
    assert f"{low.steps.value:g} of 50 steps" in title and f"up to {high.steps.value:g} of 50 steps" in title
    html = render("weight_gradient_by_step", facts=facts | {"claims": []})
    assert "against" in html and "median network" in html


def test_two_sweeps_are_told_apart(make_study: Any) -> None:
    """The title speaks of a sweep whose sequences are not drawn, or two sentences have nothing that tells them apart."""
    runs = [run | {"sweep": "long" if run["sequence_length"] == 50 else "short"} for run in RUNS]
    data, facts, _ = show(figure, make_study(runs))
    assert set(data["sequence_steps"]) == {50}
    assert "of 50 steps" in plain(facts["title"]) and "of 7 steps" not in plain(facts["title"])
    claims = [plain(claim) for claim in facts["claims"] if claim]
    assert [claim.split(",")[0] for claim in claims[:2]] == [
        "Sweep long: in the median network",
        "Sweep short: in the median network",
    ]
    assert claims[2:] == ["The headline is of all values, drawn or not."]  # some have no room


def test_where_nobody_asked_it_says_what_to_add(make_study: Any) -> None:
    data, facts, _ = show(figure, make_study([run | {"weights": False} for run in RUNS[:4]]))
    assert data.empty and not facts["drawn"]
    assert "traces: [weight_gradient]" in facts["claims"][0]


def test_a_network_without_a_gradient_is_left_out_and_said(make_study: Any) -> None:
    runs = [run | {"rate": math.nan} if run["seed"] == 0 else run for run in RUNS]
    data, facts, _ = show(figure, make_study(runs))
    assert (data["networks"] == 2).all()
    assert any("left out" in plain(claim) for claim in facts["claims"])


def test_a_loss_at_every_step_is_explained(make_study: Any) -> None:
    _, facts, _ = show(figure, make_study([run | {"loss_at": "every"} for run in RUNS]))
    assert "every" in facts["shown"]
    assert "from all losses after it" in render("weight_gradient_by_step", facts=facts | {"claims": []})


def test_of_a_cell_of_the_users_own_it_is_all_parameters(make_study: Any) -> None:
    """∂L/∂W_hh is said of a module that may have no such matrix."""
    for cells, words in ((["mamba"], "the parameters' gradient"), (["gru", "mamba"], "the weights' gradient")):
        _, facts, _ = show(figure, make_study([run | {"cell": cell} for run in RUNS[:6] for cell in cells]))
        assert words in plain(facts["title"]) and "W_hh" not in plain(" ".join([facts["title"], *facts["claims"]]))
        assert "all its parameters" in render("weight_gradient_by_step", facts=facts | {"claims": []})


# ---- how large entries are -------------------------------------------------------------------------------------------------


def test_entries_are_the_median_networks_in_decades(tables: reader.Tables) -> None:
    """A quantile is another one, of another step, or in binary digits."""
    data, facts, axes = show(entry_sizes, tables)
    assert {"networks", "three scales", "several"} <= set(facts["shown"])
    for (panel, rows), ax in zip(data.groupby("panel", observed=True), axes, strict=True):
        activation, radius = panel[:4], float(panel.split("= ")[1][:-1])
        run = {"activation": activation, "spectral_radius": radius, "seed": 1}  # the median of three
        for row in rows.to_dict("records"):
            norm = -1.0 + synthetic_rate(run) * row["lag"] / LN10
            assert row["log2_entry_min"] == pytest.approx(norm - 3 * math.log10(2.0))
            assert row["log2_entry_median"] == pytest.approx(norm)
            assert row["log2_entry_max"] == pytest.approx(norm + 3 * math.log10(2.0))
        assert list(rows["lag"]) == list(range(50))
        (median,) = lines(ax, "median")
        np.testing.assert_allclose(median.get_ydata(), rows["log2_entry_median"])
        low, high = ax.get_ylim()
        for line in lines(ax, "limit"):
            assert low < line.get_ydata()[0] < high
    assert "rounded to zero" in render("entry_sizes", facts=facts | {"claims": [], "shown": ["limits"]})


def test_entries_are_drawn_as_far_as_there_are_any(make_study: Any) -> None:
    """Two panels of 400 steps were empty, as all was exactly zero after the first; a legend named bands of a single entry."""
    dead = [run | {"rate": -math.inf, "sequence_length": 400} for run in RUNS[:3]]
    _, facts, axes = show(entry_sizes, make_study(dead))
    for ax in axes:
        [median] = lines(ax, "median")
        assert list(median.get_xdata()) == [0] and median.get_marker() == "o" and ax.get_xlim() == (0, 1)
        assert [text.get_text() for text in ax.texts if text.get_gid() == "under title"] == [
            "all exactly zero from lag 1 on"
        ]
    html = render("entry_sizes", facts=facts | {"claims": []})
    assert "A panel ends where the entries of all its networks are." in html and "The bands hold" in html
    data = entry_sizes.frame(make_study(RUNS[:1]))
    alike = data.assign(
        **dict.fromkeys((name for band in entry_sizes.BANDS for name in band[:2]), data["log2_entry_median"])
    )
    assert not entry_sizes._bands(alike) and len(entry_sizes._bands(data)) == 3
    assert [handle.get_label() for handle in entry_sizes._legend(alike)] == ["median entry"]
    shown = entry_sizes.facts(alike, make_study(RUNS[:1]).study)
    assert "band" not in render("entry_sizes", facts=shown | {"claims": []}).partition("refute")[0]
    assert "bands" not in shown["alt"]


def test_the_ends_of_formats_are_theirs(make_study: Any) -> None:
    """2^-24 and 2^-149 are the smallest numbers of float16 and float32."""
    (run,) = grid(**PROPAGATION, activation="tanh", spectral_radius=1.0, sequence_length=60, seed=0)
    _, _, (ax,) = show(entry_sizes, make_study([run | {"rate": -2.5}]))
    np.testing.assert_allclose(
        sorted(line.get_ydata()[0] for line in lines(ax, "limit")), [-149 * math.log10(2), -24 * math.log10(2)]
    )


def test_where_nobody_asked_for_entries_it_says_what_to_add(make_study: Any) -> None:
    data, facts, _ = show(entry_sizes, make_study([run | {"weights": False} for run in RUNS[:4]]))
    assert data.empty and not facts["drawn"]
    assert "traces: [entry_quantiles]" in facts["claims"][0]


def test_kinds_that_the_headline_counts_are_drawn(make_study: Any) -> None:
    """ "The whole gradient is lost in 36 of 108 networks": all of them of a cell that had no panel."""
    cells, own = ("vanilla", "residual", "antisymmetric", "indrnn", "gru"), {"input_scale": [0.5, 1.0], "seed": [0, 1]}
    runs = [
        run
        for cell in cells
        for run in grid(**PROPAGATION, cell=cell, spectral_radius=[0.5, 0.9, 1.1], sequence_length=20, **own)
    ]
    lost = [
        run | {"float32_flushed_at": 9, "float16_flushed_at": 5} if run["cell"] == "indrnn" else run for run in runs
    ]
    without, _, _ = show(entry_sizes, make_study(runs))
    data, facts, axes = show(entry_sizes, make_study(lost))
    panels = [str(name) for name in data["panel"].cat.categories]
    assert not any("indrnn" in str(name) for name in without["panel"].cat.categories)
    assert len(panels) == len(axes) == len(without["panel"].cat.categories)
    assert sum("indrnn (input scale = 0.5" in name for name in panels) == 3  # a row of panels, with every radius
    assert "12 of 60 networks as float16" in plain(facts["title"])
    assert "Not drawn, because there is no room: residual (" in facts["claims"][-1]


def test_entries_beyond_every_format_are_told(make_study: Any) -> None:
    """A network with entries of 10^125 and more had no line and no word, and the title named lost gradients alone."""
    (run,) = grid(**PROPAGATION, activation="tanh", spectral_radius=1.0, sequence_length=60, seed=0)
    overflow = {f"{name}_overflowed_at": 60 for name in ("float16", "bfloat16", "float32")}
    exploding = run | overflow | {"rate": 2.5, "norm": 130.0}
    lost = run | {"spectral_radius": 0.5, "rate": -2.5, "float16_flushed_at": 12}
    tables = make_study([exploding, lost])
    data, facts, _ = show(entry_sizes, tables)
    data = data.assign(**{name: data[name] + 130.0 * (data["panel"] == "ρ = 1") for name in QUANTILES})
    with style.theme():
        axes = entry_sizes.draw(data).axes
    under = {
        ax.get_title(loc="left").strip().replace("\u00a0", " "): [
            text.get_text() for text in ax.texts if text.get_gid() == "under title"
        ]
        for ax in axes
    }
    assert under == {"ρ = 0.5": [], "ρ = 1": ["all too large for float32"]}
    shown = entry_sizes.facts(data, tables.study)
    assert "the widest format that holds none of its entries" in render("entry_sizes", facts=shown | {"claims": []})
    assert [plain(text) for text in [facts["title"], *facts["claims"][:2]]] == [
        "As float16, the whole gradient is lost at some step in 1 of 2 networks, and entries overflow in 1.",
        "As bfloat16, the whole gradient is lost at some step in none of them, and entries overflow in 1.",
        "As float32, the whole gradient is lost at some step in none of them, and entries overflow in 1.",
    ]
    frames = {name: pd.read_parquet(file) for name, file in tables.files.items()}
    addressed = [each for text in (facts["title"], *facts["claims"]) for _, each in addresses(text)]
    assert {"entries_overflowed", "entries_lost"} <= {each["kind"] for each in addressed}
    for each in addressed:
        assert KINDS[each["kind"]](frames, each["where"]) == each["value"], each
    _, alone, _ = show(entry_sizes, make_study([exploding]))
    assert plain(alone["title"]) == "Entries of the only network's gradient overflow as float16, bfloat16 and float32."
    _, alone, _ = show(entry_sizes, make_study([lost | overflow]))
    assert "is lost as float16, and entries overflow as float16, bfloat16 and float32." in plain(alone["title"])
