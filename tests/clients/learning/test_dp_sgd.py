"""The clipped gradient sum against an oracle that takes one record at a time."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from clients.learning.batch import Batch
from clients.learning.dp_sgd import clipped_gradient_sum
from clients.learning.per_sample import PerSample

pytestmark = [
    pytest.mark.filterwarnings("ignore:Full backward hook is firing:UserWarning"),
]


def _model(kind: str) -> nn.Module:
    torch.manual_seed(0)
    if kind == "linear":
        return nn.Linear(6, 3)
    return nn.Sequential(
        nn.Unflatten(1, (1, 2, 3)),
        nn.Conv2d(1, 4, 2),
        nn.GroupNorm(2, 4),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(8, 3),
    )


def _batch(patients: list[int], seed: int = 1) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    n = len(patients)
    return Batch(
        inputs=3 * torch.randn(n, 6, generator=generator),
        labels=torch.randint(0, 3, (n,), generator=generator),
        patients=torch.tensor(patients, dtype=torch.long),
    )


def _record_gradient(model: nn.Module, inputs: torch.Tensor, label: torch.Tensor) -> np.ndarray:
    model.zero_grad()
    functional.cross_entropy(model(inputs[None]), label[None]).backward()
    return np.concatenate([p.grad.double().numpy().ravel() for p in model.parameters()])


def _oracle(model: nn.Module, batch: Batch, l2_clip: float) -> np.ndarray:
    """One record at a time, one clip per patient, on the mean of the patient's gradients."""
    total = np.zeros(sum(p.numel() for p in model.parameters()))
    for patient in sorted(set(batch.patients.tolist())):
        rows = [i for i, p in enumerate(batch.patients.tolist()) if p == patient]
        mean = np.mean([_record_gradient(model, batch.inputs[i], batch.labels[i]) for i in rows], 0)
        total += mean * min(1.0, l2_clip / np.linalg.norm(mean))
    return total


@pytest.mark.parametrize("kind", ["linear", "convolution"])
@settings(max_examples=20, deadline=None)
@given(
    patients=st.lists(st.integers(0, 6), min_size=1, max_size=12),
    l2_clip=st.sampled_from([0.1, 1.0, 50.0]),
    chunk=st.sampled_from([1, 3, 32]),
)
def test_sum_equals_one_record_at_a_time(
    kind: str, patients: list[int], l2_clip: float, chunk: int
) -> None:
    batch = _batch(patients)
    expected = _oracle(_model(kind), batch, l2_clip)
    found = clipped_gradient_sum(
        PerSample(_model(kind)), batch, l2_clip=l2_clip, chunk_records=chunk
    )
    np.testing.assert_allclose(found.total, expected, rtol=2e-4, atol=2e-5 * l2_clip)
    assert found.patients == len(set(patients))


def test_a_patient_with_many_records_moves_the_sum_by_at_most_the_clip() -> None:
    others, patient = _batch([1, 2, 3]), _batch([9] * 30, seed=2)
    both = Batch(
        inputs=torch.cat([others.inputs, patient.inputs]),
        labels=torch.cat([others.labels, patient.labels]),
        patients=torch.cat([others.patients, patient.patients]),
    )
    model = PerSample(_model("convolution"))
    without = clipped_gradient_sum(model, others, l2_clip=0.5).total
    with_patient = clipped_gradient_sum(model, both, l2_clip=0.5).total
    moved = np.linalg.norm(with_patient - without)
    assert moved <= 0.5
    # The same records as thirty patients would move it by far more: the bound is no accident.
    many = Batch(
        inputs=both.inputs, labels=both.labels, patients=torch.arange(len(both), dtype=torch.long)
    )
    assert np.linalg.norm(clipped_gradient_sum(model, many, l2_clip=0.5).total - without) > 1.0


def test_a_gradient_that_is_not_finite_counts_as_zero() -> None:
    batch = _batch([1, 2, 3])
    batch.inputs[1] = float("nan")
    sound = Batch(
        inputs=batch.inputs[[0, 2]], labels=batch.labels[[0, 2]], patients=batch.patients[[0, 2]]
    )
    model = PerSample(_model("linear"))
    found = clipped_gradient_sum(model, batch, l2_clip=1.0)
    expected = clipped_gradient_sum(model, sound, l2_clip=1.0)
    np.testing.assert_allclose(found.total, expected.total, atol=1e-6)
    assert (found.patients, found.discarded, expected.discarded) == (3, 1, 0)


@pytest.mark.parametrize("scale", [1e-25, 1e-3, 1.0, 1e15, 1e25])
def test_one_patient_is_within_the_clip_at_every_scale(scale: float) -> None:
    """Also where squares leave float32's range: a large gradient is clipped, not dropped."""
    torch.manual_seed(0)
    model = nn.Linear(1000, 2, bias=False)
    inputs = torch.randn(1, 1000) * scale
    with torch.no_grad():
        model.weight.zero_()
    batch = Batch(inputs=inputs, labels=torch.zeros(1, dtype=torch.int64), patients=torch.zeros(1))
    found = clipped_gradient_sum(PerSample(model), batch, l2_clip=0.7)
    # At weights of zero the gradient is +-x/2 for each of two classes.
    norm = float(inputs.double().norm()) / np.sqrt(2)
    assert found.discarded == 0
    assert np.linalg.norm(found.total) <= 0.7
    assert np.linalg.norm(found.total) == pytest.approx(min(norm, 0.7), rel=2e-5)


