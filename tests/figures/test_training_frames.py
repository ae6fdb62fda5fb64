"""The figures of training: their frames' numbers, their facts and their artists' data, never pixels."""

import itertools
import math
import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from matplotlib.axes import Axes

from figures import clipping_norms, learning_curves, training_results, training_traces
from study.report import facets, layout, measures, reader, style, training_gradients
from study.report.words import addresses, plain, spoken
from study.tables import store
from tests.figures.drawn import TRAINING, Settings, grid, lines, render, show
from tests.page import second_opinion_training as second

FIGURES = (training_results, learning_curves, clipping_norms, training_traces)
RULES = ["none", "norm:1.0", "value:0.1", "parameter:0.5", "adaptive:0.1", "signal:0.001"]
Change = Callable[[pd.DataFrame], pd.DataFrame]


def edited(tables: reader.Tables, folder: Path, table: str, change: Change) -> reader.Tables:
    """The same study with other rows in one of its tables."""
    rows = change(pd.read_parquet(tables.files[table]))
    file = folder / f"{table}.parquet"
    store.write(store.build(table, rows.to_dict("list")), file, {"table": table})
    return reader.Tables({**tables.files, table: file})


def all_lines(axes: Axes, gid: str) -> list[Any]:
    return [line for line in axes.lines if str(line.get_gid()).startswith(gid)]


def texts(axes: Axes, gid: str) -> list[str]:
    return [text.get_text() for text in axes.texts if text.get_gid() == gid]


def dots(axes: Axes, gid: str) -> np.ndarray:
    found = [np.asarray(artist.get_offsets()) for artist in axes.collections if artist.get_gid() == gid]
    return np.concatenate(found) if found else np.empty((0, 2))


def drawn_on_a_phone(module: ModuleType, tables: reader.Tables) -> list[Axes]:
    data = module.frame(tables)
    with style.theme(), layout.wide(style.PHONE_WIDTH):
        figure = module.draw(data)
        figure.draw_without_rendering()
    assert figure.get_size_inches()[0] == style.PHONE_WIDTH
    return list(figure.axes)


# ---- results


def test_a_run_that_broke_down_is_a_cross_where_nothing_has_been_learnt(study: reader.Tables) -> None:
    data, facts, axes = show(training_results, study)
    assert len(data) == 27 and data["broken"].sum() == 3
    assert list(data["panel"].cat.categories) == ["digits", "input_mean"] and len(axes) == 2
    digits, mean = axes
    assert dots(digits, "broken")[:, 1] == pytest.approx([0.1] * 3)
    assert len(dots(digits, "run")) == 15 and len(dots(mean, "run")) == 9 and not len(dots(mean, "broken"))
    assert texts(digits, "under title") == ["3 of 18 broke down (×)"] and not texts(mean, "under title")
    assert lines(digits, "baseline")[0].get_ydata() == pytest.approx([0.1, 0.1])
    assert texts(digits, "baseline") == ["commonest\nclass: 10 %"]
    assert texts(mean, "baseline") == ["best constant\nprediction: 2.3"]
    assert "broken" in facts["shown"] and any("3 of 18" in plain(claim) for claim in facts["claims"])


@pytest.mark.parametrize(
    "cells",
    [["vanilla", "gru"], ["vanilla", "residual", "gru", "gru_reset_before", "lstm"]],
    ids=["four panels", "five panels"],
)
@pytest.mark.parametrize("module", [training_results, learning_curves])
def test_gaps_between_panels_are_even(module: ModuleType, cells: list[str], make_study: Any) -> None:
    """What the dashed line is stood at the end of a short last row, and pushed the second column away from the first."""
    optimizers = ["adam", "sgd"] if len(cells) == 2 else ["sgd"]
    rules = ["none", "norm:0.5", "value:0.01", "parameter:0.3", "adaptive:0.02", "signal:0.001"]
    runs = grid(**TRAINING | {"clipping": rules}, optimizer=optimizers, cell=cells, seed=[0, 1])
    _, _, axes = show(module, make_study(runs))
    places = [ax.get_position() for ax in axes]
    columns = sorted({(round(place.x0, 3), round(place.x1, 3)) for place in places})
    gaps = [right[0] - left[1] for left, right in itertools.pairwise(columns)]
    assert len(columns) == (2 if len(axes) == 4 else 3) and max(gaps) < 1.05 * min(gaps), gaps


def test_means_are_those_of_the_pages_table(study: reader.Tables) -> None:
    data, _, axes = show(training_results, study)
    found = training_results.means(data)
    assert (
        len(found) == 2 * 3 + 3 - 1
    )  # two radii under three rules, and one radius; all runs of one setting broke down
    for part in (part for part in study.study.parts if part.trains):
        for chosen, runs in measures.grouped(part.runs, part.axes):
            hue = "no clipping" if chosen["clipping"] == "none" else chosen["clipping"]
            if runs["broken"].all():
                continue
            rows = data[data["run_key"].isin(runs["run_key"])]
            own = found[(found["middle"] == rows["middle"].iloc[0]) & (found["panel"] == rows["panel"].iloc[0])]
            assert own["hue"].tolist() == [hue]
            np.testing.assert_allclose(own[["value", "low", "high"]].iloc[0].tolist(), list(measures.outcome(runs)))
    marks = {line.get_label(): line for line in axes[0].lines}
    drawn = sorted(y for line in axes[0].containers for y in line[0].get_ydata())
    assert drawn == pytest.approx(sorted(found.loc[found["panel"] == "digits", "value"])) and marks


def test_where_all_broke_down_words_stand_for_the_mean(make_study: Any) -> None:
    runs = grid(**TRAINING | {"clipping": ["none", "norm:1.0"]}, seed=[0, 1, 2])
    tables = make_study([run | {"breaks_at": 1} if run["clipping"] == "none" else run for run in runs])
    _, facts, (ax,) = show(training_results, tables)
    assert texts(ax, "all broken") == ["all 3\nbroke\ndown"]
    assert len(ax.containers) == 1  # the mean with its interval, of norm:1.0
    assert "no mean is drawn" in render("training_results", facts=facts)
    some = make_study([run | {"breaks_at": 1} if run["clipping"] == "none" and run["seed"] else run for run in runs])
    _, facts, (ax,) = show(training_results, some)
    assert not texts(ax, "all broken") and len(ax.containers) == 2
    assert "no mean is drawn" not in render("training_results", facts=facts)


def test_what_another_axis_separates_is_said_by_that_axis(make_study: Any) -> None:
    """Clipping harms at the low learning rate and helps at the high one: not four pairs in a row."""
    swept = {"clipping": ["none", "norm:1.0"], "learning_rate": [0.01, 0.1]}
    runs = grid(**TRAINING | swept, spectral_radius=[0.5, 1.2], seed=list(range(8)))
    gain = {0.01: -0.1, 0.1: 0.1}
    tables = make_study(
        [
            run | {"accuracy": 0.4 + 0.01 * run["seed"] + gain[run["learning_rate"]] * (run["clipping"] != "none")}
            for run in runs
        ]
    )
    claims = [plain(c) for c in training_results.facts(training_results.frame(tables), tables.study)["claims"]]
    assert (
        "Setting by setting, norm:1.0 clearly harms at learning rate = 0.01, for ρ = 0.5 and ρ = 1.2. "
        "It clearly helps at learning rate = 0.1, for ρ = 0.5 and ρ = 1.2."
    ) in claims


