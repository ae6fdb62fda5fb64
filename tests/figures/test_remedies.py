"""The figure of remedies: which is best by what, and that it says so only where the seeds do."""

from __future__ import annotations

import itertools
import json
import math
import re
from typing import Any

import numpy as np
import pandas as pd
import pytest

from figures import remedies
from study.report.words import addresses, plain
from tests.figures.drawn import TRAINING, render, show
from tests.page.second_opinion_training import KINDS

NAMES = ("vanilla", "gru", "lstm", "residual")


def scores(values: dict[str, dict[str, np.ndarray]]) -> pd.DataFrame:
    """A frame of ``bests``: quality -> remedy -> the score of every seed."""
    rows = [
        {"quality": quality, "remedy": remedy, "seed": seed, "value": float(v), "score": float(v)}
        for quality, of_quality in values.items()
        for remedy, each in of_quality.items()
        for seed, v in enumerate(each)
    ]
    return pd.DataFrame(rows)


def runs(cells: dict[str, float], seeds: int = 8, **more: Any) -> list[dict[str, Any]]:
    """Trained runs of some cells: ``accuracy`` by cell, and a little by seed."""
    return [
        TRAINING | {"cell": cell, "seed": s, "accuracy": accuracy + 0.004 * s, "spectral_radius": 1.0, **more}
        for cell, accuracy in cells.items()
        for s in range(seeds)
    ]


def test_the_best_is_clear_where_every_seed_says_so() -> None:
    """The star stands elsewhere, or what is level with it is called worse."""
    rng, n = np.random.default_rng(0), 8
    noise = {name: 0.01 * rng.standard_normal(n) for name in NAMES}
    apart = {name: noise[name] + shift for name, shift in zip(NAMES, (0.0, 1.0, 2.0, 3.0), strict=True)}
    two = {**apart, "gru": apart["vanilla"] + 0.01 * (-1.0) ** np.arange(n)}
    best = remedies.bests(scores({"held_out_loss": apart, "growth_rate": two}))
    assert best["held_out_loss"].remedy == "vanilla" and best["held_out_loss"].clear
    assert not best["growth_rate"].clear and len(best["growth_rate"].level) == 1
    assert {best["growth_rate"].remedy, *best["growth_rate"].level} == {"vanilla", "gru"}


def test_too_few_seeds_never_tell() -> None:
    """With five seeds 2 of 32 patterns are as extreme: no outcome is below 5 %."""
    apart = {name: np.arange(5) * 0.001 + i for i, name in enumerate(NAMES)}
    best = remedies.bests(scores({"held_out_loss": apart}))["held_out_loss"]
    assert (best.remedy, best.seeds, best.clear) == ("vanilla", 5, False)


@pytest.mark.parametrize("seeds", [6, 9])
def test_nothing_is_claimed_where_nothing_differs(seeds: int) -> None:
    """The best is chosen and tested on the same seeds: 12 tests at 5 % each would claim in every second study."""
    rng, studies, claimed = np.random.default_rng(seeds), 120, 0
    for _ in range(studies):
        shared = rng.standard_normal(seeds)
        values = {q: {n: shared + rng.standard_normal(seeds) for n in NAMES} for q in ("growth_rate", "held_out_loss")}
        best = remedies.bests(scores(values))
        claimed += any(len(each.level) < each.others for each in best.values())
    assert claimed / studies <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / studies)


def test_time_is_not_tested() -> None:
    """What else the machine did while all seeds of one remedy ran is called a property of the remedy."""
    apart = {name: np.arange(8) * 0.001 + i for i, name in enumerate(NAMES)}
    best = remedies.bests(scores({"update_milliseconds": apart}))["update_milliseconds"]
    assert best.remedy == "vanilla" and len(best.level) == 3


def test_a_remedy_that_never_succeeds_is_not_the_best() -> None:
    """A run whose budget ended counts as fast, or all that never succeed make the test fail."""
    never = np.full(8, math.inf)
    values = {"vanilla": never, "gru": 2.0 + 0.01 * np.arange(8), "lstm": 3.0 + 0.01 * np.arange(8), "residual": never}
    best = remedies.bests(scores({"updates_to_success": values}))["updates_to_success"]
    assert best.remedy == "gru"
    assert math.isinf(remedies.QUALITIES["updates_to_success"].interval(pd.Series(never)).value)


