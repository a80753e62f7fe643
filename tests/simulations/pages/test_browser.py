"""The report as a reader's browser shows it: on a telephone, on a desk, on paper.

Skips where there is no Chromium; CI installs Debian's.
"""

from __future__ import annotations

import base64
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from simulations.compare.report import write_comparison_report
from simulations.pages.report import write_report
from strategies.run.reading import read_run
from tests.simulations.compare.test_compare_results import comparison, row
from tests.simulations.made_runs import make_run

selenium = pytest.importorskip("selenium")
BROWSER, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(not (BROWSER and DRIVER), reason="no Chromium on this machine")

FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --hide-scrollbars "
    "--disable-background-networking --disable-component-update --disable-sync"
)
WIDTHS = (390, 1280)
#: CSS pixels below which text cannot be read.
LEAST_TEXT, LEAST_FIGURE_TEXT = 12.0, 6.5

FIGURES = """
return [...document.querySelectorAll("figure")].map(figure => {
  const svg = figure.querySelector("svg"), box = svg.getBoundingClientRect();
  return {name: figure.id, width: box.width, height: box.height, left: box.left,
          right: box.right, scale: box.width / svg.viewBox.baseVal.width,
          paths: svg.querySelectorAll("path").length,
          caption: figure.querySelector("figcaption").textContent.trim()};
});
"""
CELLS = """
return [...document.querySelectorAll("table th, table td, dl dd, .answer p, pre")]
  .filter(cell => cell.getClientRects().length && cell.textContent.trim()
                  && !cell.closest("thead"))
  .map(cell => {
    const box = cell.getBoundingClientRect(), style = getComputedStyle(cell);
    return {text: cell.textContent.trim(), left: box.left, right: box.right, width: box.width,
            size: parseFloat(style.fontSize), cut: cell.scrollWidth - cell.clientWidth};
  });
"""


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report(read_run(make_run(tmp_path_factory.mktemp("made") / "run")))


@pytest.fixture(scope="module")
def comparison_report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rows = [
        row(regime, accuracy, epsilon=epsilon, split=split)
        for regime, accuracy in (("FPDP", [0.80, 0.83, 0.81]), ("FSCDP", [0.94, 0.93, 0.93]))
        for epsilon in (0.5, 1.0)
        for split in ("iid", "dirichlet:0.1")
    ]
    return write_comparison_report(comparison(rows), tmp_path_factory.mktemp("compared"))


@pytest.fixture(params=["report", "comparison_report"])
def page(request: pytest.FixtureRequest) -> Path:
    return Path(request.getfixturevalue(request.param))


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    from selenium import webdriver
    from selenium.common.exceptions import WebDriverException

    options = webdriver.ChromeOptions()
    options.binary_location = str(BROWSER)
    for flag in [*FLAGS.split(), f"--user-data-dir={tmp_path_factory.mktemp('profile')}"]:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    with warnings.catch_warnings():
        # What Selenium leaves to the garbage collector is not this project's.
        warnings.simplefilter("ignore", ResourceWarning)
        try:
            driver = webdriver.Chrome(options, webdriver.ChromeService(str(DRIVER)))
        except WebDriverException as error:
            pytest.skip(f"Chromium does not start here: {error.msg}")
        yield driver
        driver.quit()


def open_page(browser: Any, page: Path, width: int) -> None:
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.get(page.as_uri())


@pytest.mark.parametrize("width", WIDTHS)
def test_the_console_stays_empty(browser: Any, page: Path, width: int) -> None:
    open_page(browser, page, width)
    assert browser.get_log("browser") == []


def test_the_console_is_really_listened_to(browser: Any, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text("<!doctype html><img src=missing.png><script>nothing()</script>")
    open_page(browser, page, 390)
    assert len([e for e in browser.get_log("browser") if e["level"] == "SEVERE"]) == 2


@pytest.mark.parametrize("width", WIDTHS)
def test_every_figure_is_seen_whole_and_can_be_read(browser: Any, page: Path, width: int) -> None:
    open_page(browser, page, width)
    figures = browser.execute_script(FIGURES)
    assert len(figures) >= 4
    for figure in figures:
        assert figure["width"] > 200, figure
        assert figure["height"] > 80, figure
        assert figure["left"] >= 0, figure
        assert figure["right"] <= width, figure
        assert figure["paths"] > 5, figure
        # Text is 9 pt; a unit of the drawing is one point.
        assert 9 * figure["scale"] >= LEAST_FIGURE_TEXT, figure
        assert figure["caption"].endswith("."), figure


@pytest.mark.parametrize("width", WIDTHS)
def test_tables_fit_and_can_be_read(browser: Any, page: Path, width: int) -> None:
    open_page(browser, page, width)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    cells = browser.execute_script(CELLS)
    assert len(cells) > 80
    for cell in cells:
        assert cell["left"] >= 0, cell
        assert cell["right"] <= width, cell
        assert cell["cut"] <= 1, cell
        assert cell["size"] >= LEAST_TEXT, cell
        # A column too narrow for its words would break them letter by letter.
        longest = max(map(len, cell["text"].split()))
        assert cell["width"] >= min(longest, 12) * cell["size"] * 0.4, cell


def test_the_four_answers_stand_on_the_first_screen_of_a_desk(browser: Any, report: Path) -> None:
    open_page(browser, report, 1280)
    bottoms = browser.execute_script(
        "return [...document.querySelectorAll('.answer')]"
        ".map(a => a.getBoundingClientRect().bottom)"
    )
    assert len(bottoms) == 4
    assert max(bottoms) <= 900


def test_the_page_prints_on_a_few_sheets_of_a4(browser: Any, report: Path) -> None:
    open_page(browser, report, 1280)
    printed = browser.execute_cdp_cmd("Page.printToPDF", {"preferCSSPageSize": True})
    pdf = base64.b64decode(printed["data"])
    assert pdf.startswith(b"%PDF")
    assert 2 <= pdf.count(b"/Type /Page\n") <= 6
    assert b"/MediaBox [0 0 594" in pdf or b"/MediaBox [0 0 595" in pdf