def test_equal_results_stand_side_by_side(make_study: Any) -> None:
    tables = make_study(
        grid(**TRAINING | {"clipping": ["none", "norm:1.0"]}, spectral_radius=[0.5, 1.5], seed=[0, 1, 2, 3])
    )
    data, _, (ax,) = show(training_results, tables)
    places = dots(ax, "run")[:, 0]
    assert len(np.unique(places)) == len(places) == 16 and np.diff(np.sort(places)).min() > 0.02
    for _, rows in data.groupby(["spectral_radius", "clipping"]):
        assert rows["at"].max() < rows["middle"].iloc[0]  # the mean hides no dot
    assert [label.get_text() for label in ax.get_xticklabels()] == ["0.5", "1.5"]
    assert ax.get_xlabel() == "spectral radius ρ" and ax.get_ylabel() == "held-out accuracy"


def test_the_learning_rate_is_on_the_axis_and_the_rule_is_the_colour(make_study: Any) -> None:
    swept = TRAINING | {"clipping": ["none", "norm:1.0"], "learning_rate": [0.001, 0.01, 0.1], "optimizer": "adam"}
    data, facts, (ax,) = show(training_results, make_study(grid(**swept, seed=[0, 1])))
    assert set(data["x"]) == {"learning_rate"} and set(data["asked"]) == {"clipping"}
    assert [label.get_text() for label in ax.get_xticklabels()] == ["0.001", "0.01", "0.1"]
    assert plain(facts["title"]) == "On digits, no clipping and norm:1.0 give the same results."


def test_what_is_asked_about_is_the_axis_where_no_number_varies(make_study: Any) -> None:
    data, _, (ax,) = show(
        training_results, make_study(grid(**TRAINING | {"cell": ["lstm", "vanilla", "gru"]}, seed=[0, 1]))
    )
    assert [label.get_text() for label in ax.get_xticklabels()] == ["vanilla", "gru", "lstm"]
    assert data.sort_values("tick_at")["tick"].unique().tolist() == ["vanilla", "gru", "lstm"]


def accuracies(gain: dict[str, float], seeds: int = 8, **more: Any) -> list[Settings]:
    runs = grid(**TRAINING | {"clipping": list(gain)}, seed=list(range(seeds)), **more)
    return [run | {"accuracy": 0.5 + 0.01 * run["seed"] + gain[run["clipping"]]} for run in runs]


def test_the_title_claims_what_the_test_claims(make_study: Any) -> None:
    def title(gain: dict[str, float], **more: Any) -> str:
        tables = make_study(accuracies(gain, **more))
        return plain(training_results.facts(training_results.frame(tables), tables.study)["title"])

    assert title({"none": 0.0, "norm:1.0": 0.1}) == "On digits, norm:1.0 is clearly better than no clipping."
    assert title({"none": 0.1, "norm:1.0": 0.0}) == "On digits, no clipping is clearly better than norm:1.0."
    assert title({"none": 0.0, "norm:1.0": 0.0}) == "On digits, no clipping and norm:1.0 give the same results."
    assert (
        title({"none": 0.0, "norm:1.0": 0.1}, seeds=5)
        == "On digits, too few seeds to tell which clipping rule learns best."
    )
    three = {"none": 0.0, "norm:1.0": 0.1, "value:0.1": 0.2}
    assert title(three) == "On digits, value:0.1 is clearly better than the other clipping rules."
    alike = {"none": 0.0, "norm:1.0": 0.1, "value:0.1": 0.1}
    assert title(alike) == "On digits, norm:1.0 and value:0.1 are clearly better than no clipping."
    assert "on average" in title({"none": 0.0, "norm:1.0": 0.1}, spectral_radius=[0.5, 1.0])


def test_seeds_that_disagree_make_no_winner(make_study: Any) -> None:
    runs = accuracies({"none": 0.0, "norm:1.0": 0.0})
    for run in runs:
        if run["clipping"] != "none":
            run["accuracy"] += 0.2 if run["seed"] % 2 else -0.1
    tables = make_study(runs)
    facts = training_results.facts(training_results.frame(tables), tables.study)
    assert plain(facts["title"]) == "On digits, no clear difference between no clipping and norm:1.0."


def test_what_makes_no_difference_does_not_lead(make_study: Any) -> None:
    """Clipping is asked about, the radius is what matters: the clear finding comes first."""
    runs = accuracies({"none": 0.0, "norm:1.0": 0.0}, spectral_radius=[0.5, 1.5])
    tables = make_study([run | {"accuracy": run["accuracy"] + 0.2 * (run["spectral_radius"] > 1)} for run in runs])
    title = plain(training_results.facts(training_results.frame(tables), tables.study)["title"])
    assert title.startswith(
        "On digits, ρ = 1.5 is on average clearly better than ρ = 0.5; no clipping and norm:1.0 give"
    )


def test_tasks_with_one_answer_share_it(study: reader.Tables, make_study: Any) -> None:
    facts = training_results.facts(training_results.frame(study), study.study)
    few = "On digits, too few seeds to tell which clipping rule learns best; on input_mean, no clipping, norm:1.0 and value:0.1 give the same results."
    assert plain(facts["title"]) == few
    many = make_study(
        [
            run | {"task": f"a_task_with_a_name_{i}"}
            for i in range(9)
            for run in accuracies({"none": 0.0, "norm:1.0": 0.1})
        ]
    )
    facts = training_results.facts(training_results.frame(many), many.study)
    assert plain(facts["title"]) == "On every task, norm:1.0 is clearly better than no clipping."


def test_one_run_alone_has_a_dot_and_no_interval(make_study: Any) -> None:
    data, facts, (ax,) = show(training_results, make_study([TRAINING]))
    assert training_results.means(data).empty and len(dots(ax, "run")) == 1 and not ax.containers
    assert (
        plain(facts["title"])
        == "On digits, training ends with a held-out accuracy of 70 %; always naming the commonest class gets 10 %."
    )
    assert "interval" not in render("training_results", facts=facts) and "cross" not in render(
        "training_results", facts=facts
    )


def test_losses_have_one_scale_with_their_intervals_on_it(make_study: Any) -> None:
    runs = grid(
        **TRAINING | {"task": "input_mean", "accuracy": None},
        activation=["relu", "tanh"],
        spectral_radius=[0.5, 1.0],
        seed=[0, 1, 2],
    )
    tables = make_study(
        [run | {"held_out_loss": 0.01 * (1 + run["seed"]) * (9 if run["activation"] == "tanh" else 1)} for run in runs]
    )
    data, _, axes = show(training_results, tables)
    assert all(ax.get_yscale() == "log" for ax in axes) and len({ax.get_ylim() for ax in axes}) == 1
    low, high = axes[0].get_ylim()
    found = training_results.means(data)
    assert low < found["low"].min() and found["high"].max() < high and low < 0.01 and high > 2.3
    drawn = sorted(y for ax in axes for line in ax.containers for y in line[0].get_ydata())
    assert drawn == pytest.approx(sorted(found["value"])) and (found["low"] < found["value"]).all()
    bars = sorted(
        end for ax in axes for line in ax.containers for segment in line[2][0].get_segments() for end in segment[:, 1]
    )
    assert bars == pytest.approx(sorted([*found["low"], *found["high"]]))
    geometric = math.exp(np.mean(np.log([0.01, 0.02, 0.03])))
    assert found["value"].min() == pytest.approx(geometric)


