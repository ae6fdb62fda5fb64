"""Checking a config before anything runs. A mistake is told with its line and key, what is allowed and the nearest name."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from study.config.canonical import canonical, cliff_mistakes, range_mistakes
from study.config.grids import grid_mistakes, names_not_known, not_finite
from study.config.idle import without_effect
from study.config.limits import too_many_runs, too_much_memory
from study.config.mistakes import Problem, dotted, violations
from study.config.reader import Document, line_of
from study.data import intake
from study.own_cells import source
from study.tables import store

_KEY = re.compile(r"(?:sequences|sweeps)(?:\.[a-z0-9_-]+)+")


class ConfigError(Exception):
    """All that is wrong with a config, one line each."""


@dataclass(frozen=True)
class Approved:
    """A config that can become a study.

    Attributes:
        config: in the form that the workflow goes by (``canonical``).
        notes: settings that change nothing, and doubts about the data.
        reports: task -> what its data are, a line each.
    """

    config: dict[str, Any]
    notes: list[str]
    reports: dict[str, list[str]]


def check(
    config: Mapping[str, Any],
    document: Document | None = None,
    folders: Sequence[Path] = (Path(),),
    local: bool = True,
) -> Approved:
    """The config in its canonical form, with notes, if it is a valid study.

    Args:
        config: as it was read.
        document: the file that it was read from, for line numbers. Keys that it does not hold came from the command line.
        folders: relative file names are looked for here, one after the other.
        local: the jobs run on this machine, whose memory therefore counts.

    Raises:
        ConfigError: it is none.
    """
    plain = canonical(check_form(config, document))
    problems = violations(plain) or list(not_finite(plain))  # of the values of its ranges
    problems = problems or [*grid_mistakes(plain), *source.mistakes(plain, folders)]
    problems = problems or [
        *too_many_runs(plain, config.get("confirm_runs", 0)),
        *(too_much_memory(plain) if local else ()),
    ]
    if problems:
        raise ConfigError(message(problems, document))
    with store.without_pandas():  # pyarrow would import it, which takes half a second
        data = intake.inspect(plain, folders)
    if data.problems:
        raise ConfigError(message([(_key_at_start(text), text) for text in data.problems], document))
    return Approved(plain, [*without_effect(plain), *data.warnings], data.reports)


def check_form(config: Mapping[str, Any], document: Document | None = None) -> Mapping[str, Any]:
    """The config, if it has the form of a study, which ``canonical`` relies on.

    Raises:
        ConfigError: it has not.
    """
    problems = violations(config)
    refused = {path[0] for path, _ in problems if path}
    problems = (
        [*problems, *names_not_known(config, refused)]
        if problems
        else [*range_mistakes(config), *cliff_mistakes(config)]
    )
    if problems:
        raise ConfigError(message(problems, document))
    return config


def check_device(config: Mapping[str, Any]) -> None:
    """The study's device must be there.

    Raises:
        ConfigError: the study wants a GPU, and torch finds none on this machine.
    """
    if config["device"] != "cuda":
        return
    from rnn_core.arrays import resolve_device  # imports torch, which takes a second

    try:
        resolve_device("cuda")
    except RuntimeError as error:
        raise ConfigError(f"The config asks for what this machine does not have. {error}.") from error


def message(problems: list[Problem], document: Document | None = None) -> str:
    """All problems in the order of the file's lines."""
    name = document.file if document else "The config"
    lines = [(line_of(document, path) if document else None, path, text) for path, text in problems]
    if document and all(line is None and path for line, path, _ in lines):
        name = "The command line (--config)"
    lines.sort(key=lambda each: each[0] or 0)
    return "\n".join(
        [f"{name} has {'a mistake' if len(problems) == 1 else f'{len(problems)} mistakes'}:"]
        + [f"  {f'line {line}, ' if line else ''}{_after_key(path, text)}" for line, path, text in lines]
    )


def _after_key(path: tuple[Any, ...], text: str) -> str:
    key = dotted(path) or "top level"
    return text if text.startswith(key) else f"{key}: {text}"


def _key_at_start(text: str) -> tuple[Any, ...]:
    """The path of the key that a sentence begins with."""
    key = _KEY.match(text)
    return tuple(key[0].split(".")) if key else ()