def test_rows_are_named_by_what_is_not_usual(make_study: Any) -> None:
    """Two remedies share a name, or every name repeats what all of them have."""
    data, facts, _ = show(remedies, make_study([
        *runs({"vanilla": 0.5, "gru": 0.6, "lstm": 0.7}, clipping="norm:1.0"),
        *runs({"vanilla": 0.4}, clipping="none"),
        *runs({"lstm": 0.65}, clipping="norm:1.0", forget_bias=1.0),
        *runs({"lstm": 0.66}, clipping="norm:1.0", chrono=6),
    ]))  # fmt: skip
    assert list(data["remedy"].cat.categories) == [
        "lstm", "lstm (chrono T_max = 6)", "lstm (forget bias b = 1)", "gru", "vanilla", "vanilla (no clipping)",
    ]  # fmt: skip
    assert data["usual"].iloc[0] == "norm:1.0" and "Where a row says nothing else, it is norm:1.0." in facts["claims"]
    settings = {json.dumps(json.loads(where), sort_keys=True) for where in data["where"]}
    assert len(settings) == 6
    claim = next(plain(each) for each in facts["claims"] if "held-out accuracy" in each)
    assert claim.startswith("The held-out accuracy is highest for lstm: 71 % (")
    render("remedies", facts=facts)


def test_cost_is_the_time_of_a_run_over_the_updates_it_made(make_study: Any) -> None:
    """A run that broke down after an update took ten times as long for it: what a run costs once was divided by almost nothing."""
    whole = runs({"lstm": 0.7})
    whole[0]["breaks_at"] = 2
    tables = make_study([*runs({"vanilla": 0.5}), *runs({"gru": 0.6}, breaks_at=2), *whole])
    data = remedies.frame(tables)
    seconds = tables.read("timings", ["run_key", "seconds"])["seconds"].iloc[0]
    cost = data[data["quality"] == "update_milliseconds"].groupby("remedy", observed=True)["value"].first()
    assert dict(cost) == {"lstm": pytest.approx(1000 * seconds / 8), "vanilla": pytest.approx(1000 * seconds / 8)}
    assert len(data[(data["quality"] == "update_milliseconds") & (data["remedy"] == "lstm")]) == 7
    _, facts, axes = show(remedies, tables)
    assert "runs that broke down are not in it." in re.sub(r"\s+", " ", render("remedies", facts=facts))
    time = axes[list(data["quality"].cat.categories).index("update_milliseconds")]
    assert [text.get_text() for text in time.texts if text.get_gid() == "no dot"] == ["no result"]
    whole = show(remedies, make_study(runs({"vanilla": 0.5, "gru": 0.6})))[1]
    assert "runs that broke down" not in render("remedies", facts=whole)
    lost = remedies.frame(make_study(runs({"vanilla": 0.5, "gru": 0.6}, breaks_at=2)))
    assert (lost.loc[lost["quality"] == "update_milliseconds", "value"] == 1000 * seconds / 3).all()
    broken = data[(data["quality"] == "held_out_accuracy") & (data["remedy"] == "lstm") & (data["seed"] == 0)]
    assert (broken["value"] == tables.read("runs", ["baseline_accuracy"])["baseline_accuracy"].dropna().iloc[0]).all()


def test_a_remedy_that_lost_every_run_is_last_and_has_no_result(make_study: Any) -> None:
    """Two remedies that broke down in 7 of 7 runs stood 4th and 5th of 16, with a dot "not clearly worse"."""
    worse, lost = runs({"vanilla": 0.5, "gru": 0.02}), runs({"lstm": 0.9}, breaks_at=2)
    data, facts, axes = show(remedies, make_study([*lost, *worse]))
    assert list(data["remedy"].cat.categories) == ["vanilla", "gru", "lstm"]
    for quality in ("held_out_accuracy", "held_out_loss"):
        place = list(data["quality"].cat.categories).index(quality)
        assert not [line for line in axes[place].lines if line.get_gid() == f"{quality} lstm"]
        assert [text.get_text() for text in axes[place].texts if text.get_gid() == "no dot"] == ["no result"]
    assert remedies.bests(data)["held_out_accuracy"].others == 1
    said = list(map(plain, facts["claims"]))
    assert "1 of 3 remedies has no result, because every run broke down, and stands last: lstm." in said


