"""Whether a plan keeps its promise: plan a study, run it from nothing, and print predicted over measured, part by part.

python -m tests.workflow.plan_against_study --config studies/ten_thousand.yaml --folder /some/empty/folder

Processor time is compared, not wall time: another program on the machine must not count as a wrong plan.
"""

from __future__ import annotations

import argparse
import json
import re
import time
from pathlib import Path

from tests.support.study_project import Project, copy

UNITS = {"s": 1.0, "min": 60.0, "h": 3600.0, "MiB": 1.0}
RULES = {
    "engine check": ("check_engine",),
    "verification": ("verify_runs",),
    "tables": ("gather_table",),
    "figures, page": ("draw_figures", "render_report"),
}  # row of the plan -> its rules


def planned(text: str) -> dict[str, list[float]]:
    """Row of the printed plan -> [processor seconds, MiB of memory, MiB of disk], as many as it has."""
    costs = {}
    for row in text.splitlines():
        values = re.findall(r"([0-9.]+) (s|min|h|MiB)\b", row)
        if values and not row.startswith("Wall"):
            name = re.split(r"\s{2,}", row)[0]
            times = [float(value) * UNITS[unit] for value, unit in values if unit != "MiB"]
            costs[name] = times[:1] + [float(value) for value, unit in values if unit == "MiB"]
    return costs


def measured(project: Project, study: str, sweeps: list[str]) -> dict[str, list[float]]:
    """The same of the finished study, from the records of its jobs and the files on disk."""
    results = project.root / "results" / study
    files = [file for file in (results / "logs").rglob("*.json") if file.name != "session.json"]
    records = [(file, json.loads(file.read_text(encoding="utf-8"))) for file in files]
    costs = {}
    for sweep in sweeps:
        own = [record for file, record in records if file.parent == results / "logs" / "run_block" / sweep]
        tables = sum(file.stat().st_size for file in (results / "blocks" / sweep).rglob("*.parquet"))
        costs[sweep] = [sum(r["cpu"] for r in own), max(r["memory_mb"] for r in own), tables / 2**20]
    for name, rules in RULES.items():
        costs[name] = [sum(record["cpu"] for _, record in records if record["rule"] in rules)]
    kept = [
        file for folder in ("cache", "blocks", "tables") for file in (results / folder).rglob("*") if file.is_file()
    ]
    costs["all"] = [sum(r["cpu"] for _, r in records), sum(-(-f.stat().st_size // 4096) * 4096 for f in kept) / 2**20]
    return costs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", default="config.yaml")
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--cores", type=int, default=2)
    arguments = parser.parse_args()
    project, config = copy(arguments.folder), f"--configfile={arguments.config}"
    text = project.snakemake("plan", "--nolock", "--quiet=all", config, cores=arguments.cores).stdout
    print(text, flush=True)
    start = time.perf_counter()
    project.snakemake(config, cores=arguments.cores)
    print(f"measured wall time {time.perf_counter() - start:.0f} s; predicted / measured, of processor time:")
    import yaml

    described = yaml.safe_load((project.root / arguments.config).read_text(encoding="utf-8"))
    before = planned(text)
    after = measured(project, described["study"], list(described["sweeps"]))
    for name, values in after.items():
        print(f"{name:20s} CPU {before[name][0]:8.1f} / {values[0]:8.1f} s = {before[name][0] / values[0]:.2f}", end="")
        if name in described["sweeps"]:
            print(f"   memory {before[name][1]:.0f} / {values[1]:.0f} MiB = {before[name][1] / values[1]:.2f}", end="")
        if name == "all":
            print(f"   disk {before[name][1]:.0f} / {values[1]:.0f} MiB = {before[name][1] / values[1]:.2f}", end="")
        print()


if __name__ == "__main__":
    main()
