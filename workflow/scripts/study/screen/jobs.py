"""The jobs of a call of Snakemake as the study knows them: what they are called, what they compute, how long they take."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from study.cost import kinds, model
from study.cost.forecast import Job
from study.plan import Block
from study.wide import sampling_jobs

_NAMES = {
    "read_sequences": "sequences of {task}",
    "take_cell": "file of {cell}",
    "prove_cell": "check of {cell}",
    "check_engine": "engine check",
    "run_block": "block {sweep}/{block}",
    "verify_runs": "verification, group {group}",
    "sample_theory": "theory, group {group}",
    "gather_table": "table {table}",
    "measure_cliff": "table cliff",
    "draw_figures": "figures",
    "render_report": "report page",
}


def jobs_of(
    workflow: Any,
    blocks: Mapping[tuple[str, str], Block],
    verifications: Mapping[str, list[Block]],
    config: Mapping[str, Any],
) -> dict[int, Job]:
    """The jobs that this call will run, by Snakemake's numbers."""
    samplings = sampling_jobs(config)
    rows = sum(model.block_work(block)["row"] for block in blocks.values())
    jobs = {}
    for job in workflow.dag.needrun_jobs():
        kind = kinds.kind_of(job.rule.name)
        if kind is None:
            continue
        wildcards = dict(job.wildcards.items())
        its_blocks: list[Block] = []
        if kind == "runs":
            its_blocks = [blocks[wildcards["sweep"], wildcards["block"]]]
        elif kind == "verification":
            its_blocks = verifications[wildcards["group"]]
        settings = samplings[wildcards["group"]] if kind == "theory" else []
        seconds, starts = kinds.predicted(job.rule.name, its_blocks, config, rows, settings)
        runs = sum(map(len, its_blocks)) if kind == "runs" else 0
        name = name_of(job.rule.name, wildcards)
        jobs[workflow.dag.jobid(job)] = Job(kind, name, seconds, starts, tuple(map(str, job.log)), runs)
    return jobs


def name_of(rule: str, wildcards: Mapping[str, str]) -> str:
    """What a person calls a job."""
    return _NAMES[rule].format(**wildcards)