def test_the_legend_names_marks_that_are_there() -> None:
    """ "Clearly worse" stood in the legend of a figure in which nothing is."""
    level = {name: i * (-1.0) ** np.arange(8) for i, name in enumerate(NAMES)}
    apart = {name: each + 10.0 * i for i, (name, each) in enumerate(level.items())}
    labels = [
        {handle.get_label() for handle in remedies._legend(remedies.bests(scores({"held_out_loss": each})))}
        for each in (level, apart)
    ]
    assert labels[1] - labels[0] == {"clearly worse"}


def test_where_every_run_broke_down_no_result_is_compared(make_study: Any) -> None:
    """The page said "The held-out accuracy is the same for all remedies, seed by seed: 25 %" of runs that all broke down."""
    data, facts, _ = show(remedies, make_study(runs({"vanilla": 0.5, "gru": 0.6}, breaks_at=2)))
    assert facts["title"] == "No remedy has a result: every run breaks down."
    assert not set(data["quality"]) & {"held_out_accuracy", "held_out_loss"}
    assert not any("held-out" in plain(claim) for claim in facts["claims"])


def test_all_remedies_are_compared_where_some_have_no_room(make_study: Any) -> None:
    """Of 20 remedies the page said "of 16"; 10 were tied, and it named "two and six more". "Every way of training is a row" was not true."""
    made = [
        TRAINING | {"cell": "vanilla", "seed": s, "accuracy": 0.9 - 0.03 * max(i, 1) + 0.001 * s, "learning_rate": 0.01 + 0.001 * i, "spectral_radius": 1.0}
        for i in range(20) for s in range(6)
    ]  # fmt: skip
    tables = make_study(made)
    data, facts, axes = show(remedies, tables)
    best = (
        "Clearly best: learning rate = 0.01 and learning rate = 0.011 in held-out accuracy."  # the same in every seed
    )
    assert plain(facts["title"]) == best and len(data["remedy"].cat.categories) == 20
    said = list(map(plain, facts["claims"]))
    assert any(
        each.startswith("4 of the remedies are compared, but not drawn, because there is no room: ") for each in said
    )
    assert remedies.bests(data)["held_out_accuracy"].others == 19
    assert any("The growth rate at the start is the same for all remedies" in each for each in said)
    assert len(axes[0].get_yticklabels()) == remedies.MOST_REMEDIES
    caption = render("remedies", facts=facts)
    assert "Every way of training" not in caption and "The ways of training with the best results are rows" in caption
    frames = {name: pd.read_parquet(file) for name, file in tables.files.items()}
    for _, address in addresses("".join([facts["title"], *facts["claims"]])):
        assert KINDS[address["kind"]](frames, address["where"]) == pytest.approx(address["value"], rel=1e-9), address


def test_rows_stand_in_the_order_of_what_is_drawn(make_study: Any) -> None:
    """Rows were sorted by the arithmetic mean of losses, and the column is their geometric mean."""
    losses = {"gru": (0.01, 0.01, 2.0), "vanilla": (0.5, 0.5, 0.5)}
    made = [
        TRAINING | {"cell": cell, "seed": s, "accuracy": None, "task": "input_mean", "held_out_loss": loss}
        for cell, each in losses.items() for s, loss in enumerate(each)
    ]  # fmt: skip
    data, _, axes = show(remedies, make_study(made))
    assert list(data["remedy"].cat.categories) == ["gru", "vanilla"]
    ax = axes[list(data["quality"].cat.categories).index("held_out_loss")]
    dots = {
        line.get_ydata()[0]: line.get_xdata()[0]
        for line in ax.lines
        if str(line.get_gid()).startswith("held_out_loss ")
    }
    assert dots[0] < dots[1]


