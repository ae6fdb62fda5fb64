"""What the page says of trained runs unlike those of the default study: one run, ties, many values, settings that are not set."""

from __future__ import annotations

import itertools
import math
import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from figures import clipping_norms, learning_curves, radius_length_map, remedies, success_rate, training_results
from study.report import facets, measures, reader, style
from study.report.findings import Study
from study.report.page_tables import how_measured, notes_of
from study.report.sentences import training
from study.report.sentences.checks import check_sentence
from study.report.sentences.training_change import changes_by_value, split_axis
from study.report.sentences.training_headline import training_headline
from study.report.words import name_of, named, plain, plural_of, singular_of, value_of
from study.settings import axis_label
from tests.figures.drawn import make_check, render, write_tables
from tests.page.frames import frame, regressed, start, trained
from tests.page.test_truth import SUCCEED, TRAIN, page_of, until


def sentences(runs: list[dict[str, Any]]) -> list[str]:
    return list(map(plain, Study(frame(runs)).sentences))


def headline(runs: list[dict[str, Any]]) -> str:
    study = Study(frame(runs))
    return plain(training_headline(study, study.trained_parts))


def verdicts(runs: list[dict[str, Any]]) -> list[str]:
    return [plain(row.verdict) for table in Study(frame(runs)).tables if table.part.trains for row in table.rows]


# ---- one, two, all and none


def test_what_is_said_of_all_runs_knows_one_and_two() -> None:
    """The page said "all 1 break down", "stay finite in all 1" and "all 2"."""
    one = [trained(math.nan)]
    assert any(
        "the one run does not come to the end of its training: it breaks down" in text for text in sentences(one)
    )
    assert "The one run on digits does not break down: loss, gradients and parameters stay finite." in sentences(
        [trained(0.5)]
    )
    two = [trained(math.nan, clipping=rule) for rule in ("none", "norm:1.0")]
    assert any("no run comes to the end of its training: both break down" in text for text in sentences(two))
    assert any("stay finite in both." in text for text in sentences([trained(0.5, seed=s) for s in (0, 1)]))
    assert any("stay finite in all 3." in text for text in sentences([trained(0.5, seed=s) for s in (0, 1, 2)]))


def test_one_check_is_made_once() -> None:
    """Under the title stood "engine compared with PyTorch 1 times, worst relative error"."""
    checks = pd.DataFrame([make_check({})])
    assert plain(check_sentence(checks)).startswith("engine compared with PyTorch once, relative error 1 × 10⁻¹⁵")
    twice = plain(check_sentence(pd.concat([checks, checks])))
    assert twice.startswith("engine compared with PyTorch 2 times, worst relative error")


def test_one_update_is_no_updates() -> None:
    """The page said "Success takes 1 updates" and "within 1 updates"."""
    done = {"task": "temporal_order", "success": True, "updates_to_success": 1.0, "success_below": 0.1, "updates": 1}
    (text,) = [text for text in sentences([trained(1.0, seed=s, **done) for s in range(3)]) if "Success" in text]
    assert text.endswith("within 1 update. Success takes 1 update.")


def test_one_run_that_succeeds_is_the_one_run() -> None:
    """The page said "1 of 1 runs succeed (21 % to 100 %)", and of a network that vanishes "none of 1 stay"."""
    done = {"task": "temporal_order", "success_below": 0.1, "updates": 9}
    assert "On temporal_order, the one run succeeds, within 9 updates. Success takes 4 updates." in sentences(
        [trained(1.0, success=True, updates_to_success=4.0, **done)]
    )
    assert any(
        "the one run does not succeed, within 9 updates." in s for s in sentences([trained(0.3, success=False, **done)])
    )
    assert [plain(row.verdict) for row in Study(frame([start(-1.0)])).tables[0].rows] == ["the one does not stay"]


def test_a_setting_that_lost_every_run_is_never_the_best() -> None:
    """Its runs count with the baseline. Where the others are below that, "the best mean accuracy" was of a setting without a result."""
    runs = [
        trained(a, seed=s, clipping=c)
        for c, a in (("none", math.nan), ("norm:1.0", 0.05), ("norm:0.1", 0.02))
        for s in range(3)
    ]
    (best,) = [text for text in sentences(runs) if "the best mean held-out accuracy" in text]
    assert "of 3 settings is 5 %" in best and "for norm:1.0." in best
    part = Study(frame(runs)).trained_parts[0]
    assert training._ranked(part, "clipping", part.runs) == ["norm:1.0", "norm:0.1", "none"]


def test_half_of_the_time_is_said_where_it_is_not_the_most() -> None:
    """ "Success takes between 90 and 120 updates, half of the time at most 120"."""
    done = {"task": "temporal_order", "success": True, "success_below": 0.1, "updates": 120}
    said = " ".join(
        sentences([trained(1.0, seed=s, updates_to_success=n, **done) for s, n in enumerate((90.0, 120.0, 120.0))])
    )
    assert "Success takes between 90 and 120 updates." in said
    said = " ".join(
        sentences([trained(1.0, seed=s, updates_to_success=n, **done) for s, n in enumerate((90.0, 100.0, 120.0))])
    )
    assert "Success takes between 90 and 120 updates, half of the time at most 100." in said


def test_a_range_of_seeds_says_so_where_a_seed_has_several_runs() -> None:
    """ "none of 28 (0 % to 35 %)" is a riddle: of 28 runs the range would end at 12 %. It is that of seven seeds."""
    runs = [
        trained(math.nan if c == "none" and r == 0.1 else 0.5, seed=s, clipping=c, learning_rate=r, success=False, success_below=0.1, task="temporal_order")
        for s in range(7) for c in ("none", "norm:1.0") for r in (0.01, 0.03, 0.1, 0.3)
    ]  # fmt: skip
    said = sentences(runs)
    (asked,) = [text for text in said if "within 9 updates" in text]
    (broke,) = [text for text in said if "runs break down because" in text]
    for text in (asked, broke):
        assert (
            "none of 28" in text
            and "0 % to 35 %" in text
            and "These ranges are of seven seeds, not of single runs." in text
        )
    assert not any("These ranges" in text for text in sentences([run for run in runs if run["learning_rate"] == 0.1]))


def test_a_range_of_values_taken_together_is_one_of_seeds() -> None:
    """ "none of 66 (0 % to 39 %) with norm:10.0 and eight more": of each rule a run a seed, of all of them eleven."""
    rules = ("none", "norm:10.0", "norm:1.0", "value:0.1")
    runs = [trained(math.nan if c == "none" else 0.5, seed=s, clipping=c) for s in range(6) for c in rules]
    (broke,) = [text for text in sentences(runs) if "runs break down because" in text]
    assert "none of 18 (0 % to 39 %)" in broke and "These ranges are of six seeds, not of single runs." in broke


