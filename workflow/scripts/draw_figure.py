"""Draw one figure of the study: ``figures/<figure>.py`` says what, from the study's tables."""

from importlib import import_module
from typing import Any

from study.job import running
from study.report.drawing import render


def main(snakemake: Any) -> None:
    figure = import_module(f"figures.{snakemake.wildcards.figure}")
    render(snakemake, figure.frame, figure.facts, figure.draw)


if __name__ == "__main__":
    with running(snakemake, pandas=True):  # type: ignore[name-defined]  # noqa: F821
        main(snakemake)  # type: ignore[name-defined]  # noqa: F821