# ---- learning curves


def test_learning_curves_end_where_half_of_the_seeds_are_lost(study: reader.Tables) -> None:
    data, facts, axes = show(learning_curves, study)
    assert list(data["panel"].cat.categories) == ["digits: ρ = 0.9", "digits: ρ = 1.5", "input_mean"] and len(axes) == 3
    whole, broken, _ = axes
    assert lines(whole, "loss norm:1.0")[0].get_ydata() == pytest.approx(2.0 / np.arange(1, 9))
    none = lines(broken, "loss no clipping")[0]
    assert none.get_xdata().tolist() == [0, 1, 2, 3]  # the median is lost with the second of three seeds, at update 4
    (lost,) = lines(broken, "lost")
    assert (lost.get_xdata()[0], lost.get_ydata()[0]) == (3, pytest.approx(0.5)) and not lines(whole, "lost")
    assert texts(broken, "under title") == ["3 of 9 break down"] and not texts(whole, "under title")
    assert lines(whole, "baseline")[0].get_ydata() == pytest.approx([2.3, 2.3])
    assert plain(facts["title"]) == (
        "15 of 18 runs (digits) and 9 of 9 (input_mean) end training below the held-out loss of a prediction without memory."
    )
    assert any(plain(claim) == "Runs on digits that end below that loss: 3 of 6 with no clipping; 6 of 6 with norm:1.0; 6 of 6 with value:0.1."
               for claim in facts["claims"])  # fmt: skip


def test_runs_that_begin_below_the_dashed_line_are_counted(make_study: Any, tmp_path: Path) -> None:
    """The dashed line is of held-out sequences, the curves of others: below it nothing need be learnt."""
    tables = make_study(grid(**TRAINING, seed=[0, 1, 2, 3]))
    keys = set(tables.runs().loc[lambda runs: runs["seed"] > 0, "run_key"])
    low = "At the first update, before anything is learnt, 1 of 4 runs is below that loss already."

    def claims(name: str, high: float) -> list[str]:
        (tmp_path / name).mkdir()
        first = lambda rows: (rows["update"] == 0) & rows["run_key"].isin(keys)  # noqa: E731
        own = edited(
            tables, tmp_path / name, "updates", lambda rows: rows.assign(loss=rows["loss"].mask(first(rows), high))
        )
        _, facts, _ = show(learning_curves, own)
        assert "all 4 runs end training below the held-out loss" in plain(facts["title"])
        return [plain(claim) for claim in facts["claims"]]

    assert low in claims("high", 2.4) and low.replace("1 of 4 runs is", "4 of 4 runs are") in claims("low", 2.2)


def test_panels_of_a_task_share_their_scale(study: reader.Tables) -> None:
    _, _, axes = show(learning_curves, study)
    assert axes[0].get_ylim() == axes[1].get_ylim() and all(ax.get_yscale() == "log" for ax in axes)
    assert axes[0].get_ylim()[0] < 0.25 < 2.3 < axes[0].get_ylim()[1]


@pytest.mark.parametrize("updates", [9, 40])
def test_a_point_is_said_to_be_a_median_only_where_updates_are_put_together(updates: int, make_study: Any) -> None:
    """Of seven updates the caption says "the median over a few updates"."""
    _, facts, _ = show(learning_curves, make_study(grid(**TRAINING | {"updates": updates}, seed=[0, 1])))
    html = render("learning_curves", facts=facts).replace("\n", " ")
    assert ("the median over a few updates" in html) == (updates == 40)
    assert "last ten updates, or of all if there are fewer" in html
    assert "on the held-out sequences" in html and "A line that begins above the dashed one" in html


def test_curves_that_coincide_are_all_seen_and_named(make_study: Any) -> None:
    tables = make_study(grid(**TRAINING | {"clipping": ["none", "norm:1.0"]}, seed=[0, 1]))
    _, facts, (ax,) = show(learning_curves, tables)
    below, above = lines(ax, "loss no clipping")[0], lines(ax, "loss norm:1.0")[0]
    assert below.get_linewidth() > above.get_linewidth() + 1 and below.is_dashed() < above.is_dashed()
    assert [text for text in texts(ax, "direct") if "nothing" not in text] == [
        "= norm:1.0",
        "no clipping",
    ]  # from below
    assert "same" in facts["shown"] and "no clipping and norm:1.0" in " ".join(map(plain, facts["claims"]))


def test_curves_that_differ_are_solid_and_not_called_equal(make_study: Any, tmp_path: Path) -> None:
    tables = make_study(grid(**TRAINING | {"clipping": ["none", "norm:1.0"]}, seed=[0, 1]))
    keys = set(tables.runs().loc[lambda runs: runs["clipping"] == "none", "run_key"])
    tables = edited(tables, tmp_path, "updates", lambda rows: rows.assign(
        loss=rows["loss"].where(rows["run_key"].isin(keys), rows["loss"] * 1.1)))  # fmt: skip
    _, facts, (ax,) = show(learning_curves, tables)
    assert not any(line.is_dashed() for line in all_lines(ax, "loss ")) and "same" not in facts["shown"]
    assert "norm:1.0" in texts(ax, "direct") and "equals sign" not in render("learning_curves", facts=facts)


def crowd_of_curves(make_study: Any, folder: Path) -> reader.Tables:
    """Eight rules, each a hundredth above the one before, whose losses fall by a tenth; of the first, one seed of three breaks down."""
    rules = [f"norm:{i}.5" for i in range(8)]
    runs = grid(**TRAINING | {"clipping": rules, "updates": 40}, seed=[0, 1, 2])
    tables = make_study([r | {"breaks_at": 20} if r["clipping"] == rules[0] and r["seed"] == 0 else r for r in runs])
    place = tables.runs().set_index("run_key")["clipping"].map(rules.index)

    def close(rows: pd.DataFrame) -> pd.DataFrame:
        level = 2.2 * (1.0 + 0.01 * rows["run_key"].map(place)) * (1.0 - 0.1 * rows["update"] / 40)
        return rows.assign(loss=level.where(rows["loss"].notna()))

    return edited(tables, folder, "updates", close)


def test_lines_that_are_close_to_each_other_have_the_height_of_the_panel(make_study: Any, tmp_path: Path) -> None:
    """Eight lines from 2.2 to 2.4 lay under their marks, on an axis from 1.7 to 3.2."""
    _, _, (ax,) = show(learning_curves, crowd_of_curves(make_study, tmp_path))
    drawn = all_lines(ax, "loss ")
    assert len(drawn) == 8
    low, high = ax.get_ylim()
    every = np.concatenate([line.get_ydata() for line in drawn] + [[2.3]])  # the dashed one, too
    assert low < every.min() and every.max() < high
    assert np.log(every.max() / every.min()) > 0.75 * np.log(high / low)
    assert all(line.get_linewidth() < 1.5 for line in drawn if not line.is_dashed())
    marked = [tuple(line.get_xdata()[slice(line.get_markevery()[0], None, line.get_markevery()[1])]) for line in drawn]
    assert all(marked) and len({update for each in marked for update in each}) == sum(map(len, marked))