def test_one_network_stays() -> None:
    """A cell of the table said "1 of 1 stay"."""
    assert [plain(row.verdict) for row in Study(frame([start(0.0)])).tables[0].rows] == ["1 of 1 stays"]
    assert [plain(row.verdict) for row in Study(frame([start(0.0, seed=s) for s in (0, 1)])).tables[0].rows] == [
        "2 of 2 stay"
    ]


def test_networks_that_all_do_the_same_are_counted_once() -> None:
    """Beside "12 of 12 networks keep their gradient" stood "gradients stay within a factor of 100 for all networks"."""
    alike = [start(0.0, seed=s, cell=cell) for s in range(6) for cell in ("gru", "lstm")]
    text = " ".join(sentences(alike))
    assert (
        "12 of 12 networks keep their gradient" in text
        and "all networks" not in text
        and "In every network" not in text
    )
    apart = [start(0.0 if cell == "gru" else -1.0, seed=s, cell=cell) for s in range(6) for cell in ("gru", "lstm")]
    assert "In every network, gradients stay within a factor of 100 for gru. They vanish for lstm." in " ".join(
        sentences(apart)
    )


def test_no_length_at_which_a_radius_keeps_the_gradient_is_said_once() -> None:
    """The page said the same of T = 9 and of T = 3, in two sentences."""
    runs = [
        start(-5.0, seed=s, spectral_radius=r, sequence_length=T) for s in range(3) for r in (0.5, 0.9) for T in (3, 9)
    ]
    assert (
        "At both T = 3 and T = 9, no ρ tried lets every network keep its gradient within a factor of 100."
        in sentences(runs)
    )


def test_a_map_without_a_change_counts_settings_once() -> None:
    """Of how many settings was said twice. (None and all: ``test_several_sweeps.py``.)"""
    cells = pd.DataFrame([{"kind": i, "T": T, "stay": i < 1} for T in (4, 9) for i in range(2)])
    assert plain(radius_length_map._title(cells)) == (
        "Longer sequences leave as many settings in which every network keeps its gradient: 1 of 2 at T = 4, 1 at T = 9."
    )


# ---- results that are the same


def test_the_same_results_are_not_called_an_unclear_difference() -> None:
    """Where gru and lstm both had 100 %, a headline said "no clear difference between gru and lstm"."""
    perfect = [trained(1.0, seed=s, cell=cell) for s in range(6) for cell in ("gru", "lstm")]
    assert headline(perfect) == "On digits, gru and lstm give the same results."
    other = [
        trained(1.0 - 0.1 * (cell == "gru") * (s - 2.5), seed=s, cell=cell)
        for s in range(6)
        for cell in ("gru", "lstm")
    ]
    assert headline(other) == "On digits, no clear difference between gru and lstm."


def test_a_largest_difference_of_nothing_is_none() -> None:
    """With two seeds and equal results: "the largest mean difference is 0 points (0 to 0; 2 seeds) for adamw against adam"."""
    runs = [trained(0.75, seed=s, optimizer=name) for s in (0, 1) for name in ("adam", "adamw")]
    assert "On digits, adam and adamw give the same results, run by run." in sentences(runs)
    assert not any("largest mean difference" in text for text in sentences(runs))


# ---- many values


RATES = [round(0.001 * 1.5**i, 6) for i in range(15)]


def of_rates(best: int) -> list[dict[str, Any]]:
    return [
        trained(0.9 - 0.02 * abs(i - best) ** 1.5 + 0.001 * s, seed=s, learning_rate=rate)
        for i, rate in enumerate(RATES) for s in range(8)
    ]  # fmt: skip


def test_of_many_values_the_best_is_ahead_of_those_that_it_is_compared_with() -> None:
    """Of 15 learning rates neighbours are compared. The page said that one "learns best of the 15", and "0.001 better than 0.29"."""
    text = " ".join(sentences(of_rates(best=6)))
    best = f"learning rate = {named('learning_rate', RATES[6]).partition('= ')[2]}"
    assert f"{best} has the best mean of the 15 learning rates, clearly ahead: +2 points" in text
    assert "Of so many learning rates, neighbours and the two ends are compared." in text and "learns best" not in text
    (verdict,) = verdicts(of_rates(best=6))
    assert verdict.startswith(f"{best} better than learning rate = ")
    assert headline(of_rates(best=6)).startswith(f"On digits, {best} is clearly better than learning rate = ")


def test_of_many_values_without_a_difference_neighbours_are_named() -> None:
    runs = [
        trained(0.5 + 0.01 * ((3 * s + i) % 5), seed=s, learning_rate=r) for i, r in enumerate(RATES) for s in range(8)
    ]
    assert headline(runs) == "On digits, no clear difference between neighbouring learning rates."


def test_a_verdict_is_about_the_best_value() -> None:
    """Of three optimisers the largest clear difference was told, whichever two it was between."""
    level = {"adam": 0.80, "adamw": 0.79, "sgd": 0.3}
    runs = [
        trained(level[o] + 0.001 * s + 0.03 * (o == "adamw") * (s % 2), seed=s, optimizer=o)
        for o in level
        for s in range(8)
    ]
    means = {o: sum(r["held_out_accuracy"] for r in runs if r["optimizer"] == o) for o in level}
    best = max(means, key=lambda o: means[o])
    assert verdicts(runs)[0].startswith(f"{best} better than sgd: ")


# ---- settings with names of their own, or none


@pytest.mark.parametrize(
    ("axis", "value", "text"),
    [
        ("loss_at", "every", "loss at every step"), ("loss_at", "last", "loss at the last step"), ("flossing", 200, "flossing for 200 updates"),
        ("flossing", 0, "no flossing"), ("updates", 1, "training for 1 update"), ("omega", 0.0, "no Ω"), ("omega", 4.0, "Ω weight = 4"),
        ("weight_decay", 0.0, "no weight decay"), ("weight_decay", 0.01, "weight decay = 0.01"), ("chrono", None, "no chrono biases"),
    ],
)  # fmt: skip
def test_a_value_is_named_by_what_it_means(axis: str, value: Any, text: str) -> None:
    """Headlines said "loss at every is clearly better than loss at last", and "flossing = 0"."""
    assert named(axis, value) == text


def test_every_axis_has_a_singular_and_a_plural_that_are_english() -> None:
    """The page would have said "loss ats", "updateses" and "success belows"."""
    for axis in ("loss_at", "updates", "success_below", "flossing", "weight_decay", "omega", "cell_options"):
        assert plural_of(axis).split()[0] in ("places", "numbers", "thresholds", "values", "weights", "variants"), (
            plural_of(axis)
        )
    assert singular_of("flossing") == "number of flossing updates" and singular_of("updates") == "number of updates"