#: Where float32 ends: subnormal numbers, squares that vanish, squares that overflow, the largest.
_MAGNITUDES = (1e-45, 1e-40, 1e-38, 1e-30, 1e-25, 1e-23, 1e-20, 1e-10, 1.0, 1e18, 1e25, 1e38, 3e38)


class _Given(PerSample):
    """Gradients of any magnitude, as they are given: records' inputs are their gradients."""

    def __init__(self, dimensions: tuple[int, ...]) -> None:
        super().__init__(nn.Linear(1, 1))
        self._sizes = dimensions
        self.dimensions = sum(dimensions)

    def gradients(self, inputs: torch.Tensor, labels: torch.Tensor) -> list[torch.Tensor]:
        return list(inputs.split(self._sizes, dim=1))


@settings(max_examples=150, deadline=None)
@given(
    records=st.lists(
        st.tuples(st.integers(0, 2), st.sampled_from(_MAGNITUDES)), min_size=1, max_size=8
    ),
    small=st.sampled_from(_MAGNITUDES),
    l2_clip=st.sampled_from([1e-38, 1e-30, 2.0**-63, 1e-10, 0.5, 1e19, 1e38]),
    seed=st.integers(0, 1000),
)
def test_each_patient_adds_at_most_the_clip_whatever_the_magnitude(
    records: list[tuple[int, float]], small: float, l2_clip: float, seed: int
) -> None:
    """Also patients of several records, whose mean may cancel, and layers of unlike magnitudes."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.rand(len(records), 300, generator=generator, dtype=torch.float64) * 2 - 1
    values[:, :200] *= torch.tensor([magnitude for _, magnitude in records])[:, None].double()
    values[:, 200:] *= small
    model = _Given((200, 99, 1))
    owners = torch.tensor([patient for patient, _ in records])
    whole = Batch(inputs=values.float(), labels=torch.zeros(len(records)), patients=owners)
    total = clipped_gradient_sum(model, whole, l2_clip=l2_clip).total
    alone = []
    for patient in owners.unique():
        mine = owners == patient
        batch = Batch(inputs=whole.inputs[mine], labels=whole.labels[mine], patients=owners[mine])
        found = clipped_gradient_sum(model, batch, l2_clip=l2_clip)
        mean = batch.inputs.double().mean(dim=0).numpy()
        norm = np.linalg.norm(mean)
        moved = np.linalg.norm(found.total)
        assert moved <= l2_clip
        if not found.discarded and norm > 1e-36:  # below, float32 rounds the mean itself
            assert moved == pytest.approx(min(norm, l2_clip), rel=1e-4)
        alone.append(found.total)
    np.testing.assert_allclose(total, np.sum(alone, axis=0), rtol=1e-6, atol=1e-6 * l2_clip)


def test_only_the_patient_who_is_not_finite_counts_as_zero_among_extremes() -> None:
    inputs = torch.ones(4, 300) * torch.tensor([1e-30, 3e38, float("inf"), float("nan")])[:, None]
    batch = Batch(inputs=inputs, labels=torch.zeros(4), patients=torch.arange(4))
    found = clipped_gradient_sum(_Given((300,)), batch, l2_clip=1e-25)
    assert found.discarded == 2
    assert np.linalg.norm(found.total) == pytest.approx(1e-25 + np.sqrt(300) * 1e-30, rel=1e-4)


def test_an_empty_batch_sums_to_zero() -> None:
    empty = Batch(
        inputs=torch.zeros(0, 6),
        labels=torch.zeros(0, dtype=torch.long),
        patients=torch.zeros(0, dtype=torch.long),
    )
    found = clipped_gradient_sum(PerSample(_model("linear")), empty, l2_clip=1.0)
    assert found.patients == 0
    assert not found.total.any()


def test_frozen_parameters_are_no_part_of_the_sum() -> None:
    model = _model("convolution")
    model[1].weight.requires_grad_(False)
    per_sample = PerSample(model)
    found = clipped_gradient_sum(per_sample, _batch([1, 2]), l2_clip=1.0)
    assert len(found.total) == sum(p.numel() for p in model.parameters() if p.requires_grad)


@pytest.mark.parametrize("l2_clip", [0.0, float("inf"), float("nan")])
def test_a_clip_that_bounds_nothing_is_refused(l2_clip: float) -> None:
    with pytest.raises(ValueError, match="l2_clip must be positive and finite"):
        clipped_gradient_sum(PerSample(_model("linear")), _batch([1]), l2_clip=l2_clip)
