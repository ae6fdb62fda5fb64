"""The report page, opened in a browser and read as a reader would; and Snakemake's own report that embeds it."""

from __future__ import annotations

import html
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from study.report.page_tables import example_run
from study.report.words import plain
from tests.page.reading import read
from tests.page.second_opinion import KINDS
from tests.support.study_project import Project

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


# Every element that is wider than the window, or whose own content is cut off at its side.
OVERFLOWING = """const w = document.documentElement.clientWidth;
return [...document.querySelectorAll('body *')].filter(e => !e.closest('svg') && e.offsetParent !== null &&
    (e.getBoundingClientRect().right > w + 1 || (e.scrollWidth > e.clientWidth + 1 && getComputedStyle(e).overflowX !== 'visible')))
    .map(e => e.tagName + '.' + e.className + ' ' + e.textContent.slice(0, 40))"""
VISIBLE = """return [...document.querySelectorAll('.picture')].filter(e => e.offsetParent !== null)
    .map(e => [e.classList.contains('phone'), e.firstElementChild.getBoundingClientRect().width, e.firstElementChild.getAttribute('aria-label')])"""


@pytest.mark.browser
class TestPageInABrowser:
    def test_it_loads_without_a_complaint_and_every_figure_shows(self, browser: Any, page: Path, tiny: Project) -> None:
        show(browser, page)
        assert complaints(browser) == []
        pictures = browser.execute_script(VISIBLE)
        assert len(pictures) == len(tiny.config()["figures"])
        assert all(not phone and width > 600 and len(alt) > 20 for phone, width, alt in pictures)

    @pytest.mark.parametrize("width", [400, 768, 1280, 1440])
    def test_nothing_overflows_the_window(self, browser: Any, page: Path, width: int) -> None:
        show(browser, page, width)
        assert browser.execute_script("return document.documentElement.scrollWidth") <= width
        assert browser.execute_script(OVERFLOWING) == []

    def test_a_phone_has_pictures_of_its_own(self, browser: Any, page: Path, tiny: Project) -> None:
        """Panels below each other and letters of a size that can be read, not the page's picture made small."""
        show(browser, page, 400)
        pictures = browser.execute_script(VISIBLE)
        assert len(pictures) == len(tiny.config()["figures"])
        assert all(phone and 340 < width <= 400 for phone, width, _ in pictures)
        results = "return [...document.querySelectorAll('.verdict td')].filter(e => e.getBoundingClientRect().right > 400).length"
        assert browser.execute_script(results) == 0

    def test_it_fetches_nothing(self, browser: Any, page: Path) -> None:
        show(browser, page)
        fetched = browser.execute_script("return performance.getEntriesByType('resource').map(e => e.name)")
        assert [name for name in fetched if not name.startswith("data:")] == []

    def test_it_prints_whole(self, browser: Any, page: Path) -> None:
        """On paper nothing can be scrolled or opened: config and code must stand there in full."""
        show(browser, page, 800)
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
        try:
            cut = browser.execute_script(
                "return [...document.querySelectorAll('pre, section')].filter(e => e.scrollHeight > e.clientHeight + 2 || e.scrollWidth > e.clientWidth + 2)"
                ".map(e => e.id || e.className)"
            )
            closed = browser.execute_script("return document.querySelectorAll('details:not([open])').length")
            assert cut == [] and closed == 0
            assert browser.execute_script(OVERFLOWING) == []
            assert "sweeps:" in browser.execute_script("return document.querySelector('pre.config').innerText")
        finally:
            browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
        pdf = browser.execute_cdp_cmd("Page.printToPDF", {"printBackground": True})["data"]
        assert len(pdf) > 100_000

    def test_contents_lead_to_sections_and_claims_are_headings(self, browser: Any, page: Path, tiny: Project) -> None:
        show(browser, page)
        missing = browser.execute_script(
            "return [...document.querySelectorAll('nav a, main a[href^=\"#\"]')].filter(a => !document.querySelector(a.getAttribute('href'))).length"
        )
        assert missing == 0
        headings = browser.execute_script("return [...document.querySelectorAll('.figure h2')].map(h => h.textContent)")
        assert len(headings) == len(tiny.config()["figures"])
        for name, heading in zip(tiny.config()["figures"], headings, strict=True):
            facts = json.loads((page.parent / "figures" / f"{name}.json").read_text(encoding="utf-8"))
            assert heading == plain(facts["title"])

    def test_a_number_says_what_it_is(self, browser: Any, page: Path) -> None:
        show(browser, page)
        told = browser.execute_script("return [...document.querySelectorAll('#answer data')].map(d => d.title)")
        assert told and all(":" in title for title in told)

    def test_identifiers_are_unique(self, browser: Any, page: Path) -> None:
        """Two figures whose clip paths had one name would cut each other."""
        show(browser, page)
        doubled = "const ids = [...document.querySelectorAll('[id]')].map(e => e.id); return ids.filter((id, i) => ids.indexOf(id) !== i)"
        assert browser.execute_script(doubled) == []


class TestPageAgainstTables:
    def test_every_number_is_what_a_second_program_finds(self, page: Path, tiny: Project) -> None:
        """The real tables of a real study; tests/page does the same for drawn ones."""
        reader = read(page.read_text(encoding="utf-8"))
        tables = {name: tiny.table(name) for name in ("runs", "updates", "traces", "checks")}
        assert len(reader.numbers) > 50
        for number in reader.numbers:
            if number.kind != "setting":
                expected = KINDS[number.kind](tables, number.where)
                assert number.value == pytest.approx(expected, rel=1e-9, abs=1e-12, nan_ok=True), number

    def test_the_page_is_light(self, page: Path) -> None:
        assert page.stat().st_size < 6_000_000

    def test_no_caption_has_an_error_and_no_template_shows(self, page: Path) -> None:
        text = re.sub(r'src="data:[^"]*"', "", page.read_text(encoding="utf-8"))
        for leftover in ("System Message", "system-message", "{{", "{%", "undefined", "Undefined", ">None<", ">nan<"):
            assert leftover not in text

    def test_it_asks_no_other_host(self, page: Path) -> None:
        text = re.sub(r'src="data:[^"]*"', "", page.read_text(encoding="utf-8"))
        assert not re.findall(r'src="(?:https?:)?//|<link[^>]*href="http', text)
        linked = set(re.findall(r'<a href="https://([^/"]+)', text))
        assert linked == {"arxiv.org", "doi.org"}  # references, for readers who ask for them

    def test_the_example_run_is_a_run_of_the_study(self, page: Path, tiny: Project) -> None:
        """The code under Provenance has another run's key, or is none: "data = rc.Sequences(…)  # from sequences/digits.npz"."""
        code = re.search(r"<pre><code>(.*?experiment = .*?)</code></pre>", page.read_text(encoding="utf-8"), re.DOTALL)
        assert code is not None
        assert run_key_of(html.unescape(code.group(1)), tiny) in set(tiny.table("runs")["run_key"])

    @pytest.mark.parametrize("task", ["digits", "waves"])
    def test_the_example_run_reads_its_sequences(self, task: str, tiny: Project) -> None:
        runs = tiny.table("runs")
        code = example_run(runs[runs["task"] == task], "tiny")
        assert run_key_of(code, tiny) in set(runs.loc[runs["task"] == task, "run_key"])


def run_key_of(code: str, project: Project) -> str:
    """The key that this code, run in the project's folder, finds to be that of its experiment."""
    (key,) = re.findall(r'== "(\w+)"', code)
    subprocess.run([sys.executable, "-c", code], cwd=project.root, env=project.environment(), check=True, timeout=120)
    return str(key)


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
