"""Render the study's own report page: one self-contained HTML file, from the tables and the figures' facts."""

import base64
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.compute as pc
import pyarrow.parquet as pq
import yaml
from docutils.core import publish_parts
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

import study_progress
import study_tables
import study_verdicts
from study_files import written_aside
from study_provenance import ROOT

TEMPLATES = ROOT / "workflow" / "report"


def caption(figure: str, facts: dict[str, Any], config: dict[str, Any]) -> Markup:
    """A figure's caption, its numbers filled in, as HTML. A mistake in the text is an error, not a box on the page."""
    source = (TEMPLATES / f"{figure}.rst").read_text(encoding="utf-8")
    text = Environment(undefined=StrictUndefined).from_string(source).render(facts=facts, config=config)
    settings = {"halt_level": 2, "report_level": 2, "initial_header_level": 4, "file_insertion_enabled": False}
    return Markup(publish_parts(text, writer="html5", settings_overrides=settings)["body"])


def figure(name: str, png: Path, facts: dict[str, Any], config: dict[str, Any]) -> dict[str, Any]:
    """What the template needs of one figure."""
    image = base64.b64encode(png.read_bytes()).decode()
    return {
        "name": name,
        "title": facts["title"],
        "alt": facts["alt"],
        "source": f"data:image/png;base64,{image}",
        "caption": caption(name, facts, config),
    }


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
    return [{"part": part, "seconds": seconds, "share": share} for part, seconds, share in study_progress.spent(logs)]


def example_run(runs: pd.DataFrame) -> dict[str, Any]:
    """A run and the settings in which it differs from the defaults, for the paragraph on tracing a point back."""
    generated = runs[runs["task"].isin(study_tables.generated_tasks())]  # these need no data= to be prepared again
    row = (generated if len(generated) else runs).iloc[0]
    described = study_tables.axes()
    defaults = {name: axis["default"] for name, axis in described.items()}
    chosen = {}
    for name, default in defaults.items():
        value = row[name].item() if hasattr(row[name], "item") else row[name]
        if value != default and not pd.isna(value):
            nullable = described[name]["kind"] == "integer"  # pandas makes those floats
            chosen[name] = int(value) if nullable else value
    return {
        "data": not len(generated),
        "key": row["run_key"],
        "arguments": ", ".join(f"{n}={v!r}" for n, v in chosen.items()),
    }


def page(
    tables: dict[str, pd.DataFrame],
    sizes: dict[str, int],
    figures: list[dict[str, Any]],
    shares: list[dict[str, Any]],
    provenance: dict[str, Any],
) -> str:
    """The whole page as HTML; ``sizes`` are the tables' rows, ``tables`` what the page needs of them."""
    environment = Environment(loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined)
    environment.trim_blocks = environment.lstrip_blocks = True
    runs, config = tables["runs"], provenance["config"]
    checks = check_summary(tables["checks"])
    return environment.get_template("page.html.j2").render(
        config=config,
        config_text=yaml.safe_dump(config, sort_keys=False, allow_unicode=True),
        axes=study_tables.axes(),
        css=Markup((TEMPLATES / "page.css").read_text(encoding="utf-8")),
        propagation=study_verdicts.propagation(runs),
        clipping=study_verdicts.clipping(runs),
        formats=study_verdicts.formats(runs),
        truncation=study_verdicts.truncation(runs, tables["updates"]),
        figures=figures,
        checks=checks,
        worst=max(
            (c for c in checks if c["worst"] is not None), key=lambda c: c["worst"] / c["tolerance"], default=None
        ),
        broken=int(runs["first_nonfinite_update"].notna().sum()),
        runs=len(runs),
        sizes=sizes,
        meanings=study_tables.MEANING,
        timings=time_spent(tables["timings"]),
        shares=shares,
        example=example_run(runs),
        provenance=provenance,
    )


def main(snakemake: Any) -> None:
    config = snakemake.params.config
    tables = {name: pd.read_parquet(snakemake.input[name]) for name in ("runs", "checks", "timings")}
    first = pc.field("update") == 0  # of the large tables, only what the page needs
    columns = ["run_key", "update", "truncation_bias"]
    tables["updates"] = pq.read_table(snakemake.input.updates, columns=columns, filters=first).to_pandas()
    sizes = {name: pq.read_metadata(snakemake.input[name]).num_rows for name in study_tables.TABLES}
    figures = []
    for name, png, facts in zip(config["figures"], snakemake.input.figures, snakemake.input.facts, strict=True):
        figures.append(figure(name, Path(png), json.loads(Path(facts).read_text(encoding="utf-8")), config))
    provenance = study_tables.provenance_of(snakemake.input.runs)
    shares = share_of_time(Path(snakemake.log[0]).parent)
    html = page(tables, sizes, figures, shares, provenance)
    with written_aside(snakemake.output.page) as aside:
        aside.write_text(html, encoding="utf-8")


if __name__ == "__main__":
    main(snakemake)  # type: ignore[name-defined]  # noqa: F821