def test_a_dot_that_is_a_median_is_called_one(make_study: Any) -> None:
    """One seed's growth was −∞, and "a dot is the mean over seeds" stood beside −9.9."""
    made = runs({"vanilla": 0.5, "gru": 0.6})
    made[0]["rate"] = -math.inf
    data, facts, _ = show(remedies, make_study(made))
    assert remedies.bests(data)["growth_rate"].remedy == "gru"
    assert "Where a seed has an infinite value, the dot is the median." in render("remedies", facts=facts)
    for each in made:
        each["rate"] = -math.inf if each["seed"] < 1 else -2.0 - 0.01 * each["seed"]
    _, facts, _ = show(remedies, make_study(made))
    assert any("−2 in the median (−∞ to" in plain(claim) for claim in facts["claims"]), facts["claims"]
    for each in made:
        each["rate"] = -math.inf
    _, facts, _ = show(remedies, make_study(made))
    assert any(
        "growth rate at the start cannot be compared: with every remedy it is infinite" in plain(claim)
        for claim in facts["claims"]
    )


def test_a_geometric_mean_is_called_one(make_study: Any) -> None:
    """ "A dot is the mean over seeds" stood beside geometric means of updates and of wall time."""
    made = runs({"vanilla": 0.5, "gru": 0.6}, success_below=0.3, success=True)
    for each in made:
        each["updates_to_success"] = 2 + each["seed"]
    data, facts, axes = show(remedies, make_study(made))
    html = re.sub(r"\s+", " ", render("remedies", facts=facts))
    assert (
        "For the number of updates to success and the wall time per update, it is the geometric mean, that of logarithms."
        in html
    )
    ax = axes[list(data["quality"].cat.categories).index("updates_to_success")]
    (dot,) = (line.get_xdata()[0] for line in ax.lines if line.get_gid() == "updates_to_success gru")
    assert dot == pytest.approx(math.prod(range(2, 10)) ** (1 / 8))
    losses = runs({"vanilla": 0.5, "gru": 0.6}, accuracy=None, task="input_mean")
    html = render("remedies", facts=show(remedies, make_study([each | {"accuracy": None} for each in losses]))[1])
    assert "For the held-out loss and the wall time per update, it is" in re.sub(r"\s+", " ", html)
    alone = show(remedies, make_study(runs({"vanilla": 0.5, "gru": 0.6}, seeds=1)))[1]
    assert "geometric" not in render("remedies", facts=alone)


@pytest.mark.parametrize("flossing", [0, 200])
def test_updates_of_flossing_are_said_not_to_count(flossing: int, make_study: Any) -> None:
    """Two hundred updates of flossing before training stand in no number of updates."""
    success = {"success_below": 0.3, "success": True, "updates_to_success": 3}
    tables = make_study(
        [*runs({"vanilla": 0.5}, **success), *runs({"vanilla": 0.6}, clipping="norm:1.0", flossing=flossing, **success)]
    )
    html = re.sub(r"\s+", " ", render("remedies", facts=show(remedies, tables)[1]))
    for said in ("Updates of flossing come before, and are not counted.", "Updates of flossing are not among these"):
        assert (said in html) == bool(flossing)


def test_a_measure_without_a_dot_has_no_scale(make_study: Any) -> None:
    """Where nobody succeeded, ticks at −0.05, 0 and 0.05 stood below "never"."""
    made = runs({"vanilla": 0.5, "gru": 0.6}, success_below=0.3, success=False)
    made[0] |= {"success": True, "updates_to_success": 4}
    data, _, axes = show(remedies, make_study(made))
    ax = axes[list(data["quality"].cat.categories).index("updates_to_success")]
    assert not len(ax.get_xticks()) and {t.get_text() for t in ax.texts} == {"never"}


def test_long_names_leave_a_sentence_short() -> None:
    """Three names of eight words each made a sentence of 34 words."""
    names = [f"vanilla (sgd, ρ = {i}, H = 64, full gradient, norm:0.1, learning rate = 0.5)" for i in range(12)]
    assert (
        remedies._some(names, 4).startswith(f"{names[0]} and ") and remedies._some(["a", "b", "c"], 4) == "a, b and c"
    )


