"""The file of a user's own cell, read as text before any job: where it lies, whether it is Python, and what its class takes.

Nothing here imports the file.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from study.config.mistakes import Problem, hint
from study.data.locating import folder_of, require_one_file
from study.data.messages import DataError
from study.own_cells.described import Described, own_cells

GIVEN = ("input_size", "hidden_size")  # what the study gives to the class, beside the options


def file_of(config: Mapping[str, Any], cell: str, folders: Sequence[Path]) -> str:
    """The file of a cell that the config declares, as seen from here."""
    name = own_cells(config)[cell]["file"]
    return str(folder_of(name, folders) / name)


def mistakes(config: Mapping[str, Any], folders: Sequence[Path]) -> Iterator[Problem]:
    """What is wrong with the files of the user's own cells, and with their options."""
    for cell, described in own_cells(config).items():
        name = described["file"]
        try:
            require_one_file(cell, name, folders, key="cells")
            tree = _parsed(Path(file_of(config, cell, folders)), name)
        except DataError as error:
            yield ("cells", cell, "file"), str(error)
        else:
            yield from _mistakes_of_class(("cells", cell), described, tree)


def _parsed(file: Path, name: str) -> ast.Module:
    """The file as Python reads it.

    Raises:
        DataError: there is no such file, it is no text, or it is no Python; the sentence has the line.
    """
    if not name.endswith(".py"):
        raise DataError(f"{name!r} is no Python file; its name must end in .py")
    try:
        return ast.parse(file.read_bytes().decode("utf-8-sig"), filename=name)
    except UnicodeDecodeError as error:
        raise DataError(
            f"{name} is not UTF-8 text (byte {error.start + 1}); save it as UTF-8 in your editor"
        ) from error
    except FileNotFoundError as error:
        raise DataError(f"{name!r} does not exist; write its path from the config's folder") from error
    except OSError as error:
        raise DataError(f"{name!r} cannot be read: {error.strerror}") from error
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:  # ValueError: of a null byte
        line = getattr(error, "lineno", None)
        place = f", line {line}" if line else ""
        raise DataError(f"{name}{place}, is not valid Python: {getattr(error, 'msg', error)}") from error


def _mistakes_of_class(path: tuple[str, str], described: Described, tree: ast.Module) -> Iterator[Problem]:
    """The class must be there and take the sizes and the options; what is imported from elsewhere cannot be looked at."""
    names = dict(_names(tree.body))
    if described["class"] not in names and "*" not in names:
        callables = [name for name, node in names.items() if isinstance(node, ast.ClassDef | ast.FunctionDef)]
        yield (
            (*path, "class"),
            f"{described['file']} has no class {described['class']!r}; {hint(described['class'], callables)}",
        )
        return
    taken = _taken(names.get(described["class"]))
    for option in described.get("options", {}):
        if option in GIVEN:
            yield (*path, "options", option), f"it is a setting of the study; write {option} in a sweep's grid"
        elif taken is not None and option not in taken:
            known = [name for name in taken if name not in GIVEN]
            allowed = hint(option, known) if known else "it takes none"
            yield (*path, "options", option), f"{described['class']} takes no such option; {allowed}"


def _names(body: list[ast.stmt]) -> Iterator[tuple[str, ast.stmt]]:
    """What the statements of a file bind, by name; what stands inside an if or try counts as well."""
    for node in body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            yield node.name, node
        elif isinstance(node, ast.Import | ast.ImportFrom):
            yield from ((alias.asname or alias.name.partition(".")[0], node) for alias in node.names)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            yield from ((target.id, node) for target in targets if isinstance(target, ast.Name))
        elif isinstance(node, ast.If | ast.Try):
            yield from _names([*node.body, *node.orelse, *getattr(node, "finalbody", [])])


def _taken(node: ast.stmt | None) -> list[str] | None:
    """The names of the arguments that a class or function takes; None where the text alone cannot tell."""
    if isinstance(node, ast.ClassDef):
        inits = [each for each in node.body if isinstance(each, ast.FunctionDef) and each.name == "__init__"]
        node = inits[0] if inits else None
    if not isinstance(node, ast.FunctionDef) or node.args.kwarg:
        return None
    given = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
    return [argument.arg for argument in given if argument.arg != "self"]
