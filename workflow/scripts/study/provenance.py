"""What made a table: digests of code and config, versions of the libraries, the device. It holds no date and no path."""

from __future__ import annotations

import hashlib
import json
import platform
import re
import subprocess
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from study import PROJECT, SCRIPTS

LIBRARIES = (
    "numpy",
    "scipy",
    "torch",
    "pandas",
    "pyarrow",
    "seaborn",
    "matplotlib",
    "snakemake",
    "scikit-learn",
    "array-api-compat",
)
# from A import B, C | from A import (B, C) | import A, B: the module, what is imported from it, what is imported alone.
IMPORT = re.compile(
    r"^[ \t]*(?:from[ \t]+([\w.]+)[ \t]+import[ \t]+(?:\(([^)]*)\)|([^\n(]*))|import[ \t]+([^\n]*))", re.MULTILINE
)


def digest(files: Iterable[Path]) -> str:
    """16 hexadecimal digits over names and contents of source files."""
    total = hashlib.sha256()
    for file in sorted(files):
        total.update("/".join(file.parts[-2:]).encode() + b"\0" + _content(file) + b"\0")
    return total.hexdigest()[:16]


def engine_digest() -> str:
    """The digest of ``rnn_core``: a run made by other sources is another run."""
    return digest(file for kind in ("*.py", "*.c", "*.h") for file in (PROJECT / "rnn_core").rglob(kind))


@cache  # Snakemake asks for it several times a job
def script_digest(*names: str) -> str:
    """The digest of scripts (``run_block``, ``figures.growth_rate``) and of all modules of this folder that they import.

    Snakemake watches a rule's script, but not what the script imports. What is kept across calls depends on both.
    """
    modules = {name: _module(name) for name in names}
    if missing := [name for name, file in modules.items() if file is None]:
        raise ValueError(f"there is no module {', '.join(missing)} in workflow/scripts")
    files = {file for file in modules.values() if file is not None}
    left = list(files)
    while left:
        new = _imported(left.pop()) - files
        files |= new
        left += new
    return digest(files)


@cache
def _imported(file: Path) -> frozenset[Path]:
    """The files of the modules in this folder that ``file`` itself imports.

    Read from its text: Snakemake asks in every process, and Python's own parser took a third of its start. Words of a docstring that
    look like an import name no module, or one more than is imported. Not read are two imports on one line (a; b), and a line that goes
    on behind a backslash; a test compares every file with Python's parser.
    """
    names: list[str] = []
    for source, in_brackets, in_line, alone in IMPORT.findall(re.sub("#.*", "", _content(file).decode())):
        parts = [part.split(" as ")[0].strip() for part in (in_brackets or in_line or alone).split(",")]
        names += [source, *(f"{source}.{part}" for part in parts)] if source else parts
    return frozenset(module for module in map(_module, names) if module is not None)


@cache
def _content(file: Path) -> bytes:
    """Read once: most digests are over the same files. What is edited later in this process is not seen."""
    return file.read_bytes()


@cache
def _module(name: str) -> Path | None:
    """The file of a module in this folder; None where another library brings it."""
    place = SCRIPTS / name.replace(".", "/")
    return next((file for file in (place.with_suffix(".py"), place / "__init__.py") if file.is_file()), None)


def config_digest(config: Mapping[str, Any]) -> str:
    """The digest of a config's values, whatever their order and comments."""
    return hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()[:16]


def commit() -> str:
    """The git commit, with ``+changes`` if the tree differs from it; ``unknown`` outside a repository."""
    try:
        call = ["git", "-C", str(PROJECT), "describe", "--always", "--abbrev=40", "--dirty=+changes", "--exclude=*"]
        return subprocess.run(call, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return "unknown"


def provenance(config: Mapping[str, Any], device: str) -> dict[str, Any]:
    """What goes into a table's footer and into the report; ``device`` by its name."""
    return {
        "study": config["study"],
        "config": dict(config),
        "config_digest": config_digest(config),
        "engine": engine_digest(),
        "commit": commit(),
        "device": device,
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "versions": {name: version(name) for name in LIBRARIES},
    }
