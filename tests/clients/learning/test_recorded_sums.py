"""The clipped sum of a recorded pass: against one patient at a time, and where float32 ends."""

from __future__ import annotations

import copy
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from clients.learning import pass_gradients
from clients.learning.batch import Batch
from clients.learning.class_shares import PART, ClassCounts, ClassShares
from clients.learning.dp_sgd import clipped_gradient_sum, clipped_gradient_sums
from clients.learning.ghost_norms import Factors, Owners
from clients.learning.patient_gradients import Gradients
from clients.learning.per_sample import LARGE, PerSample
from clients.models.deep import cnn3d, densenet121, resnet18
from clients.models.small import cnn
from clients.models.squeezenet import squeezenet
from tests.clients.learning.test_faulty_records import BREAKS, _Fragile

pytestmark = pytest.mark.filterwarnings("ignore:Full backward hook is firing:UserWarning")


class _Scaled(nn.Module):
    """A large model that uses a parameter by its own code."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.gain = nn.Linear(600, 600), nn.Parameter(torch.ones(600))

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return self.gain * self.inner(rows)


class _Repeated(nn.Module):
    """A large model that uses a layer twice, as recurrent ones do."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(600, 600)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return self.inner(torch.tanh(self.inner(rows)))


def _net() -> nn.Module:
    """A net whose first layers are kept as rows and whose last ones as factors."""
    torch.manual_seed(0)
    return nn.Sequential(
        _Fragile(),
        nn.Conv2d(1, 4, 3, padding=1),
        nn.GroupNorm(2, 4),
        nn.ReLU(),
        nn.Conv2d(4, 24, 3, stride=2),
        nn.Tanh(),
        nn.Flatten(),
        nn.Linear(24 * 9, 3),
    )


class _Given(PerSample):
    """Factors of any magnitude, as they are given in a record's inputs."""

    def __init__(self) -> None:
        super().__init__(nn.Linear(1, 1))
        self.dimensions = 30 * 40 + 7

    def means(
        self, inputs: torch.Tensor, labels: torch.Tensor, owners: Owners, records: int = 0
    ) -> list[Gradients]:
        beside, outputs, inner = inputs.split([7, 60, 80], dim=1)
        at_outputs, at_inputs = outputs.reshape(-1, 2, 30), inner.reshape(-1, 2, 40)
        factors = Factors(at_outputs, at_inputs, None, owners)
        return [owners.means(beside), factors]


#: Where float32 ends: subnormal numbers, squares that vanish, squares that overflow, the largest.
_MAGNITUDES = (1e-45, 1e-38, 1e-25, 1e-18, 1e-9, 1.0, 1e9, 1e18, 1e38)


