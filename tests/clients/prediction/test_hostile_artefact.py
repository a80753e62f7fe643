"""A file that claims to be a model: every part that cannot be is refused by name, and none runs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load, save

from clients.data.errors import DataError
from clients.data.files import npz_keys, open_npz
from clients.data.public_facts import facts_from_elsewhere
from clients.prediction.artefact import KEY, SCORES, ArtefactError, read_artefact
from clients.prediction.predictor import Predictor
from tests.clients.prediction.models import made_artefact, picture_info


def described(content: bytes) -> dict:
    size = int.from_bytes(content[:8], "little")
    return json.loads(json.loads(content[8 : 8 + size])["__metadata__"][KEY])


def read_changed(folder: Path, said=None, data=None, tensors=None) -> None:
    content = made_artefact(picture_info(), "logistic").to_bytes()
    description = described(content) | (said or {})
    description["data"] |= data or {}
    changed = load(content) | (tensors(load(content)) if tensors else {})
    path = folder / "m.safetensors"
    path.write_bytes(save(changed, metadata={KEY: json.dumps(description)}))
    read = read_artefact(path)
    Predictor(read)
    assert read.digest


def as_type(dtype):
    return lambda held: {n: t.to(dtype) for n, t in held.items() if n != SCORES}


def test_control_what_is_not_changed_is_read(tmp_path: Path) -> None:
    read_changed(tmp_path)


TENSORS = {
    "bfloat16": as_type(torch.bfloat16),
    "complex": as_type(torch.complex64),
    "not finite": lambda held: {n: t * float("nan") for n, t in held.items() if n != SCORES},
    "scores of bfloat16": lambda held: {SCORES: torch.zeros(4, dtype=torch.bfloat16)},
    "a table of scores": lambda held: {SCORES: torch.zeros(4, 4, dtype=torch.float64)},
}


@pytest.mark.parametrize("name", TENSORS)
def test_tensors_that_are_no_weights_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ArtefactError, match=r"weights|scores"):
        read_changed(tmp_path, tensors=TENSORS[name])


@pytest.mark.parametrize("temperature", [0.0, 1e-320, float("inf"), float("nan")])
def test_a_temperature_that_makes_no_probabilities_is_refused(tmp_path: Path, temperature) -> None:
    with pytest.raises(ArtefactError, match="temperature"):
        read_changed(tmp_path, said={"temperature": temperature})


FACTS = [
    {"shape": [1, 200_000, 200_000]},
    {"shape": [1, -16, 16]},
    {"shape": []},
    {"classes": []},
    {"classes": ["a", "a"]},
    {"kind": "nothing"},
    {"task": "nothing"},
    {"input_range": [1.0, 1.0]},
    {"input_range": [float("nan"), 1.0]},
    {"declared": {"ranges: x": "]]"}},
    {"declared": {"ranges: x": "[2, 1]"}},
]


@pytest.mark.parametrize("facts", FACTS, ids=str)
def test_facts_that_cannot_be_are_refused(tmp_path: Path, facts) -> None:
    with pytest.raises(ArtefactError, match="not sound"):
        read_changed(tmp_path, data=facts)
    with pytest.raises(DataError):
        facts_from_elsewhere(
            {**described(made_artefact(picture_info(), "logistic").to_bytes())["data"], **facts}
        )


def test_arrays_that_are_no_archive_are_refused_and_nobody_is_told_to_unpickle(tmp_path: Path):
    np.savez(tmp_path / "good.npz", images=np.zeros(3))
    assert npz_keys(tmp_path / "good.npz") == ("images",)
    with (tmp_path / "plain.npz").open("wb") as file:
        np.save(file, np.zeros(3))
    (tmp_path / "text.npz").write_text("hello")
    for name in ("plain.npz", "text.npz", "absent.npz"):
        for read in (npz_keys, lambda path: open_npz(path, ["images"])):
            with pytest.raises(DataError, match="not a readable npz file") as error:
                read(tmp_path / name)
            assert "pickle" not in str(error.value)
