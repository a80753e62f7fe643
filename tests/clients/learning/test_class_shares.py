"""Shares of classes learnt with the model: no more is shown of a patient, and they are right."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from clients.contract.settings import Settings, SettingsError
from clients.data import Dataset, DatasetInfo, Records
from clients.learning.batch import Batch
from clients.learning.class_shares import PART, ClassCounts, ClassShares
from clients.learning.dp_sgd import clipped_gradient_sum
from clients.learning.per_sample import PerSample
from clients.learning.replica import Replica
from clients.learning.shapes import dimensions_of, shared_parameters
from simulations.scenario import OWN_CLIP, find_scenario, resolve
from tests.exchange_runs import model_of, read_json, run_app
from tests.in_process import small_settings

pytestmark = pytest.mark.filterwarnings("ignore:Full backward hook is firing:UserWarning")

LEARNED = {"training__class_shares": "learned", "training__balance": "clip"}


def batch(labels: list[int], patients: list[int] | None = None, scale: float = 1.0) -> Batch:
    inputs = torch.from_numpy(np.random.default_rng(1).normal(size=(len(labels), 4))).float()
    owners = range(len(labels)) if patients is None else patients
    return Batch(
        inputs=scale * inputs, labels=torch.tensor(labels), patients=torch.tensor([*owners])
    )


def counting(clip: float, balance: str = "loss") -> PerSample:
    torch.manual_seed(0)
    counts = ClassCounts(3, clip)
    counts.add(clip * np.array([5.0, 1.0, 2.0]))
    return PerSample(nn.Linear(4, 3), ClassShares((), counts, balance))  # type: ignore[arg-type]


@pytest.mark.parametrize("balance", ["loss", "clip"])
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize("clip", [0.01, 0.5, 30.0])
def test_a_patient_moves_gradient_and_counts_together_by_one_clip_at_most(
    clip: float, scale: float, balance: str
) -> None:
    """The patient has records of two classes, or of one: the most that classes can weigh."""
    for labels, patients in (([0, 1, 1, 2], [7, 7, 8, 9]), ([2, 2, 2, 0], [7, 7, 7, 9])):
        whole = batch(labels, patients, scale)
        model = counting(clip, balance)
        total = clipped_gradient_sum(model, whole, l2_clip=clip).total
        for one in set(patients):
            stay = whole.patients != one
            rest = Batch(
                inputs=whole.inputs[stay], labels=whole.labels[stay], patients=whole.patients[stay]
            )
            moved = total - clipped_gradient_sum(model, rest, l2_clip=clip).total
            assert np.linalg.norm(moved) <= clip
    # The bound is not slack: the rarest class weighs 1.
    alone = clipped_gradient_sum(counting(clip, balance), batch([1], scale=1e6), l2_clip=clip)
    assert np.linalg.norm(alone.total) == pytest.approx(clip, rel=1e-4)


def test_counts_are_of_patients_and_do_not_depend_on_their_gradients() -> None:
    model = counting(0.5)
    for scale in (0.01, 1.0, 1e5):
        found = clipped_gradient_sum(
            model, batch([0, 0, 1, 2, 2, 2], [1, 1, 2, 3, 3, 4], scale), l2_clip=0.5
        ).total
        # Patient 1 has two records of class 0 and counts once.
        assert found[-3:] == pytest.approx(0.5 * PART * np.array([1, 1, 2]), rel=1e-4)


def test_a_patient_whose_gradient_is_not_finite_is_not_counted() -> None:
    model = counting(0.5)
    whole = batch([0, 1, 2])
    whole.inputs[1] = 3e38
    nn.init.constant_(model.module.weight, 10.0)
    found = clipped_gradient_sum(model, whole, l2_clip=0.5)
    assert found.discarded == 1
    assert found.total[-3:] == pytest.approx(0.5 * PART * np.array([1, 0, 1]), rel=1e-4)


@pytest.mark.parametrize("clip", [0.01, 100.0])
def test_in_the_clip_classes_pull_alike_however_much_is_clipped(clip: float) -> None:
    """Nine of one class, one of the other, inputs that say nothing: the bias is to stay at 0.

    By the loss it does so only where nothing is clipped.
    """
    labels = torch.tensor([0] * 9 + [1])
    even = Batch(inputs=torch.zeros(10, 2), labels=labels, patients=torch.arange(10))
    pulls = {}
    for balance in ("loss", "clip"):
        module = nn.Linear(2, 2)
        nn.init.zeros_(module.weight)
        nn.init.zeros_(module.bias)
        model = PerSample(module, ClassShares((0.9, 0.1), None, balance))  # type: ignore[arg-type]
        assert model.dimensions == 6
        total = clipped_gradient_sum(model, even, l2_clip=clip).total
        pulls[balance] = abs(total[-1]) / clip
    assert pulls["clip"] == pytest.approx(0, abs=1e-5)
    assert pulls["loss"] == pytest.approx(0, abs=1e-5) if clip > 1 else pulls["loss"] > 3


def test_a_patient_of_two_classes_weighs_what_their_records_do() -> None:
    module = nn.Linear(4, 2)
    weighed = PerSample(copy.deepcopy(module), ClassShares((0.8, 0.2), None, "clip"))
    unweighed = PerSample(module)
    for labels, weight in (([0, 0], 0.25), ([1, 1], 1.0), ([0, 1], 0.625)):
        whole = batch(labels, [3, 3], scale=100.0)
        plain = clipped_gradient_sum(unweighed, whole, l2_clip=1.0).total
        found = clipped_gradient_sum(weighed, whole, l2_clip=1.0).total
        np.testing.assert_allclose(found, weight * plain, rtol=1e-5)


def test_shares_begin_even_and_come_to_what_is_counted() -> None:
    counts = ClassCounts(2, 0.5)
    assert counts.shares() == pytest.approx([0.5, 0.5])
    for _ in range(200):
        counts.add(0.5 * PART * np.array([0.9, 0.1]))
    assert counts.shares() == pytest.approx([0.9, 0.1], abs=0.005)
    counts.add(np.array([0.0, -100.0]))  # noise
    assert counts.shares().min() > 0


def test_a_count_of_one_class_is_refused() -> None:
    with pytest.raises(ValueError, match="two at least"):
        Replica(nn.Linear(4, 2), Settings.from_config({"training.class-shares": "learned"}))


def test_a_replica_takes_over_what_another_has_counted() -> None:
    settings = Settings.from_config({"training.class-shares": "learned"})
    whole, late = (Replica(nn.Linear(4, 2), settings, 2) for _ in range(2))
    assert whole.dimensions == 12
    whole.step(np.arange(12.0), "ab" * 32)
    late.restore(whole.to_bytes())
    assert late.to_bytes() == whole.to_bytes()
    whole.step(np.arange(12.0), "cd" * 32)
    assert late.to_bytes() != whole.to_bytes()
    late.step(np.arange(12.0), "cd" * 32)
    assert late.to_bytes() == whole.to_bytes()
    assert set(whole.released()) == {"weight", "bias"}  # counts are no part of a model


def test_what_is_learnt_is_in_the_terms() -> None:
    for value, more in (("", 0), ("learned", 2), ("0.5,0.5", 0)):
        settings = Settings.from_config({"training.class-shares": value})
        found = shared_parameters(settings, nn.Linear(4, 2), 2)
        assert dimensions_of(found) == 10 + more


def uneven(folder: Path) -> Dataset:
    """1,500 patients, one in ten of the second class; a single input says a little."""
    generator = np.random.default_rng(0)
    labels = (generator.random(1500) < 0.1).astype(np.int64)
    inputs = (0.6 * labels + generator.normal(0, 0.5, 1500)).clip(-1, 1).astype(np.float32)
    info = DatasetInfo(
        name="uneven", title="made up", task="binary", shape=(1,), classes=("no", "yes")
    )
    records = Records(inputs=inputs[:, None], labels=labels, patients=np.arange(1500))
    return Dataset(info=info, train=records)


UNEVEN = f"{__name__}:uneven"


def found_under_noise(shares: str, balance: str) -> float:
    """Balanced accuracy on a quarter of the patients after 40 noised sums of the others'."""
    config = {"training.class-shares": shares, "training.balance": balance}
    settings = Settings.from_config({**config, "privacy.l2-clip": 1.0})
    data = uneven(Path()).train
    generator = np.random.default_rng(5)
    module = nn.Linear(1, 2)
    nn.init.zeros_(module.weight)
    nn.init.zeros_(module.bias)
    replica = Replica(module, settings, 2)
    inputs, labels = torch.as_tensor(data.inputs), torch.as_tensor(data.labels)
    for _ in range(40):
        chosen = np.flatnonzero(generator.random(1125) < 0.2)
        sampled = Batch(
            inputs=inputs[chosen], labels=labels[chosen], patients=torch.as_tensor(chosen)
        )
        total = clipped_gradient_sum(replica.per_sample, sampled, l2_clip=1.0).total
        replica.step((total + generator.normal(0, 2.0, len(total))) / (0.2 * 1125), "")
    right = (module(inputs[1125:]).argmax(dim=1) == labels[1125:]).numpy()
    return float(np.mean([right[labels[1125:].numpy() == one].mean() for one in (0, 1)]))


