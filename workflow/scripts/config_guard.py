"""Snakemake reads its config files through ``study.config.reader``: from then on none of them can run code.

Snakemake executes a config that says ``__use_yte__`` before the workflow can object. Only a profile is read earlier. So the profiles of
the workflow call ``install``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import snakemake.common.configfile as reader
from snakemake.exceptions import CliException

from study.config import reader as config_reader


def install() -> None:
    """Let Snakemake read config files by ``config_reader``, which tells in its own words what is wrong with one."""
    reader._load_configfile = _load


def _load(file: Any, filetype: str = "Config") -> dict[str, Any]:
    try:
        return config_reader.read(file if isinstance(file, str | Path) else file.name).values
    except config_reader.ReadError as error:
        raise CliException(str(error)) from error
