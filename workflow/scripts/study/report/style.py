"""How the figures look: sizes, colours that colour-blind readers tell apart, markers, and the theme."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib
import numpy as np
import seaborn as sns

from study.report.words import ordered

PAGE_WIDTH, PHONE_WIDTH, DPI = 9.0, 4.2, 160  # inches; shown 900 px and 400 px wide, so that 9 pt are 12 px
RATIO = r"$\log_{10}\,(\|\partial L/\partial h_{%s}\|\,/\,\|\partial L/\partial h_T\|)$"  # axis label, at step %s
INK, FAINT = "#222222", "#8a8a8a"
REGIME_COLOURS = {"vanishing": "#0072B2", "stable": "#4d4d4d", "exploding": "#D55E00"}
_BELOW_ONE, _ABOVE_ONE = ("#63b5e5", "#0b3c8c"), ("#9c2f00", "#f5a01d")  # far from 1 … near 1, near 1 … far from 1
# Okabe and Ito's colours, told apart by colour-blind eyes too; a value beyond the sixth gets one of the last two
CATEGORIES = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#7570b3", "#8c6d31")
MARKERS = ("o", "s", "D", "^", "v", "P", "X", "*")  # so that grey print tells them apart


def marker(place: int) -> str:
    """The marker of the value at this place. Where colours begin anew, other markers go with them: 64 pairs are all different."""
    return MARKERS[(place + place // len(CATEGORIES)) % len(MARKERS)]


def colours(axis: str | None, values: Iterable[Any], used: int = 0) -> dict[Any, Any]:
    """A colour for every value of an axis: radii by their distance from 1, other numbers from light to dark, names by category.

    ``used``: how many categories have a colour already, for a legend that names the values of several axes.
    """
    known = list(values)
    if axis == "spectral_radius":
        return radius_colours(known)
    if axis == "clipping":
        return rule_colours(known)
    numeric = all(isinstance(v, int | float | np.number) for v in known)
    if numeric and len(known) > 2:
        return dict(zip(sorted(known), sns.color_palette("viridis_r", len(known) + 1)[1:], strict=True))
    return {value: CATEGORIES[(used + i) % len(CATEGORIES)] for i, value in enumerate(known)}


def rule_colours(values: Iterable[str]) -> dict[str, str]:
    """Ink for none; the others' colours by their order."""
    others = [rule for rule in ordered("clipping", values) if rule != "none"]
    return {"none": INK} | {rule: CATEGORIES[i % len(CATEGORIES)] for i, rule in enumerate(others)}


def radius_colours(radii: Iterable[float]) -> dict[float, Any]:
    """Blues below 1, ink at 1, oranges above: the further from 1, the lighter."""
    distinct = sorted(set(radii))
    below, above = [r for r in distinct if r < 1], [r for r in distinct if r > 1]
    blues = sns.blend_palette(_BELOW_ONE, max(2, len(below)))[-len(below) :] if below else []
    oranges = sns.blend_palette(_ABOVE_ONE, max(2, len(above)))[: len(above)]
    return {1.0: INK} | dict(zip(below, blues, strict=True)) | dict(zip(above, oranges, strict=True))


@contextmanager
def theme() -> Iterator[None]:
    """White ground, ticks, type of at least 9 pt at the design width."""
    settings = {
        **sns.axes_style("ticks"),
        "font.family": "DejaVu Sans",
        "font.size": 10,
        "axes.titlesize": 11,
        "axes.titleweight": "bold",
        "axes.labelsize": 10.5,
        "xtick.labelsize": 9.5,
        "ytick.labelsize": 9.5,
        "legend.fontsize": 9.5,
        "legend.title_fontsize": 10,
        "legend.frameon": False,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.edgecolor": "#666666",
        "axes.linewidth": 0.8,
        "lines.solid_capstyle": "round",
        "figure.dpi": DPI,  # as it is saved: at another one letters have other widths, and words laid out to fit would not
        "figure.facecolor": "white",
        "savefig.facecolor": "white",
        "svg.hashsalt": "gradient study",
    }
    with matplotlib.rc_context(settings):
        yield
