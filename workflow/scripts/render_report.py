"""Render the study's own page: one self-contained HTML file."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from study.files import seal
from study.files.writing import written_aside
from study.job import running
from study.report.page import figures_of, page, read_tables
from study.report.page_tables import share_of_time
from study.tables import store


def main(snakemake: Any) -> None:
    config = snakemake.params.config
    tables, sizes = read_tables(snakemake.input, config)
    figures = list(figures_of(snakemake.input, config))
    provenance = store.provenance_of(snakemake.input.runs)
    dated = datetime.fromtimestamp(Path(snakemake.input.runs).stat().st_mtime, UTC)
    data = {Path(file).stem: json.loads(Path(file).read_text(encoding="utf-8")) for file in snakemake.input.data}
    text = page(tables, sizes, figures, share_of_time(Path(snakemake.log[0]).parent), provenance, dated, data)
    marks = f'<meta name="study" content="{config["study"]}">\n<meta name="sealed" content="{seal.BLANK.decode()}">'
    with written_aside(snakemake.output.page) as aside:
        aside.write_text(seal.sealed_text(text.replace("<head>", f"<head>\n{marks}", 1)), encoding="utf-8")


if __name__ == "__main__":
    with running(snakemake, pandas=True):  # type: ignore[name-defined]  # noqa: F821
        main(snakemake)  # type: ignore[name-defined]  # noqa: F821
