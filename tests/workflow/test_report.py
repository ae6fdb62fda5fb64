"""The report page, opened in a browser and read as a reader would; and Snakemake's own report that embeds it."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from study_project import Project

import study_verdicts

pytestmark = [pytest.mark.workflow, pytest.mark.xdist_group("tiny")]
OPTIONS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
)


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Headless Chromium. Without it the tests are skipped, unless REQUIRE_BROWSER=1."""
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not (chromium and driver):
        if os.environ.get("REQUIRE_BROWSER") == "1":
            pytest.fail("REQUIRE_BROWSER=1, but chromium and chromedriver are not both on the PATH")
        pytest.skip("no chromium with chromedriver (set REQUIRE_BROWSER=1 to make this a failure)")
    from selenium import webdriver
    from selenium.webdriver.chrome.options import Options
    from selenium.webdriver.chrome.service import Service

    options = Options()
    options.binary_location = chromium
    with tempfile.TemporaryDirectory() as profile:
        for option in (*OPTIONS, f"--user-data-dir={profile}"):
            options.add_argument(option)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        started = webdriver.Chrome(options=options, service=Service(driver))
        started.set_script_timeout(30)
        yield started
        started.quit()


def show(browser: Any, file: Path, width: int = 1280, height: int = 900) -> None:
    browser.get_log("browser")  # forget what earlier pages said
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600},
    )
    browser.get(file.resolve().as_uri())


def complaints(browser: Any, *levels: str) -> list[str]:
    """What the console said, at these levels: errors and warnings unless told."""
    return [e["message"] for e in browser.get_log("browser") if e["level"] in (levels or ("SEVERE", "WARNING"))]


@pytest.fixture
def page(tiny: Project) -> Path:
    return tiny.root / "results" / "tiny" / "report.html"


@pytest.mark.browser
class TestPageInABrowser:
    def test_it_loads_without_a_complaint_and_every_image_shows(self, browser: Any, page: Path, tiny: Project) -> None:
        show(browser, page)
        assert complaints(browser) == []
        sizes = browser.execute_script("return [...document.images].map(i => [i.complete, i.naturalWidth, i.alt])")
        assert len(sizes) == len(tiny.config()["figures"])
        assert all(complete and width > 600 and len(alt) > 20 for complete, width, alt in sizes)

    @pytest.mark.parametrize("width", [390, 768, 1280, 1920])
    def test_nothing_overflows_the_window(self, browser: Any, page: Path, width: int) -> None:
        show(browser, page, width)
        widths = browser.execute_script("return [document.documentElement.scrollWidth, window.innerWidth]")
        assert widths[0] <= widths[1]

    def test_it_fetches_nothing(self, browser: Any, page: Path) -> None:
        show(browser, page)
        fetched = browser.execute_script("return performance.getEntriesByType('resource').map(e => e.name)")
        assert [name for name in fetched if not name.startswith("data:")] == []

    def test_captions_are_beside_figures_on_a_laptop_and_below_on_a_phone(self, browser: Any, page: Path) -> None:
        places = """const f = document.querySelector('figure'), a = f.children[0].getBoundingClientRect(),
            b = f.querySelector('figcaption').getBoundingClientRect(); return [b.left >= a.right, b.top >= a.bottom]"""
        show(browser, page, 1280)
        assert browser.execute_script(places) == [True, False]
        show(browser, page, 390)
        assert browser.execute_script(places) == [False, True]

    def test_it_prints(self, browser: Any, page: Path) -> None:
        show(browser, page)
        pdf = browser.execute_cdp_cmd("Page.printToPDF", {"printBackground": True})["data"]
        assert len(pdf) > 100_000

    def test_contents_lead_to_sections(self, browser: Any, page: Path) -> None:
        show(browser, page)
        missing = browser.execute_script(
            "return [...document.querySelectorAll('nav a')].filter(a => !document.querySelector(a.getAttribute('href'))).length"
        )
        assert missing == 0


class Cells(HTMLParser):
    """Rows of one verdict table: settings, and the data-value and data-mark of every cell."""

    def __init__(self, table: str) -> None:
        super().__init__()
        self.wanted, self.inside, self.rows = table, False, []  # type: ignore[var-annotated]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "table":
            self.inside = given.get("id") == self.wanted
        if self.inside and tag == "tr" and "data-settings" in given:
            self.rows.append((json.loads(given["data-settings"] or ""), []))
        if self.inside and tag == "td" and "data-value" in given:
            self.rows[-1][1].append((float(given["data-value"] or "nan"), given["data-mark"]))


