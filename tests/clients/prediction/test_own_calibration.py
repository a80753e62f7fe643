"""At nineteen of twenty hospitals or more, a hospital's own sets hold the truth as often as asked.

Their populations are known whole, so what sets cover is computed, not estimated.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from clients.data.records import DatasetInfo
from clients.prediction.doubt import measure_doubt
from clients.prediction.own_calibration import OwnCalibration, calibrate
from clients.prediction.predictor import Predictor
from tests.clients.prediction.models import made_artefact

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "benchmarks"))

from own_calibration import HOSPITALS, by_label, by_scanner, made, measure

INFO = DatasetInfo(
    name="npz:made", title="made up", task="multiclass", shape=(6,), classes=tuple("abcd")
)


def fitted() -> Predictor:
    """A linear model of the made data, by the centres that its training records show."""
    parts = made()
    inputs, labels = parts.train
    centres = np.stack([inputs[labels == k].mean(axis=0) for k in range(4)])
    artefact = made_artefact(INFO, "logistic")
    state = {
        "head.weight": 16 * artefact.members["model"]["head.weight"].new_tensor(centres),
        "head.bias": -8 * artefact.members["model"]["head.bias"].new_tensor((centres**2).sum(1)),
    }
    whole = replace(artefact, members={"model": state})
    public, truth = parts.public
    logits = Predictor(whole).logits(public)
    doubt, _ = measure_doubt(logits, truth, np.arange(len(truth)), seed=0)
    return Predictor(replace(whole, doubt=doubt))


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return fitted()


@pytest.mark.parametrize("split", ["label", "scanner"])
def test_own_sets_cover_where_pooled_ones_fail(predictor: Predictor, split: str) -> None:
    inputs, labels = made().rest
    found = measure(predictor, (inputs[:6000], labels[:6000]), split, repeats=2)
    assert found["pooled"]["covered"] < HOSPITALS - 1
    assert min(found["own"]["covered"]) >= HOSPITALS - 1
    assert found["own"]["size"] < 4


def test_hospitals_differ_as_they_are_said_to() -> None:
    inputs, labels = made().rest
    mixes = [
        np.bincount(labels, weights=one.weights, minlength=4) for one in by_label(inputs, labels)
    ]
    assert np.allclose(np.sum(mixes, axis=1), 1) and np.ptp(mixes, axis=0).min() > 0.5
    means = [one.inputs.mean() for one in by_scanner(inputs[:500], labels[:500])]
    assert np.ptp(means) > 0.1


def test_what_is_kept_is_read_again_and_damage_is_said(predictor: Predictor) -> None:
    hospital = next(by_label(*made().rest))
    own, figures = calibrate(predictor, hospital.draw(np.random.default_rng(0), 80), seed=0)
    again = OwnCalibration.of_bytes(own.to_bytes())
    assert again.model == predictor.artefact.digest and figures["patients"] == 80
    assert again.threshold(0.9, 0.99) == own.threshold(0.9, 0.99)
    for damaged in (b"{", b"[]", b'{"model": "x", "temperature": 1, "scores": ["a"]}'):
        with pytest.raises(ValueError, match="not a calibration"):
            OwnCalibration.of_bytes(damaged)
    assert "0." not in repr(own)  # nothing of patients is in a log


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", ["mnist", "chest-xray"])
@pytest.mark.filterwarnings("ignore:Full backward hook is firing:UserWarning")
def test_so_it_is_on_real_data(tmp_path: Path, name: str) -> None:
    from own_calibration import DATA, SPLITS, trained

    from clients.data import DataError

    try:
        parts = DATA[name]()
    except DataError as error:
        pytest.skip(str(error))
    model = trained(parts, tmp_path)
    for split in SPLITS:
        found = measure(model, parts.rest, split, repeats=1)
        assert min(found["own"]["covered"]) >= HOSPITALS - 1, (split, found)
