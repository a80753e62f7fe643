"""The patient's page in a real browser, against a real provider and a real dealer."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from browsers import browsing, pixels_of, until, wide
from clinics import Visitor, clinic
from real_pictures import chest_xrays, exact_files, refused_files, saved
from some_models import artefact
from test_processes import ROOT, ended, started
from three_parties import HERE, Parties, change, heard

from clients.data.picture_files import PictureForm, read_picture
from clients.prediction.asked import RowNotes
from clients.prediction.asking import ask
from clients.prediction.predictor import Predictor
from crypto.inference.words import encode
from deployment.clinic import app
from deployment.clinic.page import make_page
from deployment.clinic.texts import TEXTS

pytestmark = pytest.mark.exhaustive
SIZE = 64
#: Of 255: by how much pixels of a large JPEG may differ, at most and on average.
MOST_LEVELS, MEAN_LEVELS = 32, 2.0
#: JPEGs that Pillow decodes at a fraction of their size, or of which it takes the brightness.
NOT_EXACT = {(28, 3): ("chest.jpeg", "turned.jpeg"), (64, 1): ("turned.jpeg",)}


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with browsing(tmp_path_factory.mktemp("browser")) as driver:
        yield driver


@pytest.fixture(scope="module")
def classifier():
    """Return a model that tells normal chest X-rays from others, fitted to real ones."""
    from sklearn.linear_model import LogisticRegression

    made = artefact("logistic", (1, SIZE, SIZE), classes=2, temperature=1.0)
    inputs, labels = pixels(chest_xrays("train"))
    fitted = LogisticRegression(C=1e-3, max_iter=300).fit(2 * inputs / 255 - 1, labels)
    state = made.members["model"]
    for name, values in (("weight", fitted.coef_), ("bias", fitted.intercept_)):
        tensor = state[f"head.{name}"]
        tensor[0], tensor[1] = tensor[0] * 0, tensor[1] * 0
        tensor[1] += tensor.new_tensor(values[0])
    return made


def pixels(files):
    """Return pictures as training reads them, float [n, SIZE**2], and their classes."""
    with tempfile.TemporaryDirectory() as folder:
        file, read = Path(folder) / "one.jpeg", []
        for content, _ in files:
            file.write_bytes(content)
            read.append(read_picture((file,), PictureForm(size=SIZE, channels=1)))
    return np.stack(read).reshape(len(files), -1).astype(float), [one for _, one in files]


@pytest.fixture
def offline(browser, tmp_path):
    """Open the page from a file: what it makes of pictures needs no agent."""
    (tmp_path / "page.html").write_bytes(make_page().html)
    browser.get((tmp_path / "page.html").as_uri())
    return browser


def shown(content, size, channels, tmp_path, name):
    (tmp_path / name).write_bytes(content)
    return read_picture((tmp_path / name,), PictureForm(size=size, channels=channels)).astype(int)


def test_the_browser_finds_the_pixels_of_training_to_the_last_bit(offline, tmp_path):
    for name, content in exact_files().items():
        for size, channels in ((28, 3), (64, 1), (224, 3)):
            if name in NOT_EXACT.get((size, channels), ()):
                continue
            got = pixels_of(offline, content, {"size": size, "channels": channels}, name)
            found = np.reshape(got["pixels"], (size, size, channels)).transpose(2, 0, 1)
            expected = shown(content, size, channels, tmp_path, name)
            assert np.array_equal(found, expected), (name, size, np.abs(found - expected).max())


def test_large_photographs_differ_by_few_levels(offline, tmp_path, classifier):
    from PIL import Image

    found, expected = [], []
    for content, _ in chest_xrays()[::16]:
        (tmp_path / "small.jpeg").write_bytes(content)
        with Image.open(tmp_path / "small.jpeg") as small:
            large = saved(small.resize((1800, 1500), Image.Resampling.BICUBIC), "JPEG", quality=90)
        got = pixels_of(offline, large, {"size": SIZE, "channels": 1}, "large.jpeg")
        found.append(np.reshape(got["pixels"], (1, SIZE, SIZE)))
        expected.append(shown(large, SIZE, 1, tmp_path, "large.jpeg"))
    apart = np.abs(np.stack(found) - np.stack(expected))
    assert apart.max() <= MOST_LEVELS
    assert apart.mean() <= MEAN_LEVELS
    ours, theirs = (
        Predictor(classifier).chances(np.stack(one).astype(np.float32) / 255).argmax(1)
        for one in (found, expected)
    )
    assert np.array_equal(ours, theirs)


def test_every_real_picture_gets_the_class_and_the_words_of_the_command_line(
    offline, tmp_path, classifier
):
    files = chest_xrays()
    known = pixels(files)[0].astype(np.float32).reshape(-1, 1, SIZE, SIZE) / np.float32(255)
    form = {"size": SIZE, "channels": 1, "low": 0.0, "high": 255.0}
    form |= {"gain": [2.0], "offset": [-1.0], "shape": [1, SIZE, SIZE]}
    got = [pixels_of(offline, content, form, "one.jpeg") for content, _ in files]
    words = np.array([[int(word) for word in one["words"]] for one in got])
    assert np.array_equal(words.reshape(known.shape).view(np.uint64), encode(2.0 * known - 1.0))
    browsers = np.reshape([one["pixels"] for one in got], known.shape).astype(np.float32) / 255
    ours, theirs = (Predictor(classifier).chances(one).argmax(1) for one in (browsers, known))
    assert len(ours) == 80
    assert np.array_equal(ours, theirs)
    assert np.mean(ours == [label for _, label in files]) > 0.7, "it does tell them apart"


def test_what_is_no_picture_is_refused_by_its_name(offline):
    for name, (content, code) in refused_files().items():
        got = pixels_of(offline, content, {"size": 28, "channels": 3}, name)
        assert got.get("refused") == code, (name, got)
        assert got["values"]["file"] == name
        assert code in TEXTS["errors"]
    large = "[new Uint8Array(26e6)], 'large.png'"
    script = f"const done = arguments[0]; pixelsOf(new File({large}), {{}})"
    got = offline.execute_async_script(script + ".catch(error => done(error.code))")
    assert got == "large-file"


@pytest.fixture
def processes(tmp_path, classifier):
    """Start a provider and a dealer as processes; yield their folders, and what ends them."""
    three, running = Parties(tmp_path, classifier), []

    def end():
        return ended(*(running.pop() for _ in list(running)))

    try:
        dealer, port = started("dealer", three.folder / "dealer")
        running.append(dealer)
        change(three.folder / "provider", listen=HERE, dealer=f"127.0.0.1:{port}")
        change(three.folder / "patients" / "ada", dealer=f"127.0.0.1:{port}")
        provider, port = started("provider", three.folder / "provider")
        running.append(provider)
        three.tell_patients(port)
        yield three.folder, end
    finally:
        end()


def test_from_upload_to_result(browser, tmp_path, monkeypatch, classifier, processes):
    sent, bodies = heard(monkeypatch), []
    whole = app.asked
    monkeypatch.setattr(
        app, "asked", lambda *given, **more: bodies.append(given[2:]) or whole(*given, **more)
    )
    folder, end = processes
    content, _ = chest_xrays()[7]
    mine = tmp_path / "mine.jpeg"
    mine.write_bytes(content)
    (tmp_path / "letter.txt").write_text("Dear doctor")
    plain = Predictor(classifier).chances(inputs_of(mine, classifier))[0]
    with clinic(folder / "patients" / "ada") as server:
        for width in (390, 1280):
            seen = upload(browser, server.url, width, tmp_path)
            assert seen["best"].startswith("ab"[plain.argmax()])
            shares = [float(cell.rstrip(" %")) / 100 for cell in seen["chances"]]
            assert np.abs(np.array(shares) - plain).max() < 6e-3
            assert "9 in 10 patients" in seen["doubt"]
            assert seen["focus"] == "result-head"
            assert seen["width"] <= width
            assert seen["least"] >= 12
            assert len(seen["sent"]) >= 5
        # Pixels that were brought to another model's size would be asked about as they are.
        for change, code in (("form.model", "model"), ("known", "changed")):
            script = f"const done = arguments[0]; {change} = 'x'; "
            script += "introduced().then(() => done('asked'), error => done(error.code))"
            assert browser.execute_async_script(script) == code
    logs = end()
    assert len(bodies) == 2
    assert "answered ada" in "".join(logs)
    carried = [*(bytes(one) for one in sent.values()), *(log.encode() for log in logs)]
    searched = [*carried, *(one.read_bytes() for one in folder.rglob("*") if one.is_file())]
    for share, sealed in bodies:
        assert any(sealed in one for one in carried), "the control: what was sent is searched"
        needles = needles_of(content, inputs_of(mine, classifier), share)
        for name, pieces in needles.items():
            assert not [piece for piece in pieces for one in searched if piece in one], name
            assert name.startswith("agent") or not [one for one in pieces if one in sealed + share]


def upload(browser, url, width, tmp_path):
    """Go from a wrong file to a right one and to the result, and return what is seen."""
    wide(browser, width)
    browser.get("about:blank")
    browser.get_log("browser")
    browser.get(url)
    until(browser, f"document.getElementById('status').textContent === {TEXTS['ready']!r}")
    choose(browser, tmp_path / "letter.txt")
    until(browser, "!document.getElementById('error').hidden")
    assert "letter.txt is a text" in browser.find_element("id", "error").text
    choose(browser, tmp_path / "mine.jpeg")
    until(browser, "!document.getElementById('preview').hidden")
    press_by_keyboard(browser)
    until(browser, "!document.getElementById('result').hidden")
    seen = browser.execute_script(SEEN)
    browser.save_screenshot(str(tmp_path / f"result-{width}.png"))
    assert browser.get_log("browser") == []
    return seen


SEEN = """
const all = query => [...document.querySelectorAll(query)];
return {
  best: document.getElementById("best").textContent,
  doubt: document.getElementById("doubt").textContent,
  chances: all("#chances td").map(cell => cell.textContent),
  sent: all("#sent tr").map(row => row.textContent),
  focus: document.activeElement.id,
  width: document.documentElement.scrollWidth,
  least: Math.min(...all("p, td, th, li, label, button, figcaption")
                  .filter(one => one.getClientRects().length)
                  .map(one => parseFloat(getComputedStyle(one).fontSize))),
};
"""


def choose(browser, file):
    browser.find_element("id", "picture").send_keys(str(file))


def press_by_keyboard(browser):
    """Go on from the picture by the tab key alone, and press what is found there."""
    from selenium.webdriver import ActionChains
    from selenium.webdriver.common.keys import Keys

    browser.execute_script("document.getElementById('picture').focus()")
    ActionChains(browser).send_keys(Keys.TAB).perform()
    assert browser.switch_to.active_element.get_attribute("id") == "ask"
    ActionChains(browser).send_keys(Keys.ENTER).perform()


def inputs_of(file, made):
    return np.asarray(ask(file, made.info, RowNotes()).inputs, dtype=np.float32)


def needles_of(content, inputs, share):
    """Return pieces of the picture, as file, pixels and words, and of the shares of it."""
    words = encode(2.0 * inputs - 1.0).astype("<u8")
    agents = np.frombuffer(share, "<u8")
    return {
        "file": [content[at : at + 16] for at in range(600, len(content) - 16, 64)],
        "pixels": [bytes(row) for row in (inputs[0, 0, 8:56] * 255).round().astype(np.uint8)],
        "words": [row.tobytes() for row in words[0, 0, 8:56, 8:16]],
        "provider's share": pieces(words.reshape(-1) - agents),
        "agent's share": pieces(agents),
    }


def pieces(words):
    return [words[at : at + 2].tobytes() for at in range(0, len(words), 64)]


def test_the_command_serves_the_page_until_it_is_told_to_end(processes):
    folder, _ = processes
    words = ["clinic", str(folder / "patients" / "ada"), "--listen", "127.0.0.1:0"]
    process = subprocess.Popen(
        [sys.executable, "-m", "deployment.__main__", *words],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    said = process.stdout.readline()
    found = re.search(r"ready at (http://127\.0\.0\.1:\d+/#\S+)", said)
    assert found, said
    visitor = Visitor(SimpleNamespace(url=found[1]))
    assert visitor.about()["classes"] == ["a", "b"]
    process.terminate()
    out, log = process.communicate(timeout=30)
    assert (process.returncode, out, log) == (0, "", "")
