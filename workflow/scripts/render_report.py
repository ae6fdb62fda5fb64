"""Render the study's own report page: one self-contained HTML file, from the tables and the figures' facts."""

import base64
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.compute as pc
import pyarrow.parquet as pq
import yaml
from docutils.core import publish_parts
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from study import PROJECT, SCRIPTS
from study.files import pictures as sealed_pictures
from study.files import places
from study.files import seal as seals
from study.files.writing import plainly, reading, written_aside
from study.report import measures, statistics
from study.report.findings import Study
from study.report.start_sentences import check_sentence
from study.report.words import html, listed, marked, marked_count, number, spelled, value_of
from study.screen import progress
from study.settings import described_axes, generated_tasks
from study.tables import store

TEMPLATES = PROJECT / "workflow" / "report"
RESULTS = {
    "held_out_accuracy": "Accuracy on held-out sequences",
    "held_out_loss": "Loss on held-out sequences (smaller is better)",
}
CLIPPING = {  # what each rule does, in a sentence
    "norm": "The rule norm scales a gradient whose norm over all parameters exceeds the threshold down to it.",
    "value": "The rule value moves every entry into ± the threshold.",
    "parameter": "The rule parameter scales each parameter's gradient by itself down to the threshold.",
    "adaptive": "The rule adaptive scales each unit's gradient down to a fraction of the norm of its weights.",
    "signal": "The rule signal moves the entries of the backward signal into ± the threshold at every step.",
}
LIGHT = 1_500_000  # letters of an SVG that still goes into the page as it is
_RST = re.compile(r"([\\*`|_])")


# ---- figures


def caption(figure: str, facts: dict[str, Any], config: dict[str, Any]) -> Markup:
    """A figure's caption, its sentences filled in, as HTML. A mistake in the text is an error, not a box on the page."""
    source = (SCRIPTS / "figures" / f"{figure}.rst").read_text(encoding="utf-8")
    escaped = {**facts, "claims": [_RST.sub(r"\\\1", claim) for claim in facts["claims"]]}
    text = Environment(undefined=StrictUndefined).from_string(source).render(facts=escaped, config=config)
    settings = {"halt_level": 2, "report_level": 2, "initial_header_level": 4, "file_insertion_enabled": False}
    return Markup(html(publish_parts(text, writer="html5", settings_overrides=settings)["body"], escape=False))


def figure(name: str, svg: str, phone: str, facts: dict[str, Any], config: dict[str, Any]) -> dict[str, Any]:
    """What the template needs of one figure; ``svg`` and ``phone`` are its pictures."""
    return {
        "name": name,
        "title": Markup(html(facts["title"])),
        "contents": _short(facts["title"]),
        "drawn": facts["drawn"],
        "wide": inline_svg(svg, name, facts["alt"]),
        "phone": inline_svg(phone, f"{name}-phone", facts["alt"]),
        "caption": caption(name, facts, config) if facts["drawn"] else "",
    }


def _short(title: str) -> Markup:
    """A claim as a line of the table of contents."""
    return Markup(re.sub(r"</?data[^>]*>", "", html(title.removesuffix("."))))


def inline_svg(text: str, prefix: str, alt: str) -> Markup:
    """An SVG as part of the page: no size of its own, only identifiers that are needed and that no other figure has, coordinates to a
    hundredth of a point."""
    if len(text) > LIGHT:
        data = base64.b64encode(text.encode()).decode()
        return Markup('<img src="data:image/svg+xml;base64,{}" alt="{}">').format(data, alt)
    text = re.sub(r"^.*?(?=<svg)", "", text, count=1, flags=re.DOTALL)
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'(<svg[^>]*?) width="[^"]*" height="[^"]*"', r"\1", text, count=1)
    needed = {"figure_1", *re.findall(r'href="#([^"]*)"', text), *re.findall(r"url\(#([^)]*)\)", text)}
    text = re.sub(r' id="([^"]*)"', lambda found: f' id="{prefix}-{found[1]}"' if found[1] in needed else "", text)
    text = re.sub(r'href="#([^"]*)"', rf'href="#{prefix}-\1"', text)
    text = re.sub(r"url\(#([^)]*)\)", rf"url(#{prefix}-\1)", text)
    text = text.replace('<style type="text/css">*{', f'<style type="text/css">#{prefix}-figure_1 *{{')
    text = re.sub(r' d="[^"]*"', lambda d: re.sub(r"(\.\d\d)\d+", r"\1", d[0]), text)
    label = Markup(' role="img" aria-label="{}"').format(alt)
    return Markup(text.replace("<svg", f"<svg{label}", 1))