def test_level_lines_are_not_blown_up(make_study: Any, tmp_path: Path) -> None:
    """An axis of a thousandth shows rounding as learning."""
    tables = make_study(grid(**TRAINING, seed=[0, 1]))
    level = edited(tables, tmp_path, "updates", lambda rows: rows.assign(loss=2.3 + 1e-9 * rows["update"]))
    _, _, (ax,) = show(learning_curves, level)
    low, high = ax.get_ylim()
    assert high / low > 1.04 and low < 2.3 < high


def test_only_marks_that_are_drawn_are_explained(make_study: Any, tmp_path: Path) -> None:
    """A legend had a cross that no line has, and a caption an equals sign: names stood in the legend."""
    tables = crowd_of_curves(make_study, tmp_path)
    data, facts, (ax,) = show(learning_curves, tables)
    assert data["broken"].any() and not lines(ax, "lost") and "lost" not in facts["shown"]
    (legend,) = ax.figure.legends
    assert "half of the seeds have broken down" not in [text.get_text() for text in legend.get_texts()]
    caption = " ".join(render("learning_curves", facts=facts | {"claims": []}).split())
    assert "cross" not in caption and "A line goes on as long as more than half of its seeds do." in caption
    alike = make_study(grid(**TRAINING | {"clipping": [f"norm:{i}.5" for i in range(8)]}, seed=[0, 1]))
    _, facts, (ax,) = show(learning_curves, alike)
    assert not any("=" in text for text in texts(ax, "direct"))
    assert "equals sign" not in render("learning_curves", facts=facts)


def test_bands_are_drawn_of_few_curves_only(make_study: Any) -> None:
    def bands(rules: list[str]) -> list[str]:
        _, facts, axes = show(learning_curves, make_study(grid(**TRAINING | {"clipping": rules}, seed=[0, 1])))
        assert ("band" in facts["shown"]) == ("band" in render("learning_curves", facts=facts))
        return [str(artist.get_gid()) for artist in axes[0].collections if str(artist.get_gid()).startswith("band")]

    assert len(bands(RULES[:3])) == 3 and not bands(RULES[:4])


def test_learning_rates_are_panels_or_colours_never_pooled(make_study: Any) -> None:
    rates = make_study(grid(**TRAINING | {"learning_rate": [0.01, 0.1]}, seed=[0, 1]))
    _, _, (ax,) = show(learning_curves, rates)
    assert [line.get_gid() for line in all_lines(ax, "loss ")] == [
        "loss learning rate = 0.01",
        "loss learning rate = 0.1",
    ]
    both = make_study(grid(**TRAINING | {"learning_rate": [0.01, 0.1], "clipping": ["none", "norm:1.0"]}, seed=[0]))
    data, _, axes = show(learning_curves, both)
    assert list(data["panel"].cat.categories) == ["learning rate = 0.01", "learning rate = 0.1"] and len(axes) == 2


def test_all_that_break_down_are_the_headline(make_study: Any) -> None:
    tables = make_study(
        [
            run | {"breaks_at": 2 + run["seed"]}
            for run in grid(**TRAINING | {"clipping": ["none", "norm:1.0"]}, seed=[0, 1])
        ]
    )
    for module, words in (
        (learning_curves, "No run comes to the end of its training: every one breaks down on its way."),
        (training_results, "On digits, no run comes to the end of its training."),
    ):
        assert plain(module.facts(module.frame(tables), tables.study)["title"]) == words
    _, _, (ax,) = show(learning_curves, tables)
    assert len(lines(ax, "lost")) == 2


def test_counts_hold_for_runs_without_a_panel_too(make_study: Any) -> None:
    """Twenty radii at two widths are more panels than there is room for; the title counts all runs."""
    runs = grid(**TRAINING | {"clipping": ["none", "norm:1.0"]}, spectral_radius=[0.1 * i for i in range(1, 21)])
    data, facts, axes = show(learning_curves, make_study(runs))
    assert len(axes) == facets.MOST_PANELS and data["panel"].isna().any()
    assert plain(facts["title"]).startswith("On digits, all 40 runs end training below")


# ---- clipping


def test_clipping_norms(study: reader.Tables) -> None:
    data, facts, axes = show(clipping_norms, study)
    assert list(data["panel"].cat.categories) == ["digits: ρ = 0.9", "digits: ρ = 1.5", "input_mean"]
    assert len(axes) == 3 * 3  # settings × rules
    rules = clipping_norms.by_rule(data)
    assert rules["broken"].to_dict() == {"none": 3, "norm:1.0": 0, "value:0.1": 0}
    assert rules.loc["norm:1.0", "share"] == 1.0
    assert plain(facts["title"]) == "Without clipping 3 of 9 runs break down; with it, none of 18."
    assert lines(axes[1], "threshold")[0].get_ydata() == pytest.approx([0.0, 0.0])  # log10 of 1.0
    assert not lines(axes[0], "threshold") and not lines(axes[2], "threshold")  # none; a bound on entries is no norm
    threshold = lines(axes[1], "threshold")[0]
    assert threshold.get_zorder() > lines(axes[1], "after")[0].get_zorder()  # seen where the norm is the threshold
    on, off = threshold._unscaled_dash_pattern[1]
    assert off >= 2 * on  # and hides little
    assert sorted(lines(axes[3], "ended")[0].get_xdata()) == [3, 4, 5] and not lines(axes[4], "ended")
    after = lines(axes[1], "after")
    assert len(after) == 3 and max(max(line.get_ydata()) for line in after) == pytest.approx(0.0)
    assert max(max(line.get_ydata()) for line in lines(axes[1], "before")) == pytest.approx(0.7)
    assert axes[1].get_title(loc="left") == "clips 100 % of updates" and "3 of 3 break down" in axes[3].get_title(
        loc="left"
    )


def test_one_number_is_the_highest_norm_whoever_ended(make_study: Any, tmp_path: Path) -> None:
    """The update that ends a run may have a finite norm beyond floats: it counts, once, everywhere."""
    runs = grid(**TRAINING | {"clipping": ["none", "norm:1.0"]}, seed=[0, 1, 2])
    tables = make_study([run | {"breaks_at": 5} if run["clipping"] == "none" else run for run in runs])
    tables = edited(tables, tmp_path, "updates", lambda rows: rows.assign(
        log10_norm_before=rows["log10_norm_before"].where(rows["finite"], 734.04)))  # fmt: skip
    data, facts, axes = show(clipping_norms, tables)
    said = [each for text in (facts["title"], *facts["claims"]) for each in addresses(text)]
    highest = [(text, address["value"]) for text, address in said if address["kind"] == "highest_norm"]
    assert highest == [("10⁷³⁴", 734.04)]
    assert "at update 5 with no clipping in a run that broke down" in plain(" ".join(facts["claims"]))
    words = " ".join([*(ax.get_title(loc="left") for ax in axes), facts["alt"]])
    assert "10⁷" not in words and max(ax.get_ylim()[1] for ax in axes) < 5  # nor does it flatten the rest
    assert set(data["highest"]) == {734.04, 0.5, 0.6, 0.7}