def test_a_setting_without_a_value_is_a_dash_in_a_table() -> None:
    """Under "chrono T_max" stood "no chrono T_max", row after row."""
    assert value_of("forget_bias", math.nan) == "–" and value_of("truncation", None) == "full gradient"


def test_a_setting_that_another_stands_for_is_not_compared() -> None:
    """The page said "no forget bias b learns best of the four forget biases": those networks had chrono biases."""
    level = {0.0: 0.4, 1.0: 0.5, 2.0: 0.6}
    runs = [
        trained(level[b] + 0.01 * s, seed=s, cell=c, forget_bias=b)
        for b in level
        for c in ("gru", "lstm")
        for s in range(8)
    ]
    runs += [trained(0.7 + 0.01 * s, seed=s, cell=c, chrono=64) for c in ("gru", "lstm") for s in range(8)]
    text = " ".join(sentences(runs))
    assert "forget bias b = 2 learns best of the three forget biases" in text and "no forget bias" not in text
    assert "In 2 of 2 single settings, no other mean is better." in text
    assert "chrono T_max = 64 learns better" in text and "against no chrono biases" in text
    assert measures.comparable(frame(runs), "forget_bias") == [0.0, 1.0, 2.0]
    assert measures.comparable(frame(runs), "chrono") == [None, 64.0]


def test_a_step_that_only_one_cell_has_is_not_compared_with_none() -> None:
    """A residual step "learns better than no residual step η" was a residual cell against a vanilla one."""
    runs = [trained(0.4 + 0.01 * s, seed=s, cell="vanilla") for s in range(6)]
    runs += [
        trained(a + 0.01 * s, seed=s, cell="residual", residual_step=e)
        for s in range(6)
        for e, a in ((0.1, 0.8), (0.2, 0.6))
    ]
    text = " ".join(sentences(runs))
    assert measures.comparable(frame(runs), "residual_step") == [0.1, 0.2]
    assert "η = 0.1 learns better: +20 points" in text and "no residual step" not in text
    assert measures.comparable(frame([trained(0.5, truncation=k) for k in (None, 3)]), "truncation") == [None, 3]


def test_runs_that_train_longer_are_another_setting() -> None:
    """Runs of 10 and of 100 updates stood in one mean, without a word."""
    runs = [
        trained(0.3 + 0.3 * (u == 100) + 0.01 * s, seed=s, updates=u, clipping=c)
        for u in (10, 100)
        for c in ("none", "norm:1.0")
        for s in range(6)
    ]
    text = " ".join(sentences(runs))
    assert "the best mean held-out accuracy of 4 settings is 62 %" in text
    assert "training for 100 updates learns better: +30 points" in text
    part = Study(frame(runs)).trained_parts[0]
    assert part.column == "clipping" and part.rows == ["updates"]


# ---- figures


def tables_of(folder: Path, runs: list[dict[str, Any]]) -> reader.Tables:
    return reader.Tables(write_tables(folder, runs))


def claims(module: Any, tables: reader.Tables) -> tuple[str, list[str]]:
    facts = module.facts(module.frame(tables), tables.study)
    return plain(facts["title"]), list(map(plain, facts["claims"]))


def test_remedies_that_are_as_good_share_the_lead(tmp_path: Path) -> None:
    """Of two cells with 100 % in every seed, one had "the highest accuracy, not clearly ahead of the other"."""
    runs = [
        TRAIN | {"cell": c, "seed": s, "accuracy": a}
        for c, a in (("gru", 1.0), ("lstm", 1.0), ("vanilla", 0.2))
        for s in range(6)
    ]
    _, said = claims(remedies, tables_of(tmp_path, runs))
    assert (
        "The held-out accuracy is highest for gru and lstm: 100 % (100 % to 100 %, a 95 % interval), clearly ahead of the other."
        in said
    )
    assert any(text.startswith("The held-out loss is the same for all remedies, seed by seed: 0.5") for text in said)


def test_an_interval_of_accuracies_stays_between_nothing_and_all(tmp_path: Path) -> None:
    """It went from −240 % to 389 %."""
    runs = [TRAIN | {"optimizer": o, "seed": s, "accuracy": 0.5 + 0.5 * s} for o in ("adam", "sgd") for s in (0, 1)]
    _, said = claims(remedies, tables_of(tmp_path, runs))
    assert any("75 % (0 % to 100 %, a 95 % interval)" in text for text in said)


def test_remedies_that_seldom_succeed_have_no_number_of_updates(tmp_path: Path) -> None:
    """ "The number of updates to success is lowest for adam: ∞ (3 to ∞)"."""
    runs = [
        SUCCEED | {"sequence_length": 6, "optimizer": o, "seed": s} | until(3 if s == 0 else None)
        for o in ("adam", "sgd")
        for s in range(6)
    ]
    _, said = claims(remedies, tables_of(tmp_path, runs))
    assert (
        "The number of updates to success cannot be compared: with no remedy do more than half of the runs succeed."
        in said
    )


def test_remedies_say_which_task_they_are_of(tmp_path: Path) -> None:
    runs = [TRAIN | {"optimizer": o, "seed": s} for o in ("adam", "sgd") for s in range(4)]
    runs += [
        TRAIN | {"task": "input_mean", "accuracy": None, "optimizer": o, "seed": s}
        for o in ("adam", "sgd")
        for s in range(3)
    ]
    _, said = claims(remedies, tables_of(tmp_path, runs))
    assert "These are the runs on digits. The tables have those on input_mean, too." in said


def test_rules_that_clip_as_often_share_a_headline(tmp_path: Path) -> None:
    """ "norm:1.0 clips 100 % of all updates, zclip:2.5 100 %" left out a third rule with 100 %."""
    rules = ("norm:1.0", "value:0.5", "parameter:0.3")
    runs = [TRAIN | {"clipping": c, "seed": s, "norm": 2.0} for c in rules for s in range(3)]
    title, said = claims(clipping_norms, tables_of(tmp_path, runs))
    assert title == "Every rule clips 100 % of all updates; no run breaks down." and not any(
        "Over all runs" in text for text in said
    )


def test_runs_that_all_break_down_are_counted_once(tmp_path: Path) -> None:
    """ "Without clipping 1 of 1 runs break down; with it, 1 of 1, and 100 % of updates are cut"."""
    runs = [TRAIN | {"breaks_at": 1, "clipping": c, "norm": 2.0} for c in ("none", "norm:1.0")]
    title, _ = claims(clipping_norms, tables_of(tmp_path, runs))
    assert title == "Every one of 2 runs breaks down, with or without clipping."


