"""What helps learning under noise, and what it must not change: clip, sums, repeatability."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from torch import nn

from accounting.randomness import Stream
from clients.contract.settings import Settings, SettingsError
from clients.data import Dataset, DatasetInfo, Records
from clients.learning.augmentation import augmented
from clients.learning.batch import Batch
from clients.learning.class_shares import ClassShares
from clients.learning.dp_sgd import clipped_gradient_sum
from clients.learning.per_sample import PerSample
from clients.learning.replica import Replica
from clients.models import ModelError, build_model
from clients.models.weights import set_parameters
from tests.exchange_runs import read_json, run_app
from tests.in_process import small_settings

pytestmark = pytest.mark.filterwarnings("ignore:Full backward hook is firing:UserWarning")


def graded(folder: Path) -> Dataset:
    """240 made-up pictures of three grades: the grade is how bright they are."""
    labels = np.arange(240) % 3
    noise = np.random.default_rng(0).uniform(0, 0.3, (240, 1, 16, 16))
    inputs = (noise + labels[:, None, None, None] * 0.3).astype(np.float32)
    info = DatasetInfo(
        name="graded",
        title="made up",
        task="ordinal",
        shape=(1, 16, 16),
        classes=("0", "1", "2"),
        kind="image",
        input_range=(0.0, 1.0),
    )
    records = Records(inputs=inputs, labels=labels.astype(np.int64), patients=np.arange(240))
    return Dataset(info=info, train=records)


GRADED = f"{__name__}:graded"


def pictures(count: int) -> Batch:
    inputs = torch.from_numpy(np.random.default_rng(1).normal(size=(count, 1, 16, 16)))
    return Batch(
        inputs=inputs.float(), labels=torch.arange(count) % 3, patients=torch.arange(count)
    )


def test_grades_are_judged_by_kappa_on_holdout_and_at_hospitals(tmp_path: Path) -> None:
    settings = small_settings(tmp_path, data__name=GRADED, privacy__noise_multiplier=1.0)
    run_app(settings)
    assert -1 <= read_json(settings, "summary.json")["metrics"]["kappa"] <= 1
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    [figures] = [r for r in rows if r["kind"] == "hospitals" and "accuracy" in r]
    assert set(figures["kappa"]) == set(figures["accuracy"])


def test_pooled_models_are_judged_hospital_by_hospital_where_data_are_public(
    tmp_path: Path,
) -> None:
    pooled = small_settings(tmp_path / "pooled", privacy__regime="CDP")
    run_app(pooled)
    found = read_json(pooled, "summary.json")["hospital_accuracy"]
    federated = small_settings(tmp_path / "federated")
    run_app(federated)
    assert list(found) == list(read_json(federated, "summary.json")["hospital_accuracy"])
    private = small_settings(tmp_path / "private", privacy__regime="CDP", data__public=False)
    run_app(private)
    assert read_json(private, "summary.json")["hospital_accuracy"] is None


def test_copies_of_a_patients_pictures_move_the_sum_by_one_clip_at_most() -> None:
    module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(256, 3))
    model, batch = PerSample(module), pictures(5)
    copies = augmented(batch, copies=6, stream=Stream.from_seed(1, "copies")).made()
    assert len(copies) == 30
    found = clipped_gradient_sum(model, copies, l2_clip=0.5)
    assert found.patients == 5
    without = copies.patients != 4
    rest = Batch(
        inputs=copies.inputs[without],
        labels=copies.labels[without],
        patients=copies.patients[without],
    )
    moved = np.linalg.norm(found.total - clipped_gradient_sum(model, rest, l2_clip=0.5).total)
    assert 0.4 < moved <= 0.5
    # Negative control: copies that counted as patients of their own would move it further.
    alone = Batch(inputs=copies.inputs, labels=copies.labels, patients=torch.arange(30))
    assert np.linalg.norm(clipped_gradient_sum(model, alone, l2_clip=0.5).total) > 0.5 * 5


def test_copies_are_shifted_and_mirrored_and_repeatable() -> None:
    batch = pictures(8)
    first = augmented(batch, copies=4, stream=Stream.from_seed(1, "copies")).made()
    again = augmented(batch, copies=4, stream=Stream.from_seed(1, "copies")).made()
    assert torch.equal(first.inputs, again.inputs)
    assert torch.equal(first.patients, batch.patients.repeat_interleave(4))
    assert not torch.equal(first.inputs[0], first.inputs[1])
    values = set(batch.inputs[0].flatten().tolist())
    assert set(first.inputs[:4].flatten().tolist()) <= values  # altered, never invented


def test_volumes_are_altered_as_well() -> None:
    batch = Batch(
        inputs=torch.rand(2, 1, 16, 16, 16), labels=torch.zeros(2), patients=torch.arange(2)
    )
    found = augmented(batch, copies=3, stream=Stream.from_seed(1, "copies")).made()
    assert found.inputs.shape == (6, 1, 16, 16, 16)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"training.augmentations": 2}, "breast-cancer is a table"),
        ({"training.class-shares": "0.5,0.3,0.2"}, "has 3 shares"),
    ],
)
def test_options_that_do_not_suit_the_data_are_refused(
    changes: dict[str, object], reason: str
) -> None:
    from clients.data import Cohorts

    settings = Settings.from_config(changes)  # type: ignore[arg-type]
    with pytest.raises(ModelError, match=reason):
        build_model(settings, Cohorts().of(settings).info, 0)


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"training.class-shares": "0.5,0.9"}, "add up to 1"),
        ({"training.class-shares": "1e,2"}, "add up to 1"),
        (
            {
                "training.averaging": 0.9,
                "exchange.name": "cyclic",
                "privacy.regime": "FPDP",
            },
            "open every sum can average",
        ),
    ],
)
def test_options_that_do_not_go_together_are_refused(
    config: dict[str, object], reason: str
) -> None:
    with pytest.raises(SettingsError, match=reason):
        Settings.from_config(config)  # type: ignore[arg-type]


def test_class_shares_let_the_rare_class_count_as_the_common_one() -> None:
    """Records say nothing, one class in ten is rare: the plain head learns to guess the common."""
    labels = torch.tensor([0] * 9 + [1])
    batch = Batch(inputs=torch.zeros(10, 2), labels=labels, patients=torch.arange(10))
    biases = []
    for shares in (None, ClassShares((0.9, 0.1))):
        module = torch.nn.Linear(2, 2)
        torch.nn.init.zeros_(module.weight)
        torch.nn.init.zeros_(module.bias)
        total = clipped_gradient_sum(PerSample(module, shares), batch, l2_clip=10.0).total
        biases.append(total[-2:])
    assert abs(biases[0][0]) == pytest.approx(4.0)
    assert biases[1] == pytest.approx([0.0, 0.0], abs=1e-5)


def test_the_released_average_is_that_of_the_models_and_training_does_not_notice(
    tmp_path: Path,
) -> None:
    settings = small_settings(tmp_path, training__averaging=0.5, training__momentum=0.0)
    torch.manual_seed(0)
    averaged = Replica(torch.nn.Linear(3, 2), settings)
    plain = Replica(torch.nn.Linear(3, 2), small_settings(tmp_path, training__momentum=0.0))
    plain.load_vector(averaged.vector())
    expected = averaged.vector()
    for number in range(1, 9):
        gradient = np.full(8, 1.0 / number)
        averaged.step(gradient, "")
        plain.step(gradient, "")
        past = min(0.5, (1 + number) / (10 + number))
        expected = past * expected + (1 - past) * plain.vector()
    assert np.array_equal(averaged.vector(), plain.vector())
    flat = np.concatenate([t.numpy().ravel() for t in averaged.released().values()])
    np.testing.assert_allclose(flat, expected, rtol=1e-6)
    assert not np.allclose(flat, plain.vector())


def test_a_restored_replica_goes_on_averaging(tmp_path: Path) -> None:
    settings = small_settings(tmp_path, training__averaging=0.9)
    whole, torn = (Replica(torch.nn.Linear(3, 2), settings) for _ in range(2))
    for number in range(6):
        whole.step(np.full(8, float(number)), "")
        if number == 3:
            torn.restore(whole.to_bytes())
        elif number > 3:
            torn.step(np.full(8, float(number)), "")
    for name, tensor in whole.released().items():
        assert torch.equal(tensor, torn.released()[name])


def test_every_hospital_releases_the_same_average(tmp_path: Path) -> None:
    models = []
    for name in ("one", "two"):
        settings = small_settings(tmp_path / name, training__averaging=0.9)
        run_app(settings)
        models.append(load_file(tmp_path / name / "model.safetensors"))
    plain = small_settings(tmp_path / "plain")
    run_app(plain)
    last = load_file(tmp_path / "plain" / "model.safetensors")
    for key, value in models[0].items():
        assert np.array_equal(value, models[1][key])
        assert not np.array_equal(value, last[key])


def test_parameters_are_released_and_buffers_never() -> None:
    """Trained or frozen; what a layer keeps beside them could be of patients."""
    module = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    module[0].weight.requires_grad_(False)
    assert set(module.state_dict()) > {"1.running_mean"}
    for averaging in (0.0, 0.9):
        replica = Replica(module, Settings.from_config({"training.averaging": averaging}))
        names = [name for name, _ in module.named_parameters()]
        assert list(replica.released()) == list(replica.arrays()) == names
    before = module[1].running_mean.clone()
    module[1].running_mean.add_(1.0)
    replica.restore(replica.to_bytes())
    assert torch.equal(module[1].running_mean, before + 1.0)
    with pytest.raises(ModelError, match=r"does not fit this one at 1\.num"):
        set_parameters(module, module.state_dict() | {"0.weight": module[0].weight})
