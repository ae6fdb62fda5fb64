"""Sentences about studies unlike the default: dead gradients, lengths as the question, symbols, sequences of one step."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from figures import growth_rate
from study.report import reader
from study.report.findings import Study
from study.report.sentences.growth_claims import extremes_headline, window_sentence
from study.report.sentences.prediction import CHANGING, prediction_sentences, slopes_change
from study.report.words import capital, plain
from tests.figures.drawn import grid, render, write_tables
from tests.page.frames import frame, start
from tests.page.test_truth import ONE, SUCCEED, TRAIN, page_of, until

SEEDS = range(6)


def said(runs: list[dict[str, Any]]) -> str:
    return " ".join(map(plain, Study(frame(runs)).sentences))


def test_nothing_is_compared_with_gradients_that_are_all_dead() -> None:
    """ "relu minus hard_tanh: 0 (0 to 0; 6 seeds; 4 left out)": the size was that of pairs in which both gradients are exactly zero."""
    runs = [
        start(-0.3 if f == "relu" and s < 4 else -math.inf, seed=s, activation=f, hidden_size=h)
        for f in ("hard_tanh", "relu") for s in SEEDS for h in (1, 2)
    ]  # fmt: skip
    text = said(runs)
    assert "With hard_tanh, every gradient is exactly zero. With relu, not every one is." in text
    assert "0 (0 to 0" not in text and "minus hard_tanh" not in text


def test_pairs_of_dead_gradients_have_no_part_in_a_difference() -> None:
    """They counted as differences of zero, and made those of the others look smaller than they are."""
    runs = [
        start(-math.inf if s == 0 or (s == 1 and f == "relu") else rate, seed=s, activation=f)
        for f, rate in (("relu", -0.1), ("tanh", -0.5)) for s in SEEDS
    ]  # fmt: skip
    assert "−0.4 a step (−0.4 to −0.4; 6 seeds; 2 left out, where a gradient is exactly zero)" in said(runs)
    (comparison,) = [c for c in Study(frame(runs)).comparisons if c.axis == "activation"]
    assert comparison.left_out == 2 and abs(comparison.effect.value) == pytest.approx(0.4)


def test_a_symbol_has_no_capital() -> None:
    """ "Ε = 0.01, ε = 0.1 and ε = 1 give the same gradients": a capital epsilon."""
    assert (
        capital("ε = 1 is small") == "ε = 1 is small"
        and capital("λ") == "λ"
        and capital("input scale") == "Input scale"
    )
    runs = [start(0.001, seed=s, cell="antisymmetric", antisymmetric_step=e) for s in SEEDS for e in (0.1, 1.0)]
    assert "ε = 0.1 and ε = 1 let gradients of the states change exactly alike on their way back." in said(runs)


def test_a_table_that_says_values_together_begins_with_a_capital() -> None:
    runs = [
        start(rho - 1.0, seed=s, spectral_radius=rho, activation=f, input_scale=u)
        for s in SEEDS for rho in (0.5, 1.5) for f in ("relu", "tanh") for u in (0.1, 1.0)
    ]  # fmt: skip
    notes = [plain(note) for note in Study(frame(runs)).tables[0].notes]
    assert any(note.startswith("Input scale = 0.1 and input scale = 1 agree in every cell") for note in notes), notes


@pytest.mark.parametrize(
    ("rate", "words"),
    [
        (1e-5, "let gradients of the states change alike on their way back."),
        (
            0.01,
            "make little difference to how gradients of the states change. Over T = 10 steps no network differs by more than 0.039 decades.",
        ),
    ],
)
def test_what_differs_by_percents_is_not_called_the_same(rate: float, words: str) -> None:
    """ "vanilla and lstm give the same gradients" over three steps, in which a factor of two is little."""
    runs = [
        start(-0.1 + rate * (c == "lstm"), seed=s, cell=c, sequence_length=10)
        for s in SEEDS
        for c in ("vanilla", "lstm")
    ]
    assert f"vanilla and lstm {words}" in said(runs)


def lengths(rates: dict[str, float], T: tuple[int, ...]) -> list[dict[str, Any]]:
    """Networks of two cells at many lengths; theory is off by 0.1 at the longest, by 9 at the others."""
    return [
        start(rate, seed=s, cell=c, sequence_length=t, correlation=1.0 if c == "vanilla" else math.nan, depth_scale=3.0, predicted_by="operating point",
              deviation=(0.1 if t == max(T) else 9.0) + 0.001 * s, settled_from=t // 4, settled_to=t - 1, weight_grad_steps=1.0 if t < max(T) else 10.0,
              weight_grad_against=0.0)
        for s in SEEDS for c, rate in rates.items() for t in T
    ]  # fmt: skip


def test_lengths_are_told_from_where_to_where() -> None:
    """ "stay within a factor of 100 for gaussian (T = 2), orthogonal (T = 2), gaussian (T = 3) … and many more" is no answer."""
    text = said(lengths({"vanilla": -0.1, "gru": -0.4}, (2, 10, 20, 60, 100)))
    assert (
        "Gradients of every network, for vanilla, stay within a factor of 100 up to T = 20, and vanish from T = 60 on."
        in text
    )
    assert (
        "Gradients of every network, for gru, stay within a factor of 100 up to T = 10, and vanish from T = 20 on."
        in text
    )
    assert "(T = 10)" not in text
    assert "Gradients of every network" not in said(
        lengths({"vanilla": 0.001, "gru": 0.0}, (2, 3))
    )  # the counts say it


def test_what_lengths_share_is_told_of_the_longest() -> None:
    """Of two steps one always writes half of the gradient, theory knows no unsettled state, and a window is of one length."""
    runs = lengths({"vanilla": -0.1, "gru": -0.4}, (2, 10, 100))
    text = said(runs)
    assert "10 of 100 steps (2 of 2 settings)" in text and "of 2 steps" not in text
    assert "Measured minus predicted growth, the mean per step: +0.1 (" in text
    assert "9" not in text.partition("Measured minus predicted")[2].partition("By mean field")[0]
    assert "By mean field, every vanilla network forgets where it started." in text
    networks = Study(frame(runs)).networks
    assert plain(window_sentence(networks)) == (
        "In sequences of 100 steps, rates are measured from step t = 25 to t = 99, in the median of the networks."
    )


def test_what_all_networks_do_is_said_once() -> None:
    """After "none of 12 networks keep their gradient (12 vanish …)" came "in every network, gradients vanish for …"."""
    runs = [start(-0.3, seed=s, cell="lstm", forget_bias=b) for s in SEEDS for b in (-1.0, 1.0)]
    text = said(runs)
    assert "none of 12 networks keep their gradient" in text and "In every network" not in text


def test_a_table_knows_whether_a_cell_counts_several_networks() -> None:
    """Above a table of one network a setting stood "median over networks"."""
    alone = [start(rate, cell=c) for c, rate in (("gru", 0.0), ("lstm", -1.0))]
    assert not Study(frame(alone)).tables[0].several
    assert Study(frame([start(0.0, seed=s) for s in (0, 1)])).tables[0].several


def test_sequences_of_one_step_are_explained(tmp_path: Path) -> None:
    """The section "How it was measured" was a heading and nothing else."""
    page, _ = page_of(tmp_path, grid(**ONE | {"sequence_length": 1}, seed=[0, 1]))
    how = page.partition('<section id="how">')[2].partition("</section>")[0]
    assert "Every sequence has one step. Its gradient has no step before it to travel back to" in how


def test_a_page_of_one_network_speaks_of_one(tmp_path: Path) -> None:
    """It spoke of 95 % intervals, of clear differences, and of a median over networks."""
    page, _ = page_of(tmp_path, [ONE])
    answer = page.partition('<section id="answer">')[2].partition("</section>")[0]
    assert "median over networks" not in answer and "95 %" not in answer and "“Clear”" not in answer
    assert "Below it stands whether it vanishes ▼" in answer


def how_of(folder: Path, runs: list[dict[str, Any]]) -> str:
    """What the page says under "How it was measured", as plain text."""
    page, _ = page_of(folder, runs)
    how = page.partition('<section id="how">')[2].partition("</section>")[0]
    return " ".join(re.sub(r"<[^>]+>", "", how).split())


def test_some_dead_samples_are_not_all(tmp_path: Path) -> None:
    """ "In 24 networks, the gradient of some samples is exactly zero. Their rate is that of the other samples": there were no others, or no rate."""
    zero = "the gradient of some samples is exactly zero"
    for name, given in {
        "all": {"rate": -math.inf, "dead_samples": 1.0},
        "broken": {"rate": math.nan, "dead_samples": 0.25},
    }.items():
        assert zero not in how_of(tmp_path / name, [ONE | given | {"seed": s} for s in (0, 1)])
    some = [ONE | {"seed": s, "dead_samples": 0.25 * s} for s in (0, 1)]
    assert f"In 1 network, {zero}. The rate is then that of the other samples." in how_of(tmp_path / "some", some)


def test_one_network_is_not_networks(tmp_path: Path) -> None:
    """ "The state of 1 networks does not settle within the sequence. Their rate …" """
    how = how_of(tmp_path, [ONE])
    assert (
        "The state of 1 network does not settle within the sequence. The rate is then" in how
        and "1 networks" not in how
    )


def test_one_run_that_succeeds_is_one(tmp_path: Path) -> None:
    """ "1 of 1 runs succeed"."""
    for done, words in ((True, "the one run succeeds"), (False, "the one run does not succeed")):
        page, _ = page_of(tmp_path / words, [SUCCEED | until(3 if done else None)])
        answer = re.sub(r"<[^>]+>", "", page.partition('<section id="answer">')[2].partition("</section>")[0])
        assert words in answer and "1 of 1 runs" not in answer


def test_one_test_is_a_test_and_a_reference_is_cited(tmp_path: Path) -> None:
    """ "The 1 test of this study, those against theory included, is judged together." A page without a test cited Westfall and Young."""
    one = [
        ONE | {"cell": "gru", "input_scale": i, "spectral_radius": None, "seed": s}
        for i in (0.5, 1.0)
        for s in range(6)
    ]
    assert "This study makes 1 test. If nothing had an effect" in how_of(tmp_path / "one", one)
    for name, runs in {
        "nothing": [ONE | {"sequence_length": 1}],
        "alone": [ONE],
        "trained": [TRAIN | {"seed": s} for s in (0, 1)],
    }.items():
        page, _ = page_of(tmp_path / name, runs)
        listed = re.findall(r'<li value="\d" id="(ref-\w+)"', page)
        assert set(listed) == set(re.findall(r'href="#(ref-\w+)"', page))
        assert ('href="#references"' in page) == ('<section id="references">' in page) == bool(listed)


def test_infinite_differences_of_both_signs_are_no_difference_of_zero() -> None:
    """ "0 (0 to 0; 6 seeds; 12 left out)": at one ρ the one gradient was dead, at another ρ the other, and of neither was there a size."""
    alive = {("relu", 1.5), ("hard_tanh", 0.5)}
    runs = [
        start(-0.3 if (f, rho) in alive else -math.inf, seed=s, activation=f, spectral_radius=rho)
        for f in ("relu", "hard_tanh") for rho in (0.5, 1.5) for s in SEEDS
    ]  # fmt: skip
    (comparison,) = [c for c in Study(frame(runs)).comparisons if c.axis == "activation"]
    assert math.isnan(comparison.effect.value) and comparison.verdict == "none" and comparison.left_out == 12
    assert "0 (0 to 0" not in said(runs)


def test_what_rounding_leaves_is_no_difference() -> None:
    """ "−1.39 × 10⁻¹⁶ (−1.9 × 10⁻¹⁵ to +1.62 × 10⁻¹⁵)": relu does not know the scale of its inputs."""
    runs = [
        start(-0.3 + 1e-15 * s * (u > 1) - 0.5 * (f == "tanh") * (u > 1), seed=s, activation=f, input_scale=u)
        for f in ("relu", "tanh") for u in (0.1, 30.0) for s in SEEDS
    ]  # fmt: skip
    assert "× 10⁻¹" not in said(runs) and "For relu the growth rate is the same, network by network." in said(runs)


def test_theory_of_one_kind_among_others_names_it() -> None:
    """ "Measured minus predicted growth, the mean per step: +0.057", of vanilla networks alone, beside others of which no theory speaks."""
    runs = [
        start(-0.3, seed=s, cell=c, predicted_by="mean field" if c == "vanilla" else None, deviation=0.1 + 0.001 * s if c == "vanilla" else math.nan)
        for s in SEEDS for c in ("vanilla", "layer_norm")
    ]  # fmt: skip
    assert " for vanilla, clearly not zero." in said(runs).partition("Measured minus predicted growth")[2]


def test_number_formats_of_which_theory_says_the_same_are_told_together() -> None:
    runs = [
        start(-0.3, seed=s, dtype=d, cell=c, predicted_by="mean field", deviation=0.1 * (c == "vanilla") + 0.001 * s)
        for s in SEEDS for d in ("float32", "float64") for c in ("vanilla", "residual")
    ]  # fmt: skip
    text = said(runs).partition("Measured minus predicted growth")[2].partition("The largest")[0]
    assert " for vanilla (float32) and vanilla (float64), clearly not zero; and +0.0025" in text, text


def test_theory_of_one_layer_says_so() -> None:
    """Theory speaks of one layer alone: "for gru", and "the largest at one setting" was the same number once more."""
    runs = [
        start(-0.3, seed=s, cell="gru", layers=n, predicted_by="dynamic mean field" if n == 1 else None, deviation=0.1 if n == 1 else math.nan)
        for s in SEEDS for n in (1, 2, 4)
    ]  # fmt: skip
    text = said(runs)
    assert (
        "the mean per step: +0.1 (+0.1 to +0.1) for L = 1, clearly not zero." in text
        and "The largest at one setting" not in text
    )


def test_of_many_names_the_extremes_are_told_without_a_test() -> None:
    """Of twelve activation functions nothing was said: the first and the last in the alphabet are a pair, the fastest and the slowest none."""
    names = ["elu", "gelu", "hard_tanh", "identity", "leaky_relu", "relu", "selu", "sigmoid", "silu", "tanh"]
    rates = dict(zip(names, (-0.3, -0.4, -0.4, 0.0, -0.5, -0.5, -0.2, -1.6, -0.6, -0.6), strict=True))
    text = said([start(rate + 0.01 * s, seed=s, activation=f) for s in SEEDS for f, rate in rates.items()])
    assert (
        "Of the ten activations, the growth rate per step back is highest with identity and lowest with sigmoid. "
        "The difference is 1.6 a step (1.6 to 1.6; 6 seeds), and +68.8 decades (+68.8 to +68.8) over T = 100 steps. "
        "Of so many values this pair is not tested."
    ) in text, text


def test_a_deviation_of_few_networks_says_of_how_many() -> None:
    """ "+0.015 (−1.3 to +1.3)" was of two networks of six, and did not say so."""
    runs = [
        start(0.1 * s, seed=s, predicted_by="operating point", deviation=0.1 * s if s < 2 else math.nan) for s in SEEDS
    ]
    assert "; 2 seeds)" in said(runs)
    assert "seeds)" not in said([run | {"deviation": 0.1 * run["seed"]} for run in runs])


def test_clear_effects_of_what_is_swept_come_first() -> None:
    """A study of forget bias and input scale began with how far a theory misses, and told of the bias at the end."""
    runs = [
        start(0.3 * b - 0.05 * i + 0.1 * L * noise + 0.001 * s, seed=s, cell=c, layers=L, forget_bias=b, input_scale=i, sequence_length=T,
              linear_rate=math.nan, dynamic_rate=0.2 * b + 0.01 * s, rest_rate=0.1 * b, predicted_rate=0.2, predicted_by="dynamic mean field", deviation=0.01)
        for s, noise in zip(SEEDS, (1.0, -0.5, 0.3, -0.9, 0.2, -0.1), strict=True) for c in ("gru", "lstm") for L in (1, 3)
        for b in (-1.0, 1.0) for i in (0.3, 2.0) for T in (30, 120)
    ]  # fmt: skip
    study = Study(frame(runs))
    bias, scale = (
        next(n for n, text in enumerate(study.sentences) if words in plain(text))
        for words in ("With forget bias b = 1,", "With input scale = 0.3,")
    )
    theory = next(n for n, text in enumerate(study.sentences) if "misses the growth rate" in plain(text))
    assert (bias, scale) == (0, 1) and theory > scale


def noisy_stacks(apart: float) -> list[dict[str, Any]]:
    """Stacks of one and two layers in one and two directions, whose growth hardly differs from seed to seed; ``apart``: more with two layers."""
    noise = np.random.default_rng(0).normal(0.0, 0.1, (6, 3))
    return [
        start(-0.36 + apart * (layers == 2) + noise[seed, (layers == 2) * (1 + both)], seed=seed, layers=layers, bidirectional=both)
        for layers in (1, 2) for both in (False, True) for seed in range(6)
    ]  # fmt: skip


def test_extremes_that_chance_may_make_are_no_headline() -> None:
    """ "Lowest for L = 1, −0.36, and highest for L = 2, −0.34", while the text says that the difference is not clear."""
    title = plain(extremes_headline(Study(frame(noisy_stacks(0.0)))))
    assert title.startswith("Growth per step back is between −0.4") and title.endswith(
        " in every kind of network, without a clear difference."
    )
    clear = plain(extremes_headline(Study(frame(noisy_stacks(2.0)))))
    assert clear.startswith("Growth per step back is lowest for L = 1, ") and "highest for L = 2" in clear


def test_what_is_so_by_construction_is_no_difference() -> None:
    """ "bidirectional minus one direction: 0 (0 to 0; 6 seeds) for L = 1" reads as measured: one layer has the same forward cell."""
    text = " ".join(map(plain, Study(frame(noisy_stacks(0.0))).sentences))
    assert "0 (0 to 0" not in text
    assert "6 seeds) for L = 2. The difference is not clear. It makes " in text
    assert "For L = 1 the growth rate is the same by construction: it is that of the forward cell." in text


def test_networks_without_a_prediction_have_a_reason() -> None:
    """Of 96 networks 70 had no prediction, without a word why. "Because slopes hardly change" was said of 2 of 48."""
    steady = start(-0.1, cell="indrnn", operating_rate=-0.1, predicted_by="operating point")
    kinds = {
        "indrnn": {"operating_rate": -0.1},
        "gru": {"layers": 3},
        "lstm": {"initializer": "orthogonal"},
        "residual": {},  # Gaussian weights and white inputs: its sample did not settle
    }
    runs = [start(-0.1, cell=cell, seed=s, **more) for cell, more in kinds.items() for s in (1, 2)]
    (text,) = map(plain, prediction_sentences(frame([steady, *runs])))
    assert text == (
        "Of 9 networks, the rate is predicted by the operating point for 1. The other 8 have no prediction. "
        "For indrnn, slopes change over time, and mean field does not cover them. "
        "For gru, inputs of the layers above are not white, as dynamic mean field asks for. "
        "For residual, dynamic mean field has no settled sample. "
        "For lstm, dynamic mean field does not cover these cells, weights or inputs."
    )


@pytest.mark.parametrize(
    ("network", "sampled", "why"),
    [
        ({"cell": "gru"}, True, "For gru, dynamic mean field has no settled sample."),
        ({"cell": "gru"}, False, "For gru, dynamic mean field was not sampled: it covers more than 100 settings of this study."),
        ({"cell": "gru", "layers": 3}, False, "For gru, inputs of the layers above are not white, as dynamic mean field asks for."),
        # not one layer of it is covered
        ({"cell": "mine:size=4", "layers": 2}, True, "For mine, dynamic mean field does not cover these cells, weights or inputs."),
        ({"cell": "lstm", "initializer": "orthogonal", "layers": 2}, True, "For lstm, dynamic mean field does not cover these cells, weights or inputs."),
        # a sample was made for a cell that has slopes, too
        ({"cell": "residual", "operating_rate": -0.1}, True, "For residual, dynamic mean field has no settled sample."),
        ({"flossing": 8, "operating_rate": -0.1}, True, "For vanilla, slopes change over time, and mean field does not cover them."),
        ({"flossing": 8}, True, "For vanilla, the slopes are not numbers, and mean field does not cover them."),
        ({"flossing": 8, "operating_rate": -math.inf}, True, "For vanilla, all slopes are zero, and mean field does not cover them."),
    ],
)  # fmt: skip
def test_the_reason_is_the_right_one(network: dict[str, Any], sampled: bool, why: str) -> None:
    """Beside a network that is predicted, and alone: a study of nothing else had no sentence at all."""
    runs = [start(-0.1, seed=s, **network) for s in (1, 2)]
    beside = [start(-0.1, predicted_by="operating point", operating_rate=-0.1, seed=s) for s in (1, 2)]
    (text,) = map(plain, prediction_sentences(frame([*beside, *runs]), sampled))
    assert text == (
        f"Of 4 networks, the rate is predicted by the operating point for 2. The other 2 have no prediction. {why}"
    )
    assert [*map(plain, prediction_sentences(frame(runs), sampled))] == [f"No network has a prediction. {why}"]
    assert [*map(plain, prediction_sentences(frame(runs[:1]), sampled))] == [f"This network has no prediction. {why}"]


@pytest.mark.parametrize(("sampled", "why"), [(True, "has no settled sample"), (False, "was not sampled: ")])
def test_the_caption_knows_whether_theory_was_sampled(sampled: bool, why: str, tmp_path: Path) -> None:
    """ "Has no settled sample" was said where there are more than 100 settings, of which none is sampled."""
    asked = {"dynamic": None} if sampled else {}
    runs = [
        {"cell": "gru", "spectral_radius": r, "updates": 0, "task": "white_noise", "seed": s, **asked}
        for r in (1.0, 2.0) for s in (0, 1)
    ]  # fmt: skip
    tables = reader.Tables(write_tables(tmp_path, runs))
    claims = " ".join(map(plain, growth_rate.facts(growth_rate.frame(tables), tables.study)["claims"]))
    assert f"No network has a prediction. For gru, dynamic mean field {why}" in claims


def test_the_caption_says_where_slopes_hardly_change() -> None:
    """ "The prediction is the operating point, because slopes hardly change", in 2 of 48 networks whose slopes are known."""
    shown = ["deviation", "by operating point"]
    some = render("growth_rate", facts={"shown": [*shown, CHANGING], "claims": []}).replace("\n", " ")
    every = render("growth_rate", facts={"shown": shown, "claims": []}).replace("\n", " ")
    assert "is the operating point where slopes hardly change" in some
    assert "is the operating point, because slopes hardly change" in every
    networks = frame([start(-0.1, operating_rate=-0.1, predicted_by=by) for by in ("operating point", None)])
    assert list(slopes_change(networks)) == [False, True]
