"""Every model that private inference takes, against itself in plain; and what it does not take."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from some_models import artefact
from torch import nn
from two_parties import play

from clients.models.deep import Residual
from clients.prediction.artefact import ArtefactError
from clients.prediction.predictor import Predictor
from clients.prediction.private_check import check_compiled
from clients.prediction.private_program import compile_layers, compile_model
from clients.tasks.evaluation import probabilities

MODELS = (
    ("logistic", (3, 8, 8)),
    ("logistic", (13,)),
    ("mlp", (13,)),
    ("scattering", (1, 32, 32)),
    ("cnn", (3, 28, 28)),
    ("cnn", (1, 33, 30)),
    ("squeezenet", (1, 33, 33)),
    pytest.param("resnet18", (3, 16, 16), marks=pytest.mark.exhaustive),
)


@pytest.mark.parametrize(("name", "shape"), MODELS)
def test_probabilities_are_those_in_plain(name, shape):
    made = artefact(name, shape)
    compiled, predictor = compile_model(made), Predictor(made)
    picture = np.random.default_rng(0).random(shape).astype(np.float32)
    row = predictor.prepared(picture[None])[0] if compiled.features else picture
    logits = play(compiled.program, compiled.weights, compiled.prepared(row)).reals
    plain = predictor.chances(picture[None])[0]
    assert np.abs(probabilities(logits[None])[0] - plain).max() < 1e-3
    assert abs(logits.sum()) < 1e-3, "what is opened says no more than probabilities"


def test_residual_layers_are_torchs():
    """ResNet-18 in small: padded maximum, both shortcuts, group norms, and its head."""
    torch.manual_seed(0)
    parts = [
        nn.Conv2d(2, 8, 7, stride=2, padding=3, bias=False),
        nn.GroupNorm(2, 8),
        nn.ReLU(),
        nn.MaxPool2d(3, stride=2, padding=1),
        Residual(8, 8, 1),
        Residual(8, 16, 2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(16, 3),
    ]
    compiled = compile_layers(parts, (2, 24, 24))
    # The maximum comes before the ReLU, which then has a quarter to compare.
    kinds = [layer.kind for layer in compiled.program.layers[:5]]
    assert kinds == ["convolution", "truncation", "group-norm", "maximum", "relu"]
    picture = np.random.default_rng(1).random((2, 24, 24)).astype(np.float32)
    with torch.no_grad():
        plain = nn.Sequential(*parts)(torch.from_numpy(picture)[None])[0].numpy()
    found = play(compiled.program, compiled.weights, picture).reals
    assert np.abs(found - (plain - plain.mean())).max() < 1e-3


def test_the_class_alone_is_opened_where_that_is_asked_for():
    made = artefact("logistic", (3, 8, 8))
    compiled = compile_model(made, "class")
    picture = np.random.default_rng(3).random((3, 8, 8)).astype(np.float32)
    played = play(compiled.program, compiled.weights, compiled.prepared(picture))
    assert int(played.answer[0]) == int(Predictor(made).logits(picture[None])[0].argmax())
    assert len(played.patient_got[-1]) == 4


def test_what_cannot_be_computed_on_shares_is_refused_by_name():
    one = artefact("logistic", (5,))
    for name in ("densenet121", "cnn3d", "graph", "gru", "os:getcwd"):
        with pytest.raises(ArtefactError, match=f"{name} is not computed on shares"):
            compile_model(replace(one, architecture=name))
    with pytest.raises(ArtefactError, match="layer ELU"):
        compile_layers([nn.Linear(3, 3), nn.ELU()], (3,))
    several = replace(one, members={"a": one.members["model"], "b": one.members["model"]})
    with pytest.raises(ArtefactError, match=r"predictor\.safetensors"):
        compile_model(several)


def test_a_model_whose_numbers_leave_the_range_is_not_served():
    made = artefact("logistic", (3, 8, 8))
    for answer in ("probabilities", "class"):
        assert check_compiled(made, compile_model(made, answer)) < 1e-3
    (state,) = made.members.values()
    large = {name: torch.zeros_like(tensor) for name, tensor in state.items()}
    large["head.weight"][0] = 375.0  # a logit of 36,000, where 32 bits hold 32,768
    wild = replace(made, members={"model": large})
    with pytest.raises(ArtefactError, match="too large for shares"):
        check_compiled(wild, compile_model(wild))


def test_weights_show_in_no_repr():
    assert "array" not in repr(compile_model(artefact("logistic", (5,))))
