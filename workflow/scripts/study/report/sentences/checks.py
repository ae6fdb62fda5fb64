"""A sentence about how well the engine agrees with independent programs."""

from __future__ import annotations

import pandas as pd

from study.own_cells.described import OF_STEPS
from study.report.phrases import count_of
from study.report.words import listed, marked, marked_count, number

NOT_COMPARED = "not compared: "  # how most checks that were not made begin to say why
BOTH = ("not finite, on both sides", "not finite")  # what a comparison says whose two sides agree on that
WHYS = {  # what is no sentence yet
    "no room for every step": "there is no room for every step",
    "a cell": "the oracles do not know a network of this kind or size, or there is no room for every step",
    "samples": "samples are too far apart",
}

IDENTITY = "spectra: "  # how the names of checks begin that need no other program
BOUND, BEYOND_ROUNDING = f"{IDENTITY}bounds", (f"{IDENTITY}determinant", f"{IDENTITY}forward frame")
LEFT_OUT, NOT_FINITE, ERROR, EXACT, WITHIN, HOLDS = (
    "left out",
    "not finite",
    "error",
    "exact",
    "within rounding",
    "holds",
)


def verdicts(checks: pd.DataFrame) -> pd.Series:
    """What each check came to. No error is not always agreement to the last bit: a bound only has to hold, and some identities know rounding."""
    error, oracle = checks["relative_error"].astype(float), checks["oracle"]
    verdict = pd.Series(ERROR, index=checks.index, dtype=object).mask(error == 0.0, EXACT)
    verdict = verdict.mask((error == 0.0) & (oracle == BOUND), HOLDS)
    verdict = verdict.mask((error == 0.0) & oracle.isin(BEYOND_ROUNDING), WITHIN).mask(error.isna(), LEFT_OUT)
    return verdict.mask(error.isna() & checks["where"].isin(BOTH), NOT_FINITE)


def left_out_words(checks: pd.DataFrame) -> str:
    """How many checks could not be made, and why."""
    out = checks[verdicts(checks) == LEFT_OUT]
    if out.empty:
        return ""
    whys = out["where"].astype(str).str.removeprefix(NOT_COMPARED)
    reasons = listed(dict.fromkeys(map(_why, whys)), "or")
    were = "was" if len(out) == 1 else "were"
    return f"{marked_count(len(out), 'checks_left_out')} more {were} left out: {reasons}."


def _why(written: str) -> str:
    return next((words for start, words in WHYS.items() if written.startswith(start)), written)


def check_sentence(checks: pd.DataFrame) -> str:
    """How well the engine agreed with the independent programs. What is asked of a user's own step besides is told elsewhere."""
    checks = checks[~checks["oracle"].isin(OF_STEPS)]
    finite = checks.dropna(subset=["relative_error"])
    checks = checks[verdicts(checks) != LEFT_OUT]
    total = count_of(len(checks), "checks")
    if finite.empty:
        return f"no check of {total} had a finite result to compare"
    worst = finite.groupby("dtype")["relative_error"].max().sort_values()
    errors = [
        f"{marked(number(error, 2), 'worst_check', error, dtype=dtype)} in {dtype}" for dtype, error in worst.items()
    ]
    identities = checks["oracle"].str.startswith(IDENTITY).any()
    others = "PyTorch, and its spectra with exact identities," if identities else "PyTorch"
    if len(checks) == 1:
        return f"engine compared with {others} once, relative error {listed(errors)}"
    return f"engine compared with {others} {total} times, worst relative error {listed(errors)}"
