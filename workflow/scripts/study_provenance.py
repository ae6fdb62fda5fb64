"""What made a table: digests of code and config, versions of the libraries, the device. No time of day, no machine path."""

from __future__ import annotations

import ast
import hashlib
import json
import platform
import subprocess
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
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


def digest(files: Iterable[Path]) -> str:
    """16 hexadecimal digits over names and contents of source files."""
    total = hashlib.sha256()
    for file in sorted(files):
        total.update("/".join(file.parts[-2:]).encode() + b"\0" + file.read_bytes() + b"\0")
    return total.hexdigest()[:16]


def engine_digest() -> str:
    """The digest of ``rnn_core``: a run made by other sources is another run."""
    return digest(file for kind in ("*.py", "*.c", "*.h") for file in (ROOT / "rnn_core").rglob(kind))


def script_digest(name: str) -> str:
    """The digest of a script and of the modules beside it that it imports, directly or through others.

    Snakemake watches a rule's script by itself, but not what the script imports; and what is kept across calls must know both.
    """
    return digest(_imports(name, {HERE / f"{name}.py"}))


def _imports(name: str, seen: set[Path]) -> set[Path]:
    """The files of all modules in this folder that ``name`` imports."""
    source = (HERE / f"{name}.py").read_text(encoding="utf-8")
    for node in ast.walk(ast.parse(source)):
        found = [node.module] if isinstance(node, ast.ImportFrom) else []
        found += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        for module in found:
            file = HERE / f"{module}.py"
            if file.is_file() and file not in seen:
                seen.add(file)
                _imports(file.stem, seen)
    return seen


def config_digest(config: Mapping[str, Any]) -> str:
    """The digest of a config's values, whatever their order and comments."""
    return hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()[:16]


def commit() -> str:
    """The git commit, with ``+changes`` if the tree differs from it; ``unknown`` outside a repository."""
    try:
        call = ["git", "-C", str(ROOT), "describe", "--always", "--abbrev=40", "--dirty=+changes", "--exclude=*"]
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
