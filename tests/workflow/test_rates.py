"""The tool that measures the rates of the cost model starts jobs as the rules do; a parameter that it does not know of would stop it."""

from pathlib import Path

import pytest

from rnn_core.experiment import ASKED
from study.cost import model
from study.cost.rates import RATES
from study.plan import Block
from study.tables.streams import BLOCK_TABLES
from study.tools import measure_rates

VERIFIED = ("checks", "timings", "traces")


@pytest.mark.parametrize(("script", "tables"), [("run_block", BLOCK_TABLES), ("verify_runs", VERIFIED)])
def test_a_job_is_started_as_its_rule_starts_it(script: str, tables: tuple[str, ...], tmp_path: Path) -> None:
    seconds, memory = measure_rates.job(script, tables, tmp_path, hidden_size=2, sequence_length=2)
    assert seconds > 0 and memory > 10
    assert all((tmp_path / f"{table}.parquet").exists() for table in tables)


def test_a_figure_is_drawn_as_its_rule_draws_it(tmp_path: Path) -> None:
    rates = measure_rates.table_rates(tmp_path)
    assert set(rates) == {"gathered_row_seconds", "figures_job_seconds", "figure_seconds", "snakemake_seconds"}
    assert all(value > 0 for value in rates.values())


def test_every_kind_of_work_that_a_plan_counts_is_measured() -> None:
    """What was measured by no grid would cost a plan nothing."""
    works = [model.block_work(Block("rates", "all", {}, grid, 1)) for grid in measure_rates.shapes()]
    works += [
        model.block_work(Block("rates", "all", {}, grid, 1), traces=ASKED) for grid in measure_rates.recording_shapes()
    ]
    works += [
        measure_rates.as_readable(model.block_work(Block("rates", "all", {}, grid, 1)))
        for grid in measure_rates.readable_shapes()
    ]
    counted = {f"{kind}_seconds" for work in works for kind in work if kind not in measure_rates.KEEPING}
    assert counted <= RATES.keys()
    assert {f"readable_{kind}_seconds" for kind in ("step", "flop", "element")} <= counted
