"""The page of papers: what it names is there, and its numbers are computed again."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import rnn_core as rc
from rnn_core.clipping import parse_clipping
from study.tools import papers

ROOT = Path(__file__).resolve().parents[2]
CLAIMS = [pytest.param(claim, id=f"{claim.paper}, {claim.place}") for claim in papers.CLAIMS]
ROWS = [line for line in papers.PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| ")][1:]


def test_the_page_has_every_claim() -> None:
    """A row was written by hand, or left out."""
    assert len(ROWS) == len(papers.CLAIMS)
    for line, claim in zip(ROWS, papers.CLAIMS, strict=True):
        assert line == papers.row(claim, line.split(" | ")[3].strip())


@pytest.mark.parametrize("claim", CLAIMS)
def test_what_a_row_names_exists(claim: papers.Claim) -> None:
    """A test, a study or a name in the column «here» is gone."""
    file, _, name = claim.test.partition("::")
    text = (ROOT / "tests" / file).read_text(encoding="utf-8")
    assert not name or f"def {name}(" in text
    assert not claim.study or (ROOT / "studies" / claim.study).exists()
    for code in re.findall(r"`([^`]+)`", claim.code):
        if code.startswith("rc."):
            found: object = rc
            for part in re.match(r"rc\.([\w.]+)", code)[1].split("."):  # type: ignore[index]
                found = getattr(found, part, None) if part not in ("task", "baseline") else found
            assert found is not None, code
        elif code.startswith("clipping: "):
            parse_clipping(code.removeprefix("clipping: "))


@pytest.mark.parametrize(("claim", "line"), [(c, r) for c, r in zip(papers.CLAIMS, ROWS, strict=False) if c.ours])
def test_ours_is_what_the_engine_says(claim: papers.Claim, line: str) -> None:
    """The page was not written again after the engine had changed, or our number is not the paper's."""
    assert claim.ours is not None
    value, printed = claim.ours(), float(line.split(" | ")[3])
    assert printed == pytest.approx(value, rel=5.1e-4, abs=claim.tolerance)
    if "∞" not in claim.published:
        assert value == pytest.approx(float(claim.published), rel=0.015)
