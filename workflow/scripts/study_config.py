"""Checking a config before anything runs: which key, what was given, what is allowed, the nearest valid name."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator, ValidationError

from study_plan import as_list
from study_tables import SCHEMA_FILE

DIGIT_PIXELS = 64
DIGITS_TO_TRAIN_ON = 1438  # of 1797, a fifth is held out


class ConfigError(Exception):
    """All that is wrong with a config, one line each."""


def check(config: Mapping[str, Any], root: Path = Path()) -> None:
    """Raise ``ConfigError`` unless ``config`` is a valid study. Relative file names count from ``root``."""
    schema = json.loads(SCHEMA_FILE.read_text(encoding="utf-8"))
    errors = sorted(Draft202012Validator(schema).iter_errors(config), key=lambda e: [str(p) for p in e.absolute_path])
    problems = list(dict.fromkeys(line for error in errors for line in _explain(error)))
    if not problems:  # what follows may rely on the schema
        problems = [*_check_numbers(config), *_check_sweeps(config, schema), *_check_sequences(config, root)]
    if problems:
        raise ConfigError(
            "\n".join(
                ["The config has a mistake:" if len(problems) == 1 else "The config has mistakes:"]
                + [f"  {line}" for line in problems]
            )
        )


def _explain(error: ValidationError) -> Iterator[str]:
    """A schema violation in plain words."""
    where, given = _path(error.absolute_path), error.instance
    if error.validator == "anyOf":  # a single value, or a list of values: follow the one that was meant
        branch = 1 if isinstance(given, list) else 0
        for inner in error.context or []:
            if inner.schema_path[0] == branch:
                yield from _explain(inner)
    elif error.validator == "additionalProperties":
        allowed = list(error.schema["properties"])
        for key in given:
            if key not in allowed:
                yield f"{_path([*error.absolute_path, key])}: no such key; {_hint(key, allowed)}"
    elif error.validator == "propertyNames" or (
        error.validator == "pattern" and error.parent is not None and error.parent.validator == "propertyNames"
    ):
        yield f"{where}: {given!r} is not a usable name; use lower-case letters, digits, _ and -"
    elif error.validator == "required":
        missing = [key for key in error.validator_value if key not in given]
        yield f"{where or 'top level'}: {', '.join(missing)} is missing"
    elif error.validator == "enum":
        yield f"{where}: {given!r} is not known; {_hint(given, error.validator_value)}"
    elif error.validator == "pattern":
        yield f"{where}: {given!r} is not allowed; {error.schema.get('x-allowed', 'use lower-case letters, digits, _ and -')}{_near(given, error.schema.get('x-names', []))}"
    elif error.validator == "type":
        yield f"{where}: {given!r} is not allowed; it must be {_type(error)}"
    elif error.validator in ("minItems", "minProperties"):
        yield f"{where}: is empty; give at least one value"
    elif error.validator == "uniqueItems":
        yield f"{where}: {given!r} names a value twice"
    elif error.validator in ("minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum"):
        words = {"minimum": "at least", "exclusiveMinimum": "above", "maximum": "at most", "exclusiveMaximum": "below"}
        yield f"{where}: {given!r} is not allowed; it must be {words[error.validator]} {error.validator_value}"
    else:
        yield f"{where}: {error.message}"


def _type(error: ValidationError) -> str:
    names = {
        "number": "a number",
        "integer": "a whole number",
        "string": "text",
        "object": "a mapping of keys",
        "array": "a list",
    }
    wanted = names.get(str(error.validator_value), str(error.validator_value))
    if isinstance(error.instance, str) and error.validator_value in ("number", "integer"):
        return f"{wanted}, and this is text (no quotes; YAML reads 1e-3 as text, write 1.0e-3)"
    return wanted


def _hint(given: object, allowed: list[str]) -> str:
    return f"allowed: {', '.join(map(str, allowed))}{_near(given, allowed)}"


def _near(given: object, allowed: list[str]) -> str:
    near = get_close_matches(str(given), [str(name) for name in allowed], n=1)
    return f". Did you mean {near[0]!r}?" if near else ""


def _path(parts: Any) -> str:
    text = ""
    for part in parts:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def _check_numbers(config: Any, path: tuple[Any, ...] = ()) -> Iterator[str]:
    """inf and nan pass as numbers in YAML."""
    if isinstance(config, float) and not math.isfinite(config):
        yield f"{_path(path)}: {config!r} is not allowed; it must be finite"
    elif isinstance(config, Mapping):
        for key, value in config.items():
            yield from _check_numbers(value, (*path, key))
    elif isinstance(config, list):
        for index, value in enumerate(config):
            yield from _check_numbers(value, (*path, index))


def _check_sweeps(config: Mapping[str, Any], schema: Mapping[str, Any]) -> Iterator[str]:
    defaults = {axis: described["default"] for axis, described in schema["$defs"]["axes"]["x-axes"].items()}
    known = [*schema["$defs"]["axes"]["x-generated-tasks"], "digits", *config.get("sequences", {})]
    for name in config.get("sequences", {}):
        if name in known[: -len(config["sequences"])]:
            yield f"sequences.{name}: this name is taken by a built-in task"
    for sweep, described in config["sweeps"].items():
        where, grid = f"sweeps.{sweep}", described["grid"]
        for axis in described.get("jobs_over", []):
            if axis not in grid:
                yield f"{where}.jobs_over: {axis!r} is not an axis of this sweep; {_hint(axis, list(grid))}"
        tasks, lengths = (as_list(grid.get(axis, defaults[axis])) for axis in ("task", "sequence_length"))
        for index, task in enumerate(tasks):
            place = f"{where}.grid.task" + (f"[{index}]" if isinstance(grid.get("task"), list) else "")
            if task not in known:
                yield f"{place}: {task!r} is not known; {_hint(task, known)}"
            if task == "digits":
                yield from _check_digits(f"{where}.grid", grid, lengths)
        for axis in grid:
            owner, cells = schema["$defs"]["axes"]["x-axes"][axis]["cell"], as_list(grid.get("cell", defaults["cell"]))
            if owner and cells != [owner]:
                others = ", ".join(cell for cell in cells if cell != owner)
                yield f"{where}.grid.{axis}: only the cell {owner!r} has it, not {others}; give {owner} a sweep of its own"
        yield from _check_rules(f"{where}.grid.clipping", as_list(grid.get("clipping", "none")))


def _check_rules(where: str, rules: list[str]) -> Iterator[str]:
    """Thresholds above 0 and finite; each rule once, however its threshold is written."""
    seen: dict[tuple[str, float], str] = {}
    for rule in rules:
        kind, _, threshold = rule.partition(":")
        value = float(threshold or math.nan)
        if rule != "none" and not 0.0 < value < math.inf:
            yield f"{where}: {rule!r} is not allowed; the threshold must be above 0 and finite"
        elif (kind, value) in seen:
            yield f"{where}: {seen[kind, value]!r} and {rule!r} are the same rule; leave one out"
        seen[kind, value] = rule


def _check_digits(where: str, grid: Mapping[str, Any], lengths: list[int]) -> Iterator[str]:
    """The digits' own limits: 64 pixels, one a step; one label an image; as many images as there are."""
    if max(lengths) > DIGIT_PIXELS:
        yield f"{where}.sequence_length: {max(lengths)} is too long; a digit has {DIGIT_PIXELS} pixels"
    if max(as_list(grid.get("batch_size", 1))) > DIGITS_TO_TRAIN_ON:
        yield f"{where}.batch_size: there are {DIGITS_TO_TRAIN_ON} digits to train on"
    if set(as_list(grid.get("input_size", 1))) != {1}:
        yield f"{where}.input_size: a digit has 1 input a step; leave input_size out"
    if "every" in as_list(grid.get("loss_at", "last")):
        yield f"{where}.loss_at: a digit has one label, at the last step; leave loss_at out"


def _check_sequences(config: Mapping[str, Any], root: Path) -> Iterator[str]:
    for name, described in config.get("sequences", {}).items():
        file = root / described["file"]
        if file.suffix not in (".csv", ".parquet"):
            yield f"sequences.{name}.file: {described['file']!r} is not allowed; it must end in .csv or .parquet"
        elif not file.is_file():
            yield f"sequences.{name}.file: {described['file']!r} does not exist (looked for from the project's top folder)"