def test_of_many_curves_it_is_said_how_many_are_drawn(tmp_path: Path) -> None:
    """ "Of the values of learning rate, eight are drawn."."""
    runs = [TRAIN | {"learning_rate": rate, "seed": s} for rate in RATES for s in (0, 1)]
    title, said = claims(learning_curves, tables_of(tmp_path, runs))
    assert "Of the learning rates, eight are drawn. The tables have all." in said
    assert title == "On digits, all 30 runs end training below the held-out loss of a prediction without memory."


def test_every_run_of_several_tasks_is_one_count(tmp_path: Path) -> None:
    runs = [
        TRAIN | {"task": t, "accuracy": a, "seed": s}
        for t, a in (("digits", 0.5), ("input_mean", None))
        for s in range(3)
    ]
    title, _ = claims(learning_curves, tables_of(tmp_path, runs))
    assert title == "Every run ends its training below the held-out loss of a prediction without memory."


def test_success_within_one_update(tmp_path: Path) -> None:
    runs = [SUCCEED | {"updates": 1, "trace_every": 1, "sequence_length": 6, "seed": s} | until(1) for s in range(3)]
    _, said = claims(success_rate, tables_of(tmp_path, runs))
    assert any(text.endswith("wrongly, within 1 update.") for text in said)


def test_a_regression_ranks_by_its_loss() -> None:
    """Of a loss the smaller one is better: the verdict is about the best value there, too."""
    level = {"adam": 0.2, "adamw": 0.3, "sgd": 0.9}
    runs = [regressed(level[o] * (1 + 0.001 * s), seed=s, optimizer=o) for o in level for s in range(8)]
    assert verdicts(runs)[0].startswith("adam better than sgd: a loss 4.5 times lower")


def test_many_columns_have_heads_without_the_name_of_their_axis() -> None:
    """Fifteen heads said "learning rate = …", and the table ran out of the page."""
    study = Study(frame(of_rates(best=6)))
    table = next(table for table in study.tables if table.part.trains)
    assert (
        table.by == "learning rate"
        and table.heads[:2] == ["0.001", "0.0015"]
        and table.columns[0] == "learning rate = 0.001"
    )
    few = Study(frame([trained(0.5, seed=s, learning_rate=r) for s in (0, 1) for r in (0.1, 0.2)]))
    assert few.tables[0].by == "" and few.tables[0].heads == few.tables[0].columns
    rules = Study(frame([trained(0.5, clipping=f"norm:{i}.5") for i in range(8)]))
    assert rules.tables[0].by == "" and rules.tables[0].heads[0] == "norm:7.5"


# ---- what a result is measured by


def test_copy_memory_has_a_baseline_for_every_lag() -> None:
    """The page said "always naming the commonest class gets 74 %": the mean over four lags, of no run."""
    lag = {5: 0.6, 20: 0.75, 50: 0.86}
    copy = {"task": "copy_memory", "loss_at": "every"}
    runs = [
        trained(0.99 if T == 5 else 0.8, seed=s, sequence_length=T, **copy) | {"baseline_accuracy": b}
        for T, b in lag.items()
        for s in range(6)
    ]
    (text,) = [text for text in sentences(runs) if "commonest class" in text]
    assert (
        "with T = 5, held-out accuracy is 99 % (99 % to 99 %; 6 seeds). Always naming the commonest class gets 60 % there."
        in text
    )
    assert (
        "With T = 50, held-out accuracy is 80 % (80 % to 80 %; 6 seeds). Always naming the commonest class gets 86 % there, which it does not beat."
        in text
    )


def test_a_baseline_of_the_config_is_not_called_constant() -> None:
    """With ``baseline: 0.4`` in a config, "the best constant prediction gets 0.4" is made up."""
    own = [regressed(0.2, seed=s) | {"task": "heights", "data": "abc"} for s in range(6)]
    assert any(text.endswith("A prediction without memory gets 2.3.") for text in sentences(own))
    assert headline(own).endswith("a held-out loss of 0.2; a prediction without memory gets 2.3.")
    ours = [regressed(0.2, seed=s) for s in range(6)]
    assert any(text.endswith("The best constant prediction gets 2.3.") for text in sentences(ours))


def test_baselines_in_a_figure_are_those_of_its_settings(tmp_path: Path) -> None:
    """One dashed line went through all lags of copy memory."""
    copy = {"task": "copy_memory", "loss_at": "every", "updates": 4}
    tables = tables_of(tmp_path, [copy | {"sequence_length": T, "seed": s} for T in (5, 20, 50) for s in (0, 1)])
    data = training_results.frame(tables)
    data["baseline"] = data["sequence_length"].map({5: 0.6, 20: 0.75, 50: 0.86})
    with style.theme():
        (ax,) = training_results.draw(data).axes
    dashed = [line for line in ax.lines if line.get_gid() == "baseline"]
    assert [float(line.get_ydata()[0]) for line in dashed] == [0.6, 0.75, 0.86]
    assert any(text.get_text() == "commonest\nclass: 86 %" for text in ax.texts)
    study = tables.study
    for part in study.trained_parts:
        part.runs["baseline"] = part.runs["sequence_length"].map({5: 0.6, 20: 0.75, 50: 0.86})
    facts = training_results.facts(data, study)
    assert "Always naming the commonest class is right in 60 % to 86 %." in map(plain, facts["claims"])
    assert "it is the share of steps" in render("training_results", facts=facts | {"claims": []})


def test_success_of_a_regression_says_what_is_wrong(tmp_path: Path) -> None:
    """ "fewer than 1 % of the held-out sequences wrongly": how far off is wrong, was nowhere said."""
    runs = [
        SUCCEED | {"task": t, "sequence_length": 10, "seed": s} | until(2)
        for t in ("adding", "copy_memory", "temporal_order")
        for s in (0, 1)
    ]
    _, said = claims(success_rate, tables_of(tmp_path, runs))
    (text,) = [text for text in said if text.startswith("A run succeeds")]
    assert text.endswith(
        "On adding, an answer is wrong if it is more than 0.2 off. On copy_memory, an answer is wrong if any of its ten symbols is."
    )