def test_the_rare_class_is_found_under_noise_where_shares_are_known() -> None:
    plain = found_under_noise("", "loss")
    assert plain < 0.63  # nearly all negative
    assert found_under_noise("learned", "clip") > plain + 0.06
    assert found_under_noise("0.9,0.1", "clip") > plain + 0.06


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"exchange__name": "weights", "exchange__local_steps": 2, "privacy__regime": "FPDP"},
    ],
)
def test_counts_are_part_of_what_is_sealed_and_no_part_of_the_model(
    tmp_path: Path, changes: dict[str, object]
) -> None:
    short = {"training__rounds": 2, "partition__hospitals": 2, "data__name": UNEVEN}
    settings = small_settings(tmp_path, **short, **LEARNED, **changes)
    run_app(settings)
    assert read_json(settings, "summary.json")["status"] == "finished"
    assert {one.shape for one in model_of(settings).values()} == {(2, 1), (2,)}


def test_shares_are_learnt_over_data_of_ones_own_unless_they_are_said(tmp_path: Path) -> None:
    own, default = "data.name=csv:mine.csv", find_scenario("default")
    chest = find_scenario("chest-xray")
    assert resolve(default).training.class_shares == ""
    for scenario in (default, chest):
        found = resolve(scenario, [own])
        assert (found.training.class_shares, found.training.balance) == ("learned", "clip")
        assert found.privacy.l2_clip == OWN_CLIP
    assert resolve(default, [own, "privacy.l2-clip=0.1"]).privacy.l2_clip == 0.1
    assert resolve(default).privacy.l2_clip == 0.5
    assert resolve(chest).training.class_shares == "0.27,0.73"
    for said in ("", "0.2,0.8"):
        settings = resolve(default, [own, f'training.class-shares="{said}"'])
        assert settings.training.class_shares == said
        assert settings.training.balance == ("clip" if said else "loss")
    away = resolve(default, [own, "exchange.name=cyclic", "privacy.regime=FPDP"])
    assert (away.training.class_shares, away.privacy.l2_clip) == ("", 0.5)
    # A run that is repeated says all of it.
    repeated = tmp_path / "config.toml"
    repeated.write_text('[data]\nname = "csv:mine.csv"\n[training]\nclass-shares = ""\n')
    assert resolve(find_scenario(str(repeated))).training.class_shares == ""


def test_nothing_to_balance_is_refused() -> None:
    with pytest.raises(SettingsError, match="of which there are none"):
        Settings.from_config({"training.balance": "clip"})


@pytest.mark.parametrize("exchange", ["cyclic", "single", "ensemble", "layers"])
def test_shares_are_learnt_from_sums_alone(exchange: str) -> None:
    changes = {"exchange.name": exchange, "privacy.regime": "FPDP"}
    with pytest.raises(SettingsError, match="learnt from sums that all hospitals open"):
        Settings.from_config({**changes, "training.class-shares": "learned"})  # type: ignore[dict-item]
