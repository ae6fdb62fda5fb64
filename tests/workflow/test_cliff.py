"""The table ``cliff`` as its job writes it, and what a config may leave out."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml

import measure_cliff
from rnn_core.experiment import cliff
from study.config.canonical import canonical
from study.files import places
from study.provenance import engine_digest
from study.tables import store
from study.tables.columns import columns_of, schema_of, tables_of

STUDY = Path(__file__).parents[2] / "studies" / "cliff.yaml"


def config(**given: Any) -> dict[str, Any]:
    read = yaml.safe_load(STUDY.read_text(encoding="utf-8"))
    return canonical({**read, "cliff": {**read["cliff"], **given}})


def test_the_study_names_what_is_left_out_as_well() -> None:
    """Its comments would explain a default that is another one."""
    assert (
        cliff.Asked.of(config()["cliff"])
        == cliff.Asked()
        == cliff.Asked.of(canonical({**config(), "cliff": {}})["cliff"])
    )
    without = {key: value for key, value in config().items() if key != "cliff"}
    assert "cliff" in tables_of(config()) and "cliff" not in tables_of(without)


def test_the_job_writes_the_declared_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A column that is measured and not declared, or rows in no order, so that equal tables differ."""
    monkeypatch.setattr(places, "require_all", lambda files, config: None)  # where files lie is another test's matter
    given, file = config(points=5.0, updates=4), tmp_path / "cliff.parquet"
    params = SimpleNamespace(config=given, engine=engine_digest())
    measure_cliff.main(
        SimpleNamespace(input=SimpleNamespace(gate="gate"), output=SimpleNamespace(table=file), params=params)
    )
    table = pq.read_table(file)
    assert table.schema.equals(schema_of("cliff")) and [c.name for c in columns_of("cliff")] == list(cliff.COLUMNS)
    assert table.num_rows == 25 + 5 + 3 * 5 and store.provenance_of(file)["table"] == "cliff"
    rows = table.to_pylist()
    keys = [(r["what"], r["clipping"] or "", r["update"] or 0, r["weight"], r["bias"]) for r in rows]
    assert keys == sorted(keys)
    params.engine = "another"
    with pytest.raises(RuntimeError, match="edited while the study ran"):
        measure_cliff.main(
            SimpleNamespace(input=SimpleNamespace(gate="gate"), output=SimpleNamespace(table=file), params=params)
        )