@pytest.mark.parametrize(
    ("module", "words"),
    [(clipping_norms, "marks a run whose norm leaves"), (learning_curves, "marks a line that leaves")],
)
def test_a_caption_explains_triangles_where_there_are_some(tmp_path: Path, module: Any, words: str) -> None:
    """Captions explained a mark that no panel had."""
    runs = [TRAIN | {"clipping": c, "seed": s, "norm": 0.5 + 0.1 * s} for c in ("none", "norm:1.0") for s in range(3)]
    tables = tables_of(tmp_path, runs)
    data = module.frame(tables)
    name = module.__name__.rpartition(".")[2]
    assert words not in render(name, facts=module.facts(data, tables.study) | {"claims": []})
    high = data.copy()
    last = (high["clipping"] == "none") & (high["update"] == high["update"].max())
    high.loc[
        last & ((module is learning_curves) | (high["seed"] == 0)), ["before", "loss"][module is learning_curves]
    ] = 1e9
    assert words in render(name, facts=module.facts(high, tables.study) | {"claims": []})
    with style.theme():
        marks = [line for ax in module.draw(high).axes for line in ax.lines if line.get_gid() == "above"]
        none = [line for ax in module.draw(data).axes for line in ax.lines if line.get_gid() == "above"]
    assert marks and not none


def test_values_that_are_all_alike_have_an_axis(tmp_path: Path) -> None:
    """Three ticks said "10 %", and others "−1 × 10⁻¹⁷"."""
    runs = [
        TRAIN | {"clipping": c, "seed": s, "accuracy": 0.1, "rate": 0.0} for c in ("none", "norm:1.0") for s in (0, 1)
    ]
    data = remedies.frame(tables_of(tmp_path, runs))
    with style.theme():
        figure = remedies.draw(data)
        figure.draw_without_rendering()
    for ax in figure.axes:
        low, high = ax.get_xlim()
        labels = [tick.label1.get_text() for tick in ax.xaxis.get_major_ticks() if low <= tick.get_loc() <= high]
        assert len(labels) == len(set(labels)) and not any("10⁻" in label for label in labels), labels


def test_a_unit_is_not_said_twice() -> None:
    """An axis was labelled "updates (updates)"."""
    assert (
        axis_label("updates") == "updates"
        and axis_label("flossing") == "flossing (updates)"
        and axis_label("sequence_length") == "sequence length T (steps)"
    )


def test_a_cross_of_one_seed_is_its_run(tmp_path: Path) -> None:
    """The legend of a study with one seed said "half of the seeds have broken down"."""
    for seeds, words in ((1, "the run has broken down"), (3, "half of the seeds have broken down")):
        runs = [TRAIN | {"clipping": c, "seed": s, "breaks_at": 1} for c in ("none", "norm:1.0") for s in range(seeds)]
        (tmp_path / words).mkdir()
        tables = tables_of(tmp_path / words, runs)
        data = learning_curves.frame(tables)
        with style.theme():
            (legend,) = learning_curves.draw(data).legends
        assert words in [text.get_text() for text in legend.get_texts()]
        caption = render("learning_curves", facts=learning_curves.facts(data, tables.study) | {"claims": []})
        assert ("its run has broken down" if seeds == 1 else "half of its seeds have broken down") in caption


# ---- several tasks


def three_tasks() -> list[dict[str, Any]]:
    clear = {"temporal_order_3": 0.2}
    return [
        SUCCEED | {"task": t, "optimizer": o, "learning_rate": r, "sequence_length": 10, "seed": s}
        | until(None if t == "copy_memory" else 2) | {"accuracy": 0.3 + 0.02 * ((s * 3) % 4) + clear.get(t, 0.0) * (r == 0.03)}
        for t in ("adding", "copy_memory", "temporal_order_3") for o in ("adam", "adamw") for r in (0.003, 0.03) for s in range(6)
    ]  # fmt: skip


def test_success_at_one_length_is_told_once(tmp_path: Path) -> None:
    """Half of an answer listed "6 of 6 for adding: learning rate = 0.003 …" for every panel; the findings count the same runs."""
    tables = tables_of(tmp_path, three_tasks())
    data = success_rate.frame(tables)
    facts = success_rate.facts(data, tables.study)
    said = list(map(plain, facts["claims"]))
    assert list(map(plain, facts["answer"])) == [
        "For adding, copy_memory and temporal_order_3, as many runs succeed with adam as with adamw, seed by seed."
    ]
    (adam,) = [text for text in said if text.startswith("With adam,")]
    assert (
        adam.count("6 of 6") == 1
        and "6 of 6 runs succeed (61 % to 100 %) for adding: learning rate = 0.003, adding: learning rate = 0.03"
        in adam
    )
    assert "If length did not" not in render("success_rate", facts=facts | {"claims": []})


def test_none_is_a_word_in_a_count_of_successes() -> None:
    """ "0 of 24 runs with adam succeed"."""
    runs = [
        trained(0.2, seed=s, optimizer=o, success=False, success_below=0.1) for s in range(6) for o in ("adam", "sgd")
    ]
    assert (
        "On digits, none of 6 runs with adam succeed (0 % to 39 %) and none of 6 with sgd (0 % to 39 %), within 9 updates. More updates might change that."
        in sentences(runs)
    )


def test_a_headline_is_about_the_task_with_a_clear_finding() -> None:
    """That of three tasks said "On adding, no clear difference", and left out what was found on another."""
    level = {"adding": 0.0, "copy_memory": 0.0, "temporal_order_3": 0.3}
    runs = [
        trained(0.3 + gain * (o == "adam") + 0.03 * ((3 * s + (o == "sgd")) % 4), seed=s, task=t, optimizer=o, learning_rate=r)
        for t, gain in level.items() for o in ("adam", "sgd", "momentum") for r in (0.1, 0.2) for s in range(8)
    ]  # fmt: skip
    assert headline(runs).startswith("On temporal_order_3, adam is on average clearly better than ")


def test_what_no_setting_beats_is_said() -> None:
    """A best mean of 0.0861 beside 0.0833 of a constant: nobody was told that nothing had been learnt."""
    runs = [regressed(2.5 + 0.1 * (o == "sgd"), seed=s, optimizer=o) for o in ("adam", "sgd") for s in range(6)]
    assert any(
        text.endswith("The best constant prediction gets 2.3, which no setting beats.") for text in sentences(runs)
    )
    assert any(text.endswith("gets 2.3, which it does not beat.") for text in sentences([regressed(2.5)]))
    assert any(text.endswith("gets 10 %.") for text in sentences([trained(0.5)]))


def test_a_size_stands_behind_a_colon() -> None:
    """ "truncation window = 1 +10 points" was read as 1 + 10."""
    runs = [trained(0.5 - 0.1 * (k == 1) + 0.01 * s, seed=s, truncation=k) for k in (None, 1) for s in (0, 1)]
    assert verdicts(runs) == [
        "too few seeds to tell: full gradient against truncation window = 1: +10 points (+10 to +10; 2 seeds)"
    ]