def cells(page: Path, table: str) -> list[tuple[dict[str, Any], list[tuple[float, str]]]]:
    parser = Cells(table)
    parser.feed(page.read_text(encoding="utf-8"))
    return parser.rows


class TestPageAgainstTables:
    def test_the_propagation_verdict_holds_the_studys_numbers(self, page: Path, tiny: Project) -> None:
        runs = tiny.table("runs")
        runs = runs[(runs["sweep"] == "propagation") & (runs["sequence_length"] == 30)]
        found = cells(page, "verdict-propagation")
        assert [settings["activation"] for settings, _ in found] == ["identity", "sigmoid", "tanh"]
        for settings, row in found:
            for (value, mark), radius in zip(row, [0.5, 1.0, 1.5], strict=True):
                own = runs[(runs["activation"] == settings["activation"]) & (runs["spectral_radius"] == radius)]
                expected = float(np.mean(own["log10_gradient_ratio"]))
                assert len(own) == 2
                assert value == pytest.approx(expected, rel=1e-12)
                assert mark == ("vanishing" if expected < -2 else "exploding" if expected > 2 else "stable")

    def test_the_clipping_verdict_holds_the_studys_numbers(self, page: Path, tiny: Project) -> None:
        runs = tiny.table("runs")
        found = cells(page, "verdict-clipping")
        assert len(found) == 6
        for settings, row in found:
            chosen = runs[(runs["updates"] > 0)]
            for name, value in settings.items():
                chosen = chosen[chosen[name] == value]
            measure = "held_out_loss" if settings["task"] == "input_mean" else "held_out_accuracy"
            for (value, mark), rule in zip(row, ["none", "norm:1.0", "value:0.1"], strict=True):
                own = chosen[chosen["clipping"] == rule]
                expected = own[measure].mean()
                assert (math.isnan(value) and math.isnan(expected)) or value == pytest.approx(expected, rel=1e-12)
                assert mark == ("broken" if own["first_nonfinite_update"].notna().any() else "whole")

    def test_the_worst_check_is_printed(self, page: Path, tiny: Project) -> None:
        worst = tiny.table("checks")["relative_error"].max()
        assert f"worst relative error <b>{worst:.1e}</b>" in page.read_text(encoding="utf-8")

    def test_no_caption_has_an_error_and_no_template_shows(self, page: Path) -> None:
        text = re.sub(r'src="data:[^"]*"', "", page.read_text(encoding="utf-8"))
        for leftover in ("System Message", "system-message", "{{", "{%", "undefined", "Undefined", ">None<", ">nan<"):
            assert leftover not in text

    def test_it_names_no_other_host(self, page: Path) -> None:
        text = re.sub(r'src="data:[^"]*"', "", page.read_text(encoding="utf-8"))
        assert not re.findall(r'(?:src|href)="(?:https?:)?//', text)

    def test_the_example_run_is_a_run_of_the_study(self, page: Path, tiny: Project) -> None:
        """The snippet under Provenance, executed, has the key that it claims."""
        import html

        import rnn_core as rc

        text = html.unescape(page.read_text(encoding="utf-8"))
        call, key = (
            re.search(r"experiment = (rc\.Experiment\(.*\))", text),
            re.search(r'experiment\.key == "(\w+)"', text),
        )
        assert call is not None
        assert key is not None
        assert eval(call.group(1), {"rc": rc}).key == key.group(1)
        assert key.group(1) in set(tiny.table("runs")["run_key"])


@pytest.mark.browser
class TestSnakemakeReport:
    def test_it_loads_without_a_complaint(self, browser: Any, tiny: Project) -> None:
        file = tiny.root / "results" / "tiny" / "snakemake-report.html"
        show(browser, file)
        assert complaints(browser, "SEVERE") == []  # Snakemake's own template warns about its style sheets
        assert "Figures" in browser.page_source
        assert "Report" in browser.page_source

    def test_captions_have_no_error_and_all_results_are_embedded(self, browser: Any, tiny: Project) -> None:
        file = tiny.root / "results" / "tiny" / "snakemake-report.html"
        text = file.read_text(encoding="utf-8")
        assert "System Message" not in text
        assert "system-message" not in text
        show(browser, file)
        embedded = browser.execute_script(
            "return Object.values(results).map(r => [r.name, r.caption.length, r.data_uri.length])"
        )
        names = {name for name, _, _ in embedded}
        assert names == {f"{figure}.png" for figure in tiny.config()["figures"]} | {"report.html"}
        assert all(caption > 100 and data > 10_000 for _, caption, data in embedded)
        loaded = browser.execute_async_script(
            """const done = arguments[0], images = Object.values(results).filter(r => r.name.endsWith('.png'));
            Promise.all(images.map(r => new Promise(yes => { const i = new Image(); i.onload = () => yes(i.naturalWidth);
                i.onerror = () => yes(0); i.src = r.data_uri; }))).then(done)"""
        )
        assert len(loaded) == len(tiny.config()["figures"])
        assert min(loaded) > 600


