"""Where nothing has an effect the page claims one in at most 5 % of studies; where something has, it finds it."""

from __future__ import annotations

import itertools
import re
from typing import Any

import numpy as np
import pytest
from scipy.stats import binom

from study.report import statistics
from study.report.findings import Study
from study.report.words import plain
from tests.page.frames import frame, regressed, start, trained

CLAIMS = re.compile(
    r"learns be|is ahead|clearly (?:helps|harms|beats|loses)|clearly (?:better|worse) in [1-9]|difference is clear|better than [^;]*:|"
    r"clearly differ|difference is clear|of these are clear|clearly not zero|clearly breaks down|[Cc]learly ahead"
)


def claims(study: Study) -> list[str]:
    """Every place of the page that says that something makes a difference."""
    texts = [*study.sentences, *(row.verdict for table in study.tables for row in table.rows)]
    return [plain(text) for text in texts if CLAIMS.search(plain(text))]


def settings() -> list[dict[str, Any]]:
    grid = itertools.product(["relu", "tanh"], [0.9, 1.5], ["none", "norm:1.0", "value:0.1"])
    return [{"activation": f, "spectral_radius": r, "clipping": c} for f, r, c in grid]


def drawn(rng: np.random.Generator, seeds: int, effect: float, start_effect: float, breaks: float = 0.0) -> Study:
    """A study in which seeds differ, and settings differ as the task makes them; clipping and initializer only by ``effect``."""
    runs = []
    for seed in range(seeds):
        level = 0.5 + 0.1 * rng.standard_normal()  # a good or bad draw of weights: shared by all settings of a seed
        for each in settings():
            accuracy = level + 0.07 * rng.standard_normal() + effect * (each["clipping"] == "norm:1.0")
            if rng.random() < breaks * (effect == 0 or each["clipping"] == "none"):
                accuracy = np.nan
            runs.append(trained(float(np.clip(accuracy, 0, 1)), seed=seed, **each))
        for kind, rho in itertools.product(["gaussian", "orthogonal"], [0.8, 1.2]):
            rate = np.log(rho) + 0.02 * rng.standard_normal() + start_effect * (kind == "orthogonal")
            off = 0.02 * rng.standard_normal()
            runs.append(
                start(float(rate), seed=seed, initializer=kind, spectral_radius=rho, deviation=off, sequence_length=400)
            )
    return Study(frame(runs))


@pytest.mark.parametrize(("seeds", "breaks", "studies"), [(3, 0.0, 10), (6, 0.0, 90), (8, 0.3, 90)])
def test_no_effect_is_claimed_in_at_most_one_study_in_twenty(seeds: int, breaks: float, studies: int) -> None:
    rng = np.random.default_rng(seeds)
    wrong = sum(bool(claims(drawn(rng, seeds, 0.0, 0.0, breaks))) for _ in range(studies))
    assert wrong <= binom.ppf(0.999, studies, statistics.LEVEL)
    if seeds < statistics.FEWEST_SEEDS:
        assert wrong == 0


def test_too_few_seeds_are_said_to_be_too_few() -> None:
    text = " ".join(map(plain, drawn(np.random.default_rng(1), 3, 0.3, 0.1).sentences))
    assert "at least six" in text and " points (" in text  # with the size that it has


def test_real_effects_are_found_and_have_their_direction_and_size() -> None:
    rng, found = np.random.default_rng(5), 0
    for _ in range(20):
        study = drawn(rng, 8, 0.12, 0.05)
        said = " ".join(claims(study))
        found += "norm:1.0 learns best" in said or "norm:1.0 is ahead" in said
        found += "With orthogonal, the growth rate per step back is higher than with gaussian." in said
        assert "value:0.1 learns best" not in said and "With gaussian, the growth rate" not in said
        pooled = [
            c for c in study.comparisons if c.measure == "held_out_accuracy" and c.axis == "clipping" and not c.fixed
        ]
        norm = next(c for c in pooled if (c.a, c.b) == ("norm:1.0", "none"))
        assert norm.effect.value == pytest.approx(0.12, abs=0.06)
    assert found >= 38


def test_breakdowns_that_clipping_prevents_are_found() -> None:
    study = drawn(np.random.default_rng(2), 10, 0.01, 0.0, breaks=0.7)
    text = " ".join(map(plain, study.sentences))
    assert "with no clipping and none of 80" in text and "The difference is clear" in text


def test_the_better_of_two_losses_is_the_smaller_one() -> None:
    """A sign that is right for accuracy and wrong for loss would crown the loser."""
    rng = np.random.default_rng(3)
    runs = [
        regressed(float(10.0 ** (0.1 * rng.standard_normal() - (o == "adam"))), seed=s, optimizer=o)
        for s in range(8) for o in ("adam", "sgd")
    ]  # fmt: skip
    study = Study(frame(runs))
    said = next(plain(text) for text in study.sentences if "learns better" in text)
    ratio = float(re.search(r"a loss ([\d.]+) times lower", said)[1])
    assert "adam learns better" in said and 8 < ratio < 12
    assert plain(study.tables[0].rows[0].verdict).startswith("adam better than sgd: a loss")