@example(
    records=[(0, 1e-45, 1e-45), (0, 1e-25, 1e38), (0, 1e-18, 1e38)],
    left=1e-12,
    l2_clip=1e19,
    seed=135,
)
@settings(max_examples=150, deadline=None)
@given(
    records=st.lists(
        st.tuples(st.integers(0, 2), st.sampled_from(_MAGNITUDES), st.sampled_from(_MAGNITUDES)),
        min_size=1,
        max_size=6,
    ),
    left=st.sampled_from([0.0, 1e-12, 1e-7, 1e-3, 1.0]),
    l2_clip=st.sampled_from([1e-38, 1e-10, 0.5, 1e19]),
    seed=st.integers(0, 1000),
)
def test_each_patient_adds_at_most_the_clip_whatever_the_magnitude_and_what_cancels(
    records: list[tuple[int, float, float]], left: float, l2_clip: float, seed: int
) -> None:
    """Two positions of each record are opposite but for a share of what one alone would be."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.rand(len(records), 147, generator=generator, dtype=torch.float64) * 2 - 1
    values[:, 37:67] = -values[:, 7:37]
    values[:, 107:] = values[:, 67:107] + left * values[:, 107:]
    for row, (_, outputs, inputs) in zip(values, records, strict=True):
        row[7:67] *= outputs
        row[67:] *= inputs
    owners = torch.tensor([patient for patient, *_ in records])
    labels = torch.zeros(len(records))
    whole = Batch(inputs=values.float(), labels=labels, patients=owners)
    total = clipped_gradient_sum(_Given(), whole, l2_clip=l2_clip).total
    alone = []
    for patient in owners.unique():
        mine = owners == patient
        batch = Batch(inputs=whole.inputs[mine], labels=labels[mine], patients=owners[mine])
        found = clipped_gradient_sum(_Given(), batch, l2_clip=l2_clip)
        rows = batch.inputs.double()
        outputs, inputs = rows[:, 7:67].reshape(-1, 2, 30), rows[:, 67:].reshape(-1, 2, 40)
        products = outputs.mT @ inputs
        # What is left of numbers that cancel is no surer than float64 rounds these.
        rounding = 1e-14 * float((outputs.abs().mT @ inputs.abs()).norm())
        means = torch.cat([rows[:, :7].mean(dim=0), products.mean(dim=0).flatten()]).numpy()
        norm, moved = np.linalg.norm(means), np.linalg.norm(found.total)
        assert found.discarded == 0
        assert moved <= l2_clip
        assert moved == pytest.approx(min(norm, l2_clip), rel=1e-4, abs=rounding)
        alone.append(found.total)
    np.testing.assert_allclose(total, np.sum(alone, axis=0), rtol=1e-6, atol=1e-6 * l2_clip)


def _batch(patients: list[int], seed: int = 1) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    return Batch(
        inputs=torch.randn(len(patients), 1, 8, 8, generator=generator),
        labels=torch.randint(0, 3, (len(patients),), generator=generator),
        patients=torch.tensor(patients, dtype=torch.int64),
    )


def _oracle(model: nn.Module, batch: Batch, l2_clip: float) -> np.ndarray:
    """One patient at a time, in float64."""
    exact = copy.deepcopy(model).double()
    total = np.zeros(sum(p.numel() for p in exact.parameters()))
    for patient in batch.patients.unique():
        mine = batch.patients == patient
        exact.zero_grad()
        functional.cross_entropy(exact(batch.inputs[mine].double()), batch.labels[mine]).backward()
        mean = np.concatenate([p.grad.numpy().ravel() for p in exact.parameters()])
        total += mean * min(1.0, l2_clip / np.linalg.norm(mean))
    return total


@settings(max_examples=25, deadline=None)
@given(
    patients=st.lists(st.integers(0, 5), min_size=1, max_size=10),
    l2_clip=st.sampled_from([0.1, 1.0, 50.0]),
    chunk=st.sampled_from([1, 3, 32]),
)
def test_sum_equals_one_patient_at_a_time(patients: list[int], l2_clip: float, chunk: int) -> None:
    batch, net = _batch(patients), _net()
    model = PerSample(net, way="recorded")
    found = clipped_gradient_sum(model, batch, l2_clip=l2_clip, chunk_records=chunk)
    np.testing.assert_allclose(
        found.total, _oracle(net, batch, l2_clip), rtol=1e-4, atol=1e-5 * l2_clip
    )
    assert (found.patients, found.discarded) == (len(set(patients)), 0)


@pytest.mark.parametrize(
    ("build", "shape"),
    [
        (squeezenet, (1, 32, 32)),
        (resnet18, (1, 32, 32)),
        (cnn3d, (1, 12, 12, 12)),
        pytest.param(densenet121, (1, 32, 32), marks=pytest.mark.exhaustive),
    ],
)
def test_nets_of_the_field_are_recorded_and_sum_as_by_hooks(build, shape) -> None:
    torch.manual_seed(0)
    info = SimpleNamespace(shape=shape, classes=("no", "yes"), outputs=2, input_range=(0.0, 1.0))
    net = build(info)
    batch = Batch(
        inputs=torch.rand(4, *shape),
        labels=torch.tensor([0, 1, 1, 0]),
        patients=torch.tensor([0, 1, 2, 2]),
    )
    hooked = PerSample(copy.deepcopy(net), way="hooks")
    recorded = PerSample(net, way="recorded" if build is cnn3d else None)
    recorded.choose_pass(shape)
    assert recorded.recorded
    found, expected = (clipped_gradient_sum(m, batch, l2_clip=1.0) for m in (recorded, hooked))
    assert np.linalg.norm(found.total - expected.total) < 1e-4 * np.linalg.norm(expected.total)


def test_classes_are_counted_beside_recorded_gradients_as_beside_hooks() -> None:
    batch = _batch([0, 0, 1, 2, 3, 3, 3])
    sums = []
    for way in ("recorded", "hooks"):
        shares = ClassShares((), ClassCounts(3, 1.0), "clip")
        model = PerSample(_net(), shares, way=way)
        sums.append(clipped_gradient_sum(model, batch, l2_clip=0.7).total)
    np.testing.assert_allclose(sums[0], sums[1], rtol=1e-4, atol=1e-6)
    assert sums[0][-3:].sum() == pytest.approx(4 * PART * 0.7, rel=1e-4)


def test_a_patient_with_very_many_records_is_recorded_piece_by_piece(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    batch, model = _batch([0] * 50 + [1]), PerSample(_net(), way="recorded")
    whole = clipped_gradient_sum(model, batch, l2_clip=0.5)
    monkeypatch.setattr(pass_gradients, "PATIENT_RECORDS", 20)
    pieces = clipped_gradient_sum(model, batch, l2_clip=0.5)
    np.testing.assert_allclose(pieces.total, whole.total, rtol=1e-5, atol=1e-7)


def test_small_models_and_unknown_uses_go_by_hooks() -> None:
    info = SimpleNamespace(
        shape=(1, 16, 16), classes=("no", "yes"), outputs=2, input_range=(0.0, 1.0)
    )
    small = PerSample(cnn(info))
    small.choose_pass((1, 16, 16))
    assert not small.recorded

    for module in (_Scaled(), _Repeated()):
        own = PerSample(module)
        assert own.dimensions > LARGE
        own.choose_pass((600,))
        assert not own.recorded


def test_hospitals_of_one_pass_have_the_sums_of_their_own_patients() -> None:
    model = PerSample(_net(), way="recorded")
    batches = [_batch([0, 0, 1]), _batch([0], seed=2), _batch([3, 4, 4, 4], seed=3)]
    together = clipped_gradient_sums(model, batches, l2_clip=0.5, chunk_records=32)
    for found, batch in zip(together, batches, strict=True):
        alone = clipped_gradient_sum(model, batch, l2_clip=0.5)
        np.testing.assert_allclose(found.total, alone.total, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("how", ["raises", "unreadable", "overflows"])
def test_removing_a_faulty_patient_moves_the_sum_by_no_more_than_the_clip(how: str) -> None:
    batch, model = _batch([0, 1, 2, 2, 3, 4]), PerSample(_net(), way="recorded")
    rest = batch.patients != 2
    others = Batch(
        inputs=batch.inputs[rest], labels=batch.labels[rest], patients=batch.patients[rest]
    )
    without = clipped_gradient_sum(model, others, l2_clip=0.5)
    batch.inputs[2] = {"raises": BREAKS, "unreadable": torch.nan, "overflows": 3e38}[how]
    found = clipped_gradient_sum(model, batch, l2_clip=0.5)
    assert np.linalg.norm(found.total - without.total) <= 0.5
    assert all(p.grad is None for p in model.parameters)
    after = clipped_gradient_sum(model, others, l2_clip=0.5)
    np.testing.assert_allclose(after.total, without.total, rtol=1e-6, atol=1e-8)


class _Positions(nn.Module):
    """A layer at four positions, whose sum overflows float32 where that of one does not."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(500, 2, bias=False)
        nn.init.constant_(self.inner.weight, 1e-40)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        return self.inner(maps).sum(dim=1)


@pytest.mark.parametrize("label", [0, 9], ids=["of many records", "that raises"])
@pytest.mark.parametrize("records", [1, 2])
def test_no_patient_decides_whether_gradients_of_others_are_too_large_for_float32(
    label: int, records: int
) -> None:
    model = PerSample(_Positions(), way="recorded")
    others = torch.arange(6 // records).repeat_interleave(records)
    large, one = torch.full((len(others), 4, 500), 3e38), torch.ones(20, 4, 500)
    labels = torch.tensor([0] * len(others) + [label] * 20)
    patients = torch.cat([others, torch.full((20,), 99)])
    whole = Batch(inputs=torch.cat([large, one]), labels=labels, patients=patients)
    rest = slice(0, len(others))
    few = Batch(inputs=large, labels=labels[rest], patients=others)
    without = clipped_gradient_sum(model, few, l2_clip=1.0)
    found = clipped_gradient_sum(model, whole, l2_clip=1.0)
    assert model.recorded
    assert without.discarded == 0
    assert found.discarded == (label == 9)
    assert np.linalg.norm(without.total) == pytest.approx(6 / records, rel=1e-4)
    assert np.linalg.norm(found.total - without.total) <= 1.0
