"""A config's violations of the schema in words: what was given, what is allowed, and the nearest name."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from typing import Any

from jsonschema import Draft202012Validator, ValidationError

from study.config.misplaced import belongs_under
from study.config.rewritten import as_list_text, as_number, list_of_a_set
from study.config.schema import FILLED, schema
from study.counts import counted

Problem = tuple[tuple[Any, ...], str]  # the path of the key, and what is wrong with it
NAME_RULE = "use lower-case letters, digits, _ and -, at most 64 of them, and begin with a letter or digit"
NOUNS = {"number": "a number", "integer": "a whole number", "boolean": "true or false", "string": "text", "object": "a mapping of keys", "array": "a list", "null": "null"}  # fmt: skip
ALIKE = 0.85  # of a key and the slip for it, as difflib measures it
YES_AND_NO = "YAML reads yes, no, on and off as true and false"
COMPARED = {"minimum": "at least", "exclusiveMinimum": "above", "maximum": "at most", "exclusiveMaximum": "below"}

# Other words for keys of a config, beside those for the settings of a run
KEY_ALIASES = {
    "name": "study", "headline": "title", "sweep": "sweeps", "experiments": "sweeps", "data": "sequences", "dataset": "sequences",
    "datasets": "sequences", "plots": "figures", "figure": "figures", "checks": "gate", "memory": "memory_mb", "params": "grid",
    "parameters": "grid", "repeats": "seeds", "n_seeds": "seeds", "seed": "seeds", "jobs": "jobs_over", "description": "meaning",
    "path": "file", "x": "inputs", "features": "inputs", "y": "targets", "labels": "targets", "label": "targets", "id": "sequence",
    "models": "cells", "modules": "cells", "own_cells": "cells", "kwargs": "options", "arguments": "options", "module": "class",
    "tol": "tolerance", "atol": "tolerance", "rtol": "tolerance", "start": "from", "stop": "to", "end": "to", "by": "step",
    "sep": "delimiter", "separator": "delimiter", "charset": "encoding", "timestamp": "time", "order_by": "time", "sort_by": "time",
    "group": "sequence", "series": "sequence", "sequence_id": "sequence", "outputs": "targets", "output": "targets", "filename": "file",
    "test_size": "held_out", "test_fraction": "held_out", "val_split": "held_out", "validation_split": "held_out", "holdout": "held_out",
    "criterion": "loss", "loss_function": "loss", "num": "step", "count": "step", "replicates": "seeds", "repetitions": "seeds", "trials": "seeds",
}  # fmt: skip


def violations(config: Mapping[str, Any]) -> list[Problem]:
    """All that the schema has against a config, in the order of the config's keys."""
    errors = sorted(Draft202012Validator(schema()).iter_errors(config), key=lambda e: [str(p) for p in e.absolute_path])
    return list(dict.fromkeys(problem for error in errors for problem in _explain(error)))


def hint(given: object, allowed: Iterable[object], key: str = "", besides: str = "") -> str:
    """What is allowed, and the nearest name.

    Args:
        key: the key whose value was given; empty if a key itself was given.
        besides: what is allowed that has no name yet.
    """
    names = [str(name) for name in allowed if name is not None]
    from rnn_core.choices import nearest, nearest_value  # only where there is a mistake: it takes 0.2 s

    meant = nearest_value(key, given, names) if key else nearest(given, names, _aliases_of(names))
    return (
        f"allowed: {', '.join(names)}"
        + (f", or {besides}" if besides else "")
        + (f". Did you mean {meant!r}?" if meant else "")
    )


def _aliases_of(names: Iterable[str]) -> dict[str, str]:
    """Other words for keys. A word that may mean two keys means the one that is allowed here."""
    from rnn_core.choices import FIELD_ALIASES

    both = {**FIELD_ALIASES, **KEY_ALIASES}
    return both | {alias: key for words in (FIELD_ALIASES, KEY_ALIASES) for alias, key in words.items() if key in names}


