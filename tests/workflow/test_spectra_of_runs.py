"""Spectra in a study: what a block writes, what its cache keeps, and that no run is lost where they are added later."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import yaml

import rnn_core as rc
from rnn_core.experiment import SPECTRA, Request, measure_spectra
from study.config import approval, idle
from study.config.canonical import canonical
from study.cost import model
from study.files.cache import Cache
from study.plan import Block
from study.runs import gate, spectra
from study.runs.checks import CheckFailed
from study.runs.runner import BlockRunner, finish
from study.runs.spectra import SpectraOfRuns, mark_of
from study.screen.progress import Record
from study.tables.columns import TABLES, tables_of
from tests.support.study_project import ROOT

REQUEST = Request(4, (1, 5), 2)
GRID: dict[str, list[Any]] = {
    "spectral_radius": [0.9, 1.6], "clipping": ["none", "norm:1.0"], "task": ["input_mean"], "updates": [0, 2],
    "hidden_size": [6], "sequence_length": [30], "batch_size": [3],
}  # fmt: skip
BLOCK = Block("sweep", "all", {}, GRID, 2)


@pytest.fixture
def config() -> dict[str, Any]:
    return dict(yaml.safe_load((ROOT / "studies" / "tiny.yaml").read_text(encoding="utf-8")))


def run(folder: Path, request: Request | None = REQUEST) -> dict[str, pd.DataFrame]:
    """The tables of the block, by a job that finds what is in the cache of ``folder``."""
    runner = BlockRunner(Cache(folder / "cache", "e"), {}, "cpu")
    asked = None if request is None else SpectraOfRuns(request, Cache(folder / "cache", f"e{mark_of(request)}"), {})
    tables = ("traces", "updates", "runs", "timings", *(["spectra"] if asked else []))
    files = {table: folder / f"{table}.parquet" for table in tables}
    finish(BLOCK, runner, Record("run_block", folder / "record.json"), files, {"engine": "e", "block": {}}, asked)
    return {table: pq.read_table(file).to_pandas() for table, file in files.items()}


def test_a_block_writes_what_the_engine_measures(tmp_path: Path) -> None:
    """Rows are another run's, or of the trained network."""
    tables = run(tmp_path)
    runs, rows = tables["runs"].set_index("run_key"), tables["spectra"]
    assert len(runs) == 16 and set(rows["run_key"]) == set(runs.index) and (rows["update"] == 0).all()
    for each in BLOCK.runs():
        experiment = rc.Experiment(**each)
        found, own = measure_spectra(experiment, REQUEST), rows[rows["run_key"] == experiment.key]
        for name, values in found.table.items():
            np.testing.assert_array_equal(own[name].to_numpy(dtype=float), values.astype(float))
        row = runs.loc[experiment.key]
        for name, value in found.summary.items():
            np.testing.assert_equal(
                float("nan") if row[name] is None else float(row[name]), float("nan") if value is None else float(value)
            )
        assert row["growth_minus_lyapunov"] == row["growth_rate"] - row["lyapunov_max"]


def test_a_study_that_asks_later_keeps_its_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Finished runs are computed again, or their rows change."""
    before = run(tmp_path, None)
    assert all(before["runs"][column.name].isna().all() for column in SPECTRA)
    monkeypatch.setattr(BlockRunner, "compute", lambda self, experiments: iter([] if not experiments else [1 / 0]))
    after = run(tmp_path)
    for table in ("traces", "updates", "timings"):
        pd.testing.assert_frame_equal(after[table], before[table])
    others = [name for name in before["runs"] if name not in {column.name for column in SPECTRA}]
    pd.testing.assert_frame_equal(after["runs"][others], before["runs"][others])


def test_runs_that_differ_in_training_share_a_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 16 runs there are 4 networks; the next job measures none, and another request all."""
    measured: list[rc.Experiment] = []

    def measure(experiment: rc.Experiment, *given: Any) -> Any:
        measured.append(experiment)
        return measure_spectra(experiment, *given)

    monkeypatch.setattr(spectra, "measure_spectra", measure)
    first = run(tmp_path)
    assert len(measured) == 4 and all(e.updates == 0 and e.clipping == "none" for e in measured)
    again = run(tmp_path)
    assert len(measured) == 4
    pd.testing.assert_frame_equal(again["spectra"], first["spectra"])
    run(tmp_path, Request(3, (1, 5), 2))
    assert len(measured) == 8


