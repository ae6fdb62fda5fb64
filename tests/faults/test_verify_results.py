"""``make verify-results``: every kind of file of a finished study is looked at, and what is bad is made anew by the same command."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest

from study.files import pictures, seal
from study.files.writing import Damaged, Misplaced
from tests.faults.disturbed import STUDY, Disturbed, assert_whole, damage, finished, flip

pytestmark = [pytest.mark.workflow, pytest.mark.xdist_group("verify-results")]

DAMAGED = "content is not what was written"
KINDS = (
    "tables/traces.parquet",
    "tables/runs.parquet",
    "figures/engine_checks.png",
    "figures/engine_checks.svg",
    "figures/engine_checks.phone.svg",
    "figures/engine_checks.json",
    "report.html",
    "checks/gate.parquet",
    "blocks/*/*/updates.parquet",
    "verified/*/checks.parquet",
    "cache/*/*/*/*.runs",
    "cache/figures/*/svg",
)


def verify(project: Disturbed, *more: str) -> tuple[int, str]:
    done = project.tool("verify_results", *more)
    assert done.stderr == ""
    return done.returncode, done.stdout


@pytest.fixture(scope="module")
def project(undisturbed: Disturbed, tmp_path_factory: pytest.TempPathFactory) -> Disturbed:
    """A copy whose files are damaged and mended again."""
    return finished(undisturbed, tmp_path_factory.mktemp("verified") / "project")


def some_file(project: Disturbed, kind: str) -> Path:
    return sorted(project.results.glob(kind))[0]


def test_a_whole_study_is_good_to_the_last_file(project: Disturbed) -> None:
    """Nothing that the study is made of is left out: all but logs is counted."""
    files = [f for f in project.results.rglob("*") if f.is_file() and f.relative_to(project.results).parts[0] != "logs"]
    assert verify(project) == (0, f"{len(files)} of {len(files)} files in results/{STUDY} are good.\n")


@pytest.mark.parametrize("kind", KINDS)
def test_one_flipped_bit_is_found(project: Disturbed, kind: str) -> None:
    file = some_file(project, kind)
    whole = file.read_bytes()
    for position in (len(whole) // 3, len(whole) - 10):
        flip(file, position, 2)
        status, said = verify(project)
        damage(file, whole)
        assert status == 1
        (line, count, advice) = said.splitlines()
        assert line.startswith(f"{file.relative_to(project.root)} is damaged: ")
        good, _, of = count.split()[:3]
        assert int(good) < int(of)
        assert "--put-aside" in advice and f"snakemake --cores all --configfile studies/{STUDY}.yaml" in advice
    assert verify(project)[0] == 0


@pytest.mark.parametrize("kind", KINDS[:7])
def test_what_is_missing_is_named(project: Disturbed, kind: str) -> None:
    file = some_file(project, kind)
    whole = file.read_bytes()
    file.unlink()
    status, said = verify(project)
    damage_free = file.write_bytes(whole)
    assert damage_free and status == 1
    assert f"results/{STUDY}/{kind} is missing. Run the study's command again" in said


def test_files_that_changed_places_are_found(project: Disturbed) -> None:
    """Blocks, tables, runs and a figure's files: all whole, and none where it belongs."""
    blocks = sorted((project.results / "blocks").glob("*/*/runs.parquet"))
    runs = project.cache_files()
    tables = [project.results / "tables" / f"{name}.parquet" for name in ("runs", "updates")]
    for one, two in (blocks[:2], runs[:2], tables):
        contents = one.read_bytes(), two.read_bytes()
        damage(one, contents[1])
        damage(two, contents[0])
        status, said = verify(project)
        damage(one, contents[0])
        damage(two, contents[1])
        assert status == 1
        for file in (one, two):
            assert f"{file.relative_to(project.root)} is " in said
    assert verify(project)[0] == 0


def test_every_flipped_bit_of_facts_and_report_is_found(project: Disturbed) -> None:
    """Of the facts each byte, where two thirds used to pass in silence; of the report a thousand places."""
    rng = random.Random(7)
    facts, report = project.results / "figures" / "engine_checks.json", project.results / "report.html"
    whole = {file: file.read_bytes() for file in (facts, report)}
    places = {facts: range(len(whole[facts])), report: rng.sample(range(len(whole[report])), 300)}
    for file, content in whole.items():
        for position in places[file]:
            flip(file, position, rng.randrange(8))
            with pytest.raises(Damaged):
                seal.check_text(file)
            damage(file, content)
        for cut in (0, 100, len(content) - 1):
            damage(file, content[:cut])
            with pytest.raises(Damaged):
                seal.check_text(file)
            damage(file, content)
        seal.check_text(file)