# ---- tables of the page


def check_summary(checks: pd.DataFrame) -> list[dict[str, Any]]:
    """Worst relative error by stage, oracle and dtype."""
    rows = []
    for (stage, oracle, dtype), group in checks.groupby(["stage", "oracle", "dtype"], sort=True):
        finite = group["relative_error"].dropna()
        worst = group.loc[finite.idxmax()] if len(finite) else None
        rows.append(
            {
                "stage": stage,
                "oracle": oracle,
                "dtype": dtype,
                "count": len(group),
                "nonfinite": len(group) - len(finite),
                "worst": None if worst is None else float(worst["relative_error"]),
                "where": "" if worst is None else _where(worst),
                "tolerance": float(group["tolerance"].iloc[0]),
            }
        )
    return rows


def _where(row: pd.Series) -> str:
    network = row["activation"] if row["cell"] == "vanilla" else f"{row['cell']}, {row['activation']}"
    return f"{network}, ρ = {row['spectral_radius']:g}, T = {row['sequence_length']}: {row['where']}"


def time_spent(timings: pd.DataFrame) -> list[dict[str, Any]]:
    """Seconds in the engine and in verification, by sweep."""
    rows = []
    for sweep, group in timings.groupby("sweep", sort=False):
        rows.append(
            {
                "sweep": sweep,
                "runs": len(group),
                "seconds": float(group["seconds"].sum()),
                "per_run": float(group["seconds"].median()),
                "slowest": float(group["seconds"].max()),
                "verify": float(group["verify_seconds"].sum()),
            }
        )
    return rows


def share_of_time(logs: Path) -> list[dict[str, Any]]:
    """Where the cores' time went until now, in the call of Snakemake that renders this page."""
    return [{"part": part, "seconds": seconds, "share": share} for part, seconds, share in progress.spent(logs)]


def example_run(runs: pd.DataFrame) -> dict[str, Any]:
    """A run and the settings in which it differs from the defaults, for the paragraph on tracing a point back."""
    generated = runs[runs["task"].isin(generated_tasks())]  # these need no data= to be prepared again
    row = (generated if len(generated) else runs).iloc[0]
    described = described_axes()
    defaults = {name: axis["default"] for name, axis in described.items()}
    chosen = {}
    for name, default in defaults.items():
        value = row[name].item() if hasattr(row[name], "item") else row[name]
        if value != default and not pd.isna(value):
            nullable = described[name]["kind"] == "integer"  # pandas makes those floats
            chosen[name] = int(value) if nullable else value
    return {
        "data": not len(generated),
        "task": row["task"],
        "key": row["run_key"],
        "arguments": ", ".join(f"{n}={v!r}" for n, v in chosen.items()),
    }


def how_measured(study: Study) -> dict[str, Any]:
    """What the page says of window, ruler and tests: only of what this study has."""
    networks = study.networks
    dead = int((networks["dead_samples"] > 0).sum())
    unsettled = len(measures.never_settled(networks))
    unpredicted = int(networks["predicted_by"].isna().sum())
    bistable = int((networks["bistable"] == True).sum())  # noqa: E712  (the column has nulls)
    return {
        "networks": len(networks),
        "lengths": [
            marked_count(T, "setting", axis="sequence_length")
            for T in sorted({networks["sequence_length"].min(), networks["sequence_length"].max()})
        ]
        if len(networks)
        else [],
        "window": [
            marked(number(networks[name].median(), 3), name, networks[name].median())
            for name in ("settled_from", "settled_to")
        ]
        if len(networks)
        else [],
        "rulers": [
            name for name in ("linear law", "operating point", "mean field") if (networks["predicted_by"] == name).any()
        ],
        "bistable": marked_count(bistable, "bistable") if bistable else "",
        "dead": marked_count(dead, "with_dead_samples") if dead else "",
        "several": study.tests > 1,
        "unsettled": marked_count(unsettled, "never_settled") if unsettled else "",
        "unpredicted": marked_count(unpredicted, "unpredicted") if unpredicted else "",
        "turning": any(part.column == "spectral_radius" for part in study.parts if not part.trains),
        "breakdowns": any(
            part.trains and part.runs["broken"].any() and not part.runs["broken"].all() for part in study.parts
        ),
        "clipped": [
            words for rule, words in CLIPPING.items() if study.runs["clipping"].str.startswith(f"{rule}:").any()
        ],
        "results": listed(
            [
                words
                for metric, words in RESULTS.items()
                if any((part.runs["metric"] == metric).any() for part in study.parts if part.trains)
            ]
            or [""]
        ),
        "tests": marked_count(study.tests, "tests") if study.tests else "",
        "fewest": spelled(statistics.FEWEST_SEEDS),
        "level": statistics.LEVEL,
    }


