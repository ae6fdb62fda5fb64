"""A sentence about how well the engine agrees with independent programs."""

from __future__ import annotations

import pandas as pd

from study.own_cells.described import OF_STEPS
from study.report.phrases import count_of
from study.report.words import listed, marked, number


def check_sentence(checks: pd.DataFrame) -> str:
    """How well the engine agreed with the independent programs. What is asked of a user's own step besides is told elsewhere."""
    checks = checks[~checks["oracle"].isin(OF_STEPS)]
    finite = checks.dropna(subset=["relative_error"])
    total = count_of(len(checks), "checks")
    if finite.empty:
        return f"no check of {total} had a finite result to compare"
    worst = finite.groupby("dtype")["relative_error"].max().sort_values()
    errors = [
        f"{marked(number(error, 2), 'worst_check', error, dtype=dtype)} in {dtype}" for dtype, error in worst.items()
    ]
    identities = checks["oracle"].str.startswith("spectra: ").any()
    others = "PyTorch, and its spectra with exact identities," if identities else "PyTorch"
    if len(checks) == 1:
        return f"engine compared with {others} once, relative error {listed(errors)}"
    return f"engine compared with {others} {total} times, worst relative error {listed(errors)}"
