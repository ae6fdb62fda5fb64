"""Importing a user's cell inside a job, and letting the engine know of it. This runs the user's code."""

from __future__ import annotations

import inspect
import linecache
import os
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

from rnn_core.experiment import OwnCell, register
from study.own_cells import kept
from study.own_cells.kept import KeptCell


class CellError(Exception):
    """A user's cell cannot be used; the sentence names the cell and its file."""


def register_all(files: Iterable[str | Path]) -> list[OwnCell]:
    """Let the engine know the cells of these files of a study (``kept``).

    Raises:
        CellError: a file fails when it is imported, or has no such class.
    """
    return [register(own_cell(kept.load(file))) for file in files]


def own_cell(cell: KeptCell) -> OwnCell:
    """The cell as experiments know it.

    Raises:
        CellError: see ``register_all``.
    """
    module = _imported(cell)
    made = getattr(module, cell.class_name, None)
    if not callable(made):
        raise CellError(f"{_words(cell)}: the file has no class {cell.class_name!r}")
    return OwnCell(cell.name, _builder(cell, made), cell.variants, cell.digest, cell.file, cell.hidden)


def _imported(cell: KeptCell) -> ModuleType:
    """The file as a module of its own name. Its text is known to tracebacks, and to ``inspect``."""
    name = f"own_cell_{cell.name.replace('-', '_')}"
    module = ModuleType(name)
    module.__file__ = cell.file
    sys.modules[name] = module  # dataclasses and pickle look modules up
    linecache.cache[cell.file] = (len(cell.source), None, cell.source.splitlines(keepends=True), cell.file)
    try:
        with _exits_told():
            exec(compile(cell.source, cell.file, "exec", dont_inherit=True), module.__dict__)
    except (Exception, SystemExit) as error:
        apart = (
            " A cell is one file: what it needs must stand in it, or be installed."
            if isinstance(error, ImportError)
            else ""
        )
        raise CellError(
            f"{_words(cell)}: its import fails{place_in(cell.file, error)}, {described(error)}.{apart}"
        ) from error
    return module


@contextmanager
def _exits_told() -> Iterator[None]:
    """Within it ``os._exit``, which ends a process without a word, is an error that names its line."""

    def ends(status: int) -> NoReturn:
        raise SystemExit(f"the file ends the process, os._exit({status})")

    before, os._exit = os._exit, ends  # type: ignore[assignment]
    try:
        yield
    finally:
        os._exit = before  # type: ignore[assignment]


def _builder(cell: KeptCell, made: Callable[..., Any]) -> Callable[..., Any]:
    """(input_size, hidden_size, **options) -> module."""

    def build(input_size: int, hidden_size: int, **options: Any) -> Any:
        in_order, named = _sizes(made, {"input_size": input_size, "hidden_size": hidden_size}, options)
        try:
            return made(*in_order, **named, **options)
        except Exception as error:
            given = [f"{name}={value!r}" for name, value in {**named, **options}.items()]
            call = ", ".join([*map(str, in_order), *given])
            where = place_in(cell.file, error)
            raise CellError(f"{_words(cell)}: {cell.class_name}({call}) fails{where}, {described(error)}") from error

    return build


def _sizes(
    made: Callable[..., Any], sizes: Mapping[str, int], options: Mapping[str, Any]
) -> tuple[list[int], dict[str, int]]:
    """The sizes as the class takes them: (in order, by name).

    By name where it calls them so. One that it calls otherwise is given to its first argument that needs a value and has none. Where it
    knows neither name, the sizes are given in order.
    """
    try:
        taken = inspect.signature(made).parameters
    except (TypeError, ValueError):  # of a class that is not written in Python
        return list(sizes.values()), {}
    named = {name: size for name, size in sizes.items() if name in taken}
    if not named:
        return list(sizes.values()), {}
    of_other_names = [
        name
        for name, argument in taken.items()
        if argument.kind is argument.POSITIONAL_OR_KEYWORD and argument.default is argument.empty
        and name not in named and name not in options
    ]  # fmt: skip
    unnamed = [size for name, size in sizes.items() if name not in named]
    return [], {**dict(zip(of_other_names, unnamed, strict=False)), **named}


def _words(cell: KeptCell) -> str:
    return f"Your own cell {cell.name} ({cell.file})"


def described(error: BaseException) -> str:
    """An error in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def place_in(file: str, error: BaseException | None) -> str:
    """The last line of the user's file that an error came through."""
    frames = traceback.extract_tb(error.__traceback__) if error is not None else ()
    lines = [frame.lineno for frame in frames if frame.filename == file]
    return f" in line {lines[-1]}" if lines and lines[-1] else ""
