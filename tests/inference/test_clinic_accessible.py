"""The patient's page by keyboard and as a screen reader is told of it, in a real Chromium."""

from __future__ import annotations

import io
from itertools import pairwise

import numpy as np
import pytest
from browsers import browsing, until, wide
from clinics import clinic
from PIL import Image
from some_models import artefact
from three_parties import parties

from deployment.clinic.texts import TEXTS

pytestmark = pytest.mark.exhaustive
SHAPE = (1, 28, 28)
WIDTHS = (1280, 390)


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with browsing(tmp_path_factory.mktemp("browser")) as driver:
        yield driver


@pytest.fixture(scope="module")
def three(tmp_path_factory):
    made = artefact("logistic", SHAPE)
    with parties(tmp_path_factory.mktemp("parties"), made, stock=4) as running:
        yield running


@pytest.fixture
def files(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, SHAPE[1:], dtype=np.uint8)
    made = io.BytesIO()
    Image.fromarray(pixels).save(made, "PNG")
    (tmp_path / "mine.png").write_bytes(made.getvalue())
    (tmp_path / "letter.txt").write_text("Dear doctor")
    return tmp_path


@pytest.fixture(params=WIDTHS)
def page(request, browser, three):
    """Yield the page of a patient at a width, ready."""
    with clinic(three.folder / "patients" / "ada") as server:
        wide(browser, request.param)
        browser.get("about:blank")
        browser.get(server.url)
        until(browser, f"document.getElementById('status').textContent === {TEXTS['ready']!r}")
        yield browser


def pressed(browser, *keys):
    from selenium.webdriver import ActionChains

    ActionChains(browser).send_keys(*keys).perform()


def focused(browser):
    return browser.execute_script("return document.activeElement.id")


def choose(browser, file, shown):
    browser.find_element("id", "picture").send_keys(str(file))
    until(browser, f"!document.getElementById({shown!r}).hidden")


def told(browser):
    """Return what a screen reader is told: (role, name, description, other properties) each."""
    nodes = browser.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    found = []
    for node in nodes:
        if not node.get("ignored"):
            said = [node.get(key, {}).get("value", "") for key in ("role", "name", "description")]
            known = {one["name"]: one["value"].get("value") for one in node.get("properties", [])}
            found.append((*said, known))
    return found


def of_role(nodes, *roles):
    return [one for one in nodes if one[0] in roles]


def test_from_the_top_to_the_answer_by_keyboard_alone(page, files):
    from selenium.webdriver import ActionChains
    from selenium.webdriver.common.keys import Keys

    page.execute_script("document.activeElement.blur()")
    pressed(page, Keys.TAB)
    assert focused(page) == "picture", "nothing stands before what is needed first"
    assert page.execute_script(OUTLINE) >= 2, "where the focus is can be seen"
    pressed(page, Keys.TAB, Keys.ENTER)
    until(page, "!document.getElementById('error').hidden")
    assert focused(page) == "picture", "back to what is missing"
    choose(page, files / "mine.png", "preview")
    pressed(page, Keys.TAB)
    assert focused(page) == "ask"
    assert page.execute_script(OUTLINE) >= 2
    pressed(page, Keys.SPACE)
    until(page, "!document.getElementById('result').hidden")
    assert focused(page) == "result-head", "the answer is read next"
    ActionChains(page).key_down(Keys.SHIFT).send_keys(Keys.TAB).key_up(Keys.SHIFT).perform()
    assert focused(page) == "ask", "and the way back is as short"


OUTLINE = """
const style = getComputedStyle(document.activeElement);
return style.outlineStyle === "none" ? 0 : parseFloat(style.outlineWidth);
"""


def test_an_error_leaves_the_keyboard_where_it_was(page, files, three):
    from selenium.webdriver.common.keys import Keys

    choose(page, files / "mine.png", "preview")
    page.execute_script("form.model = 'x'; document.getElementById('ask').focus()")
    pressed(page, Keys.ENTER)
    until(page, "!document.getElementById('error').hidden")
    until(page, "!document.getElementById('ask').disabled")
    assert focused(page) == "ask"