def test_settings_without_any_difference_have_no_size() -> None:
    """ "a loss 0 % lower (0 % to 0 %) for learning rate = 0.003 (no weight decay)"."""
    runs = [
        regressed(0.5 * (1 + 0.05 * ((s % 3) - 1) * (o == "adam") * (w > 0)), seed=s, optimizer=o, learning_rate=r, weight_decay=w)
        for o in ("adam", "adamw") for r in (0.01, 0.1) for w in (0.0, 0.01) for s in range(6)
    ]  # fmt: skip
    (text,) = [text for text in sentences(runs) if "between adamw and adam" in text or "between adam and adamw" in text]
    assert (
        "0 % lower (0 % to 0 %)" not in text and "In two other settings the results are the same, run by run." in text
    )


# ---- sweeps beside each other


def test_a_sentence_of_a_sweep_goes_on_in_small_letters() -> None:
    """ "Sweep once: Its growth rate differs from what theory predicts": whose?"""
    one = {"predicted_rate": 0.1, "predicted_by": "mean field", "deviation": 0.14}
    runs = [
        trained(0.5, sweep=sweep, hidden_size=H) | one | {"growth_rate": 0.24}
        for sweep, H in (("once", 8), ("twice", 16))
    ]
    said = sentences(runs)
    assert "Sweep once: the growth rate of the one network differs from what theory predicts by +0.14 a step." in said
    after = [text.partition(": ")[2] for text in said if text.startswith("Sweep ")]
    assert after and all(text[0].islower() or not text[0].isalpha() for text in after), after


def test_training_traces_count_within_a_sweep(tmp_path: Path) -> None:
    """ "With no clipping, training raises this share in 3 of 32 runs" counted a sweep that asks about truncation windows."""
    rules = [
        TRAIN | {"sweep": "rules", "clipping": c, "seed": s, "ends": (0,)}
        for c in ("none", "norm:1.0")
        for s in range(4)
    ]
    windows = [
        TRAIN | {"sweep": "windows", "task": "input_mean", "accuracy": None, "truncation": k, "seed": s}
        for k in (None, 2)
        for s in range(4)
    ]
    tables = tables_of(tmp_path, rules + windows)
    parts = tables.study.trained_parts
    runs = pd.concat([part.runs.assign(part=i, first=0.0, final=0.0) for i, part in enumerate(parts)])
    runs.loc[(runs["clipping"] == "norm:1.0"), "final"] = 1.0
    runs.loc[(runs["truncation"] == 2), "final"] = -1.0
    assert split_axis(parts, runs) is None  # no axis is swept by both
    said = [plain(changes_by_value(part, runs[runs["part"] == i], f"sweep {i}")) for i, part in enumerate(parts)]
    assert (
        sorted(said)[1].startswith("With no clipping (sweep ")
        and "in none of 4 runs and lowers it in none." in sorted(said)[1]
    )
    assert (
        sorted(said)[0].startswith("With full gradient (sweep ")
        and "With truncation window = 2, it raises it in none of 4 and lowers it in 4." in sorted(said)[0]
    )


def test_curves_that_lie_on_each_other_are_told_group_by_group() -> None:
    """ "no clipping and zclip:2.5 and norm:1.0 and adagc:1.05": which on which?"""
    assert learning_curves._groups([["a", "b"], ["c", "d"], ["a", "b"]]) == "a and b; c and d"
    assert learning_curves._groups([["a", str(i)] for i in range(5)]) == "a and 0; a and 1; three more groups"


def test_no_run_that_learns_is_no_count(tmp_path: Path) -> None:
    """ "0 of 4 runs (input_mean) and 0 of 2 (digits) end training below …"."""
    runs = [
        TRAIN | {"task": t, "accuracy": a, "seed": s, "breaks_at": 1}
        for t, a in (("digits", 0.1), ("input_mean", None))
        for s in range(2)
    ]
    runs[0].pop("breaks_at")
    runs[0]["norm"] = 1.0
    tables = tables_of(tmp_path, runs)
    data = learning_curves.frame(tables)
    losses = data.drop_duplicates("run_key").set_index("run_key")["last_loss"] + 9.0
    assert (
        plain(learning_curves.title(tables.study.trained_parts, losses))
        == "No run ends its training below the held-out loss of a prediction without memory."
    )


def test_two_that_broke_down_are_both(tmp_path: Path) -> None:
    """A panel said "all 2 broke down"."""
    runs = [TRAIN | {"clipping": c, "seed": s, "breaks_at": 1} for c in ("none", "norm:1.0") for s in range(2)]
    with style.theme():
        (ax,) = training_results.draw(training_results.frame(tables_of(tmp_path, runs))).axes
    assert [text.get_text() for text in ax.texts if text.get_gid() == "all broken"] == ["both\nbroke\ndown"] * 2


def test_a_setting_of_nothing_but_an_unset_value_has_its_name() -> None:
    """ "+6.8 points for all networks and +6.6 points for chrono T_max = 20"."""
    assert name_of({"chrono": None}) == "no chrono biases" and name_of({}) == "all networks"
    assert name_of({"cell": "gru", "chrono": math.nan}) == "gru"


def test_runs_of_a_sweep_are_not_on_it(tmp_path: Path) -> None:
    """ "Runs on stacks that end below that loss": stacks was the name of a sweep."""
    runs = [
        TRAIN | {"sweep": s, "hidden_size": H, "clipping": c, "seed": i}
        for s, H in (("stacks", 8), ("biases", 16))
        for c in ("none", "norm:1.0")
        for i in (0, 1)
    ]
    parts = tables_of(tmp_path, runs).study.trained_parts
    assert sorted(facets.of_part(part, parts) for part in parts) == [" of sweep biases", " of sweep stacks"]
    assert facets.of_part(parts[0], parts[:1]) == ""


def test_what_a_users_cell_has_not_names_no_other(tmp_path: Path) -> None:
    """A row of remedies was called "gru (tanh, gaussian, ρ = 1, no flossing, L = 1, input scale = 1, no Ω)"."""
    base = dict.fromkeys(("activation", "initializer", "spectral_radius", "flossing", "layers", "input_scale", "omega"))
    frame_of = [trained(0.5, cell="mamba", seed=s) | base for s in (0, 1)] + [
        trained(0.5, cell="gru", seed=s) for s in (0, 1)
    ]
    runs = frame(frame_of)
    assert [axis for axis in base if remedies._tells(runs, axis)] == [] and remedies._tells(runs, "cell")
    assert remedies._tells(frame([trained(0.5, truncation=k) for k in (None, 3)]), "truncation")
    assert remedies._tells(frame([trained(0.5), trained(0.5, cell="residual", residual_step=0.1)]), "residual_step")


