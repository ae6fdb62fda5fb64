"""The study's own page: one self-contained HTML file, from the tables and the figures' facts."""

from __future__ import annotations

import base64
import functools
import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Any

import pandas as pd
import pyarrow.compute as pc
import pyarrow.parquet as pq
import yaml
from docutils.core import publish_parts
from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup

from rnn_core.clipping import WHAT_RULES_DO
from study import PROJECT, SCRIPTS
from study.files import pictures as sealed_pictures
from study.files import places
from study.files import seal as seals
from study.files.writing import reading
from study.report.findings import Study
from study.report.measures import LINEAR_MATRICES, REST_MATRICES, updates_made
from study.report.page_tables import check_summary, example_run, how_measured, notes_of, time_spent
from study.report.reader import variants_as_cells
from study.report.sentences.checks import check_sentence
from study.report.words import html, listed, name_of, value_of
from study.settings import described_axes
from study.tables.columns import MEANING, tables_of
from study.wide import sampled_settings

TEMPLATES = PROJECT / "workflow" / "report"
MOST_BESIDE = 4  # columns of results beside which there is room for a sentence
MOST_COLUMNS = 8  # values that have room beside each other; of more, each is a row
LIGHT = 1_500_000  # letters of an SVG that still goes into the page as it is
_RST = re.compile(r"([\\*`|_])")


JUDGE_THEIR_OWN = ("depth_time", "memory_curse", "remedies")  # figures that test what no table of the page compares
# What captions say of the engine's own parts, by what those parts say of themselves.
OF_THE_ENGINE = {
    "linear_matrices": LINEAR_MATRICES,
    "rest_matrices": REST_MATRICES,
    "clipping_rules": WHAT_RULES_DO,
}


# ---- figures


def caption(figure: str, facts: dict[str, Any], config: dict[str, Any]) -> Markup:
    """A figure's caption, its sentences filled in, as HTML. A mistake in the text is an error, not a box on the page."""
    source = (SCRIPTS / "figures" / f"{figure}.rst").read_text(encoding="utf-8")
    escaped = {**facts, "claims": [_RST.sub(r"\\\1", claim) for claim in facts["claims"]]}
    text = _template(source).render(facts=escaped, config=config, **OF_THE_ENGINE)
    settings = {"halt_level": 2, "report_level": 2, "initial_header_level": 4, "file_insertion_enabled": False}
    settings["line_length_limit"] = len(text) + 1  # claims stand on one line, with the addresses of their numbers
    return Markup(html(publish_parts(text, writer="html5", settings_overrides=settings)["body"], escape=False))


@functools.cache
def _template(source: str) -> Template:
    """A caption, compiled: one process may write many pages."""
    return Environment(undefined=StrictUndefined).from_string(source)


def figure(name: str, svg: str, phone: str, facts: dict[str, Any], config: dict[str, Any]) -> dict[str, Any]:
    """What the template needs of one figure; ``svg`` and ``phone`` are its pictures."""
    return {
        "name": name,
        "title": Markup(html(facts["title"])),
        "claim": facts["title"],
        "contents": _short(facts["title"]),
        "drawn": facts["drawn"],
        "add": "" if facts["drawn"] else " ".join(facts["claims"]),
        "answer": facts["answer"],
        "wide": inline_svg(svg, name, facts["alt"]),
        "phone": inline_svg(phone, f"{name}-phone", facts["alt"]),
        "caption": caption(name, facts, config) if facts["drawn"] else "",
    }


def _short(title: str) -> Markup:
    """A claim as a line of the table of contents."""
    return Markup(re.sub(r"</?data[^>]*>", "", html(title.removesuffix("."))))


def inline_svg(text: str, prefix: str, alt: str) -> Markup:
    """An SVG as part of the page.

    It loses its own size. It keeps only the identifiers that are needed, each with a prefix that no other figure has.
    Coordinates are rounded to a hundredth of a point.
    """
    if len(text) > LIGHT:
        data = base64.b64encode(text.encode()).decode()
        return Markup('<img src="data:image/svg+xml;base64,{}" alt="{}">').format(data, alt)
    text = re.sub(r"^.*?(?=<svg)", "", text, count=1, flags=re.DOTALL)
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'(<svg[^>]*?) width="[^"]*" height="[^"]*"', r"\1", text, count=1)
    needed = {"figure_1", *re.findall(r'href="#([^"]*)"', text), *re.findall(r"url\(#([^)]*)\)", text)}
    text = re.sub(r' id="([^"]*)"', lambda match: f' id="{prefix}-{match[1]}"' if match[1] in needed else "", text)
    text = re.sub(r'href="#([^"]*)"', rf'href="#{prefix}-\1"', text)
    text = re.sub(r"url\(#([^)]*)\)", rf"url(#{prefix}-\1)", text)
    text = text.replace('<style type="text/css">*{', f'<style type="text/css">#{prefix}-figure_1 *{{')
    text = re.sub(r' d="[^"]*"', lambda d: re.sub(r"(\.\d\d)\d+", r"\1", d[0]), text)
    label = Markup(' role="img" aria-label="{}"').format(alt)
    return Markup(text.replace("<svg", f"<svg{label}", 1))


