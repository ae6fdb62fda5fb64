"""Snakemake reads its config files through ``study.config.reader``: from then on none of them can run code.

Snakemake executes a config that says ``__use_yte__`` before the workflow can object. Only a profile is read earlier. So the profiles of
the workflow call ``install``. What ``--config`` gives is read before the workflow, too.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import snakemake.cli as command_line
import snakemake.common.configfile as reader
from snakemake.exceptions import CliException

from study.config import reader as config_reader

_parse_config = command_line.parse_config


def install() -> None:
    """Let Snakemake read config files by ``config_reader``, which tells in its own words what is wrong with one."""
    reader._load_configfile = _load
    command_line.parse_config = _named_values


def _load(file: Any, filetype: str = "Config") -> dict[str, Any]:
    try:
        return config_reader.read(file if isinstance(file, str | Path) else file.name).values
    except config_reader.ReadError as error:
        raise CliException(str(error)) from error


def _named_values(entries: list[str] | None) -> dict[str, Any]:
    """What ``--config`` gives. To an entry that it cannot read Snakemake answers with lines of its own code."""
    for entry in entries or ():
        try:
            _parse_config([entry])
        except (ValueError, AssertionError) as error:
            raise CliException(
                f"--config: {entry!r} is not allowed; write KEY=VALUE, as --config device=cpu. "
                "Settings of runs stand in a config file, under sweeps."
            ) from error
    values: dict[str, Any] = _parse_config(entries)
    return values
