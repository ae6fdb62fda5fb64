"""Write the config schema and the column documentation from the code: ``python workflow/scripts/write_schema.py``.

The schema's axes follow from ``rnn_core.Experiment``, its figures from the ``plot_*.py`` beside this file.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "workflow" / "scripts")]

import numpy as np  # noqa: E402

import study_tables  # noqa: E402
from rnn_core.arrays import DEVICES, DTYPES  # noqa: E402
from rnn_core.axes import Axis  # noqa: E402
from rnn_core.cells import CELLS  # noqa: E402
from rnn_core.clipping import RULES  # noqa: E402
from rnn_core.experiment import Experiment, axes  # noqa: E402
from rnn_core.losses import LOSSES  # noqa: E402
from rnn_core.tasks import GENERATED  # noqa: E402

COLUMNS_PAGE = ROOT / "docs" / "tables.md"
SETTINGS_PAGE = ROOT / "docs" / "settings.md"
# (?!\\n): "$" alone lets a line break at the end pass
NAME = {"type": "string", "pattern": "^[a-z0-9][a-z0-9_-]*$(?!\\n)", "maxLength": 64}
LARGEST = 2**31 - 1  # whole numbers become columns of 32 bits


def figures() -> list[str]:
    """Every figure that there is a script for."""
    return sorted(p.stem.removeprefix("plot_") for p in (ROOT / "workflow" / "scripts").glob("plot_*.py"))


def _object(description: str, properties: dict[str, Any], required: list[str]) -> dict[str, Any]:
    return {
        "type": "object",
        "description": description,
        "properties": properties,
        "required": required,
        "additionalProperties": False,
    }


def _named(description: str, value: dict[str, Any], **limits: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "description": description,
        "propertyNames": NAME,
        "additionalProperties": value,
        **limits,
    }


TEXTS = {"type": "array", "minItems": 1, "uniqueItems": True, "items": {"type": "string"}}
RULE = (
    f"write none, {', '.join(f'{rule}:THRESHOLD' for rule in RULES if rule != 'none')}, "
    "with a threshold above 0, as norm:1.0"
)


def _text(description: str) -> dict[str, Any]:
    return {"type": "string", "description": description}


def _choice(choices: Iterable[str], description: str) -> dict[str, Any]:
    return {"enum": list(choices), "description": description}


def _grid() -> dict[str, Any]:
    """Every axis of an experiment: one value, or a list of values. Sweeps say how many seeds, not which."""
    grid = {}
    for name, axis in axes().items():
        if name == "seed":
            continue
        one = _one_value(axis)
        several = {"type": "array", "minItems": 1, "uniqueItems": True, "items": one}
        ranges = [_range(axis.kind)] if axis.kind in ("integer", "number") else []
        grid[name] = {"description": f"{axis.meaning}. Unit: {axis.unit}.", "anyOf": [one, several, *ranges]}
    return grid


def _one_value(axis: Axis) -> dict[str, Any]:
    """One value of an axis in a config: null, where the setting may be left unset, stands beside the others."""
    one = axis.json_schema()
    if axis.kind == "rule":
        one |= {
            "x-names": list(axis.choices),
            "x-allowed": RULE,
            "pattern": one["pattern"] + r"(?!\n)",
            "maxLength": 64,
        }
    if axis.kind == "integer":
        one.setdefault("maximum", LARGEST)
    if axis.unset and "enum" in one:
        one["enum"] = [*one["enum"], None]
    elif axis.unset:
        one["type"] = [one["type"], "null"]
    return one


def _range(kind: str) -> dict[str, Any]:
    """Values with equal steps, both ends included."""
    ends = {key: {"type": kind, "description": text} for key, text in (("from", "First value"), ("to", "Last value"))}
    step = {"type": kind, "exclusiveMinimum": 0, "description": "From one value to the next; it must meet the last"}
    return _object(
        "Values from … to, step by step, computed in decimals", {**ends, "step": step}, ["from", "to", "step"]
    )


def _sweep() -> dict[str, Any]:
    jobs_over = "Axes whose values make separate jobs; all other values of a job run one after the other"
    keys = {
        "meaning": _text("What the sweep is for, shown in the report"),
        "seeds": {
            "type": "integer",
            "minimum": 1,
            "maximum": LARGEST,
            "description": "Number of seeds, counted from 0. Unit: seeds.",
        },
        "jobs_over": {"type": "array", "uniqueItems": True, "items": {"type": "string"}, "description": jobs_over},
        "grid": _object("Axis: a value, a list of values, or a range. What is not named has its default", _grid(), []),
    }
    return _object("One sweep: the product of all values in its grid, for every seed", keys, ["seeds", "grid"])


def _sequences() -> dict[str, Any]:
    def or_null(described: dict[str, Any]) -> dict[str, Any]:
        return {"description": described.pop("description"), "anyOf": [described, {"type": "null"}]}

    targets = (
        "Columns that are the targets, numbers; for softmax_cross_entropy one column of classes: names or whole numbers"
    )
    held_out = "Share of the sequences that no update sees. Unit: fraction."
    time = "Column that gives the order of a sequence's steps, numbers or dates; null keeps the file's order. Without it the file's order stands, and a column that looks like time must agree with it"
    mask = "Column that is 1 or true in rows that carry a target, else 0 or false; without it every row does"
    keys = {
        "file": _text(
            "A .csv, .tsv, .txt or .parquet file, counted from the folder of the call, the project's, or the config's"
        ),
        "sequence": _text("Column that tells the sequences apart; they may differ in length"),
        "inputs": {**TEXTS, "description": "Columns that are the inputs x_t, numbers"},
        "targets": {**TEXTS, "description": targets},
        "loss": _choice(LOSSES, "Loss function"),
        "loss_at": _choice(["last", "every"], "Whether the target of the last row counts, or that of every row"),
        "held_out": {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1, "description": held_out},
        "time": or_null(_text(time)),
        "mask": or_null(_text(mask)),
        "delimiter": _text(
            'What stands between the columns of a text file, as ";" or "\\t" (default: a comma in .csv, a tab in .tsv)'
        ),
        "encoding": _text("How a text file is encoded, as utf-16 or latin-1 (default: utf-8)"),
        "decimal": _choice([".", ","], "Decimal mark of a text file (default: a point)"),
    }
    required = ["file", "sequence", "inputs", "targets", "loss", "loss_at"]
    return _object("A task made of the user's own sequences, in a tidy file with one row a time step", keys, required)


def _gate() -> dict[str, Any]:
    tolerance = {
        name: {"type": "number", "exclusiveMinimum": 0, "description": f"For runs in {name}. Unit: relative."}
        for name in DTYPES
    }
    checked = "Runs of every job that are verified once more. Unit: runs."
    passes = "Largest relative error, per time step and parameter, that passes"
    keys = {
        "tolerance": _object(passes, tolerance, list(DTYPES)),
        "checked_runs_per_job": {"type": "integer", "minimum": 0, "description": checked},
    }
    return _object("How the engine is checked against PyTorch", keys, list(keys))


def _axes() -> dict[str, Any]:
    """What tables and figures need to know of the axes, for readers that do not import the engine."""
    defaults = {f.name: f.default for f in dataclasses.fields(Experiment)}
    return {
        name: {
            "kind": a.kind,
            "default": defaults[name],
            "unit": a.unit,
            "label": a.label,
            "meaning": a.meaning,
            "unset": a.unset,
            "cell": next((cell for cell, kind in CELLS.items() if name.startswith(f"{cell}_") and kind.options), None),
        }
        for name, a in axes().items()
    }


def schema() -> dict[str, Any]:
    """The JSON schema of a study's config."""
    order = "Figures of the report, in order"
    keys = {
        "study": {**NAME, "description": "Name of the study and of its folder under results/"},
        "title": _text("Headline of the report"),
        "question": _text("The question that the study answers, shown at the top of the report"),
        "device": _choice(DEVICES, "Where runs are made: cpu (NumPy), cuda (torch), or auto (cuda if there is one)"),
        "memory_mb": {
            "type": "number",
            "exclusiveMinimum": 0,
            "description": "Memory for the states of one run; a longer run keeps checkpoints and computes the rest twice, "
            "to the same rows. Without it every run keeps all. Unit: MiB.",
        },
        "confirm_runs": {
            "type": "integer",
            "minimum": 1,
            "description": "That so many runs are meant; wanted of studies beyond 200,000 runs or 10,000 jobs. Unit: runs.",
        },
        "gate": _gate(),
        "sequences": _named("The user's own tasks, by name", _sequences()),
        "sweeps": _named("Sweeps, by name", _sweep(), minProperties=1),
        "figures": {**TEXTS, "items": {"enum": figures()}, "description": order},
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A gradient stability study. Written by workflow/scripts/write_schema.py; do not edit",
        **_object("One study", keys, [key for key in keys if key not in ("sequences", "memory_mb", "confirm_runs")]),
        "$defs": {
            "axes": {
                "x-axes": _axes(),
                "x-generated-tasks": list(GENERATED),
                "x-ranges": {
                    name: [float(np.finfo(name).smallest_normal), float(np.finfo(name).max)] for name in DTYPES
                },
            }
        },
    }