def test_shares_are_of_all_updates_however_few_are_drawn(make_study: Any, tmp_path: Path) -> None:
    tables = make_study([TRAINING | {"clipping": "norm:1.0", "updates": 900, "sequence_length": 2}])
    tables = edited(tables, tmp_path, "updates", lambda rows: rows.assign(
        log10_norm_after=rows["log10_norm_before"].where(rows["update"] % 9 > 0, 0.0)))  # fmt: skip
    data, facts, _ = show(clipping_norms, tables)
    assert len(data) <= reader.MOST_UPDATES and set(data["clipped"]) == {100}
    assert plain(facts["title"]) == "norm:1.0 clips 11 % of all updates; no run breaks down."


def clipped_by(radii: dict[float, float], make_study: Any, tmp_path: Path, lost: float | None = None) -> reader.Tables:
    """A study of radii, of which the rule clips this share of updates; without clipping all runs of one are lost at once."""
    runs = grid(**TRAINING | {"clipping": ["none", "norm:1.0"], "updates": 8}, spectral_radius=list(radii), seed=[0, 1])
    tables = make_study(
        [
            run | {"breaks_at": 1} if run["spectral_radius"] == lost and run["clipping"] == "none" else run
            for run in runs
        ]
    )
    known = tables.runs().set_index("run_key")[["spectral_radius", "clipping"]]

    def change(rows: pd.DataFrame) -> pd.DataFrame:
        share = rows["run_key"].map(known["spectral_radius"]).map(radii)
        cut = (rows["run_key"].map(known["clipping"]) != "none") & (rows["update"] < 8 * share)
        return rows.assign(log10_norm_after=rows["log10_norm_before"] - 0.1 * cut)

    return edited(tables, tmp_path, "updates", change)


def test_the_settings_drawn_differ_and_are_what_the_caption_says(make_study: Any, tmp_path: Path) -> None:
    shares = {0.1: 1.0, 0.2: 0.0, 0.3: 0.5, 0.4: 0.875, 0.5: 0.25}
    data, facts, axes = show(clipping_norms, clipped_by(shares, make_study, tmp_path))
    assert list(data["panel"].cat.categories) == ["ρ = 0.2", "ρ = 0.3", "ρ = 0.1"] and len(axes) == 6
    assert "52 % of all updates" in plain(facts["title"])  # of all settings, not of those that are drawn
    assert (
        "The figure has room for three of the settings. One has the smallest share of clipped updates, "
        "one has a middle share, and one has the largest share."
    ) in facts["claims"]


def test_the_setting_that_breaks_down_is_drawn_and_short_runs_do_not_count_as_clipped(
    make_study: Any, tmp_path: Path
) -> None:
    """Unclipped runs that die at once have no share in what was clipped."""
    shares = {0.1: 1.0, 0.2: 0.5, 0.3: 0.375, 0.4: 0.25, 0.5: 0.625}
    data, facts, _ = show(clipping_norms, clipped_by(shares, make_study, tmp_path, lost=0.3))
    assert list(data["panel"].cat.categories) == ["ρ = 0.4", "ρ = 0.5", "ρ = 0.3"]
    assert facts["claims"][-2].endswith("and one has the most runs that broke down.")
    assert facts["claims"][-1] == "The headline is of all values, drawn or not."


def test_settings_that_all_clip_alike_are_not_ranked(make_study: Any, tmp_path: Path) -> None:
    tables = clipped_by(dict.fromkeys((0.1, 0.2, 0.3, 0.4), 1.0), make_study, tmp_path)
    _, facts, _ = show(clipping_norms, tables)
    assert "The figure has room for three of the settings." in facts["claims"]


def test_a_share_is_said_once(make_study: Any) -> None:
    """What the title says is not a claim, too; what it leaves out is."""
    for rules in (["none", "norm:1.0"], ["none", "norm:1.0", "value:0.1"], RULES):
        tables = make_study(grid(**TRAINING | {"clipping": rules}, seed=[0, 1]))
        facts = clipping_norms.facts(clipping_norms.frame(tables), tables.study)
        texts_ = [facts["title"], *facts["claims"]]
        said = [a["where"]["clipping"] for t in texts_ for _, a in addresses(t) if a["kind"] == "clipped_share"]
        assert len(said) == len(set(said))
        assert "no run breaks down, with or without clipping." in plain(facts["title"])


def test_lines_without_clipping_are_in_the_legend_and_the_caption(make_study: Any) -> None:
    def words(rules: list[str]) -> tuple[list[str], str]:
        tables = make_study(grid(**TRAINING | {"clipping": rules}, seed=[0, 1]))
        data = clipping_norms.frame(tables)
        facts = clipping_norms.facts(data, tables.study)
        with style.theme():
            (legend,) = clipping_norms.draw(data).legends
        black = [h.get_label() for h in legend.legend_handles if h.get_color() == style.INK and not h.is_dashed()]
        return black, render("clipping_norms", facts=facts)

    black, html = words(["none", "norm:1.0"])
    assert black == ["without clipping"] and "Runs without clipping are black" in html
    black, html = words(["norm:1.0", "norm:0.1"])
    assert not black and "without clipping" not in html


def test_names_on_a_phone_are_whole_and_panels_as_wide_as_it(make_study: Any) -> None:
    runs = grid(
        **TRAINING | {"clipping": ["none", "norm:1.0"], "learning_rate": [0.01, 0.1]}, spectral_radius=[0.5, 1.2]
    )
    data = clipping_norms.frame(make_study([*runs, *({**r, "sweep": "another", "seed": 1} for r in runs)]))
    with style.theme(), layout.wide(style.PHONE_WIDTH):
        figure = clipping_norms.draw(data)
        figure.draw_without_rendering()
    for ax in figure.axes:
        words = [ax._left_title, *ax.texts]
        assert max(text.get_window_extent().x1 for text in words) <= figure.bbox.x1
        assert ax.get_position().width > 0.8


def test_many_runs_are_a_median_and_a_band(make_study: Any) -> None:
    runs = grid(**TRAINING | {"clipping": ["none", "norm:1.0"]}, seed=list(range(11)))
    data, facts, axes = show(clipping_norms, make_study(runs))
    assert not clipping_norms.one_line_each(data) and "median" in facts["shown"]
    (before,) = lines(axes[1], "before")
    assert before.get_ydata() == pytest.approx([0.5 + 0.1 * 5] * 8)
    band = np.concatenate([path.vertices for artist in axes[0].collections for path in artist.get_paths()])
    assert (band[:, 1].min(), band[:, 1].max()) == pytest.approx((0.5, 1.5))


def test_a_study_that_does_not_clip_has_no_such_figure(make_study: Any) -> None:
    trained, starts = make_study([TRAINING]), make_study([{"updates": 0}])
    for tables, why in ((trained, clipping_norms.UNCLIPPED.why), (starts, clipping_norms.NOTHING.why)):
        data = clipping_norms.frame(tables)
        facts = clipping_norms.facts(data, tables.study)
        assert data.empty and not facts["drawn"] and facts["title"] == why
    assert clipping_norms.UNCLIPPED.why == "No run of this study clips its gradient."


def test_six_rules_have_a_column_each_and_a_name_each(make_study: Any) -> None:
    tables = make_study(grid(**TRAINING | {"clipping": RULES, "cell": ["vanilla", "gru"]}))
    _, facts, axes = show(clipping_norms, tables)
    assert len(axes) == 2 * 6
    headed = [text for ax in axes for text in texts(ax, "rule")]
    assert headed == ["no clipping", *RULES[1:]]
    assert [bool(lines(ax, "threshold")) for ax in axes[:6]] == [rule.startswith("norm") for rule in RULES]
    html = render("clipping_norms", facts=facts)
    assert all(f"The rule <em>{rule.partition(':')[0]}</em>" in html for rule in RULES[1:])
    boxes = [text.get_window_extent() for ax in axes for text in ax.texts if text.get_gid() == "rule"]
    assert not any(one.overlaps(other) for i, one in enumerate(boxes) for other in boxes[:i])