def test_the_best_of_a_range_may_be_its_end() -> None:
    """The largest of 15 learning rates was best, and no word said that a larger one may be better."""
    assert "It is the largest one tried." in " ".join(sentences(of_rates(best=14)))
    assert "It is the smallest one tried." in " ".join(sentences(of_rates(best=0)))
    assert "one tried" not in " ".join(sentences(of_rates(best=6)))


def test_counts_of_many_values_are_put_together(tmp_path: Path) -> None:
    """ "0 of 7 with learning rate = 0.001, 0 of 7 with learning rate = 0.002, … and ten more"."""
    tables = tables_of(tmp_path, [TRAIN | {"learning_rate": r, "seed": s} for r in RATES for s in (0, 1)])
    part = tables.study.trained_parts[0]
    losses = part.runs.set_index("run_key")["learning_rate"].map(lambda r: 9.0 if r < RATES[5] else 0.1)
    text = plain(learning_curves._by_value(part, [part], losses))
    assert text == (
        "Runs that end below that loss: none of 10 with learning rate = 0.001, learning rate = 0.0015 and three more; "
        "20 of 20 with learning rate = 0.007594, learning rate = 0.011391 and eight more."
    )  # fmt: skip


@pytest.mark.parametrize(
    ("took", "title", "said"),
    [
        ({"gru": 2, "lstm": 2}, "All 24 runs succeed.", []),
        ({"gru": None, "lstm": None}, "No run succeeds within the updates that it has.", []),
        ({"gru": 2, "lstm": None}, "12 of 12 runs succeed with gru and 0 of 12 with lstm.", ["With gru, every run succeeds.", "No run succeeds with lstm."]),
    ],
)  # fmt: skip
def test_all_and_none_succeed_in_words(tmp_path: Path, took: dict[str, Any], title: str, said: list[str]) -> None:
    """ "24 of 24 runs succeed with gru and 24 of 24 with lstm. With gru, the longest T at which a run succeeds is 12 …"."""
    runs = [
        SUCCEED | {"cell": c, "sequence_length": T, "seed": s} | until(at)
        for c, at in took.items()
        for T in (10, 12)
        for s in range(6)
    ]
    found, claimed = claims(success_rate, tables_of(tmp_path, runs))
    assert (
        found == title
        and [
            text
            for text in claimed
            if "succeed" in text and "A run succeeds" not in text and "ore runs" not in text and "As many" not in text
        ]
        == said
    )


def test_budgets_that_differ_are_all_said() -> None:
    """Runs had 200 or 400 updates; the page said "within 400 updates"."""
    runs = [
        trained(1.0, seed=s, updates=u, success=True, updates_to_success=2.0, success_below=0.1)
        for u in (5, 9)
        for s in range(3)
    ]
    assert any("within 5 or 9 updates." in text for text in sentences(runs))


def test_a_table_of_many_values_has_a_row_for_each(tmp_path: Path) -> None:
    """Of fifteen columns seven lay beyond the right edge of the page."""
    runs = [
        TRAIN | {"learning_rate": r, "cell": c, "seed": s, "accuracy": 0.5}
        for r in RATES
        for c in ("vanilla", "gru")
        for s in (0, 1)
    ]
    page, _ = page_of(tmp_path, runs)
    (table,) = re.findall(r'<table id="table-1".*?</table>', page, flags=re.DOTALL)
    assert re.findall(r'<th scope="col">(.*?)</th>', table) == ["learning rate", "vanilla", "gru"]
    assert (
        re.findall(r'<th scope="row"[^>]*>(.*?)</th>', table)[:2] == ["0.001", "0.0015"] and table.count("<tr>") == 17
    )
    assert table.count('class="words"') == 2 and table.count('data-column="gru"') == 15


def test_a_sweep_of_biases_asks_about_biases() -> None:
    """Its table set GRU against LSTM, and the clear finding on the bias stood in no verdict."""
    runs = [
        trained(0.4 + 0.1 * b + 0.01 * s, seed=s, cell=c, forget_bias=b)
        for b in (0.0, 2.0)
        for c in ("gru", "lstm")
        for s in range(8)
    ]
    part = Study(frame(runs)).trained_parts[0]
    assert part.column == "forget_bias" and part.rows == ["cell"]
    assert verdicts(runs)[0].startswith("forget bias b = 2 better than forget bias b = 0: +20 points")


def test_a_clear_mean_is_said_before_a_clear_single_setting() -> None:
    """A finding of +19 points stood far below "no clear difference, and clearly worse in 2 settings"."""
    runs = [
        trained(0.4 + 0.01 * ((s * 3) % 4) + (0.2 * (r == 0.03) if t == "zeta" else 0.05 * (r == 0.03) * (1 if o == "adam" else -1)), seed=s, task=t, optimizer=o, learning_rate=r)
        for t in ("alpha", "zeta") for o in ("adam", "sgd") for r in (0.003, 0.03) for s in range(8)
    ]  # fmt: skip
    said = sentences(runs)
    clear = next(i for i, text in enumerate(said) if text.startswith("On zeta, learning rate = 0.03 learns better"))
    mixed = next(
        i
        for i, text in enumerate(said)
        if text.startswith("On alpha") and "learning rate = 0.03 " in text and "clearly" in text
    )
    assert clear < mixed


# ---- losses beyond all bounds


def test_a_loss_beyond_all_bounds_does_not_set_the_scale(tmp_path: Path) -> None:
    """One run at 3 × 10²⁰⁰ made an axis from 10⁻¹⁹ to 10²¹⁶, and no other dot could be told from its neighbour."""
    runs = [
        TRAIN | {"task": "input_mean", "accuracy": None, "held_out_loss": loss, "clipping": rule, "seed": s}
        for rule, losses in (("none", (2.8e200, 7.9, 2.0)), ("norm:1.0", (0.5, 0.4, 1e2)))
        for s, loss in enumerate(losses)
    ]
    tables = tables_of(tmp_path, runs)
    data = training_results.frame(tables)
    with style.theme():
        (ax,) = training_results.draw(data).axes
    low, high = ax.get_ylim()
    assert low > 0.001 and high < 23.0 * 25  # the interval is drawn up to a decade beyond the runs
    (above,) = [each for each in ax.collections if each.get_gid() == "beyond"]
    assert sorted(y for _, y in above.get_offsets()) == pytest.approx([23.0, 23.0])
    _, said = claims(training_results, tables)
    assert "Triangles are runs with a loss more than ten times that of the dashed line: 2 of 6." in said
    caption = render("training_results", facts=training_results.facts(data, tables.study))
    assert "A triangle is a run whose loss is more than ten times that of the dashed line." in caption