def test_a_screen_reader_is_told_all_that_is_seen(page, files):
    nodes = told(page)
    assert page.execute_script("return document.documentElement.lang") == "en"
    assert [one[1] for one in of_role(nodes, "RootWebArea")] == [TEXTS["title"]]
    assert len(of_role(nodes, "main")) == 1
    (button,) = [one for one in of_role(nodes, "button") if one[1] == TEXTS["ask"]]
    choose(page, files / "letter.txt", "error")
    nodes = told(page)
    (alert,) = of_role(nodes, "alert")
    assert alert[3]["live"] == "assertive"
    assert any("letter.txt is a text" in one[1] for one in of_role(nodes, "StaticText"))
    (picture,) = [one for one in nodes if TEXTS["choose"] in one[1] and one[3].get("focusable")]
    assert TEXTS["hint"] in picture[2] and "letter.txt is a text" in picture[2]
    assert picture[3]["invalid"] == "true"
    choose(page, files / "mine.png", "preview")
    nodes = told(page)
    (picture,) = [one for one in nodes if TEXTS["choose"] in one[1] and one[3].get("focusable")]
    assert "letter.txt" not in picture[2], "what was wrong is so no more"
    assert picture[3].get("invalid", "false") == "false"
    assert [one[1] for one in of_role(nodes, "image")] == [TEXTS["preview"].format(size=28)]
    (status,) = of_role(nodes, "status")
    assert status[3]["live"] == "polite"
    page.find_element("id", "ask").click()
    until(page, "!document.getElementById('result').hidden")
    nodes = told(page)
    levels = [(one[3]["level"], one[1]) for one in of_role(nodes, "heading")]
    assert levels[0] == (1, TEXTS["title"])
    assert all(after - before <= 1 for (before, _), (after, _) in pairwise(levels))
    assert (2, TEXTS["result"]) in levels
    heads = {one[1] for one in of_role(nodes, "columnheader")}
    assert {TEXTS["class-head"], TEXTS["chance-head"]} <= heads
    assert {"a", "b", "c", "d"} <= {one[1] for one in of_role(nodes, "rowheader")}
    focusable = [one for one in nodes if one[3].get("focusable") and one[0] != "RootWebArea"]
    assert all(one[1] for one in focusable), "each has a name"
    assert button[3].get("focusable")


def test_texts_can_be_read_touched_and_made_narrow(page, files):
    choose(page, files / "letter.txt", "error")
    faint = page.execute_script(CONTRASTS)
    choose(page, files / "mine.png", "preview")
    page.find_element("id", "ask").click()
    until(page, "!document.getElementById('result').hidden")
    faint += page.execute_script(CONTRASTS)
    assert not faint
    small = page.execute_script(
        "return ['picture', 'ask'].map(id => document.getElementById(id).getBoundingClientRect())"
        ".map(box => Math.min(box.width, box.height))"
    )
    assert min(small) >= 44
    for width in (*WIDTHS, 320):
        wide(page, width)
        assert page.execute_script("return document.documentElement.scrollWidth") <= width


#: Texts whose contrast is below 4.5, or 3 where they are large (WCAG 2.2, 1.4.3).
CONTRASTS = """
const light = text => {
  const part = text.match(/[\\d.]+/g).map(Number);
  const linear = v => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4;
  const [r, g, b] = part.map(v => linear(v / 255));
  return {of: .2126 * r + .7152 * g + .0722 * b, seen: part.length < 4 || part[3] > 0};
};
const behind = one => {
  for (let at = one; at; at = at.parentElement) {
    const found = light(getComputedStyle(at).backgroundColor);
    if (found.seen) return found.of;
  }
  return 1;
};
return [...document.querySelectorAll("main *")].filter(one => one.getClientRects().length
    && [...one.childNodes].some(node => node.nodeType === 3 && node.data.trim())).map(one => {
  const style = getComputedStyle(one), [a, b] = [light(style.color).of, behind(one)];
  const large = parseFloat(style.fontSize) >= (style.fontWeight >= 700 ? 18.66 : 24);
  const ratio = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
  return ratio < (large ? 3 : 4.5) ? `${ratio.toFixed(2)}: ${one.textContent.slice(0, 40)}` : "";
}).filter(Boolean);
"""
