"""The table ``theory``: which settings are sampled, by which job, and what becomes of the runs' predictions."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

import rnn_core as rc
from study import wide
from study.cost import model
from study.files import places
from study.runs import theory
from study.tables import store
from study.tables.columns import columns_of, schema_of

ROOT = Path(__file__).resolve().parents[2]
GRID: dict[str, Any] = {
    "cell": ["vanilla", "gru"],
    "spectral_radius": [0.5, 2.0],
    "hidden_size": 6,
    "sequence_length": [5, 9],
}


def config(**grid: Any) -> dict[str, Any]:
    return {"study": "s", "sweeps": {"one": {"seeds": 2, "grid": GRID | grid}}}


def test_every_leaky_and_gated_setting_is_sampled_once() -> None:
    """Lengths, seeds or training multiply the settings; or a sweep is forgotten."""
    cells = yaml.safe_load((ROOT / "studies" / "cells.yaml").read_text(encoding="utf-8"))
    settings = wide.sampled_settings(cells)
    counts = {sweep: sum(each["sweep"] == sweep for each in settings) for sweep in cells["sweeps"]}
    assert counts == {"cells": 4 * 6, "leaks": 3 * 4, "clipping": 2, "truncation": 1}
    jobs = wide.sampling_jobs(cells)
    assert sorted(map(repr, settings)) == sorted(repr(each) for job in jobs.values() for each in job)
    assert len(jobs) > 1 and max(model.sampling_cost(job).seconds for job in jobs.values()) < 60.0


@pytest.mark.parametrize(
    "grid", [{"cell": "vanilla"}, {"initializer": "orthogonal"}, {"task": "digits"}, {"task": "mine"}, {"spectral_radius": [0.01 * i for i in range(1, 102)]}]
)  # fmt: skip
def test_where_the_theory_does_not_apply_nothing_is_sampled(grid: dict[str, Any]) -> None:
    """Matrices that are not Gaussian, inputs that are not white; and a study must not spend its time on theory."""
    assert wide.sampled_settings(config(**grid)) == [] and wide.sampling_jobs(config(**grid)) == {}


def test_a_grown_axis_leaves_the_groups_of_old_settings() -> None:
    few, more = (wide.sampling_jobs(config(spectral_radius=radii)) for radii in ([0.5, 2.0], [0.5, 1.0, 2.0]))
    assert set(few) == set(more) == {"1-of-1"}
    assert all(setting in more["1-of-1"] for setting in few["1-of-1"])


def test_a_task_whose_inputs_are_white_says_so() -> None:
    """Dynamic mean field is applied to inputs that it is not for."""
    for name, kind in rc.GENERATED.items():
        if kind.white_inputs:
            x = rc.prepare(rc.Experiment(task=name, sequence_length=400, batch_size=64)).task.batch(0).x
            assert x.var() == pytest.approx(1.0, abs=0.05), name
            assert abs((x[1:] * x[:-1]).mean()) < 0.02, name


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Any]]]:
    """One job's table, in its place."""
    [(group, settings)] = wide.sampling_jobs(config()).items()
    file = tmp_path_factory.mktemp("theory") / "sampled" / group / "theory.parquet"
    file.parent.mkdir(parents=True)
    theory.write_theory(settings, file, {"settings": settings, "engine": "e"})
    return file, settings


def test_a_row_is_the_theory_of_its_networks(written: tuple[Path, list[dict[str, Any]]]) -> None:
    """sigma_w is another seed's or the largest gate's, or the sample is of another cell."""
    file, _ = written
    rows = {row["spectral_radius"]: row for row in pq.read_table(file).to_pylist()}
    assert set(rows) == {0.5, 2.0} and {row["cell"] for row in rows.values()} == {"gru"}
    squares = [
        (rc.prepare(rc.Experiment(cell="gru", spectral_radius=2.0, hidden_size=6, seed=seed)).params["weight_hh"] ** 2).sum() / 18
        for seed in range(2)
    ]  # fmt: skip
    row = rows[2.0]
    assert row["sigma_w"] == pytest.approx(math.sqrt(np.mean(squares)), rel=5e-3)
    assert row["sigma_u"] == 1.0 and row["forget_bias"] is None and row["seeds"] == 2
    again = rc.theory.dynamic_mean_field(rc.GRUCell(), row["sigma_w"] ** 2, 1.0, units=wide.UNITS)
    assert (row["dynamic_rate"], row["dynamic_error"]) == (again.rate, again.error)
    assert row["preactivation_rms"] == pytest.approx(math.hypot(row["sigma_w"] * again.hidden_rms, 1.0))
    assert rows[0.5]["sigma_w"] == pytest.approx(row["sigma_w"] / 4, rel=5e-3)


