"""One file holds all that a prediction needs, and what is no such file is refused with a reason."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load, save

from clients.prediction.artefact import KEY, Artefact, ArtefactError, read_artefact
from clients.prediction.predictor import Predictor
from clients.prediction.whole_module import WholeModule
from tests.clients.prediction.models import made_artefact, picture_info, visits_info


@pytest.fixture(scope="module")
def info(tmp_path_factory: pytest.TempPathFactory):
    return visits_info(tmp_path_factory.mktemp("training"))


def written(folder: Path, artefact: Artefact) -> Path:
    (folder / "m.safetensors").write_bytes(artefact.to_bytes())
    return folder / "m.safetensors"


@pytest.mark.parametrize("architecture", ["logistic", "mlp", "gru"])
def test_a_file_predicts_as_what_was_written(tmp_path: Path, info, architecture: str) -> None:
    made = made_artefact(info, architecture, members=2)
    found = read_artefact(written(tmp_path, made))
    assert found.info == made.info and found.digest == made.digest
    assert np.array_equal(found.doubt.scores, made.doubt.scores)
    inputs = np.random.default_rng(0).uniform(-1, 1, (9, *info.shape)).astype(np.float32)
    assert np.array_equal(Predictor(found).chances(inputs), Predictor(made).chances(inputs))


def test_fixed_features_are_part_of_the_model(tmp_path: Path) -> None:
    made = made_artefact(picture_info((1, 16, 16)), "scattering")
    found = Predictor(read_artefact(written(tmp_path, made)))
    chances = found.chances(np.random.default_rng(0).random((3, 1, 16, 16), dtype=np.float32))
    assert chances.shape == (3, 2) and np.allclose(chances.sum(axis=1), 1)


def test_the_digest_is_another_for_other_weights_classes_or_doubt(info) -> None:
    made = made_artefact(info, "logistic")
    others = [
        made_artefact(info, "logistic", seed=1),
        replace(made, info=replace(info, classes=("dead", "alive"))),
        replace(made, doubt=replace(made.doubt, temperature=1.0)),
    ]
    assert len({one.digest for one in [made, *others]}) == 4
    assert replace(made, about={"card": "x"}).digest == made.digest


def test_weights_alone_say_nothing(tmp_path: Path) -> None:
    (tmp_path / "w.safetensors").write_bytes(save({"head.weight": torch.zeros(2, 3)}))
    with pytest.raises(ArtefactError, match="does not say for which data"):
        read_artefact(tmp_path / "w.safetensors")


def test_a_damaged_file_is_refused(tmp_path: Path, info) -> None:
    content = made_artefact(info, "logistic").to_bytes()
    (tmp_path / "half.safetensors").write_bytes(content[: len(content) // 2])
    with pytest.raises(ArtefactError, match="cannot be read as safetensors"):
        read_artefact(tmp_path / "half.safetensors")
    (tmp_path / "text.safetensors").write_text("hello")
    with pytest.raises(ArtefactError, match="cannot be read as safetensors"):
        read_artefact(tmp_path / "text.safetensors")


@pytest.mark.parametrize(
    "said",
    ["{", '{"form": 2}', '{"form": 1, "architecture": "logistic"}'],
    ids=["no JSON", "another form", "not whole"],
)
def test_a_description_that_is_not_sound_is_refused(tmp_path: Path, info, said: str) -> None:
    tensors = load(made_artefact(info, "logistic").to_bytes())
    (tmp_path / "m.safetensors").write_bytes(save(tensors, metadata={KEY: said}))
    with pytest.raises(ArtefactError, match="what it says of itself is not sound"):
        read_artefact(tmp_path / "m.safetensors")


def test_weights_of_another_shape_are_refused(tmp_path: Path, info) -> None:
    made = made_artefact(info, "logistic")
    wrong = {"model": {**made.members["model"], "head.weight": torch.zeros(2, 1)}}
    with pytest.raises(ArtefactError, match=r"is no logistic.*head\.weight"):
        Predictor(read_artefact(written(tmp_path, replace(made, members=wrong))))


def test_a_file_s_own_function_is_not_imported_unasked(tmp_path: Path, info) -> None:
    planted = replace(made_artefact(info, "logistic"), architecture="os:getcwd")
    with pytest.raises(ArtefactError, match="--allow os:getcwd imports"):
        Predictor(read_artefact(written(tmp_path, planted)))
    own = replace(planted, architecture="clients.models.small:logistic")
    Predictor(own, allowed=["clients.models.small:logistic"])


@pytest.mark.parametrize("more", [{}, {"hidden": 3}, {"tuned_stages": 1}, {"side": 48}])
def test_a_pretrained_net_travels_in_the_file_of_a_model_on_it(tmp_path: Path, more) -> None:
    from clients.models.pretrained import Backbone, Pretrained
    from tests.clients.models import nets

    name, shape = "tests.clients.models.nets:staged", (3, 16, 16)
    path, _ = nets.written(tmp_path, nets.staged())
    net = Backbone(name, torch.load(path, weights_only=True))
    plain = made_artefact(picture_info(shape), "cnn")
    options = {"tuned" if one == "tuned_stages" else one: value for one, value in more.items()}
    module = Pretrained(net, **options).build(plain.info)
    made = replace(
        plain,
        architecture=f"pretrained:{name}",
        members={"model": module.state_dict()},
        backbone=dict(net.tensors),
        **more,
    )
    found = read_artefact(written(tmp_path, made))
    assert found.digest == made.digest != replace(made, backbone=plain.members["model"]).digest
    shown = np.random.default_rng(0).random((3, *shape), dtype=np.float32)
    predictor = Predictor(found, allowed=(name,))
    assert np.array_equal(predictor.chances(shown), Predictor(made, allowed=(name,)).chances(shown))
    with torch.no_grad():
        whole = WholeModule(predictor)(torch.from_numpy(shown)).numpy()
    assert np.allclose(whole, predictor.chances(shown), atol=1e-5)
    with pytest.raises(ArtefactError, match="not sound"):
        read_artefact(written(tmp_path, replace(made, side=10**6)))
    for wrong in ({}, {"stem.weight": torch.zeros(1)}):
        with pytest.raises(ArtefactError, match="of another net"):
            Predictor(replace(made, backbone=wrong), allowed=(name,))
