"""A provider that says what it should not: no crash, and no way to have the picture decide."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
from PIL import Image
from some_models import artefact
from three_parties import parties
from typer.testing import CliRunner

from crypto.errors import IdentityError
from crypto.inference.links import LinkError
from crypto.inference.parties import Party
from crypto.inference.words import decode
from deployment.cli import app
from deployment.inference.agents import About
from deployment.inference.identities import Pins, make_identity
from deployment.inference.pictures import asked_of, shares_of

SHAPE = (3, 4, 4)


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    made = artefact("logistic", SHAPE)
    with parties(tmp_path_factory.mktemp("hostile"), made, answer="class") as three:
        yield three


@pytest.fixture(scope="module")
def linear(tmp_path_factory):
    """Yield parties whose provider takes encrypted rows."""
    made = artefact("logistic", SHAPE)
    with parties(tmp_path_factory.mktemp("linear"), made, encrypted=True) as three:
        yield three


@pytest.fixture
def lies(served, monkeypatch):
    """Return a function by which the provider says something else of its model."""
    true = served.provider._introduction

    def lie(changed, said):
        def lying(patient):
            told = true(patient)
            return {**told, "about": {**told["about"], **changed}, **said}

        monkeypatch.setattr(served.provider, "_introduction", lying)

    return lie


@pytest.mark.parametrize(
    ("about", "said"),
    [
        ({"gain": [1e9]}, {}),
        ({"offset": [float("nan")]}, {}),
        ({"gain": [1.0, 1.0]}, {}),
        ({"coverage": 7.0}, {}),
        ({"threshold": float("nan")}, {}),
        ({"classes": []}, {}),
        ({"classes": ["a", "b"]}, {}),
        ({"answer": "probabilities"}, {}),
        ({}, {"left": float("inf")}),
        ({}, {"left": {}}),
        ({}, {"left": "3"}),
        ({}, {"soon": -1}),
        ({}, {"about": 7}),
    ],
)
def test_what_cannot_be_is_a_clear_end_before_there_is_a_picture(served, lies, about, said):
    lies(about, said)
    with pytest.raises(LinkError, match="provider"):
        served.agent()


@pytest.mark.parametrize("sizes", [7, [], [1, "2", 3, 4], [-5] * 4, [1 << 40] * 4, None])
def test_pieces_of_no_size_are_a_clear_end(linear, monkeypatch, sizes):
    def answer(link, patient, rows, said):
        rows.receive(link, said)
        link.say({"ok": True, "left": 3, "sizes": sizes})

    monkeypatch.setattr(linear.provider, "_answer_row", answer)
    with linear.agent() as agent, pytest.raises(LinkError, match="provider"):
        agent.predict_encrypted(np.zeros(SHAPE, np.uint64))


def test_a_message_nested_without_end_is_no_message(served, monkeypatch):
    def serve(link, patient):
        link.hear()
        link.send(b"[" * 200_000)

    monkeypatch.setattr(served.provider.server, "_serve", serve)
    with pytest.raises(LinkError, match="no message"):
        served.agent()


@pytest.mark.parametrize("encrypted", [False, True])
def test_what_a_record_holds_does_not_decide_whether_it_is_asked_about(linear, tmp_path, encrypted):
    """Else a provider that chooses what is too large reads it off whether somebody asks."""
    odd = np.zeros((3, *SHAPE), np.float32)
    odd[0, 0, 0, 0], odd[1, 0, 0, 0], odd[2, 0, 0, 0] = 3e38, np.inf, np.nan
    np.savez(tmp_path / "odd.npz", images=odd)
    (tmp_path / "odd.toml").write_text('[pictures]\naxes = "chw"\n')
    with linear.agent() as agent:
        asked = asked_of(tmp_path / "odd.npz", agent.about)
        for _, share in shares_of(asked, agent.about, SHAPE, None):
            assert np.isfinite(decode(share)).all()
            if encrypted:
                agent.predict_encrypted(share)


@pytest.mark.parametrize("shade", [0, 9])
def test_no_range_lets_a_shade_decide_whether_a_picture_is_asked_about(tmp_path, shade):
    """Divided by a width that float32 takes for none, a black pixel alone is no number."""
    facts = asdict(replace(artefact("logistic", (1, 4, 4)).info, target="t"))
    facts["declared"] = {"ranges: values": "[0, 1e-300]"}
    Image.fromarray(np.full((4, 4), shade, np.uint8)).save(tmp_path / "one.png")
    said = About(("a",), (1.0,), (0.0,), "", "class", False, None, 0.9, facts)
    with pytest.raises(LinkError, match="the provider says of its data what cannot be read"):
        list(shares_of(asked_of(tmp_path / "one.png", said), said, (1, 4, 4), None))


def test_a_wrong_answer_to_one_record_does_not_keep_the_next_from_being_asked(
    served, tmp_path, monkeypatch
):
    """The provider adds to the class, so that some are out of range: what then is not asked?"""
    inputs = np.random.default_rng(0).random((2, *SHAPE)).astype(np.float32)
    np.savez(tmp_path / "two.npz", images=inputs)
    (tmp_path / "two.toml").write_text('[pictures]\naxes = "chw"\n')
    true = Party.to_patient
    asked = []

    def added(self, share):
        if self.provider:
            asked.append(1)
            share = share + np.uint64(1000)
        return true(self, share)

    monkeypatch.setattr(Party, "to_patient", added)
    patient = served.folder / "patients" / "ada"
    words = ["infer", "predict", str(patient), "--data", str(tmp_path / "two.npz"), "--json"]
    result = CliRunner().invoke(app, words)
    assert len(asked) == 2, result.output
    assert result.exit_code == 1
    said = [json.loads(line) for line in result.output.splitlines() if line.startswith("{")]
    assert ["error" in one for one in said] == [True, True]


def test_two_parties_of_one_name_are_refused(tmp_path):
    """A patient whose file is called as the provider's would be asked in as the provider."""
    files = []
    for folder in ("peers", "patients"):
        (tmp_path / folder).mkdir()
        make_identity(tmp_path / folder, "it")
        files.append(tmp_path / folder / "provider.pem")
        (tmp_path / folder / "certificate.pem").rename(files[-1])
    assert list(Pins.read(files[0]).certificates) == ["provider"]
    with pytest.raises(IdentityError, match="provider"):
        Pins.read(*files)
    (tmp_path / "twice.pem").write_bytes(files[0].read_bytes())
    with pytest.raises(IdentityError, match="twice"):
        Pins.read(files[0], tmp_path / "twice.pem")
