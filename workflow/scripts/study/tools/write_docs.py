"""Write what is written from the code: the config schema for editors, and the pages of columns, settings, choices, cells and papers.

``make docs``, or ``PYTHONPATH=.:workflow/scripts python -m study.tools.write_docs``.
"""

from __future__ import annotations

import dataclasses
import json

from rnn_core.axes import Axis
from rnn_core.experiment import Experiment, axes
from rnn_core.tasks import GENERATED, PACKAGED
from study import PROJECT
from study.config.schema import schema
from study.settings import axis_defaults
from study.tables.columns import ASKED_FOR, LAYERS, MEANING, TABLES, THEORY, columns_of
from study.tools import cells_page, choices_page, papers

SCHEMA_FILE = PROJECT / "workflow" / "schemas" / "config.schema.json"
COLUMNS_PAGE = PROJECT / "docs" / "tables.md"
SETTINGS_PAGE = PROJECT / "docs" / "settings.md"


def columns_page() -> str:
    """docs/tables.md: every column of every table."""
    lines = ["# Tables", "", "Written from the code by `make docs`; do not edit.", ""]
    lines += [
        "Every table is one Parquet file, `results/<study>/tables/<table>.parquet`, for `pandas.read_parquet`.",
        "",
    ]
    for table in (*TABLES, LAYERS, *ASKED_FOR, THEORY):
        lines += [
            f"## {table}",
            "",
            f"{MEANING[table]}.",
            "",
            "| column | type | unit | meaning | null |",
            "|---|---|---|---|---|",
        ]
        for c in columns_of(table):
            lines.append(f"| `{c.name}` | {c.type} | {c.unit} | {c.meaning.replace('|', chr(92) + '|')} | {c.null} |")
        lines.append("")
    return "\n".join(lines)


def settings_page() -> str:
    """docs/settings.md: every setting of a run, with its default."""
    lines = ["# Settings of a run", "", "Written from the code by `make docs`; do not edit.", ""]
    lines += [
        "Each is a field of `rnn_core.Experiment`, a key under `grid:`, a column of `runs.parquet` and an axis label.",
        "What the names mean that some of them take: [choices](choices.md), [cells](cells.md).",
        "",
    ]
    lines += ["| setting | default | unit | meaning | allowed |", "|---|---|---|---|---|"]
    defaults = {f.name: f.default for f in dataclasses.fields(Experiment)}
    for name, axis in axes().items():
        value = defaults[name]
        default = (
            f"not set: {axis.unset}" if value is None else f"`{str(value).lower() if axis.kind == 'flag' else value}`"
        )
        default += " (not of your own cell)" if axis.built_in else ""
        lines.append(f"| `{name}` | {default} | {axis.unit} | {axis.meaning} | {_allowed(name, axis)} |")
    return "\n".join([*lines, ""])


def _allowed(name: str, axis: Axis) -> str:
    if name == "cell":
        return ", ".join(f"`{choice}`" for choice in axis.choices) + ", a name under `cells:`"
    if name == "cell_options":
        return "follows from `options:` of a cell under `cells:`"
    if axis.kind in ("choice", "rule"):
        return ", ".join(f"`{choice}`" for choice in axis.choices)
    if name == "task":
        return ", ".join(f"`{task}`" for task in [*GENERATED, *PACKAGED]) + ", a name under `sequences:`"
    if axis.kind == "flag":
        return "`true`, `false`"
    null = f", or null: {axis.unset}" if axis.unset and axis_defaults()[name] is not None else ""
    if axis.maximum is not None:
        return f"{axis.minimum} to {axis.maximum}{null}"
    below = "" if axis.below is None else f", below {axis.below:g}"
    if axis.minimum is not None:
        return f"at least {axis.minimum}{below}{null}"
    return ("any" if axis.above is None else f"above {axis.above:g}") + below + null


def write() -> None:
    """Bring all files up to date."""
    SCHEMA_FILE.write_text(json.dumps(schema(), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    COLUMNS_PAGE.write_text(columns_page(), encoding="utf-8")
    SETTINGS_PAGE.write_text(settings_page(), encoding="utf-8")
    choices_page.PAGE.write_text(choices_page.page(), encoding="utf-8")
    cells_page.PAGE.write_text(cells_page.page(), encoding="utf-8")
    papers.PAGE.write_text(papers.page(), encoding="utf-8")


if __name__ == "__main__":
    write()