def test_the_caption_explains_only_the_rules_that_occur(study: reader.Tables) -> None:
    html = render("clipping_norms", facts=clipping_norms.facts(clipping_norms.frame(study), study.study))
    kinds = ("norm", "value", "parameter", "adaptive", "signal")
    assert [f"<em>{kind}</em>" in html for kind in kinds] == [True, True, False, False, False]


# ---- traces through training


def traced(
    tables: reader.Tables, folder: Path, opens: Callable[[str, int], float], moments: tuple[int, ...] = (4, 7)
) -> reader.Tables:
    """Traces at later updates: ``opens(run_key, update)`` decades are added at the first step, and in proportion at the others."""

    def change(rows: pd.DataFrame) -> pd.DataFrame:
        updates = pd.read_parquet(tables.files["updates"]).groupby("run_key")["update"].max()
        found = [rows]
        for moment in moments:
            later = rows[rows["run_key"].map(updates) >= moment].assign(update=moment)
            back = later["lag"] / later.groupby("run_key")["lag"].transform("max")
            added = np.array([opens(key, moment) for key in later["run_key"]])
            move = np.where(back > 0, back * np.where(np.isinf(added), 1.0, added), 0.0)
            move = np.where(np.isinf(added) & (back == 1), added, move)
            found.append(later.assign(log10_grad_norm=later["log10_grad_norm"] + move))
        return pd.concat(found, ignore_index=True)

    return edited(tables, folder, "traces", change)


def decades(radius: float, steps: int) -> float:
    return steps * math.log10(radius)


def test_traces_before_during_and_after(make_study: Any, tmp_path: Path) -> None:
    tables = make_study(grid(**TRAINING | {"clipping": ["none", "norm:1.0"]}, spectral_radius=0.5, seed=[0]))
    tables = traced(tables, tmp_path, lambda _, update: {4: 1.0, 7: 2.0}[update])
    data, facts, axes = show(training_traces, tables)
    assert list(data["panel"].cat.categories) == ["no clipping", "norm:1.0"] and len(axes) == 2
    start = decades(0.5, 1) * np.arange(6)
    for when, added in (("before", 0.0), ("middle", 1.0), ("after", 2.0)):
        (line,) = lines(axes[0], when)
        assert line.get_xdata().tolist() == [0, 1, 2, 3, 4, 5]
        assert line.get_ydata() == pytest.approx(start + added * np.arange(6) / 5)
    assert set(data.loc[data["when"] == "middle", "moment"]) == {4}
    assert plain(facts["title"]) == (
        "Training raises the share of the gradient that reaches the first step in all 2 runs: by a factor of 10² in the median."
    )
    light = [sum(int(training_traces.COLOURS[w][i : i + 2], 16) for i in (1, 3, 5)) for w in training_traces.WHEN]
    assert light == sorted(light, reverse=True)


def test_changes_of_both_kinds_are_counted(make_study: Any, tmp_path: Path) -> None:
    tables = make_study(grid(**TRAINING | {"clipping": ["none", "norm:1.0"]}, seed=[0, 1, 2, 3]))
    rules = tables.runs().set_index("run_key")

    def opens(key: str, _: int) -> float:
        return 3.0 if rules["clipping"][key] == "none" else (-2.0 if rules["seed"][key] else 0.1)

    tables = traced(tables, tmp_path, opens)
    _, facts, _ = show(training_traces, tables)
    assert plain(facts["title"]) == (
        "Training raises the share of the gradient that reaches the first step in 4 of 4 runs with no clipping and none of 4 with norm:1.0."
    )
    [each] = facts["answer"]
    assert (
        plain(each)
        == "In the median this share goes from 1.1 to 10³ for no clipping. It goes from 1.1 to 0.011 for norm:1.0."
    )
    assert facts["claims"] == [each]
    frames = {table: pd.read_parquet(file) for table, file in tables.files.items()}
    assert len(addresses(each)) == 4
    for _, address in addresses(each):
        assert second.KINDS[address["kind"]](frames, address["where"]) == pytest.approx(address["value"])
    assert "raises this share" not in plain(" ".join(facts["claims"]))  # the title says it


def test_changes_that_no_setting_decides_are_counted_together(make_study: Any, tmp_path: Path) -> None:
    tables = make_study(grid(**TRAINING, seed=list(range(8))))
    seeds = tables.runs().set_index("run_key")["seed"]
    tables = traced(tables, tmp_path, lambda key, _: 1.0 if seeds[key] < 4 else -1.0 if seeds[key] < 7 else 0.1)
    _, facts, _ = show(training_traces, tables)
    assert plain(facts["title"]) == (
        "Training raises the share of the gradient that reaches the first step in 4 of 8 runs, lowers it in 3 and hardly changes it in 1."
    )


def test_opposite_settings_are_not_pooled(make_study: Any, tmp_path: Path) -> None:
    """The radius decides, so it is in the headline; what is asked about is a claim where its values differ."""
    tables = make_study(
        grid(**TRAINING | {"clipping": ["none", "norm:1.0"]}, spectral_radius=[0.5, 1.5], seed=[0, 1, 2, 3])
    )
    known = tables.runs().set_index("run_key")

    def opens(key: str, _: int) -> float:
        run = known.loc[key]
        odd = run["clipping"] == "none" and run["seed"] <= (run["spectral_radius"] > 1)
        return -1.0 if (run["spectral_radius"] > 1) != odd else 1.0

    tables = traced(tables, tmp_path, opens)
    _, facts, _ = show(training_traces, tables)
    share = "the share of the gradient that reaches the first step"
    assert plain(facts["title"]) == f"Training raises {share} in 7 of 8 runs with ρ = 0.5 and 2 of 8 with ρ = 1.5."
    assert plain(facts["claims"][0]) == (
        "With no clipping, training raises this share in 5 of 8 runs and lowers it in 3. "
        "With norm:1.0, it raises it in 4 of 8 and lowers it in 4."
    )
    frames = {table: pd.read_parquet(file) for table, file in tables.files.items()}
    for _, address in [each for text in (facts["title"], facts["claims"][0]) for each in addresses(text)]:
        if address["kind"] in second.KINDS:
            assert second.KINDS[address["kind"]](frames, address["where"]) == address["value"]


def settings_of(count: int) -> list[Settings]:
    rates = [0.01 * (i + 1) for i in range(count)]
    return grid(**TRAINING | {"clipping": ["none", "norm:1.0"], "learning_rate": rates}, seed=[0, 1])


def test_sixteen_panels_have_room_and_their_names_stand_once(make_study: Any, tmp_path: Path) -> None:
    data, facts, axes = show(training_traces, traced(make_study(settings_of(8)), tmp_path, lambda *_: 1.0))
    assert len(axes) == 16 and data["panel"].notna().all() and training_traces.NO_ROOM not in facts["claims"]
    headings = [ax.get_title(loc="left").strip().replace("\u00a0", " ") for ax in axes]
    assert headings == [text for i in range(8) for text in (f"learning rate = {0.01 * (i + 1):g}", "")]
    assert [texts(ax, "under title") for ax in axes] == [["no clipping"], ["norm:1.0"]] * 8
    assert len({round(ax.get_position().x0, 2) for ax in axes}) == 4


