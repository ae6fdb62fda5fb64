"""Everything about a study but its rules: config, plan, data, tables, files, cost, screen, report, and command-line tools."""

from pathlib import Path

SCRIPTS = Path(__file__).resolve().parent.parent
PROJECT = SCRIPTS.parent.parent