# ---- the config --------------------------------------------------------------------------------------------------------


def test_without_the_key_there_is_no_table(config: dict[str, Any]) -> None:
    assert tables_of(config) == TABLES and "spectra" not in canonical(config)
    assert tables_of(config | {"spectra": {}}) == (*TABLES, "spectra")


def test_what_is_not_named_has_its_default(config: dict[str, Any]) -> None:
    config["spectra"] = {"exponents": 3.0}
    approved = approval.check(config, folders=[ROOT]).config
    assert approved["spectra"] == {"exponents": 3, "singular_values": [1, 10, 100], "samples": 1}
    assert spectra.Request(**approved["spectra"] | {"singular_values": (1, 10, 100)}) == Request(3)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"exponent": 8}, ["spectra.exponent", "Did you mean 'exponents'"]),
        ({"exponents": 0}, ["spectra.exponents", "at least 1"]),
        ({"exponents": "all"}, ["spectra.exponents", "whole number"]),
        ({"singular_values": 10}, ["spectra.singular_values"]),
        ({"singular_values": [1, 0]}, ["spectra.singular_values[1]", "at least 1"]),
        ({"samples": 1.5}, ["spectra.samples", "whole number"]),
        (8, ["spectra"]),
    ],
)
def test_a_mistake_is_named(config: dict[str, Any], given: Any, expected: list[str]) -> None:
    config["spectra"] = given
    with pytest.raises(approval.ConfigError) as caught:
        approval.check(config, folders=[ROOT])
    assert all(text in str(caught.value) for text in expected), str(caught.value)


def test_what_shows_nothing_is_told(config: dict[str, Any]) -> None:
    config.pop("sequences")
    config["sweeps"].pop("clipping")
    config["spectra"], config["figures"] = {"singular_values": [1, 500]}, ["spectra"]
    assert [note for note in idle.without_effect(canonical(config)) if "spectra" in note] == [
        "spectra.singular_values: 500 changes nothing; no sequence of this study is longer than 30 steps"
    ]
    config.pop("spectra")
    assert "figures: spectra shows nothing without the key spectra" in idle.without_effect(canonical(config))


def test_their_time_is_planned(config: dict[str, Any]) -> None:
    """It grows with what is asked for, and training does not multiply it."""

    def cost(asked: dict[str, Any] | None, block: Block = BLOCK) -> float:
        return model.block_cost(block, config if asked is None else config | {"spectra": asked}).seconds

    few = {"exponents": 2, "singular_values": [], "samples": 1}
    assert (
        cost(None) < cost(few) < cost(few | {"exponents": 6}) < cost(few | {"exponents": 6, "singular_values": [1, 30]})
    )
    untrained = Block("sweep", "all", {}, GRID | {"updates": [0], "clipping": ["none"]}, 2)
    assert cost(few) - cost(None) == pytest.approx(cost(few, untrained) - cost(None, untrained))


# ---- the gate ----------------------------------------------------------------------------------------------------------


def test_the_gate_checks_identities_where_spectra_are_asked_for(
    config: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    sweeps = {"one": {"seeds": 1, "grid": {"hidden_size": 5, "sequence_length": 12, "cell": ["vanilla", "lstm"]}}}
    tolerance = config["gate"]["tolerance"]
    without = gate.table(sweeps, {}, "cpu", tolerance)
    assert not [name for name in without["oracle"] if name.startswith("spectra")]
    rows = gate.table(sweeps, {}, "cpu", tolerance, spectra=True)
    names = {"determinant", "forward frame", "singular values", "bounds", "eigenvalues"}
    assert {name.removeprefix("spectra: ") for name in rows["oracle"] if name.startswith("spectra")} == names
    monkeypatch.setattr(rc.LSTMCell, "total", lambda self, saved, dstate: dstate)
    with rc.compiled.switched_off(), pytest.raises(CheckFailed):
        gate.table(sweeps, {}, "cpu", tolerance, spectra=True)