def test_one_way_of_training_is_compared_with_nothing(make_study: Any) -> None:
    data, facts, _ = show(remedies, make_study(runs({"vanilla": 0.5})))
    assert data.empty and not facts["drawn"]


def test_every_dot_has_its_place(make_study: Any) -> None:
    """A dot stands in another row, or the star is not the best mean."""
    data, _, axes = show(remedies, make_study(runs({"vanilla": 0.3, "gru": 0.5, "lstm": 0.7})))
    order = list(data["remedy"].cat.categories)
    assert order == ["lstm", "gru", "vanilla"]
    for ax, quality in zip(axes, data["quality"].cat.categories, strict=False):
        dots = {line.get_gid(): line for line in ax.lines if str(line.get_gid()).startswith(f"{quality} ")}
        for place, remedy in enumerate(order):
            line = dots[f"{quality} {remedy}"]
            own = data[(data["quality"] == quality) & (data["remedy"] == remedy)]["value"]
            assert line.get_ydata()[0] == place
            assert line.get_xdata()[0] == pytest.approx(remedies.QUALITIES[quality].interval(own).value)
    stars = [line.get_gid() for ax in axes for line in ax.lines if line.get_marker() == "*"]
    best = remedies.bests(data)
    assert "held_out_accuracy lstm" in stars and len(stars) == sum(len(each.leaders) for each in best.values())
    assert not best["held_out_loss"].leaders  # it is the same for all
    assert not [a for a, b in itertools.pairwise(axes) if a.get_ylim() != b.get_ylim()]


def test_the_numbers_of_the_claims_are_computed_twice(make_study: Any) -> None:
    """A mean, an interval or a count is that of other runs: an independent program finds another number."""
    made = [
        TRAINING | {"cell": c, "seed": s, "accuracy": a + 0.01 * s, "success_below": 0.3, "success": n is not None, "updates_to_success": n}
        for c, a, times in (("vanilla", 0.4, (None, 4, None, 6)), ("gru", 0.6, (3, 4, 5, 6)), ("lstm", 0.8, (2, 3, 2, 4)))
        for s, n in enumerate(times)
    ]  # fmt: skip
    tables = make_study(made)
    facts = remedies.facts(remedies.frame(tables), tables.study)
    frames = {name: pd.read_parquet(file) for name, file in tables.files.items()}
    known = [a for claim in [facts["title"], *facts["claims"]] for _, a in addresses(claim)]
    assert {a["where"].get("quality") for a in known} >= {
        "updates_to_success",
        "held_out_accuracy",
        "update_milliseconds",
    }
    for address in known:
        assert KINDS[address["kind"]](frames, address["where"]) == pytest.approx(address["value"], rel=1e-9), address
    vanilla = remedies.QUALITIES["updates_to_success"].interval(pd.Series([math.inf, 4.0, math.inf, 6.0]))
    assert vanilla.value == math.inf and (vanilla.low, vanilla.high) == (4.0, math.inf)


@pytest.mark.parametrize(
    ("level", "behind", "words"),
    [
        ([], ["b", "c", "d"], "clearly ahead of all others."),
        (["b", "c", "d"], [], "not clearly ahead of any other."),
        (["b"], ["c", "d"], "clearly ahead of all but b."),
        (["b", "c"], ["d"], "clearly ahead of d only."),
    ],
)
def test_whom_the_best_is_ahead_of_is_said(level: list[str], behind: list[str], words: str) -> None:
    """The page said "not clearly ahead of a, b and six more" of a remedy that is clearly ahead of five."""
    data = pd.DataFrame({"quality": "held_out_accuracy", "remedy": "a", "value": [0.5, 0.6], "where": "{}"})
    assert plain(remedies._claim(data, "held_out_accuracy", remedies.Best("a", [], level, behind, seeds=8))).endswith(
        words
    )