def test_the_setting_that_is_named_has_a_panel(make_study: Any, tmp_path: Path) -> None:
    """Of twenty settings eight fit; the one that changes most is among them, wherever it is."""
    tables = make_study(settings_of(20))
    rates = tables.runs().set_index("run_key")["learning_rate"]
    tables = traced(tables, tmp_path, lambda key, _: 5.0 if math.isclose(rates[key], 0.13) else 1.0)
    data, facts, axes = show(training_traces, tables)
    assert len(axes) == 16 and training_traces.NO_ROOM in facts["claims"]
    assert any("learning rate = 0.13" in plain(claim) for claim in facts["claims"])
    drawn = data.dropna(subset=["panel"])
    assert "learning rate = 0.13, norm:1.0" in list(drawn["panel"].cat.categories)
    assert (drawn.groupby("beside")["panel"].nunique() == 2).all()  # what is compared stands together


def test_scales_are_shared_where_their_ranges_are_alike(make_study: Any, tmp_path: Path) -> None:
    def limits(radii: list[float], folder: Path) -> tuple[set[Any], str]:
        folder.mkdir()
        rules = {"clipping": ["none", "norm:1.0"], "sequence_length": 30}
        tables = traced(make_study(grid(**TRAINING | rules, spectral_radius=radii)), folder, lambda *_: 0.1)
        _, facts, axes = show(training_traces, tables)
        for ax in axes:
            assert ax.get_ylim()[0] <= min(line.get_ydata().min() for line in all_lines(ax, "before"))
        assert axes[0].get_ylim() == axes[1].get_ylim()  # what is compared
        return {ax.get_ylim() for ax in axes}, render("training_traces", facts=facts)

    one, html = limits([0.5, 0.6], tmp_path / "alike")
    assert len(one) == 1 and "share their scale" not in html
    two, html = limits([0.5, 1.0], tmp_path / "unlike")
    assert len(two) == 2 and "share their scale" in html


def test_a_panel_whose_runs_all_broke_down_says_so(make_study: Any, tmp_path: Path) -> None:
    runs = grid(**TRAINING | {"clipping": ["none", "norm:1.0"]}, seed=[0, 1, 2])
    tables = make_study([run | {"breaks_at": 1} if run["clipping"] == "none" else run for run in runs])
    _, _, axes = show(training_traces, traced(tables, tmp_path, lambda *_: 1.0))
    assert [texts(ax, "empty") for ax in axes] == [["all 3 broke down"], []]


def test_bands_are_seen_and_one_that_is_cut_is_told(make_study: Any, tmp_path: Path) -> None:
    tables = make_study(grid(**TRAINING, spectral_radius=0.5, seed=list(range(5))))
    seeds = tables.runs().set_index("run_key")["seed"]

    def shown(far: float, folder: Path) -> tuple[Axes, str]:
        folder.mkdir()
        _, facts, (ax,) = show(training_traces, traced(tables, folder, lambda key, _: far * (seeds[key] == 4)))
        return ax, render("training_traces", facts=facts)

    near, html = shown(-0.5, tmp_path / "near")
    assert "goes on beyond" not in html
    far, html = shown(-50.0, tmp_path / "far")
    assert "goes on beyond" in html
    assert far.get_ylim()[0] > -10  # one seed does not make the others a flat line
    for ax in (near, far):
        bands = {str(artist.get_gid()): artist for artist in ax.collections}
        assert set(bands) == {"band before", "band after"} and bands["band before"].get_alpha() >= 0.3


def test_the_middle_line_is_halfway_or_in_between(make_study: Any, tmp_path: Path) -> None:
    def words(middle: int, folder: Path) -> list[str]:
        folder.mkdir()
        data = training_traces.frame(traced(make_study([TRAINING]), folder, lambda *_: 1.0, (middle, 7)))
        with style.theme():
            (legend,) = training_traces.draw(data).legends
        return [text.get_text() for text in legend.get_texts()]

    assert words(4, tmp_path / "a") == ["before training", "halfway (update 4)", "last update (7)"]
    assert words(1, tmp_path / "b") == ["before training", "in between (update 1)", "last update (7)"]


def test_runs_that_broke_down_have_no_line_and_are_counted(make_study: Any, tmp_path: Path) -> None:
    runs = grid(**TRAINING | {"clipping": ["none", "norm:1.0"]}, seed=[0, 1, 2])
    tables = make_study([run | {"breaks_at": 5} if run["clipping"] == "none" and run["seed"] else run for run in runs])
    tables = traced(tables, tmp_path, lambda *_: 1.0)
    data, facts, axes = show(training_traces, tables)
    assert texts(axes[0], "under title") == ["2 of 3 broke down"] and not texts(axes[1], "under title")
    assert data.loc[data["broken"], "lag"].isna().all()
    assert "2 of 6 runs broke down before the end." in plain(" ".join(facts["claims"])) and "in all 4 runs" in plain(
        facts["title"]
    )


def test_a_gradient_of_exactly_zero_is_shown_and_counted(make_study: Any, tmp_path: Path) -> None:
    tables = traced(make_study(grid(**TRAINING, seed=[0, 1, 2])), tmp_path, lambda *_: -math.inf)
    data, facts, (ax,) = show(training_traces, tables)
    assert (data.groupby("run_key")["final"].first() == -math.inf).all()
    assert [mark.get_xdata().tolist() for mark in lines(ax, "zero")] == [
        [4],
        [4],
    ]  # in the middle and after: the last lag before
    assert lines(ax, "after")[0].get_xdata().tolist() == [0, 1, 2, 3, 4]
    assert texts(ax, "under title") == ["3 of 3 exactly zero at the end"]
    assert any(
        plain(claim).startswith("In 3 runs the gradient at the first step is exactly zero") for claim in facts["claims"]
    )
    assert "exactly" in render("training_traces", facts=facts)


def test_runs_without_a_gradient_at_the_last_step_are_counted(make_study: Any, tmp_path: Path) -> None:
    """Of some runs no sequence of a batch is as long as the others: nothing can be compared with a gradient of zero."""
    runs = grid(**TRAINING | {"clipping": ["none", "norm:1.0"]}, seed=[0, 1, 2])
    short = [run | {"ends": (2, 4)} if run["clipping"] == "none" and run["seed"] else run for run in runs]
    tables = traced(make_study(short), tmp_path, lambda *_: 1.0)
    _, facts, _ = show(training_traces, tables)
    said = " ".join(facts["claims"])
    assert "2 of 6 runs are left out, and not counted above." in plain(said)
    assert "no sequence of a batch has all T steps" in said and "in all 4 runs" in plain(facts["title"])
    assert "A line jumps up" in re.sub(r"\s+", " ", render("training_traces", facts=facts))
    frames = {table: pd.read_parquet(file) for table, file in tables.files.items()}
    counts = {address["kind"]: (address["value"], address["where"]) for _, address in addresses(said)}
    value, where = counts["runs_without_last_step"]
    assert second.KINDS["runs_without_last_step"](frames, where) == value == 2