def test_a_row_has_the_biases_and_the_scale_of_its_setting() -> None:
    """Theory of a network without biases, or at ρ = 1, stands beside one that has them."""
    setting = {
        **dict.fromkeys(wide.SETTING),
        "input_correlation": 0.0,
        "flossing": 0,
        "cell": "gru",
        "activation": "tanh",
        "initializer": "gaussian",
        "task": "white_noise",
    }
    setting |= {
        "sweep": "one",
        "seeds": 1,
        "hidden_size": 40,
        "input_scale": 1.0,
        "weight_scale": 1.4,
        "forget_bias": 1.0,
    }
    row = theory.row_of(setting)
    assert row["sigma_w"] == pytest.approx(1.4, rel=0.05)
    again = rc.theory.dynamic_mean_field(rc.GRUCell(), row["sigma_w"] ** 2, 1.0, 1.0, units=wide.UNITS)
    assert row["dynamic_rate"] == again.rate
    grid = {"cell": "gru", "weight_scale": [0.8, 1.4], "chrono": [None, 9]}
    found = wide.sampled_settings({"sweeps": {"one": {"seeds": 1, "grid": grid}}})
    assert [(each["spectral_radius"], each["weight_scale"], each["chrono"]) for each in found] == [
        (None, 0.8, None), (None, 0.8, 9), (None, 1.4, None), (None, 1.4, 9),
    ]  # fmt: skip


def test_the_table_knows_its_place(written: tuple[Path, list[dict[str, Any]]]) -> None:
    """A table of other settings takes its place without a word."""
    file, _ = written
    study = config() | {"gate": {"checked_runs_per_job": 0}}
    places.require(file, study)
    other = config(spectral_radius=[0.5, 3.0]) | {"gate": {"checked_runs_per_job": 0}}
    with pytest.raises(places.Damaged, match="settings"):
        places.require(file, other)


def runs_of(file: Path, **columns: Any) -> pa.Table:
    """A table ``runs`` with these columns; what is not given is null, or the experiment's default."""
    n = len(columns["cell"])
    defaults = {name: [value] * n for name, value in vars(rc.Experiment(hidden_size=6)).items()}
    rows = {c.name: [None] * n for c in columns_of("runs")} | defaults | {"sweep": ["one"] * n} | columns
    return pa.Table.from_arrays([pa.array(rows[c.name], c.type) for c in columns_of("runs")], schema=schema_of("runs"))


def test_runs_without_a_prediction_get_the_settings_theory(written: tuple[Path, list[dict[str, Any]]]) -> None:
    """A run gets another setting's rate, loses a prediction that it has, or its deviation has the other sign."""
    file, _ = written
    sampled = {row["spectral_radius"]: row["dynamic_rate"] for row in pq.read_table(file).to_pylist()}
    runs = runs_of(
        file,
        cell=["vanilla", "gru", "gru", "gru", "lstm"],
        spectral_radius=[0.5, 0.5, 2.0, 1.0, 0.5],
        growth_rate=[-0.7, -0.5, None, -0.3, -0.5],
        predicted_rate=[-0.6, None, None, None, None],
        predicted_by=["mean field", None, None, None, None],
        deviation=[-0.1, None, None, None, None],
        rest_rate=[-0.7, -0.48, -0.05, -0.3, -0.5],
    )
    joined = theory.Theory([file]).join(runs)
    assert joined.schema.equals(runs.schema, check_metadata=True)
    assert joined["dynamic_rate"].to_pylist() == [None, sampled[0.5], sampled[2.0], None, None]
    assert joined["predicted_by"].to_pylist() == ["mean field", "dynamic mean field", "dynamic mean field", None, None]
    assert joined["predicted_rate"].to_pylist() == [-0.6, sampled[0.5], sampled[2.0], None, None]
    assert joined["deviation"].to_pylist() == [-0.1, pytest.approx(-0.5 - sampled[0.5]), None, None, None]
    assert theory.Theory([]).join(runs).equals(runs)
    unchanged = [
        name
        for name in runs.column_names
        if name not in ("dynamic_rate", "predicted_by", "predicted_rate", "deviation")
    ]
    assert joined.select(unchanged).equals(runs.select(unchanged))


def test_the_law_at_rest_is_the_prediction_where_a_gated_network_hardly_moves() -> None:
    """The wrong ruler: a wide network's edge where an eigenvalue is exact, or the law at rest where gates move."""
    assert theory.prediction(-0.3, 0.1, -0.32) == (-0.32, "law at rest")
    assert theory.prediction(-0.3, 0.3, -0.32) == (-0.3, "dynamic mean field")
    assert theory.prediction(-0.3, 0.1, None) == (-0.3, "dynamic mean field")
    assert theory.prediction(-0.3, 0.1, -math.inf) == (-0.3, "dynamic mean field")


def test_a_study_without_such_cells_has_an_empty_table() -> None:
    empty = store.build("theory", {c.name: [] for c in columns_of("theory")})
    assert empty.num_rows == 0 and empty.schema.equals(schema_of("theory"))