def test_a_longer_sequence_is_no_remedy_where_it_is_another_task(make_study: Any) -> None:
    """T = 10 and T = 30 were counted as two ways of training, though a prediction without memory has another loss on each."""
    two = [
        run | {"sequence_length": T, "baseline_accuracy": 0.1 * T}
        for T in (4, 6)
        for run in runs({"vanilla": 0.7, "gru": 0.8})
    ]
    data, facts, _ = show(remedies, make_study(two))
    assert list(data["remedy"].cat.categories) == ["gru", "vanilla"]
    assert "These are the runs on digits (T = 6). The tables have those on digits (T = 4), too." in map(
        plain, facts["claims"]
    )
    alike = [run | {"baseline_accuracy": 0.1} for run in two]
    assert len(remedies.frame(make_study(alike))["remedy"].cat.categories) == 4


def test_an_infinite_end_is_drawn_to_the_edge(make_study: Any) -> None:
    """Updates to success 40, 40, 40, 80, 100, never: the bar went from 40 to 60 and ended at the dot."""
    times = {"gru": (40, 40, 40, 80, 100, None), "lstm": (20, 30, 20, 40, 50, 30), "vanilla": (None,) * 6}
    made = [
        TRAINING | {"cell": cell, "seed": s, "accuracy": 0.5, "updates": 200, "success_below": 0.3, "success": n is not None, "updates_to_success": n}
        for cell, each in times.items() for s, n in enumerate(each)
    ]  # fmt: skip
    data, facts, axes = show(remedies, make_study(made))
    ax = axes[list(data["quality"].cat.categories).index("updates_to_success")]
    row = list(data["remedy"].cat.categories).index("gru")
    (arrow,), (bar,) = ([line for line in ax.lines if line.get_gid() == gid] for gid in ("arrow", "open interval"))
    assert arrow.get_xdata()[0] == ax.get_xlim()[1] == bar.get_xdata()[1] > 60 and arrow.get_ydata()[0] == row
    assert arrow.get_marker() == ">" and bar.get_xdata()[0] == 60
    assert "An arrow is an end of an interval that is infinite." in re.sub(r"\s+", " ", render("remedies", facts=facts))
    _, facts, _ = show(remedies, make_study([run for run in made if run["cell"] == "lstm" or run["seed"] < 5]))
    assert "open" not in facts["shown"]


def test_losses_far_below_the_baseline_have_a_scale_of_their_own(make_study: Any) -> None:
    """0.0009 and 0.0026 beside a baseline of 0.1 stood both at zero, under a title that called one clearly the best."""
    losses = {"gru": 0.0009, "vanilla": 0.0026}
    made = [
        TRAINING | {"cell": cell, "seed": s, "accuracy": None, "task": "input_mean", "held_out_loss": loss * (1 + 0.01 * s), "baseline_loss": 0.1}
        for cell, loss in losses.items() for s in range(6)
    ]  # fmt: skip
    data, _, axes = show(remedies, make_study(made))
    ax = axes[list(data["quality"].cat.categories).index("held_out_loss")]
    (baseline,) = [line.get_xdata()[0] for line in ax.lines if line.get_gid() == "baseline"]
    low, high = ax.get_xlim()
    assert ax.get_xscale() == "log" and low < 0.0009 and high > baseline == pytest.approx(0.1)


def test_two_that_are_the_same_can_both_be_the_best(make_study: Any) -> None:
    """ "None is clearly ahead of all others by any measure" stood above "a and b: clearly ahead of all others"."""
    level = {"gru": 0.5, "lstm": 0.5, "vanilla": 0.2}
    data, facts, _ = show(remedies, make_study(runs(level)))
    best = remedies.bests(data)["held_out_accuracy"]
    assert best.clear and best.tied and best.behind == ["vanilla"]
    assert plain(facts["title"]) == "Clearly best: gru and lstm in held-out accuracy."
    assert any(
        "for gru and lstm" in plain(claim) and plain(claim).endswith("clearly ahead of the other.")
        for claim in facts["claims"]
    )
    three = plain(show(remedies, make_study(runs(level | {"residual": 0.1})))[1]["title"])
    assert three == "Clearly best: gru and lstm in held-out accuracy."
    same = show(remedies, make_study(runs({"gru": 0.5, "lstm": 0.5})))[1]
    assert "none is clearly ahead of all others" in plain(same["title"])