def lead_of(figures: list[dict[str, Any]]) -> list[str]:
    """What the page says first: what the study's first figure answers, if it answers what no finding does. Its title leads."""
    first = next((each for each in figures if each["drawn"]), None)
    if first is None or not first["answer"]:
        return []
    start, *others = first["answer"]
    return [f"{first['claim']} {start}", *others]


# ---- the page


@functools.cache
def _environment() -> Environment:
    """Of the page's templates, and what they may call."""
    environment = Environment(loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined)
    environment.trim_blocks = environment.lstrip_blocks = True
    environment.filters["said"] = lambda text: Markup(html(text))
    environment.globals["value_of"] = value_of
    environment.globals["name_of"] = name_of
    environment.globals["most_beside"] = MOST_BESIDE
    environment.globals["most_columns"] = MOST_COLUMNS
    return environment


def page(
    tables: dict[str, pd.DataFrame],
    sizes: dict[str, int],
    figures: list[dict[str, Any]],
    shares: list[dict[str, Any]],
    provenance: dict[str, Any],
    dated: datetime,
    data: Mapping[str, Mapping[str, Any]] = MappingProxyType({}),
) -> str:
    """The whole page as HTML; ``sizes`` are the tables' rows, ``tables`` what the page needs of them, ``data`` what was read of the user's sequences."""
    runs, config = tables["runs"], provenance["config"]
    study = Study(runs, tables["updates"], lead_of(figures), bool(sampled_settings(config)))
    template = _environment().get_template("page.html.j2")
    apart = [each["name"] for each in figures if each["drawn"] and each["name"] in JUDGE_THEIR_OWN]
    return template.render(
        config=config,
        config_text=yaml.safe_dump(config, sort_keys=False, allow_unicode=True),
        axes=described_axes(),
        css=Markup((TEMPLATES / "page.css").read_text(encoding="utf-8")),
        study=study,
        how=how_measured(study, data),
        notes=notes_of(config, data),
        figures=[each for each in figures if each["drawn"]],
        judged_apart=listed(apart) if apart else "",
        not_drawn=[each for each in figures if not each["drawn"]],
        checks=check_summary(tables["checks"]),
        checked=check_sentence(tables["checks"]),
        runs=len(runs.drop_duplicates("run_key")),
        sizes=sizes,
        meanings=MEANING,
        timings=time_spent(tables["timings"]),
        shares=shares,
        example=example_run(runs, config["study"]),
        provenance=provenance,
        dated=dated,
    )


def figures_of(files: Any, config: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Every figure as the template needs it, from its files (``png``, ``svg``, ``phone``, ``facts``: one each a figure).

    Raises:
        Damaged: one of the files is not what was written, or another figure's.
        FileTrouble: one cannot be read.
    """
    kinds = (files.png, files.svg, files.phone, files.facts)
    for name, png, svg, phone, facts_file in zip(config["figures"], *kinds, strict=True):
        stated = sealed_pictures.facts_of(facts_file, config["study"], name)
        pictures = stated["pictures"]
        seals.check_content(png, pictures["png"])  # the page has none of it, Snakemake's own report has
        wide = seals.check_content(svg, pictures["svg"]).decode()
        narrow = seals.check_content(phone, pictures["phone"]).decode()
        yield figure(name, wide, narrow, stated, config)


def read_tables(files: Any, config: dict[str, Any]) -> tuple[dict[str, pd.DataFrame], dict[str, int]]:
    """The tables as far as the page needs them, and the rows of each.

    Raises:
        Damaged: one is not what was written, or another one's.
        FileTrouble: one cannot be read.
    """
    places.require_all([files[table] for table in tables_of(config)], config)
    tables = {}
    for name in ("runs", "checks", "timings"):
        with reading(files[name]):
            tables[name] = pd.read_parquet(files[name])
    tables["runs"] = variants_as_cells(tables["runs"])
    ends = [0, *(updates_made(tables["runs"]).unique() - 1)]  # of the large tables, only what the page needs
    columns = ["run_key", "update", "truncation_bias"]
    with reading(files["updates"]):
        updates = pq.read_table(files["updates"], columns=columns, filters=pc.field("update").isin(ends))
    tables["updates"] = updates.to_pandas()
    sizes = {}
    for name in tables_of(config):
        with reading(files[name]):
            sizes[name] = pq.read_metadata(files[name]).num_rows
    return tables, sizes