def frame(**columns: list[Any]) -> pd.DataFrame:
    """Runs with every setting at its default but those given."""
    import study_tables

    rows = max(map(len, columns.values()))
    blank = {name: [described["default"]] * rows for name, described in study_tables.axes().items()}
    blank["run_key"] = [str(row) for row in range(rows)]
    measured = ("growth_rate", "deviation", "held_out_loss", "held_out_accuracy", "first_nonfinite_update")
    return pd.DataFrame(
        blank | {name: [math.nan] * rows for name in measured} | {"regime": ["stable"] * rows} | columns
    )


class TestVerdicts:
    def test_the_critical_radius_is_where_growth_crosses_zero(self) -> None:
        runs = frame(spectral_radius=[0.8, 1.0, 1.2], growth_rate=[-0.3, -0.1, 0.1])
        assert study_verdicts.critical_radius(runs) == pytest.approx(1.1)

    @pytest.mark.parametrize("rates", [[-0.3, -0.2], [0.2, 0.3], [math.nan, math.nan]])
    def test_there_may_be_none(self, rates: list[float]) -> None:
        assert study_verdicts.critical_radius(frame(spectral_radius=[0.8, 1.2], growth_rate=rates)) is None

    def test_clipping_that_saves_training_is_named(self) -> None:
        runs = frame(
            updates=[10] * 4,
            seed=[0, 1] * 2,
            clipping=["none", "none", "norm:1.0", "norm:1.0"],
            held_out_loss=[math.nan, 0.5, 0.4, 0.4],
            first_nonfinite_update=[3, math.nan, math.nan, math.nan],
        )
        table = study_verdicts.clipping(runs)
        assert table is not None
        assert table.rows[0].verdict == "yes: norm:1.0 prevents breakdown"
        assert table.rows[0].cells[0].note == "1 of 2 broke down"

    @pytest.mark.parametrize(
        ("none", "norm", "verdict"),
        [
            ([0.5, 0.52], [0.8, 0.82], "yes: norm:1.0 is best"),
            ([0.8, 0.82], [0.5, 0.52], "no: unclipped is best"),
            ([0.2, 0.8], [0.3, 0.9], "yes: norm:1.0 is best"),  # seed by seed it gains 0.1
            ([0.2, 0.8], [0.3, 0.75], "no clear difference"),
        ],
    )
    def test_a_difference_counts_from_two_standard_errors(
        self, none: list[float], norm: list[float], verdict: str
    ) -> None:
        runs = frame(
            updates=[9] * 4, seed=[0, 1] * 2, clipping=["none"] * 2 + ["norm:1.0"] * 2, held_out_accuracy=none + norm
        )
        table = study_verdicts.clipping(runs)
        assert table is not None
        assert table.rows[0].verdict == verdict

    def test_a_seed_whose_gradient_is_exactly_zero_does_not_decide_for_all(self) -> None:
        ratios = [-math.inf, 3.0, 4.0]
        runs = frame(seed=[0, 1, 2], log10_gradient_ratio=ratios, growth_rate=[-math.inf, 0.1, 0.2], regime=["vanishing", "exploding", "exploding"])  # fmt: skip
        table = study_verdicts.propagation(runs)
        assert table is not None
        cell = table.rows[0].cells[0]
        assert (cell.value, cell.mark, cell.note) == (3.5, "exploding", "1 of 3 exactly 0")
        assert table.rows[0].verdict.startswith("grows")

    def test_studies_without_training_or_without_a_choice_of_rules_have_no_clipping_table(self) -> None:
        assert study_verdicts.clipping(frame(updates=[0, 0], clipping=["none", "norm:1.0"])) is None
        assert study_verdicts.clipping(frame(updates=[5], clipping=["none"])) is None

    def test_a_setting_that_is_not_set_names_nothing(self) -> None:
        runs = frame(
            cell=["residual", "gru", "vanilla", "lstm", "residual"],
            residual_step=[0.1, None, None, None, None],
            log10_gradient_ratio=[1.0, -9.0, -9.0, -9.0, 1.0],
            growth_rate=[0.1, -0.1, -0.1, -0.1, 0.1],
        )
        table = study_verdicts.propagation(runs)
        assert table is not None
        shown = [[row.shown(axis) for axis in table.row_axes] for row in table.rows]  # the simplest cell first
        assert shown == [["vanilla", "–"], ["residual", "–"], ["residual", "0.1"], ["gru", "–"], ["lstm", "–"]]
        (sentence,) = table.sentences
        assert sentence == (
            "The gradient of vanilla, gru and lstm shrinks at every ρ from 1 to 1; "
            "that of residual and residual (η = 0.1) grows at every ρ from 1 to 1."
        )

    def test_names_have_the_cell_first_and_brackets(self) -> None:
        runs = frame(
            cell=["residual"] * 3 + ["vanilla"],
            residual_step=[0.1, 0.1, 0.2, None],
            residual_leak=[0.05, 0.1, 0.1, None],
            log10_gradient_ratio=[1.0] * 4,
            growth_rate=[0.1] * 4,
        )
        table = study_verdicts.propagation(runs)
        assert table is not None
        assert (
            "vanilla, residual (η = 0.1, λ = 0.05), residual (η = 0.1, λ = 0.1) and residual (η = 0.2, λ = 0.1) grow"
            in table.sentences[0]
        )

    def test_what_narrower_formats_lose_is_counted_run_by_run(self) -> None:
        null = [None] * 4
        columns = {
            f"{name}_{what}_at": null
            for name in ("float32", "bfloat16", "float16")
            for what in ("flushed", "overflowed")
        }
        runs = frame(**columns)
        runs["run_key"] = ["a", "b", "c", "c"]  # one run is in two sweeps
        assert study_verdicts.formats(runs) == (
            "No plain float16, bfloat16 or float32 would have lost or overflowed the gradient of any of 3 runs."
        )
        runs["float16_flushed_at"], runs["bfloat16_flushed_at"] = [5, None, 2, 2], [None, None, 1, 1]
        lost = "At the start float16 would have lost the whole gradient on its way back in 2 of 3 runs, bfloat16 in 1 and float32 in 0"
        assert study_verdicts.formats(runs) == f"{lost}."
        runs["float16_overflowed_at"] = [None, 3, None, None]
        assert study_verdicts.formats(runs) == f"{lost}; entries would have overflowed to inf with float16 in 1."

    def test_settings_under_one_rule_alone_are_not_in_the_clipping_table(self) -> None:
        runs = frame(
            cell=["vanilla"] * 4 + ["lstm"] * 2, updates=[9] * 6, seed=[0, 1] * 3,
            clipping=["none"] * 2 + ["norm:1.0"] * 2 + ["none"] * 2, held_out_loss=[3.0, 2.9, 1.0, 1.1, 1.0, 1.0],
        )  # fmt: skip
        table = study_verdicts.clipping(runs)
        assert table is not None and len(table.rows) == 1
        assert table.sentences[0].startswith("Clipping helps in 1 of 1 setting")

    def test_the_bias_of_truncation_is_the_median_of_each_window(self) -> None:
        runs = frame(truncation=[None, 5.0, 5.0, 20.0, 20.0])
        runs["run_key"] = ["a", "b", "c", "d", "d"]  # one run is in two sweeps
        updates = pd.DataFrame({"run_key": ["a", "b", "c", "d", "d"], "truncation_bias": [None, 0.5, 0.7, 0.25, 0.25]})
        updates["update"] = 0
        later = pd.DataFrame({"run_key": ["b"], "truncation_bias": [0.9], "update": [1]})
        updates = pd.concat([updates, later])
        assert study_verdicts.truncation(runs, updates) == (
            "Truncation to k steps changes the gradient that training starts with by 60 % (k = 5) and 25 % (k = 20) of its norm, "
            "in the median over 3 runs."
        )
        assert study_verdicts.truncation(frame(truncation=[None]), updates) == ""

    def test_the_page_says_what_narrower_formats_lose(self, page: Path, tiny: Project) -> None:
        assert f"<li>{study_verdicts.formats(tiny.table('runs'))}</li>" in page.read_text(encoding="utf-8")