# ---- the page


def page(
    tables: dict[str, pd.DataFrame],
    sizes: dict[str, int],
    figures: list[dict[str, Any]],
    shares: list[dict[str, Any]],
    provenance: dict[str, Any],
    dated: datetime,
) -> str:
    """The whole page as HTML; ``sizes`` are the tables' rows, ``tables`` what the page needs of them."""
    environment = Environment(loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined)
    environment.trim_blocks = environment.lstrip_blocks = True
    environment.filters["said"] = lambda text: Markup(html(text))
    environment.globals["value_of"] = value_of
    runs, config = tables["runs"], provenance["config"]
    study = Study(runs, tables["updates"])
    return environment.get_template("page.html.j2").render(
        config=config,
        config_text=yaml.safe_dump(config, sort_keys=False, allow_unicode=True),
        axes=described_axes(),
        css=Markup((TEMPLATES / "page.css").read_text(encoding="utf-8")),
        study=study,
        how=how_measured(study),
        figures=[each for each in figures if each["drawn"]],
        not_drawn=[each for each in figures if not each["drawn"]],
        checks=check_summary(tables["checks"]),
        checked=check_sentence(tables["checks"]),
        runs=len(runs.drop_duplicates("run_key")),
        sizes=sizes,
        meanings=store.MEANING,
        timings=time_spent(tables["timings"]),
        shares=shares,
        example=example_run(runs),
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
    for name, png, svg, phone, facts in zip(config["figures"], *kinds, strict=True):
        found = sealed_pictures.facts_of(facts, config["study"], name)
        pictures = found["pictures"]
        seals.check_content(png, pictures["png"])  # the page has none of it, Snakemake's own report has
        wide = seals.check_content(svg, pictures["svg"]).decode()
        narrow = seals.check_content(phone, pictures["phone"]).decode()
        yield figure(name, wide, narrow, found, config)


def read_tables(files: Any, config: dict[str, Any]) -> tuple[dict[str, pd.DataFrame], dict[str, int]]:
    """The tables as far as the page needs them, and the rows of each.

    Raises:
        Damaged: one is not what was written, or another one's.
        FileTrouble: one cannot be read.
    """
    places.require_all([files[table] for table in store.TABLES], config)
    tables = {}
    for name in ("runs", "checks", "timings"):
        with reading(files[name]):
            tables[name] = pd.read_parquet(files[name])
    ends = [0, *(tables["runs"]["updates"].unique() - 1)]  # of the large tables, only what the page needs
    columns = ["run_key", "update", "truncation_bias"]
    with reading(files["updates"]):
        updates = pq.read_table(files["updates"], columns=columns, filters=pc.field("update").isin(ends))
    tables["updates"] = updates.to_pandas()
    sizes = {}
    for name in store.TABLES:
        with reading(files[name]):
            sizes[name] = pq.read_metadata(files[name]).num_rows
    return tables, sizes


def main(snakemake: Any) -> None:
    config = snakemake.params.config
    tables, sizes = read_tables(snakemake.input, config)
    figures = list(figures_of(snakemake.input, config))
    provenance = store.provenance_of(snakemake.input.runs)
    dated = datetime.fromtimestamp(Path(snakemake.input.runs).stat().st_mtime, UTC)
    text = page(tables, sizes, figures, share_of_time(Path(snakemake.log[0]).parent), provenance, dated)
    seal = f'<meta name="study" content="{config["study"]}">\n<meta name="sealed" content="{seals.BLANK.decode()}">'
    sealed = seals.sealed_text(text.replace("<head>", f"<head>\n{seal}", 1))
    with written_aside(snakemake.output.page) as aside:
        aside.write_text(sealed, encoding="utf-8")


if __name__ == "__main__":
    with plainly():
        main(snakemake)  # type: ignore[name-defined]  # noqa: F821
