"""Model inversion: a class comes out of a model, and a patient only where there is just one."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from torch import nn

from clients.data.records import Records
from simulations.attacks.inversion import Prior
from simulations.attacks.model_inversion import _nearness, _People, inverted
from simulations.cli import main

pytestmark = pytest.mark.filterwarnings("ignore:Full backward hook is firing:UserWarning")


def two_classes(count=200):
    generator = np.random.default_rng(0)
    labels = np.arange(count) % 2
    centres = np.array([[2.0, 0.0, 0.0, 1.0], [-2.0, 0.0, 1.0, 0.0]])
    rows = centres[labels] + generator.normal(size=(count, 4))
    return rows.astype(np.float32), labels


def people_of(rows, labels):
    halves = [
        Records(inputs=rows[part], labels=labels[part], patients=np.arange(len(labels))[part])
        for part in (slice(0, 100), slice(100, None))
    ]
    prior = Prior.of(rows)
    means = np.stack([rows[labels == one].mean(axis=0) for one in (0, 1)])
    return _People(trained=halves[0], others=halves[1], prior=prior, means=means)


def test_what_comes_out_is_the_class_that_was_asked_for():
    rows, labels = two_classes()
    module = nn.Linear(4, 2)
    optimizer = torch.optim.Adam(module.parameters(), lr=0.1)
    for _ in range(100):
        optimizer.zero_grad()
        nn.functional.cross_entropy(module(torch.tensor(rows)), torch.tensor(labels)).backward()
        optimizer.step()
    prior = Prior.of(rows)
    found = [inverted(module, one, prior, (4,)) - prior.mean for one in (0, 1)]
    means = [rows[labels == one].mean(axis=0) - prior.mean for one in (0, 1)]
    for own, mean, other in zip(found, means, means[::-1], strict=True):
        assert own @ mean > 0 > own @ other


def test_a_direction_through_one_patient_is_nearest_to_that_patient():
    rows, labels = two_classes()
    people = people_of(rows, labels)
    alone = people.trained.take([0])
    direction = alone.inputs[0] - people.prior.mean
    area, error = _nearness(direction, int(alone.labels[0]), alone, people)
    assert area == 1.0
    assert error == 0.5
    generator = np.random.default_rng(1)
    areas = [_nearness(generator.normal(size=4), 0, people.trained, people)[0] for _ in range(50)]
    assert np.mean(areas) == pytest.approx(0.5, abs=0.1)


def test_features_are_not_inverted(capsys):
    assert main(["attack", "model-inversion", "mnist"]) == 2
    assert "learns from fixed features" in " ".join(capsys.readouterr().err.split())


@pytest.mark.exhaustive
def test_a_patient_shows_where_a_class_has_one_and_not_behind_noise(tmp_path):
    words = ["attack", "model-inversion", "default", "--set", "data.name=digits"]
    words += ["--set", "partition.hospitals=2", "--set", "training.rounds=20"]
    assert main([*words, "--regimes", "FSCDP", "--epsilons", "3", "--out", str(tmp_path)]) == 0
    folder = tmp_path / "attack-default"
    control, noised = json.loads((folder / "attacks.json").read_text())["model-inversion"]["rows"]
    assert control["area"] > 0.9 > 0.6 > noised["area"]
    assert noised["class_like"] > 0.5
    assert (folder / "figures" / "attack-model-inversion.svg").is_file()
