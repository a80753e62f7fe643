"""A page says why: what is planted in a model is what it names, and it is one file."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from clients.data.breast_cancer import COLUMNS
from clients.data.heart_disease import COLUMNS as HEART
from clients.data.heart_disease import encode
from clients.data.heart_disease import input_names as heart_names
from clients.prediction.explaining import (
    column_weights,
    effects,
    gradient_weights,
    groups,
    patch_weights,
)
from clients.prediction.predictor import Predictor
from simulations.cli import main
from tests.clients.prediction.models import (
    made_artefact,
    picture_info,
    visits_info,
    write_visits,
)


@pytest.fixture(scope="module")
def predictor(tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    """Of age, pulse, sex = f and sex = m, only age counts, for 'dead'."""
    made = made_artefact(visits_info(tmp_path_factory.mktemp("v")), "logistic")
    weight = torch.zeros(2, 4)
    weight[1, 0] = 3.0
    state = {**made.members["model"], "head.weight": weight, "head.bias": torch.zeros(2)}
    return Predictor(replace(made, members={"model": state}))


def test_coefficients_are_in_units_of_the_public_range(predictor: Predictor) -> None:
    first, *others = effects(predictor)
    assert first.name == "age"
    # From -1 to 1 the logits move 6 apart, halved about their mean, by the temperature 1.5.
    assert first.by_class == pytest.approx({"alive": -2.0, "dead": 2.0})
    assert [one.size for one in others] == [0.0, 0.0, 0.0]


def test_only_linear_models_have_coefficients(predictor: Predictor) -> None:
    info = predictor.artefact.info
    assert effects(Predictor(made_artefact(info, "mlp"))) == []
    assert effects(Predictor(made_artefact(info, "logistic", members=2))) == []


def test_the_column_that_counts_is_named(predictor: Predictor) -> None:
    assert groups(predictor.artefact.info) == {"age": [0], "pulse": [1], "sex": [2, 3]}
    records = np.array([[0.5, 1, 1, -1], [0.0, 1, -1, 1]], dtype=np.float32)
    old, middle = column_weights(predictor, records)
    assert old[0][0] == "age" and old[0][1] == pytest.approx(1.0)  # 3 * 0.5 / 1.5
    assert all(abs(loss) < 1e-9 for _, loss in [*old[1:], *middle])


def test_the_patch_that_counts_is_found() -> None:
    made = made_artefact(picture_info((1, 16, 16)), "logistic")
    weight = torch.zeros(2, 1, 16, 16)
    weight[1, 0, 4:6, 10:12] = 1.0  # patch (2, 5) of 8 x 8
    state = {**made.members["model"], "head.weight": weight.flatten(1), "head.bias": torch.zeros(2)}
    predictor = Predictor(replace(made, members={"model": state}))
    weights = patch_weights(predictor, np.ones((1, 16, 16), dtype=np.float32))
    assert np.unravel_index(weights.argmax(), weights.shape) == (2, 5)
    assert np.count_nonzero(np.abs(weights) > 1e-9) == 1


@pytest.mark.parametrize("name", ["logistic", "cnn", "scattering"])
def test_what_pixels_add_is_what_the_log_odds_differ_by(name: str) -> None:
    predictor = Predictor(made_artefact(picture_info((1, 16, 16)), name))
    record = np.random.default_rng(0).random((1, 16, 16)).astype(np.float32)
    added = gradient_weights(predictor, record)
    chances = predictor.chances(np.stack([record, np.full_like(record, 0.5)]))
    favoured = chances[:, chances[0].argmax()]
    odds = np.log(favoured / (1 - favoured))
    assert added.shape == (16, 16)
    assert added.sum() == pytest.approx(odds[0] - odds[1], rel=0.03, abs=0.03)


def test_the_pixel_that_counts_is_found_by_gradients() -> None:
    made = made_artefact(picture_info((1, 16, 16)), "logistic")
    weight = torch.zeros(2, 1, 16, 16)
    weight[1, 0, 5, 11] = 3.0
    state = {**made.members["model"], "head.weight": weight.flatten(1), "head.bias": torch.zeros(2)}
    predictor = Predictor(replace(made, members={"model": state}))
    weights = gradient_weights(predictor, np.ones((1, 16, 16), dtype=np.float32))
    assert np.flatnonzero(np.abs(weights) > 1e-9).tolist() == [5 * 16 + 11]
    assert weights[5, 11] == pytest.approx(3.0 / 1.5)  # from the middle to 1, by the temperature


def test_inputs_of_heart_disease_have_as_many_names_as_there_are() -> None:
    columns = HEART[:-1]
    assert len(heart_names(columns)) == encode(np.zeros((1, 14)), columns).shape[1]
    assert len(COLUMNS) == 30


def test_the_page_is_one_file_and_escapes_what_it_shows(
    predictor: Predictor, tmp_path: Path
) -> None:
    model = tmp_path / "m.safetensors"
    model.write_bytes(predictor.artefact.to_bytes())
    data = write_visits(
        tmp_path, "patient_id;age;pulse;sex;outcome\na;54;<b>;f;alive\nb;99;80;m;dead\nc;1\n"
    )
    page = tmp_path / "p.html"
    words = ["predict", str(model), "--data", str(data), "--out", str(tmp_path / "p.csv")]
    assert main([*words, "--evaluate", "--explain", str(page)]) == 0
    text = page.read_text(encoding="utf-8")
    assert (
        "What dead loses, in log-odds, without: age" in text
        and "Records without a prediction" in text
    )
    assert "+2.00" in text and "Accuracy" in text
    assert "<b>" not in text and not re.search(r"(src|href)=\"(?!data:)", text)
    assert main([*words, "--explain", "p.txt"]) == 2


def test_pictures_are_shown_with_their_maps(tmp_path: Path) -> None:
    artefact = made_artefact(picture_info((3, 16, 16)), "cnn")
    model, data = tmp_path / "m.safetensors", tmp_path / "d.npz"
    model.write_bytes(artefact.to_bytes())
    pixels = np.random.default_rng(0).integers(0, 256, (14, 16, 16, 3), dtype=np.uint8)
    np.savez(data, images=pixels)
    words = ["--data", str(data), "--overwrite", "--out", str(tmp_path / "p.csv")]
    assert main(["predict", str(model), *words, "--explain", str(tmp_path / "p.html")]) == 0
    text = (tmp_path / "p.html").read_text(encoding="utf-8")
    assert text.count("data:image/png;base64,") == 24  # twelve of fourteen, with a map each
    assert re.search(r'alt="What counts most is the (top|middle|bottom) \w+: without it', text)
    assert (
        main(["predict", str(model), *words, "--explain", str(tmp_path / "g.html"), "--gradients"])
        == 0
    )
    text = (tmp_path / "g.html").read_text(encoding="utf-8")
    assert text.count("data:image/png;base64,") == 24 and "integrated gradients" in text
    assert re.search(r"What counts most is the (top|middle|bottom) \w+: it adds [+-]\d", text)


def test_gradients_that_cannot_be_had_are_refused_before_anything_is_written(
    predictor: Predictor, tmp_path: Path, capsys
) -> None:
    model, out = tmp_path / "m.safetensors", tmp_path / "p.csv"
    model.write_bytes(predictor.artefact.to_bytes())
    words = ["predict", str(model), "--data", str(write_visits(tmp_path)), "--out", str(out)]
    for more, said in (
        (["--gradients"], "name its page as well"),
        (["--gradients", "--explain", str(tmp_path / "p.html")], "is of table data"),
    ):
        assert main([*words, *more]) == 2
        assert said in " ".join(capsys.readouterr().err.split())
    voted = replace(made_artefact(picture_info(), "logistic", members=2), vote="majority")
    model.write_bytes(voted.to_bytes())
    np.savez(tmp_path / "d.npz", images=np.zeros((2, 16, 16), np.uint8))
    words[3] = str(tmp_path / "d.npz")
    assert main([*words, "--explain", str(tmp_path / "p.html"), "--gradients"]) == 2
    assert "decide by majority" in " ".join(capsys.readouterr().err.split())
    assert not out.exists()
