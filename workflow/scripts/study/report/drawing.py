"""Drawing one figure: from the tables to its pictures and its facts.

A figure is ``figures/<figure>.py``: ``frame`` (what is drawn, tidy), ``facts`` (headline and sentences, from the frame) and
``draw`` (artists, from the frame); ``render`` does the rest. If a study lacks what a figure shows, the frame is empty.

``draw`` is called twice: for a page of 900 px, and for a phone, where panels stand below each other (``layout.columns``).
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import matplotlib
import pandas as pd
from matplotlib.figure import Figure

from study.files import pictures as sealed_pictures
from study.files import seal
from study.files.writing import written_aside
from study.report.findings import Study
from study.report.layout import headline, wide, width
from study.report.reader import Tables
from study.report.style import DPI, PAGE_WIDTH, PHONE_WIDTH, theme
from study.report.words import plain, spoken

matplotlib.use("Agg")

Facts = dict[str, Any]


@dataclass(frozen=True)
class Nothing:
    """Why a study has nothing to show in a figure, and what to add to the config."""

    why: str
    add: str

    def facts(self, why: str = "") -> Facts:
        """``why``: of this study, where the usual reason is not its own."""
        why = why or self.why
        return facts(title=why, alt=f"An empty panel. {why} {self.add}", claims=[self.add], drawn=False)

    def draw(self) -> Figure:
        figure = Figure(figsize=(width(), 2.6), layout="constrained")
        axes = figure.subplots()
        axes.set_axis_off()
        words = textwrap.fill(self.add, 78 if width() == PAGE_WIDTH else 36)
        axes.text(0.5, 0.5, words, ha="center", va="center", fontsize=11.5, color="#444444")
        return figure


ENDS_APART = "Sequences of this study end at different steps, and losses there would mix gradients of different age."


def facts(
    title: str,
    alt: str,
    claims: Iterable[str] = (),
    shown: Iterable[str] = (),
    drawn: bool = True,
    answer: Iterable[str] = (),
) -> Facts:
    """What a figure states: ``title``, ``alt``, ``claims`` and ``answer`` are sentences with marked numbers; empty ones go.

    ``shown`` names what is drawn, for captions that explain only what is there. ``answer`` is what the page says first, after the title,
    of a study whose first figure this is: only of figures that show what no table of runs does.
    """
    known, first = ([text for text in texts if text] for texts in (claims, answer))
    return {"title": title, "alt": spoken(plain(alt)), "claims": known, "shown": list(shown), "drawn": drawn, "answer": first}  # fmt: skip


def render(
    tables: Tables,
    place: Mapping[str, str],
    files: Mapping[str, str | Path],
    frame: Callable[[Tables], pd.DataFrame],
    facts: Callable[[pd.DataFrame, Study], Facts],
    draw: Callable[[pd.DataFrame], Figure],
) -> None:
    """Tables in; PNG with its headline, SVG for the page and SVG for a phone without, and facts out: the same bytes from the same tables.

    Args:
        place: what the facts say of themselves besides, with the study's name.
        files: ``png``, ``svg``, ``phone`` and ``facts``.
    """
    data = frame(tables)
    stated, pictures = facts(data, tables.study), {}
    with theme():
        figure = draw(data)
        pictures["svg"] = _save(figure, files["svg"])
        headline(figure, stated["title"])
        pictures["png"] = _save(figure, files["png"])
        with wide(PHONE_WIDTH):
            pictures["phone"] = _save(draw(data), files["phone"])
    sealed_pictures.write_facts(files["facts"], {**place, "pictures": pictures, **stated})


def _save(figure: Figure, file: str | Path) -> str:
    """Write a picture; its digest."""
    kind, metadata = ("svg", {"Date": None}) if str(file).endswith(".svg") else ("png", {"Software": None})
    content, layout = BytesIO(), figure.get_layout_engine()
    if layout is not None:  # laid out here, for `savefig` would draw everything twice to do it
        layout.execute(figure)
        figure.set_layout_engine(None)
    figure.savefig(content, format=kind, dpi=DPI, metadata=metadata)
    figure.set_layout_engine(layout)
    with written_aside(file) as aside:
        aside.write_bytes(content.getvalue())
    return seal.digest_of(content.getvalue())
