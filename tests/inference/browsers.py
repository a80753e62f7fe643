"""A real browser for the patient's page; tests skip where there is no Chromium."""

from __future__ import annotations

import base64
import shutil
import time
import warnings
from contextlib import contextmanager

import pytest

selenium = pytest.importorskip("selenium")
BROWSER, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --hide-scrollbars "
    "--disable-background-networking --disable-component-update --disable-sync"
)
PIXELS = """
const [text, name, form, done] = arguments;
const bytes = Uint8Array.from(atob(text), c => c.charCodeAt(0));
pixelsOf(new File([bytes], name), form).then(
  pixels => done({pixels: [...pixels], words: form.shape
                  ? [...wordsOf(pixels, form)].map(String) : null}),
  error => done({refused: error.code ?? String(error), values: error.values}));
"""


@contextmanager
def browsing(folder, *flags):
    """Yield a browser whose profile is in a folder."""
    from selenium import webdriver
    from selenium.common.exceptions import WebDriverException

    if not (BROWSER and DRIVER):
        pytest.skip("no Chromium on this machine")
    options = webdriver.ChromeOptions()
    options.binary_location = str(BROWSER)
    for flag in [*FLAGS.split(), *flags, f"--user-data-dir={folder / 'profile'}"]:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    with warnings.catch_warnings():
        # What Selenium leaves to the garbage collector is not this project's.
        warnings.simplefilter("ignore", ResourceWarning)
        try:
            driver = webdriver.Chrome(options, webdriver.ChromeService(str(DRIVER)))
        except WebDriverException as error:
            pytest.skip(f"Chromium does not start here: {error.msg}")
        try:
            yield driver
        finally:
            driver.quit()


def until(browser, condition, seconds=60.0):
    """Wait until an expression of the page is true, and return it."""
    deadline = time.monotonic() + seconds
    while not (found := browser.execute_script(f"return {condition}")):
        text = browser.execute_script("return document.body.innerText")
        assert time.monotonic() < deadline, f"{condition} never came true:\n{text}"
        time.sleep(0.05)
    return found


def wide(browser, width, height=900):
    """Make the window as wide as a telephone or a desk."""
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)


def pixels_of(browser, content, form, name="picture"):
    """Return what the open page makes of a file."""
    text = base64.b64encode(content).decode()
    return browser.execute_async_script(PIXELS, text, name, form)
