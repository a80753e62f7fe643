"""Learning from records that are moved against the model: what is learnt from, and whose it is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from clients.contract.settings import Settings, SettingsError
from clients.learning.adversary import STEPS, STRIDE, changed_against
from clients.learning.batch import Batch
from clients.learning.dp_sgd import clipped_gradient_sum
from clients.learning.per_sample import PerSample
from clients.models import build_model
from clients.models.errors import ModelError
from tests.in_process import COHORTS, small_settings

BOUNDS, RADIUS, CLIP = (-1.0, 1.0), 0.05, 0.3
pytestmark = pytest.mark.filterwarnings("ignore:Full backward hook is firing:UserWarning")


def net() -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 3))


def batch_of(count: int = 40) -> Batch:
    generator = np.random.default_rng(0)
    return Batch(
        inputs=torch.tensor(generator.uniform(-1, 1, (count, 6)).astype(np.float32)),
        labels=torch.tensor(generator.integers(0, 3, count)),
        patients=torch.tensor(np.sort(generator.integers(0, count // 2, count))),
    )


def moved(module: nn.Module, batch: Batch) -> Batch:
    """The records as the adversary should move them, one at a time."""
    reach = RADIUS * 2.0
    rows = [
        changed_against(
            lambda one, at=at: functional.cross_entropy(module(one), batch.labels[at : at + 1]),
            torch.as_tensor(batch.inputs)[at : at + 1],
            reach=reach,
            bounds=BOUNDS,
            steps=STEPS,
            stride=STRIDE * reach,
        )
        for at in range(len(batch))
    ]
    return Batch(inputs=torch.cat(rows), labels=batch.labels, patients=batch.patients)


@pytest.mark.parametrize("way", ["hooks", "recorded"])
def test_gradients_are_taken_where_each_record_was_moved_to(way: str) -> None:
    module, batch = net(), batch_of()
    hard = PerSample(module, way=way, adversary=(RADIUS, BOUNDS))
    for _ in range(2):  # at the weights as they are now, hooks attached or not
        plain = PerSample(_copy(module), way=way)
        expected = clipped_gradient_sum(plain, moved(_copy(module), batch), l2_clip=CLIP)
        found = clipped_gradient_sum(hard, batch, l2_clip=CLIP)
        assert np.allclose(found.total, expected.total, atol=1e-5)
        bare = clipped_gradient_sum(PerSample(_copy(module), way=way), batch, l2_clip=CLIP)
        assert not np.allclose(found.total, bare.total, atol=1e-2)
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.add_(0.3)


@pytest.mark.parametrize("way", ["hooks", "recorded"])
def test_a_patient_moves_the_sum_by_the_clip_at_most_and_nobody_else(way: str) -> None:
    module, batch = net(), batch_of()
    model = PerSample(module, way=way, adversary=(0.5, BOUNDS))
    whole = clipped_gradient_sum(model, batch, l2_clip=CLIP).total
    for patient in torch.unique(batch.patients)[:6].tolist():
        rest = batch.patients != patient
        parts = [
            clipped_gradient_sum(
                model,
                Batch(
                    inputs=torch.as_tensor(batch.inputs)[rows],
                    labels=batch.labels[rows],
                    patients=batch.patients[rows],
                ),
                l2_clip=CLIP,
            ).total
            for rows in (rest, ~rest)
        ]
        assert np.linalg.norm(whole - parts[0]) <= CLIP
        assert np.allclose(whole, sum(parts), atol=1e-6)
    assert not any(p.grad is not None for p in module.parameters())


def test_a_model_that_met_its_adversary_withstands_more(tmp_path: Path) -> None:
    settings = small_settings(tmp_path, model__name="logistic")
    cohort = COHORTS.of(settings)
    records = cohort.holdout
    batch = Batch(
        inputs=torch.as_tensor(np.asarray(records.inputs, dtype=np.float32)),
        labels=torch.as_tensor(records.labels),
        patients=torch.arange(len(records)),
    )
    right = {}
    for radius in (0.0, 0.1):
        module = build_model(settings, cohort.info, 0)
        bounds = cohort.info.input_range
        model = PerSample(module, adversary=(radius, bounds) if radius else None)
        parameters = list(module.parameters())
        for _ in range(40):
            total = torch.tensor(clipped_gradient_sum(model, batch, l2_clip=1.0).total)
            nn.utils.vector_to_parameters(
                nn.utils.parameters_to_vector(parameters) - (2.0 * total / len(batch)).float(),
                parameters,
            )
        reach = 0.1 * (bounds[1] - bounds[0])
        rows = changed_against(
            lambda one, module=module: functional.cross_entropy(module(one), batch.labels),
            torch.as_tensor(batch.inputs),
            reach=reach,
            bounds=bounds,
            steps=10,
            stride=reach / 4,
        )
        right[radius] = float((module(rows).argmax(dim=1) == batch.labels).double().mean())
    assert right[0.1] > right[0.0] + 0.05


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ({"exchange.name": "layers", "privacy.regime": "FPDP"}, "against a whole model"),
        ({"privacy.input-laplace": 0.5}, "leave the range"),
    ],
)
def test_what_cannot_meet_an_adversary_says_so(told: dict, said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        Settings.from_config({"training.adversarial": 0.1, **told})


def test_a_model_on_fixed_features_is_refused() -> None:
    told = {"training.adversarial": 0.1, "model.name": "scattering", "data.name": "digits"}
    settings = Settings.from_config(told)
    with pytest.raises(ModelError, match=r"training\.adversarial changes records"):
        build_model(settings, COHORTS.of(settings).info, 0)


def _copy(module: nn.Module) -> nn.Module:
    made = net()
    made.load_state_dict({name: one.clone() for name, one in module.state_dict().items()})
    return made


@pytest.mark.parametrize(("steps", "share"), [(1, 1.0), (20, 0.125)])
def test_moves_are_those_of_the_adversarial_robustness_toolbox(steps: int, share: float) -> None:
    from art.attacks.evasion import FastGradientMethod, ProjectedGradientDescent
    from art.estimators.classification import PyTorchClassifier

    module, batch = net(), batch_of()
    whole = nn.CrossEntropyLoss(reduction="sum")
    victim = PyTorchClassifier(module, whole, input_shape=(6,), nb_classes=3, clip_values=BOUNDS)
    if steps == 1:
        theirs = FastGradientMethod(victim, eps=RADIUS)
    else:
        theirs = ProjectedGradientDescent(
            victim, eps=RADIUS, eps_step=share * RADIUS, max_iter=steps, verbose=False
        )
    ours = changed_against(
        lambda rows: whole(module(rows), batch.labels),
        batch.inputs,
        reach=RADIUS,
        bounds=BOUNDS,
        steps=steps,
        stride=share * RADIUS,
    )
    labels = functional.one_hot(batch.labels, 3).numpy()
    np.testing.assert_allclose(ours, theirs.generate(batch.inputs.numpy(), labels), atol=1e-6)
