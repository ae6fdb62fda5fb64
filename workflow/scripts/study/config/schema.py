"""The JSON schema of a study's config: its axes follow from ``rnn_core.Experiment``, its figures from the modules in ``figures/``.

``workflow/schemas/config.schema.json`` is this schema for editors, written by ``make docs``; nothing here reads it.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Any

from rnn_core.arrays import DEVICES, DTYPES
from rnn_core.axes import Axis
from rnn_core.cells import CELLS
from rnn_core.clipping import RULES
from rnn_core.experiment import ASKED, axes, cliff
from rnn_core.losses import LOSSES
from study import SCRIPTS

# (?!\\n): "$" alone lets a line break at the end pass
NAME = {"type": "string", "pattern": "^[a-z0-9][a-z0-9_-]*$(?!\\n)", "maxLength": 64}
FILLED = "\\S"  # a pattern: more than blanks
LARGEST = 2**31 - 1  # whole numbers become columns of 32 bits


def figures() -> list[str]:
    """Every figure that there is a module for."""
    return sorted(file.stem for file in (SCRIPTS / "figures").glob("[!_]*.py"))


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


# A cell of the user's own has any name, so which names there are is looked up elsewhere (grids.py).
CELL = {"type": "string", "examples": list(CELLS), "maxLength": 200}
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
    """Every axis of an experiment: a value, a list of values or a range. A sweep says how many seeds it has, not which."""
    grid = {}
    for name, axis in axes().items():
        if name in ("seed", "cell_options"):  # the options of a cell of the user's own stand with the cell
            continue
        value = CELL if name == "cell" else _value_schema(axis)
        values = {"type": "array", "minItems": 1, "uniqueItems": True, "items": value}
        ranges = [_range(axis.kind)] if axis.kind in ("integer", "number") else []
        grid[name] = {"description": f"{axis.meaning}. Unit: {axis.unit}.", "anyOf": [value, values, *ranges]}
    return grid


def _value_schema(axis: Axis) -> dict[str, Any]:
    """One value of an axis in a config. It may be null where the setting may be left unset."""
    schema_of_value = axis.json_schema()
    if axis.kind == "rule":
        schema_of_value |= {
            "x-names": list(axis.choices),
            "x-allowed": RULE,
            "pattern": schema_of_value["pattern"] + r"(?!\n)",
            "maxLength": 64,
        }
    if axis.kind == "integer":
        schema_of_value.setdefault("maximum", LARGEST)
    if axis.unset and "enum" in schema_of_value:
        schema_of_value["enum"] = [*schema_of_value["enum"], None]
    elif axis.unset:
        schema_of_value["type"] = [schema_of_value["type"], "null"]
    return schema_of_value


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
        "baseline": {
            "type": "number",
            "exclusiveMinimum": 0,
            "description": "Held-out loss of the best prediction that remembers nothing, where the best constant is not that; a task is solved at a tenth of it",
        },
        "encoding": _text("How a text file is encoded, as utf-16 or latin-1 (default: utf-8)"),
        "decimal": _choice([".", ","], "Decimal mark of a text file (default: a point)"),
    }
    required = ["file", "sequence", "inputs", "targets", "loss", "loss_at"]
    return _object("A task made of the user's own sequences, in a tidy file with one row a time step", keys, required)


def _cells() -> dict[str, Any]:
    kinds = ["number", "boolean", "string"]  # in one type, so that a mistake is told what all of them are
    swept = {"type": "array", "minItems": 1, "uniqueItems": True, "items": {"type": kinds}}
    options = "What the class takes besides input_size and hidden_size. A list of values is swept"
    keys = {
        "file": _text(
            "A Python file of your own, counted from the config's folder, the folder of the call, or the project's"
        ),
        "class": _text(
            "A class in it: a torch module, made as CLASS(input_size, hidden_size, …), whose call is one step, (x_t, state) -> state"
        ),
        "hidden": _text(
            "The part of its state that the readout reads, by name; the first if left out. Of the first of a second pair: 2.1"
        ),
        "options": {
            "type": "object",
            "description": options,
            "propertyNames": {"type": "string", "pattern": "^[A-Za-z_][A-Za-z0-9_]*$(?!\\n)", "maxLength": 64},
            "additionalProperties": {"anyOf": [{"type": [*kinds, "null"]}, swept]},
        },
    }
    return _object("A cell of the user's own: a torch module by its step", keys, ["file", "class"])


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


def _cliff() -> dict[str, Any]:
    """The unit of Pascanu's figure 6: where it is looked at, what is asked of it, and how it descends."""
    given = cliff.Asked()

    def number(meaning: str, default: Any, **limits: Any) -> dict[str, Any]:
        return {"type": "number", **limits, "description": f"{meaning} (default: {default}). Unit: 1."}

    def ends(meaning: str, default: Any) -> dict[str, Any]:
        both = {"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 2}
        return {**both, "description": f"{meaning}, from and to (default: {list(default)}). Unit: 1."}

    rules = {"type": "array", "minItems": 1, "uniqueItems": True, "items": _value_schema(axes()["clipping"])}
    unit, path = given.unit, given.path
    keys = {
        "weights": ends("Weights w of the surface", given.weights),
        "biases": ends("Biases b of the surface", given.biases),
        "points": {"type": "integer", "minimum": 3, "maximum": 1001, "description": f"Weights, and biases, of the surface (default: {given.points}). Unit: points."},
        "steps": {"type": "integer", "minimum": 1, "maximum": 10_000, "description": f"Time steps T of the unit (default: {unit.steps}). Unit: steps."},
        "start": number("x_0, where the unit starts", unit.start),
        "target": number("What σ(x_T) should be", unit.target, exclusiveMinimum=0, exclusiveMaximum=1),
        "from": {**ends("Where descent starts, weight and bias", (path.weight, path.bias)), "description": f"Weight and bias at which descent starts (default: {[path.weight, path.bias]}). Unit: 1."},
        "learning_rate": number("Learning rate of descent", path.learning_rate, exclusiveMinimum=0),
        "updates": {"type": "integer", "minimum": 1, "maximum": 100_000, "description": f"Updates of descent (default: {path.updates}). Unit: updates."},
        "clipping": {**rules, "description": f"Clipping rules of descent, a path each (default: {list(path.clipping)})"},
    }  # fmt: skip
    about = "The loss of one recurrent unit over its weight and bias (Pascanu, Mikolov & Bengio 2013, figure 6), and paths of descent"
    return _object(about, keys, [])


def _spectra() -> dict[str, Any]:
    exponents = "Largest Lyapunov exponents that are measured (default: 8); a network with fewer units has all of its own. Unit: directions."
    lags = "Steps of the products of Jacobians whose singular values are measured, from a sequence's last step back (default: 1, 10, 100). A longer product takes longer. Unit: steps."
    samples = "Sequences of the first batch whose spectra are measured (default: 1). Unit: sequences."
    whole = {"type": "integer", "minimum": 1, "maximum": LARGEST}
    keys = {
        "exponents": {**whole, "description": exponents},
        "singular_values": {"type": "array", "maxItems": 16, "uniqueItems": True, "items": whole, "description": lags},
        "samples": {**whole, "description": samples},
    }
    return _object(
        "Spectra beside the norms: how many directions of a gradient survive. Without it none are measured", keys, []
    )


@cache
def schema() -> dict[str, Any]:
    """The JSON schema of a study's config."""
    order = "Figures of the report, in order"
    keys = {
        "study": {**NAME, "description": "Name of the study and of its folder under results/"},
        "title": {**_text("Headline of the report"), "pattern": FILLED},
        "question": {
            **_text("The question that the study answers, shown at the top of the report"),
            "pattern": FILLED,
        },
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
        "traces": {
            "type": "array",
            "uniqueItems": True,
            "items": {"enum": list(ASKED)},
            "description": "What the table traces holds besides norms, at every recorded step. "
            + "; ".join(f"{name}: {meaning}" for name, meaning in ASKED.items())
            + ". Each takes time and room; runs that were made without it are made again",
        },
        "gate": _gate(),
        "spectra": _spectra(),
        "cliff": _cliff(),
        "sequences": _named("The user's own tasks, by name", _sequences()),
        "cells": _named("The user's own cells, by name: their code is run", _cells()),
        "sweeps": _named("Sweeps, by name", _sweep(), minProperties=1),
        "figures": {**TEXTS, "items": {"enum": figures()}, "description": order},
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A gradient stability study. Written from the code by make docs; do not edit",
        **_object(
            "One study",
            keys,
            [
                key
                for key in keys
                if key not in ("sequences", "cells", "spectra", "cliff", "memory_mb", "traces", "confirm_runs")
            ],
        ),
    }