# ---- what is clipped in one sweep alone


def test_what_is_said_of_clipping_names_the_sweep_that_clips(tmp_path: Path) -> None:
    """ "The highest norm before clipping is 1.7" was that of one sweep; another, which clips nothing, had 3.0 and was not mentioned."""
    runs = [
        TRAIN | {"clipping": c, "seed": s, "sweep": "ours", "norm": 0.2} for c in ("none", "norm:1.0") for s in (0, 1)
    ]
    runs += [TRAIN | {"cell": "gru", "seed": s, "sweep": "mine", "norm": 0.5} for s in (0, 1)]
    title, said = claims(clipping_norms, tables_of(tmp_path, runs))
    assert title == "Sweep ours: norm:1.0 clips 100 % of all updates; no run breaks down, with or without clipping."
    assert "These are the runs of sweep ours: nothing else in this study is clipped." in said
    assert any(each.startswith("Their highest norm before clipping is 1.6, ") for each in said)
    title, said = claims(clipping_norms, tables_of(tmp_path, runs[:4]))
    assert title.startswith("norm:1.0 clips") and any(each.startswith("The highest norm before") for each in said)


@pytest.mark.parametrize("rules", [3, 5, 6])
def test_words_above_a_panel_stay_above_it(tmp_path: Path, rules: int) -> None:
    """ "7 of 7 break down (×)" was printed over the neighbour's "of updates", and cut off at the edge."""
    every = ["none", *(f"norm:{i}.0" for i in range(1, rules))]
    runs = [
        TRAIN | {"clipping": c, "seed": s, "norm": 9.0, "breaks_at": 2 if r == 0.9 else None, "spectral_radius": r}
        for c in every for s in range(7) for r in (0.9, 1.2)
    ]  # fmt: skip
    with style.theme():
        figure = clipping_norms.draw(clipping_norms.frame(tables_of(tmp_path, runs)))
        figure.draw_without_rendering()
    boxes = [ax._left_title.get_window_extent() for ax in figure.axes]
    assert max(box.x1 for box in boxes) <= figure.bbox.x1
    for row in (boxes[:rules], boxes[rules:]):
        assert all(a.x1 + 6 < b.x0 for a, b in itertools.pairwise(row))  # pixels


def test_a_legend_has_each_colour_once_and_no_value_that_is_not_there(tmp_path: Path) -> None:
    """ "vanilla", of a sweep that asks about clipping, stood among the cells, in the blue of a clipping rule."""
    runs = [TRAIN | {"cell": c, "seed": s, "sweep": "mine"} for c in ("gru", "lstm") for s in (0, 1)]
    runs += [TRAIN | {"clipping": c, "seed": s, "sweep": "ours"} for c in ("none", "norm:1.0") for s in (0, 1)]
    looks = facets.hues(training_results.frame(tables_of(tmp_path, runs)))
    assert {asked: list(values) for asked, values in looks.items()} == {
        "cell": ["gru", "lstm"],
        "clipping": ["no clipping", "norm:1.0"],
    }
    paint = [colour for values in looks.values() for colour, _ in values.values()]
    assert (
        len(set(map(str, paint))) == 4
        and looks["clipping"]["norm:1.0"][0] == style.rule_colours(["norm:1.0"])["norm:1.0"]
    )


def test_a_curve_under_another_is_seen(tmp_path: Path) -> None:
    """ "no clipping" lay under a rule that hardly clips, less than a line's width away, and could not be seen."""
    medians = pd.DataFrame(
        [
            {"hue": h, "update": u, "middle": f * 2.0**-u}
            for h, f in (("a", 1.0), ("b", 1.001), ("c", 1.5))
            for u in range(8)
        ]
    )
    assert learning_curves.hiding(medians, ["a", "b", "c"], (0.005, 2.0)) == [["a", "b"], ["c"]]
    assert learning_curves.coinciding(medians, ["a", "b", "c"]) == [["a"], ["b"], ["c"]]
    data = learning_curves.frame(
        tables_of(tmp_path, [TRAIN | {"clipping": c, "seed": s} for c in ("none", "norm:1.0") for s in (0, 1)])
    )
    data["loss"] *= data["hue"].map({"no clipping": 1.0, "norm:1.0": 1.002}).astype(float)
    with style.theme():
        (ax,) = learning_curves.draw(data).axes
    below, above = (line for line in ax.lines if str(line.get_gid()).startswith("loss "))
    assert below.get_linewidth() > above.get_linewidth() and below.get_linestyle() == "-" != above.get_linestyle()


@pytest.mark.parametrize(
    ("line", "said"),
    [("all sequences have 9 steps", False), ("sequences have 4 to 9 steps, median 6; shorter ones end earlier", True)],
)
def test_last_steps_are_said_to_differ_where_they_do(line: str, said: bool, tmp_path: Path) -> None:
    """ "Each sequence of a file has a last step of its own" stood on the page of a file whose sequences all have as many steps."""
    study = reader.Tables(
        write_tables(tmp_path, [{"updates": 0, "task": "weather", "ends": (0,), "seed": s} for s in (0, 1)])
    ).study
    assert how_measured(study, {"weather": {"report": [line], "warnings": []}})["ends_apart"] == said
    assert (
        not how_measured(study)["ends_apart"]
        and not how_measured(study, {"other": {"report": [line], "warnings": []}})["ends_apart"]
    )


# ---- what the plan noted


def test_notes_of_the_plan_stand_on_the_page(tmp_path: Path) -> None:
    """The log said that adagc clips as norm:1.0 does, for training ends before its threshold acts; the page compared it and said nothing."""
    grid = {"task": "digits", "clipping": ["adagc:1.05", "none"], "updates": 60, "learning_rate": 0.1}
    config = {"gate": {"tolerance": {"float64": 1e-10}}, "sweeps": {"ours": {"seeds": 2, "grid": grid}}}
    data = {
        "weather": {
            "report": ["temps.csv: 9 rows", "sequences have 15 to 25 steps, median 21; shorter ones end earlier"],
            "warnings": [],
        }
    }
    notes = notes_of(config, data)
    assert notes == [
        "Sweep ours, clipping: adagc:1.05 clips as norm:1.0 does; its own threshold acts after 100 updates, and there are 60.",
        "Sequences of weather: sequences have 15 to 25 steps, median 21; shorter ones end earlier.",
    ]
    assert notes_of(config | {"sweeps": {"ours": {"seeds": 2, "grid": grid | {"updates": 200}}}}, {}) == []
    page = page_of(tmp_path, [TRAIN], sweeps=config["sweeps"])[0]
    assert notes[0] in page[page.index("How it was measured</h2>") :]