def test_facts_of_another_figure_or_study_are_not_this_ones(project: Disturbed) -> None:
    facts = project.results / "figures" / "engine_checks.json"
    assert pictures.facts_of(facts, STUDY, "engine_checks")["figure"] == "engine_checks"
    with pytest.raises(Misplaced, match="it is of the figure 'engine_checks', not 'growth_rate'"):
        pictures.facts_of(facts, STUDY, "growth_rate")
    with pytest.raises(Misplaced, match=f"it is of the study '{STUDY}', not 'another'"):
        pictures.facts_of(facts, "another", "engine_checks")


def test_a_study_that_has_not_run_is_said_to_have_no_results(project: Disturbed, tmp_path: Path) -> None:
    (tmp_path / "studies").mkdir()
    shutil.copy(project.root / "studies" / f"{STUDY}.yaml", tmp_path / "studies")
    other = finished(project, tmp_path / "project")
    shutil.rmtree(other.results)
    assert verify(other) == (1, f"results/{STUDY}: there are no results of this study here yet. Run it first: snakemake --cores all --configfile studies/{STUDY}.yaml\n")  # fmt: skip


@pytest.mark.parametrize("kind", ["report.html", "figures/engine_checks.png", "figures/engine_checks.json"])
def test_beside_a_finished_study_one_damaged_file_is_put_aside_and_made_anew(
    undisturbed: Disturbed, tmp_path: Path, kind: str
) -> None:
    """Snakemake alone has nothing to do: the file is there, and not older than what it is made of."""
    project = finished(undisturbed, tmp_path / "project")
    flip(project.results / kind, 1000, 1)
    assert project.rules_to_run(*project.arguments) == {}
    status, said = verify(project, "--put-aside")
    assert status == 1
    assert f"results/{STUDY}/{kind} is damaged: its {DAMAGED}. It was renamed to {Path(kind).name}.damaged" in said
    jobs = project.rules_to_run(*project.arguments)
    assert jobs.get("render_report") == 1 and jobs.get("draw_figures", 0) == ("figures" in kind)
    project.run()
    assert verify(project)[0] == 0
    assert_whole(project, undisturbed)


def test_everything_damaged_at_once_is_put_aside_and_made_anew(undisturbed: Disturbed, tmp_path: Path) -> None:
    project = finished(undisturbed, tmp_path / "project")
    for kind in KINDS:
        flip(some_file(project, kind), 100, 3)
    status, said = verify(project, "--put-aside")
    assert status == 1
    assert said.count("is damaged: ") == len(KINDS) - 3  # of pictures whose facts are damaged nothing is known
    assert "The study's command makes them anew" in said
    project.run()
    assert verify(project)[0] == 0
    assert_whole(project, undisturbed)


def test_a_damaged_figure_stops_the_page_in_a_sentence_and_is_made_anew(undisturbed: Disturbed, tmp_path: Path) -> None:
    """A flipped key used to be a traceback of the template's, for ever; a picture cut in half went into the page."""
    project = finished(undisturbed, tmp_path / "project")
    figures = project.results / "figures"
    facts, picture = figures / "engine_checks.json", figures / "engine_checks.png"
    for file, content in (
        (facts, facts.read_bytes().replace(b'"alt"', b'"amt"')),
        (picture, picture.read_bytes()[:5000]),
    ):
        (project.results / "report.html").unlink(missing_ok=True)
        damage(file, content)
        said = project.run(check=False)
        assert (
            f"results/{STUDY}/figures/{file.name} is damaged: its {DAMAGED}. It was renamed to {file.name}.damaged"
            in said
        )
        assert "Traceback" not in said
        project.run()
    assert_whole(project, undisturbed)


def test_the_page_of_another_study_is_noticed(tmp_path: Path) -> None:
    from study.files import seal
    from study.files.writing import Misplaced
    from study.tools import verify_results

    page = tmp_path / "report.html"
    blank = f'<meta name="study" content="one">\n<meta name="sealed" content="{seal.BLANK.decode()}">\n'
    page.write_text(seal.sealed_text(blank), encoding="utf-8")
    verify_results._require_page(page, "one")
    with pytest.raises(Misplaced, match="not the page of the study 'two'"):
        verify_results._require_page(page, "two")
