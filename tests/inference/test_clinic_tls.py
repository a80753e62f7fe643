"""The page by TLS in a real browser that trusts the agent's own key alone; a model on features."""

from __future__ import annotations

import base64
import hashlib
from contextlib import suppress

import numpy as np
import pytest
from browsers import browsing, until  # skips where there is no Selenium
from clinics import clinic
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from PIL import Image
from selenium.common.exceptions import WebDriverException
from some_models import artefact
from three_parties import heard, parties

from clients.prediction.asked import RowNotes
from clients.prediction.asking import ask
from clients.prediction.predictor import Predictor
from crypto.inference.words import encode
from deployment.clinic.serving import Place
from deployment.clinic.texts import TEXTS

pytestmark = pytest.mark.exhaustive
SHAPE = (1, 28, 28)


def pin_of(certificate):
    """Return a key as Chromium is told it: every other one is a certificate error."""
    key = x509.load_pem_x509_certificate(certificate.read_bytes()).public_key()
    der = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return base64.b64encode(hashlib.sha256(der).digest()).decode()


def far(place):
    """Return a place as one beyond this machine is: by TLS."""
    host, port = place.listening.getsockname()
    return Place(place.listening, (f"https://{host}:{port}",), True)


@pytest.fixture
def drawn(tmp_path):
    """Return a picture's file."""
    pixels = np.random.default_rng(2).integers(0, 256, (40, 40), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "mine.png")
    return tmp_path / "mine.png"


def test_from_upload_to_result_by_a_pinned_key_with_features_made_in_the_browser(
    tmp_path, monkeypatch, drawn
):
    made = artefact("scattering", SHAPE, spread=0.02)
    with parties(tmp_path, made) as three:
        patient = three.folder / "patients" / "ada"
        pin = pin_of(patient / "certificate.pem")
        flag = f"--ignore-certificate-errors-spki-list={pin}"
        sent = heard(monkeypatch)
        with (
            clinic(patient, far(Place.bound("127.0.0.1:0"))) as server,
            browsing(tmp_path / "pinned", flag) as browser,
        ):
            browser.get(server.url)
            until(browser, f"document.getElementById('status').textContent === {TEXTS['ready']!r}")
            browser.find_element("id", "picture").send_keys(str(drawn))
            until(browser, "!document.getElementById('preview').hidden")
            browser.find_element("id", "ask").click()
            until(browser, "!document.getElementById('result').hidden")
            cells = "[...document.querySelectorAll('#chances td')].map(one => one.textContent)"
            shown = browser.execute_script(f"return {cells}")
            assert browser.execute_script("return window.isSecureContext")
            assert browser.get_log("browser") == []
    inputs = np.asarray(ask(drawn, made.info, RowNotes()).inputs, dtype=np.float32)
    plain = Predictor(made).chances(inputs)[0]
    found = np.array([float(cell.rstrip(" %")) / 100 for cell in shown])
    assert np.abs(found - plain).max() < 6e-3
    everything = b"".join(bytes(one) for one in sent.values())
    row = encode(Predictor(made).prepared(inputs)[0].astype(np.float64)).tobytes()
    pixels = (inputs[0, 0] * 255).round().astype(np.uint8).tobytes()
    assert len(everything) > len(row)
    for needle in (row, encode(inputs).tobytes(), pixels):
        assert not [at for at in range(0, len(needle), 64) if needle[at : at + 16] in everything]


def test_another_key_is_a_certificate_error(tmp_path):
    with parties(tmp_path, artefact("logistic", SHAPE), patients=("ada", "eve")) as three:
        other = pin_of(three.folder / "patients" / "eve" / "certificate.pem")
        flag = f"--ignore-certificate-errors-spki-list={other}"
        with (
            clinic(three.folder / "patients" / "ada", far(Place.bound("127.0.0.1:0"))) as server,
            browsing(tmp_path / "other", flag) as browser,
        ):
            with suppress(WebDriverException):  # newer drivers raise, and show the same
                browser.get(server.url)
            assert "ERR_CERT" in browser.execute_script("return document.body.innerText")
