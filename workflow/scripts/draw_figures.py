"""Draw the study's figures: ``figures/<figure>.py`` says what, from the study's tables. One import serves them all."""

from importlib import import_module
from pathlib import Path
from typing import Any

from study.files import pictures
from study.forks import share_out
from study.job import running
from study.report.drawing import render
from study.report.reader import Tables


def main(snakemake: Any) -> None:
    p, output = snakemake.params, snakemake.output
    tables = Tables(dict(snakemake.input.items()), own={"study": p.study})
    files = {
        figure: {kind: output[kind][place] for kind in (*pictures.KINDS, "facts")}
        for place, figure in enumerate(p.figures)
    }
    modules = {figure: import_module(f"figures.{figure}") for figure in p.figures}

    def draw(figure: str) -> None:
        made_from, kept = pictures.made_from(p.code[figure], tables.files.values()), Path(p.cache) / figure
        if not pictures.restored(kept, files[figure], p.study, figure, made_from):
            module, stated = modules[figure], {"study": p.study, "figure": figure}
            render(tables, stated, files[figure], module.frame, module.facts, module.draw)
            pictures.keep(kept, files[figure], p.study, figure, made_from)

    share_out(draw, p.figures, snakemake.threads)


if __name__ == "__main__":
    with running(snakemake, pandas=True):  # type: ignore[name-defined]  # noqa: F821
        main(snakemake)  # type: ignore[name-defined]  # noqa: F821
