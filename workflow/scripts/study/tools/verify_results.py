"""Check that every file of a finished study is whole and in its place. ``make verify-results CONFIG=config.yaml``

    python -m study.tools.verify_results config.yaml [--put-aside]

It prints a line for each file that is damaged, misplaced, unreadable or missing, and how many are good. The exit status is 1 if one is
not. ``--put-aside`` renames the damaged ones. Then the study's own command makes them anew from finished runs.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from study import plan
from study.config import approval, reader
from study.config.canonical import canonical
from study.data import task_file
from study.files import cache, pictures, seal
from study.files import places as result_places
from study.files.writing import Damaged, FileTrouble, Misplaced, reading
from study.own_cells import kept
from study.own_cells.described import used
from study.sampling import verification_jobs
from study.tables import store
from study.tables.columns import TABLES, tables_of
from study.wide import sampling_jobs

Result = tuple[Path, FileTrouble | None]  # a file, and what is wrong with it


class Missing(FileTrouble):
    """A file that a finished study has."""

    def __init__(self, file: Path) -> None:
        super().__init__(f"{file} is missing. Run the study's command again: it is made anew.")


def results(study: Path, config: Mapping[str, Any]) -> Iterator[Result]:
    """Every file of the study in this folder. Files on the way to its tables may be missing."""
    for table in tables_of(config):
        yield _tried(study / "tables" / f"{table}.parquet", lambda file: result_places.require(file, config))
    for figure in config["figures"]:
        yield from _figure(study / "figures", config["study"], figure)
    yield _tried(study / "report.html", lambda file: _require_page(file, config["study"]))
    yield from _on_the_way(study, config)
    for task in plan.tasks_from_data(config):
        yield _tried(study / "sequences" / f"{task}.npz", task_file.load)
    for cell in used(config):
        yield _tried(study / "cells" / f"{cell}.json", kept.load)
    for file in sorted((study / "cache").rglob(f"[!.]*{cache.SUFFIX}")):
        yield _tried(file, _require_entry)
    for folder in sorted((study / "cache" / "figures").glob("*")):
        yield from _figure_files(pictures.kept_files(folder), config["study"], folder.name)


def _figure(folder: Path, study: str, figure: str) -> Iterator[Result]:
    """Its facts, then its pictures, whose digests the facts have."""
    yield from _figure_files(pictures.files(folder, figure), study, figure)


def _figure_files(files: Mapping[str, Path], study: str, figure: str) -> Iterator[Result]:
    known: dict[str, str] = {}
    yield _tried(files["facts"], lambda file: known.update(pictures.facts_of(file, study, figure)["pictures"]))
    for kind in pictures.KINDS:
        picture = files[kind]
        if known or not picture.exists():  # a picture whose facts are bad is made anew with them
            yield _tried(picture, lambda file, kind=kind: seal.check_content(file, known[kind]))


def _on_the_way(study: Path, config: Mapping[str, Any]) -> Iterator[Result]:
    """The tables of blocks, verifications, samplings and the gate. Of a block of an earlier plan only the seal is known."""
    planned = plan.blocks(config)
    places = {
        *(study / "blocks" / sweep / block for sweep, block in planned),
        *(study / "verified" / group for group in verification_jobs(planned, config)),
        *(study / "sampled" / group for group in sampling_jobs(config)),
        study / "checks",
    }
    for folder in ("checks", "blocks", "verified", "sampled"):
        for file in sorted((study / folder).rglob("[!.]*.parquet")):
            current = file.parent in places
            yield _tried(file, (lambda file: result_places.require(file, config)) if current else seal.check)


def _require_page(file: Path, study: str) -> None:
    if f'<meta name="study" content="{study}">' not in seal.check_text(file):
        raise Misplaced(file, f"it is not the page of the study {study!r}")


def _require_entry(file: Path) -> None:
    with reading(file):
        sound = cache.is_sound(file)
    if not sound:
        raise Damaged(file, "its content is not what was written, or other runs'")


def _tried(file: Path, check: Any) -> Result:
    if not file.exists():
        return file, Missing(file)
    try:
        check(file)
    except FileTrouble as trouble:
        return file, trouble
    return file, None


def plan_of(study: Path, config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The config that the tables were made with: the file may have been edited since. If no table can say, the file's."""
    for table in TABLES:
        file = study / "tables" / f"{table}.parquet"
        if file.exists():
            try:
                store.require(file, table=table, study=config["study"])
                return {**store.provenance_of(file)["config"]}
            except FileTrouble:
                continue
    return config


def put_aside(study: Path, bad: Mapping[Path, FileTrouble]) -> Iterator[str]:
    """Rename the damaged files, and tell of each. With a figure's file goes the report, which asks for it."""
    for trouble in bad.values():
        if isinstance(trouble, Damaged):
            yield trouble.put_aside()
    report = study / "report.html"
    if any(file.parent == study / "figures" for file in bad) and report not in bad and report.exists():
        yield Damaged(report, "a figure that it shows is to be made anew").put_aside()


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", help="the study's config file")
    parser.add_argument("--put-aside", action="store_true", help="rename damaged files, so that they are made anew")
    given = parser.parse_args(arguments)
    try:
        document = reader.read(given.config)
        config = canonical(approval.check_form(document.values, document))
    except (reader.ReadError, approval.ConfigError) as error:
        print(error)
        return 1
    study = Path("results") / config["study"]
    if not study.is_dir():
        print(f"{study}: there are no results of this study here yet. Run it first: snakemake --cores all --configfile {given.config}")  # fmt: skip
        return 1
    results_of_files = list(results(study, plan_of(study, config)))
    bad = {file: trouble for file, trouble in results_of_files if trouble is not None}
    lines = put_aside(study, bad) if given.put_aside else ()
    remaining = [trouble for trouble in bad.values() if not (given.put_aside and isinstance(trouble, Damaged))]
    for line in (*lines, *(getattr(trouble, "fault", str(trouble)) for trouble in remaining)):
        print(line)
    print(f"{len(results_of_files) - len(bad)} of {len(results_of_files)} files in {study} are good.")
    if bad:
        print(_advice(given.config, given.put_aside or not any(isinstance(t, Damaged) for t in bad.values())))
    return 1 if bad else 0


def _advice(config: str, renamed: bool) -> str:
    """What to do about files that are not good."""
    command = f"snakemake --cores all --configfile {config}"
    if renamed:
        return f"The study's command makes them anew, from the runs that are finished: {command}"
    return f"Add --put-aside (make verify-results CONFIG={config} PUT_ASIDE=1) to rename what is damaged; then the study's command makes it anew: {command}"


if __name__ == "__main__":
    sys.exit(main())