def columns_page() -> str:
    """docs/tables.md: every column of every table."""
    lines = ["# Tables", "", "Written by `workflow/scripts/write_schema.py`; do not edit.", ""]
    lines += [
        "Every table is one Parquet file, `results/<study>/tables/<table>.parquet`, for `pandas.read_parquet`.",
        "",
    ]
    for table in study_tables.TABLES:
        lines += [
            f"## {table}",
            "",
            f"{study_tables.MEANING[table]}.",
            "",
            "| column | type | unit | meaning | null |",
            "|---|---|---|---|---|",
        ]
        for c in study_tables.columns(table):
            lines.append(f"| `{c.name}` | {c.type} | {c.unit} | {c.meaning.replace('|', chr(92) + '|')} | {c.null} |")
        lines.append("")
    return "\n".join(lines)


def settings_page() -> str:
    """docs/settings.md: every setting of a run, with its default."""
    lines = ["# Settings of a run", "", "Written by `workflow/scripts/write_schema.py`; do not edit.", ""]
    lines += [
        "Each is a field of `rnn_core.Experiment`, a key under `grid:`, a column of `runs.parquet` and an axis label.",
        "",
    ]
    lines += ["| setting | default | unit | meaning | allowed |", "|---|---|---|---|---|"]
    defaults = {f.name: f.default for f in dataclasses.fields(Experiment)}
    for name, axis in axes().items():
        default = f"not set: {axis.unset}" if defaults[name] is None else f"`{defaults[name]}`"
        lines.append(f"| `{name}` | {default} | {axis.unit} | {axis.meaning} | {_allowed(name, axis)} |")
    return "\n".join([*lines, ""])


def _allowed(name: str, axis: Axis) -> str:
    if axis.kind in ("choice", "rule"):
        return ", ".join(f"`{choice}`" for choice in axis.choices)
    if name == "task":
        return ", ".join(f"`{task}`" for task in [*GENERATED, "digits"]) + ", a name under `sequences:`"
    if axis.maximum is not None:
        return f"{axis.minimum} to {axis.maximum}"
    return f"at least {axis.minimum}" if axis.minimum is not None else f"above {axis.above:g}"


def write() -> None:
    """Bring both files up to date."""
    text = json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"
    study_tables.SCHEMA_FILE.write_text(text, encoding="utf-8")
    study_tables.config_schema.cache_clear()
    study_tables.axes.cache_clear()
    study_tables.columns.cache_clear()
    COLUMNS_PAGE.parent.mkdir(exist_ok=True)
    COLUMNS_PAGE.write_text(columns_page(), encoding="utf-8")
    SETTINGS_PAGE.write_text(settings_page(), encoding="utf-8")


if __name__ == "__main__":
    write()
