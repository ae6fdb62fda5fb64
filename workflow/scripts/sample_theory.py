"""Sample the dynamic mean field of some settings of the study: one job, one table ``theory`` of its own."""

from typing import Any

from study.job import running
from study.provenance import engine_digest
from study.runs import gate, theory


def main(snakemake: Any) -> None:
    p = snakemake.params
    gate.require_not_refused(p.refused)
    if engine_digest() != p.engine:
        raise RuntimeError("rnn_core was edited while the study ran; run snakemake again")
    theory.write_theory(p.settings, snakemake.output.theory, {"settings": p.settings, "engine": p.engine})


if __name__ == "__main__":
    with running(snakemake, {ValueError: "", RuntimeError: ""}):  # type: ignore[name-defined]  # noqa: F821
        main(snakemake)  # type: ignore[name-defined]  # noqa: F821