@pytest.mark.parametrize(("ends", "jumps"), [((0,), False), ((0, 2), True)])
def test_sequences_are_said_to_end_early_where_some_do(
    ends: tuple[int, ...], jumps: bool, make_study: Any, tmp_path: Path
) -> None:
    """ "A line jumps up where one ends" stood beside lines of a file whose sequences all have T steps."""
    runs = grid(**TRAINING | {"clipping": ["none", "norm:1.0"], "ends": ends}, seed=[0, 1])
    tables = traced(make_study(runs), tmp_path, lambda *_: 1.0)
    html = render("training_traces", facts=training_traces.facts(training_traces.frame(tables), tables.study))
    assert ("end before step T" in html) == ("jumps up" in html) == jumps


def test_long_sequences_are_thinned(make_study: Any, tmp_path: Path) -> None:
    tables = make_study([TRAINING | {"sequence_length": 500, "spectral_radius": 0.9}])
    data, _, (ax,) = show(training_traces, traced(tables, tmp_path, lambda *_: 0.5))
    lags = lines(ax, "after")[0].get_xdata()
    assert len(lags) <= training_gradients.MOST_LAGS and {0, 499} <= set(lags) and data["lag"].max() == 499


def test_a_loss_at_every_step_is_named_total(make_study: Any, tmp_path: Path) -> None:
    def label(loss_at: str, folder: Path) -> str:
        folder.mkdir()
        tables = traced(make_study([TRAINING | {"loss_at": loss_at}]), folder, lambda *_: 1.0)
        data = training_traces.frame(tables)
        with style.theme():
            figure = training_traces.draw(data)
        html = render("training_traces", facts=training_traces.facts(data, tables.study))
        assert ("total one" in html) == (loss_at == "every")
        return str(figure.get_supylabel())

    assert label("every", tmp_path / "a").startswith("total gradient") and label("last", tmp_path / "b").startswith("$")


def test_traces_of_the_start_alone_are_no_figure(study: reader.Tables, make_study: Any) -> None:
    data = training_traces.frame(study)
    facts = training_traces.facts(data, study.study)
    assert data.empty and facts["title"] == training_traces.AT_START_ONLY.why
    starts = make_study([{"updates": 0}])
    facts = training_traces.facts(training_traces.frame(starts), starts.study)
    assert facts["title"] == training_traces.NOTHING.why


# ---- all of them


@pytest.fixture(scope="module")
def whole(study: reader.Tables, tmp_path_factory: pytest.TempPathFactory) -> reader.Tables:
    """The study with everything, traced through its training."""
    return traced(study, tmp_path_factory.mktemp("whole"), lambda key, update: 0.4 * update if "none" in key else -0.3)


@pytest.mark.parametrize("module", FIGURES)
def test_numbers_have_a_second_opinion(module: ModuleType, whole: reader.Tables) -> None:
    facts = module.facts(module.frame(whole), whole.study)
    frames = {table: pd.read_parquet(file) for table, file in whole.files.items()}
    said = [each for text in (facts["title"], *facts["claims"]) for each in addresses(text)]
    own = [(text, address) for text, address in said if address["kind"] in second.KINDS]
    assert facts["drawn"] and (own or module is training_results)
    for text, address in own:
        assert second.KINDS[address["kind"]](frames, address["where"]) == pytest.approx(address["value"]), (
            text,
            address,
        )


@pytest.mark.parametrize("module", FIGURES)
def test_no_digit_is_without_its_address(module: ModuleType, whole: reader.Tables) -> None:
    """What remains when marked numbers and settings are taken out has no digit."""
    facts = module.facts(module.frame(whole), whole.study)
    for text in (facts["title"], *facts["claims"]):
        rest = re.sub(r"\ue000[^\ue002]*\ue002", "", text)
        rest = re.sub(r"(norm|value):[0-9.]+|ρ = [0-9.]+", "", rest)
        assert not re.search(r"[0-9⁰¹²³⁴⁵⁶⁷⁸⁹]", rest), rest


@pytest.mark.parametrize("module", FIGURES)
def test_a_phone_has_one_panel_below_the_other(module: ModuleType, whole: reader.Tables) -> None:
    axes = drawn_on_a_phone(module, whole)
    assert len({round(ax.get_position().x0, 2) for ax in axes}) == 1 and len(axes) >= 2
    sizes = [
        text.get_fontsize()
        for ax in axes
        for text in (*ax.texts, ax.xaxis.label, ax.yaxis.label, *ax.get_yticklabels())
    ]
    assert min(sizes) >= 9


@pytest.mark.parametrize("module", FIGURES)
def test_headlines_and_captions(module: ModuleType, whole: reader.Tables) -> None:
    facts = module.facts(module.frame(whole), whole.study)
    title = plain(facts["title"])
    assert title.endswith(".") and len(title) <= 140 and spoken(title) in facts["alt"]
    for html in (
        render(module.__name__.removeprefix("figures."), facts=each) for each in (facts, module.NOTHING.facts())
    ):
        assert html.count("<p>") == 3
    assert "_" not in re.sub("input_mean", "", title)


def test_a_run_that_succeeds_ends_there_and_has_a_last_loss(tmp_path: Path) -> None:
    """The page said "3 of 18 runs end below the loss of a prediction without memory" where all 18 had learnt the task: 15 had ended early."""
    rows = [{"run_key": "early", "update": u, "loss": 1.0 - 0.05 * u} for u in range(20)]
    rows += [{"run_key": "late", "update": u, "loss": 2.0} for u in range(60)]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "updates.parquet")
    tables = SimpleNamespace(
        read=lambda table, columns, where: pq.read_table(
            tmp_path / f"{table}.parquet", columns=columns, filters=where
        ).to_pandas()
    )
    runs = pd.DataFrame(
        {"run_key": ["early", "late"], "updates": 60, "updates_to_success": [20.0, None], "record_every": 1}
    )
    last = learning_curves._last_losses(tables, runs)
    assert last["early"] == pytest.approx(1.0 - 0.05 * 14.5) and last["late"] == 2.0


def test_every_length_has_its_own_loss_without_memory() -> None:
    """One dashed line stood for copy memory at three lengths: the mean of 0.83, 0.52 and 0.30."""
    rows = pd.DataFrame({"hue": ["T = 5", "T = 20", "T = 5"], "baseline_loss": [0.8, 0.5, 0.8]})
    assert learning_curves._baselines(rows).to_dict() == {"T = 5": 0.8, "T = 20": 0.5}
    alike = learning_curves._baselines(rows.assign(baseline_loss=[0.8, 0.81, 0.79]))
    assert alike.to_dict() == {"": pytest.approx(0.8)}
    assert learning_curves._baselines(rows.assign(baseline_loss=math.nan)).empty


def test_a_baseline_of_zero_leaves_a_scale() -> None:
    """Held-out sequences of one class have a loss of zero without learning, which no logarithmic scale has: the figure failed."""
    part = pd.DataFrame({"baseline_loss": [0.0, 0.0], "panel": ["all", "all"]})
    medians = pd.DataFrame({"panel": ["all", "all"], "middle": [0.5, 0.1]})
    low, high = learning_curves.limits(part, medians)
    assert 0 < low < 0.1 and high > 0.5
    assert learning_curves.limits(part, medians[:0]) == (0.1, 1.0)
