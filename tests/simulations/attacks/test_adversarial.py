"""Adversarial examples: of a linear model what they reach is known; no value goes too far."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from torch import nn

from simulations.attacks.adversarial import STEPS, accuracy, changed
from simulations.cli import main

pytestmark = pytest.mark.filterwarnings("ignore:Full backward hook is firing:UserWarning")

BOUNDS = (-1.0, 1.0)


def linear():
    module = nn.Linear(6, 2)
    with torch.no_grad():
        module.weight.copy_(torch.tensor([[1.0, -1, 0.5, 0, 2, -1], [-1.0, 1, -0.5, 0, -2, 1]]))
        module.bias.zero_()
    return module


def records(count=200):
    rows = np.random.default_rng(0).uniform(-1, 1, (count, 6)).astype(np.float32)
    inputs = torch.tensor(rows)
    return inputs, linear()(inputs).argmax(dim=1)


@pytest.mark.parametrize("steps", [1, STEPS])
@pytest.mark.parametrize("radius", [0.01, 0.1])
def test_no_value_moves_too_far_or_out_of_its_range(steps, radius):
    inputs, labels = records()
    moved = changed(linear(), inputs, labels, radius, BOUNDS, steps)
    assert (moved - inputs).abs().max() <= 2 * radius + 1e-6
    assert moved.min() >= -1 and moved.max() <= 1
    assert (moved != inputs).any()


@pytest.mark.parametrize("steps", [1, STEPS])
def test_a_linear_model_errs_where_the_radius_beats_its_margin(steps):
    inputs, labels = records()
    inputs = inputs * 0.5  # far from the edges, where a step would be cut
    module, radius = linear(), 0.05
    logits = module(inputs).detach()
    margin = (
        logits[torch.arange(len(labels)), labels] - logits[torch.arange(len(labels)), 1 - labels]
    )
    beaten = margin < 2 * radius * (module.weight[0] - module.weight[1]).abs().sum().detach()
    moved = changed(module, inputs, labels, radius, BOUNDS, steps)
    assert accuracy(module, inputs, labels) == 1.0
    assert accuracy(module, moved, labels) == pytest.approx(1 - float(beaten.double().mean()))
    assert 0.1 < float(beaten.double().mean()) < 0.9


def test_many_steps_find_more_than_one_where_a_model_is_curved():
    torch.manual_seed(1)
    inputs, labels = records(400)
    module = nn.Sequential(nn.Linear(6, 32), nn.Tanh(), nn.Linear(32, 2))
    optimizer = torch.optim.Adam(module.parameters(), lr=0.05)
    for _ in range(60):
        optimizer.zero_grad()
        nn.functional.cross_entropy(module(inputs), labels).backward()
        optimizer.step()
    once, often = (
        accuracy(module, changed(module, inputs, labels, 0.1, BOUNDS, steps), labels)
        for steps in (1, STEPS)
    )
    assert often <= once < accuracy(module, inputs, labels)


def test_models_on_features_are_refused(capsys):
    assert main(["attack", "adversarial", "mnist"]) == 2
    assert "learns from fixed features" in " ".join(capsys.readouterr().err.split())


@pytest.mark.exhaustive
def test_the_control_falls_and_noise_promises_nothing(tmp_path):
    words = ["attack", "adversarial", "default", "--set", "partition.hospitals=2"]
    assert main([*words, "--regimes", "FSCDP", "--epsilons", "3", "--out", str(tmp_path)]) == 0
    folder = tmp_path / "attack-default"
    rows = json.loads((folder / "attacks.json").read_text())["adversarial"]["rows"]
    control, hardened, noised, noised_hardened = rows
    assert control["clean"] - control["pgd_0.1"] > 0.2
    assert hardened["way"] == "F, trained against 0.1"
    assert hardened["pgd_0.1"] > control["pgd_0.1"] + 0.1
    assert noised["allowed"] == 0.0 and noised_hardened["run_epsilon"] == noised["run_epsilon"]
    assert (folder / "figures" / "attack-adversarial.svg").is_file()
