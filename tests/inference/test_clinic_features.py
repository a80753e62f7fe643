"""Features that a page computes are those of training; the script runs in Node."""

from __future__ import annotations

import json
import shutil
import subprocess

import numpy as np
import pytest
from clinics import Visitor, clinic
from some_models import artefact
from three_parties import heard, parties

from clients.models.features import features_for
from clients.prediction.predictor import Predictor
from crypto.inference.words import decode, encode
from deployment.clinic.feature_constants import constants, layout
from deployment.clinic.feature_script import FEATURES
from deployment.clinic.sharing_script import SHARING

NODE = shutil.which("node")
RUN = """
class Refused extends Error {}
const {pixels, form, constants} = JSON.parse(require("fs").readFileSync(0));
const bytes = Uint8Array.from(Buffer.from(constants, "hex"));
const row = featuresOf(Uint8Array.from(pixels), form, constantsOf(bytes.buffer, form.features));
console.log(JSON.stringify([...rowWords(row)].map(String)));
"""


def in_node(pixels, form, made):
    """Return what the page's script makes of pixels [size, size, channels], as words."""
    if NODE is None:
        pytest.skip("no Node on this machine")
    form = {**form, "features": layout(made)}
    given = {
        "pixels": pixels.reshape(-1).tolist(),
        "form": form,
        "constants": constants(made).hex(),
    }
    done = subprocess.run(
        [NODE, "-e", SHARING + FEATURES + RUN],
        input=json.dumps(given),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return np.array(list(map(int, json.loads(done.stdout)))).view(np.uint64)


@pytest.mark.parametrize(
    ("side", "channels"),
    [(16, 1), (28, 3), (50, 1), pytest.param(64, 1, marks=pytest.mark.exhaustive)],
)
def test_a_page_computes_the_features_of_training(side, channels):
    made = features_for((channels, side, side))
    pixels = np.random.default_rng(0).integers(0, 256, (side, side, channels), dtype=np.uint8)
    form = {"size": side, "channels": channels, "low": 0.0, "high": 255.0}
    found = decode(in_node(pixels, form, made))
    picture = np.moveaxis(pixels, 2, 0)[None].astype(np.float32) / np.float32(255)
    expected = made(picture)[0]
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() < 2e-4  # float32 in training, doubles here
    # The control: of another picture they are others.
    assert np.abs(made(picture[..., ::-1].copy())[0] - expected).max() > 0.1


def test_features_are_shared_and_answered_and_neither_picture_nor_row_is_sent(
    tmp_path, monkeypatch
):
    made, shape = artefact("scattering", (1, 16, 16), spread=0.05), (1, 16, 16)
    picture = np.random.default_rng(1).random(shape).astype(np.float32)
    row = Predictor(made).prepared(picture[None])[0]
    with parties(tmp_path, made) as three, clinic(three.folder / "patients" / "ada") as server:
        sent, visitor = heard(monkeypatch), Visitor(server)
        about = visitor.about()
        assert about["features"]["width"] == len(row) == about["shape"][0]
        status, _, body = visitor.send("GET", "/features")
        assert status == 200
        assert body == constants(features_for(shape))
        assert visitor.send("GET", "/features", token=False)[0] == 401
        *_, last = visitor.ask(encode(row.astype(np.float64)), about)
        everything = b"".join(bytes(one) for one in sent.values())
    plain = Predictor(made).chances(picture[None])[0]
    assert np.abs(np.array(last["answer"]["chances"]) - plain).max() < 1e-3
    words = encode(row.astype(np.float64)).tobytes()
    assert not [at for at in range(0, len(words), 64) if words[at : at + 16] in everything]


def test_a_model_without_features_has_no_constants(tmp_path):
    made = artefact("logistic", (1, 16, 16))
    with parties(tmp_path, made) as three, clinic(three.folder / "patients" / "ada") as server:
        visitor = Visitor(server)
        assert visitor.about()["features"] is None
        status, _, said = visitor.send("GET", "/features")
        assert (status, json.loads(said)) == (502, {"error": "model"})