def _unknown_key(key: Any, here: tuple[Any, ...], allowed: list[str]) -> str:
    """What is wrong with a key that this mapping does not have: it belongs elsewhere, or is another word or a slip for one that is."""
    from rnn_core.choices import FIELD_ALIASES, canonical
    from rnn_core.experiment import axes

    aliases, given = _aliases_of(allowed), canonical(key)
    near = aliases.get(given) in allowed or get_close_matches(given, map(canonical, allowed), n=1, cutoff=ALIKE)
    if not near:
        for meant in (given, KEY_ALIASES.get(given), FIELD_ALIASES.get(given)):
            if meant and (place := belongs_under(meant, here)) is not None:
                known = "it belongs" if meant == key else f"did you mean {meant!r}? It belongs"
                return f"no such key here; {known} {'at the' if place == 'top level' else 'under'} {place}"
    if of := [
        axis for axis, each in axes().items() if axis in allowed and each.kind != "rule" and key in (each.choices or ())
    ]:
        return f"no such key; it is a value of {of[0]}: write {of[0]}: {key}"
    return f"no such key; {hint(key, allowed)}"


def _explain(error: ValidationError) -> Iterator[Problem]:
    """A schema violation in plain words."""
    path, given, wanted = tuple(error.absolute_path), error.instance, error.validator_value
    if error.validator == "anyOf":
        yield from _of_meant_branch(error)
    elif error.validator == "additionalProperties":
        allowed = list(error.schema["properties"])
        for key in given:
            if key not in allowed:
                yield (*path, key), _unknown_key(key, path, allowed)
    elif "propertyNames" in (error.validator, getattr(error.parent, "validator", None)):
        yield path, f"{_short(given)} is not a usable name; {NAME_RULE}"
    elif error.validator == "required":
        missing = [key for key in wanted if key not in given]
        example = "" if path else f"; a study needs {', '.join(wanted)}, as studies/tiny.yaml has them"
        yield path, f"{', '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing{example}"
    elif error.validator == "enum":
        yield path, _not_a_choice(given, wanted, _key_of(path))
    elif error.validator == "pattern":
        yield path, "is empty; write a sentence" if wanted == FILLED else _not_of_the_pattern(given, error.schema)
    elif error.validator == "type":
        remedy = _how_many(path, given) or _of_another_type(given, error)
        yield path, f"{_short(given)} is not allowed; {remedy}"
    elif error.validator in ("minItems", "maxItems"):
        yield path, _of_another_length(given, error.schema)
    elif error.validator == "minProperties":
        yield path, "is empty; give at least one value"
    elif error.validator == "uniqueItems":
        yield path, f"{_short(given)} names a value twice"
    elif error.validator == "maxLength":
        yield path, f"{_short(given)} is too long; at most {wanted} characters are allowed"
    elif error.validator in COMPARED:
        yield path, f"{_short(given)} is not allowed; it must be {COMPARED[error.validator]} {wanted}"
    else:
        yield path, error.message


def _of_meant_branch(error: ValidationError) -> Iterator[Problem]:
    """The faults of a grid's entry as what it was meant to be: one value, a list of values, or a range."""
    branches, given = list(error.validator_value), error.instance
    if written := list_of_a_set(given):
        yield tuple(error.absolute_path), written
        return
    kinds = [
        "list" if b.get("type") == "array" else "range" if b.get("type") == "object" else "value" for b in branches
    ]
    meant = "list" if isinstance(given, list) else "range" if isinstance(given, Mapping) else "value"
    chosen = kinds.index(meant) if meant in kinds else 0
    for inner in error.context or []:
        if inner.schema_path[0] == chosen:
            yield from _explain(inner)


def _key_of(path: tuple[Any, ...]) -> str:
    """The last key of a path; list indices are none."""
    return next((str(part) for part in reversed(path) if not isinstance(part, int)), "")


