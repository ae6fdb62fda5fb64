"""The loss of one recurrent unit over its weight and bias, and paths of descent there: the table ``cliff``."""

from typing import Any

from rnn_core.experiment import cliff
from study.files import places
from study.job import running
from study.provenance import engine_digest, provenance
from study.tables import store


def main(snakemake: Any) -> None:
    p = snakemake.params
    places.require_all([snakemake.input.gate], p.config)
    if engine_digest() != p.engine:
        raise RuntimeError("rnn_core was edited while the study ran; run snakemake again")
    rows = cliff.table(cliff.Asked.of(p.config["cliff"]))
    store.write(store.build("cliff", rows), snakemake.output.table, {**provenance(p.config, "cpu"), "table": "cliff"})


if __name__ == "__main__":
    with running(snakemake, {RuntimeError: ""}):  # type: ignore[name-defined]  # noqa: F821
        main(snakemake)  # type: ignore[name-defined]  # noqa: F821
