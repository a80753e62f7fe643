"""From a file on the patient's machine to what is shared; what cannot be read is not sent."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from PIL import Image
from some_models import artefact
from three_parties import parties

from clients.data.errors import DataError
from clients.models.backbones import empty_stages
from clients.models.pretrained import Backbone, Pretrained
from clients.prediction.artefact import Artefact, ArtefactError, read_artefact
from clients.prediction.doubt import Doubt
from clients.prediction.predictor import Predictor
from clients.prediction.private_program import compile_model
from crypto.inference.links import LinkError
from crypto.inference.words import decode
from deployment.cli import main
from deployment.errors import DeploymentError
from deployment.inference.agents import About
from deployment.inference.pictures import asked_of, shares_of
from deployment.inference.providers import about
from tests.clients.prediction.models import VISITS_TOML, made_artefact, visits_info


def on_a_net():
    """Return a small head on a net whose weights are drawn, and not published."""
    torch.manual_seed(0)
    stages, _ = empty_stages("squeezenet")
    backbone = stages.state_dict()
    info = artefact("logistic", (3, 32, 32)).info
    head = Pretrained(Backbone("squeezenet", backbone), hidden=6).build(info)
    with torch.no_grad():
        for tensor in head.parameters():
            tensor += 0.1 * torch.randn_like(tensor)
    return Artefact(
        info=info,
        architecture="pretrained:squeezenet",
        members={"model": head.state_dict()},
        doubt=Doubt(temperature=1.0, scores=np.zeros(0)),
        hidden=6,
        backbone=backbone,
    )


def known(name="scattering", shape=(1, 16, 16)):
    made = artefact(name, shape)
    compiled = compile_model(made)
    return made, compiled, About.read(about(made, compiled, "probabilities"))


def test_a_picture_becomes_what_the_model_takes_features_included(tmp_path):
    made = artefact("scattering", (1, 16, 16))
    compiled = compile_model(made)
    grey = np.random.default_rng(0).integers(0, 256, (16, 16), dtype=np.uint8)
    Image.fromarray(grey).save(tmp_path / "one.png")
    with parties(tmp_path, made) as three, three.agent() as agent:
        file, said = agent.features_file(), agent.about
    ((name, words),) = shares_of(
        asked_of(tmp_path / "one.png", said), said, compiled.program.shape, file
    )
    row = Predictor(made).prepared(grey[None, None].astype(np.float32) / 255)[0]
    assert name == "one.png"
    assert np.abs(decode(words) - row).max() < 2**-16


def test_a_head_on_a_pretrained_net_is_answered_and_its_weights_stay(tmp_path):
    made = on_a_net()
    picture = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    Image.fromarray(picture).save(tmp_path / "one.png")
    with parties(tmp_path, made) as three, three.agent() as agent:
        file = agent.features_file()
        ((_, share),) = shares_of(
            asked_of(tmp_path / "one.png", agent.about), agent.about, agent.program.shape, file
        )
        agent.prepare()
        found = agent.predict(share).chances
    plain = Predictor(made).chances(np.moveaxis(picture, 2, 0)[None].astype(np.float32) / 255)[0]
    assert np.abs(found - plain).max() < 1e-3
    shown = read_artefact(file)
    assert not any(tensor.any() for tensor in shown.members["model"].values())
    own = made.members["model"]["hidden.weight"].numpy().tobytes()
    assert own[:64] not in file.read_bytes()
    with pytest.raises(ArtefactError, match="2 stages of pretrained:squeezenet were trained"):
        compile_model(replace(made, tuned_stages=2))


def test_gain_and_offset_are_per_channel_and_grey_serves_for_colours(tmp_path):
    _, compiled, said = known("squeezenet", (1, 33, 33))
    Image.fromarray(np.full((33, 33), 51, np.uint8)).save(tmp_path / "one.png")
    ((_, words),) = shares_of(
        asked_of(tmp_path / "one.png", said), said, compiled.program.shape, None
    )
    expected = (0.2 - np.array([0.485, 0.456, 0.406])) / np.array([0.229, 0.224, 0.225])
    assert words.shape == (3, 33, 33)
    assert np.abs(decode(words) - expected[:, None, None]).max() < 2**-15


def test_what_is_no_picture_is_not_sent(tmp_path):
    _, compiled, said = known()
    (tmp_path / "text.png").write_text("none")
    with pytest.raises(DeploymentError, match="nothing was sent"):
        list(shares_of(asked_of(tmp_path / "text.png", said), said, compiled.program.shape, None))
    (tmp_path / "notes.txt").write_text("none")
    with pytest.raises(DataError):
        list(shares_of(asked_of(tmp_path / "notes.txt", said), said, compiled.program.shape, None))
    with pytest.raises(DataError, match="does not exist"):
        list(shares_of(asked_of(tmp_path / "two.png", said), said, compiled.program.shape, None))


def test_what_is_no_picture_beside_pictures_is_named_and_left_out(tmp_path, capsys):
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "broken.png").write_text("none")
    (folder / "notes.txt").write_text("none")
    for name in ("one.png", "two.png"):
        Image.fromarray(np.full((4, 4), 51, np.uint8)).save(folder / name)
    with parties(tmp_path, artefact("logistic", (1, 4, 4))) as three:
        patient = str(three.folder / "patients" / "ada")
        words = ["infer", "predict", patient, "--data", str(folder)]
        assert main([*words, "--json"]) == 0
        said = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert [one["record"] for one in said] == ["broken.png", "one.png", "two.png"]
        assert "no readable picture" in said[0]["error"] and "error" not in said[1]
        assert main(words) == 0
        shown = " ".join(capsys.readouterr().out.split())
        assert "note broken.png: no readable picture" in shown and "FAIL" not in shown
        for name in ("one.png", "two.png"):
            (folder / name).unlink()
        assert main(words) == 2
        assert "nothing was sent" in capsys.readouterr().err
        assert three.provider.allowances.left("ada") == 16


def test_a_row_that_cannot_be_read_keeps_a_table_from_being_sent(tmp_path, capsys):
    """To ask about the others would tell a provider that names odd columns how many these are."""
    table = tmp_path / "mine.csv"
    table.write_text("age;pulse;sex\n50;70;f\n;;\n")
    with parties(tmp_path, made_artefact(visits_info(tmp_path / "training"), "logistic")) as three:
        folder = str(three.folder / "patients" / "ada")
        assert main(["infer", "predict", folder, "--data", str(table)]) == 2
        assert three.provider.allowances.left("ada") == 20
    assert "nothing was sent" in capsys.readouterr().err


def test_a_column_that_cannot_be_read_fails_after_all_rows_were_asked_about(tmp_path, capsys):
    """To end before would tell the provider of it."""
    made = made_artefact(visits_info(tmp_path / "training"), "logistic")
    table, own = tmp_path / "mine.csv", tmp_path / "own.toml"
    table.write_text("age;pulse;sex\n50,5;70;f\nfifty;80;m\n")
    own.write_text(VISITS_TOML + '[file]\ndecimal = ","\n')
    with parties(tmp_path, made) as three:
        folder = str(three.folder / "patients" / "ada")
        words = ["infer", "predict", folder, "--data", str(table), "--json"]
        assert main([*words, "--declaration", str(own)]) == 0
        table.write_text("age;pulse;sex\nfifty;70;f\nsixty;80;m\n")
        assert main([*words, "--declaration", str(own)]) == 1
        assert three.provider.allowances.left("ada") == 16
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 4
    assert "1 of 3 columns could not be read in any row" in " ".join(err.split())
    assert "'fifty', expected a number" in err


def test_a_provider_that_says_nonsense_of_its_model_is_not_believed(tmp_path):
    made, compiled, said = known()
    good = about(made, compiled, "probabilities")
    for key in good:
        if key != "shape":
            with pytest.raises(LinkError, match="cannot be read"):
                About.read({name: value for name, value in good.items() if name != key})
    Image.fromarray(np.zeros((16, 16), np.uint8)).save(tmp_path / "one.png")
    for wrong in ({"gain": (1.0, 2.0)}, {"data": {"name": 1}}):
        bad = About(**{**{k: getattr(said, k) for k in asdict(said)}, **wrong})
        with pytest.raises(LinkError):
            list(shares_of(asked_of(tmp_path / "one.png", bad), bad, compiled.program.shape, None))