def _not_a_choice(given: object, allowed: list[Any], key: str) -> str:
    if isinstance(given, bool):
        return f"{_short(given)} is not known; {YES_AND_NO}: put the word in quotes; {hint(given, allowed)}"
    words = [word.strip() for word in given.split(",")] if isinstance(given, str) else []
    if len(words) > 1 and all(word in allowed for word in words):
        return f"{_short(given)} is one text; write a list: [{', '.join(words)}]"
    return f"{_short(given)} is not known; {hint(given, allowed, key)}"


def _not_of_the_pattern(given: str, described: Mapping[str, Any]) -> str:
    if "x-allowed" not in described:
        return f"{_short(given)} is not allowed; {NAME_RULE}"
    from rnn_core.choices import nearest_value

    meant = nearest_value("clipping", given, described["x-names"])
    needs = " it needs a threshold;" if ":" not in given and meant not in (None, "none") else ""
    return f"{_short(given)} is not allowed;{needs} {described['x-allowed']}." + (
        f' Did you mean "{meant}"?' if meant else ""
    )


def _of_another_type(given: object, error: ValidationError) -> str:
    """``it must be …``, with the right way to write it where the mistake is a common one."""
    types = [error.validator_value] if isinstance(error.validator_value, str) else list(error.validator_value)
    must = f"it must be {' or '.join(NOUNS.get(t, t) for t in types if t != 'null')}"
    if error.schema.get("x-names"):  # a clipping rule
        return f"{must}: {_as_rule(given, list(error.schema['x-names']))}"
    if isinstance(given, str) and {"number", "integer"} & set(types):
        return f"{must}, and this is text ({as_number(given)})"
    if types == ["array"]:
        return f"{must}: {as_list_text(given)}"
    if isinstance(given, list) and types == ["object"]:
        return f"{must}: write `key: value` lines, without a - before them"
    if isinstance(given, list):
        return f"{must}: {f'write {given[0]} alone' if len(given) == 1 else 'one value alone'}, without brackets"
    if isinstance(given, int | float | datetime.date) and not isinstance(given, bool) and "string" in types:
        return f'{must}: put it in quotes, "{given}"'
    if isinstance(given, bool):
        quotes = ": put the word in quotes" if "string" in types else ""
        return f"{must} ({YES_AND_NO}{quotes})"
    if given is None:
        return f"{must}, and nothing stands there"
    return must


def _of_another_length(given: list[Any], described: Mapping[str, Any]) -> str:
    """How many values a list wants."""
    least, most = described.get("minItems", 0), described.get("maxItems")
    if not given and least < 2:
        return "is empty; give at least one value"
    wanted = (
        f"exactly {least}"
        if least == most
        else f"at most {most}"
        if most is not None and len(given) > most
        else f"at least {least}"
    )
    return f"{_short(given)} has {counted(len(given), 'value')}; give {wanted}"


def _how_many(path: tuple[Any, ...], given: object) -> str:
    """What to write where seeds are counted, and were listed."""
    if path[-1:] == ("seeds",) and isinstance(given, list) and given:
        return f"it must be a whole number, how many seeds there are: write {len(given)}"
    return ""


def _as_rule(given: object, rules: list[str]) -> str:
    """How to write a clipping rule. It was given as a number, as a mapping, or as a word that YAML took for something else."""
    from rnn_core.choices import nearest_value

    meant = nearest_value("clipping", given, rules) or "norm:1.0"
    return (
        "write none where nothing is clipped" if meant == "none" else f'write "{meant}", in quotes and without a blank'
    )


def _short(given: object) -> str:
    text = _as_yaml(given)
    return text if len(text) <= 200 else f"{text[:120]} … ({len(text)} characters)"


def _as_yaml(given: object) -> str:
    """As a config writes it: null, true and false, also within lists and mappings."""
    if isinstance(given, list):
        return f"[{', '.join(map(_as_yaml, given))}]"
    if isinstance(given, dict):
        return f"{{{', '.join(f'{_as_yaml(key)}: {_as_yaml(value)}' for key, value in given.items())}}}"
    return "null" if given is None else str(given).lower() if isinstance(given, bool) else repr(given)


def dotted(path: Iterable[Any]) -> str:
    """``sweeps.one.grid.activation[1]``."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text
