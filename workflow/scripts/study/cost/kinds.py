"""The kinds of jobs of a study, and what the cost model predicts for a job of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from study import plan
from study.cost import model
from study.cost.rates import RATES
from study.cost.resources import figure_processes
from study.plan import Block
from study.runs.gate import LONGEST as LONGEST_CHECKED
from study.tables.columns import TABLES

# In the order of the study. Kinds of one stage run beside each other; a stage waits for the one before.
STAGES = (("sequences",), ("engine check", "runs", "verification", "theory"), ("tables",), ("figures",), ("page",))
KINDS = tuple(kind for stage in STAGES for kind in stage)
KIND_OF_RULE = {
    "read_sequences": "sequences",
    "take_cell": "sequences",
    "prove_cell": "engine check",
    "check_engine": "engine check",
    "run_block": "runs",
    "verify_runs": "verification",
    "sample_theory": "theory",
    "gather_table": "tables",
    "measure_cliff": "tables",
    "draw_figures": "figures",
    "render_report": "page",
}


def kind_of(rule: str) -> str | None:
    """What the jobs of a rule do; None for a rule that only collects files."""
    return KIND_OF_RULE.get(rule)


def predicted(
    rule: str, blocks: list[Block], config: Mapping[str, Any], rows: float, settings: Sequence[plan.Settings] = ()
) -> tuple[float, float]:
    """(seconds of a job by the model, those of them before its first run).

    Args:
        blocks: those that it computes or verifies.
        rows: rows of all tables together, of the whole study.
        settings: those whose theory it samples.
    """
    start = RATES["job_seconds"]
    kind = kind_of(rule)
    if kind == "runs":
        return model.block_cost(blocks[0], config).seconds, start
    if kind == "verification":
        return model.verification_cost(blocks, config).seconds, 0.0
    if kind == "theory":
        return model.sampling_cost(settings).seconds, 0.0
    if kind == "engine check":
        return check_seconds(config), 0.0
    if kind == "tables":
        return start + rows / len(TABLES) * RATES["gathered_row_seconds"], 0.0
    if kind == "figures":
        return figures_seconds(config) / figure_processes(config), 0.0
    return (start if kind == "sequences" else page_seconds()), 0.0


def figures_seconds(config: Mapping[str, Any]) -> float:
    """What the model predicts for all figures, on one core."""
    return RATES["figures_job_seconds"] + len(config["figures"]) * RATES["figure_seconds"]


def page_seconds() -> float:
    """What the model predicts for the page: about as much as to import what draws."""
    return RATES["figures_job_seconds"]


def check_seconds(config: Mapping[str, Any]) -> float:
    """What the model predicts for the engine check: about the networks that ``gate.cases`` takes, each compared once."""
    start = RATES["verify_job_seconds"]
    total = start
    for sweep, described in config["sweeps"].items():
        grid = plan.checked_grid(described["grid"])
        if "sequence_length" in grid:
            grid["sequence_length"] = sorted({min(length, LONGEST_CHECKED) for length in grid["sequence_length"]})
        block = Block(sweep, "checked", {}, grid | {"updates": [0]}, 1)
        total += model.verification_cost([block], {"gate": {"checked_runs_per_job": len(block)}}).seconds - start
    return total
