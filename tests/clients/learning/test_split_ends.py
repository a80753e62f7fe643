"""The clip of split learning, at the edges of float32."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from clients.learning.dp_sgd import clip_factors
from clients.learning.split_ends import by_patient, clip_rows

_MAGNITUDES = (1e-45, 1e-38, 1e-30, 1e-23, 1e-10, 1.0, 1e18, 1e25, 3e38)
_CLIPS = (2.0**-63, 1e-10, 0.5, 1e19)


@settings(max_examples=100, deadline=None)
@given(
    magnitudes=st.lists(st.sampled_from(_MAGNITUDES), min_size=1, max_size=6),
    l2_clip=st.sampled_from(_CLIPS),
    seed=st.integers(0, 1000),
)
def test_a_row_is_within_the_clip_whatever_its_magnitude(
    magnitudes: list[float], l2_clip: float, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    rows = torch.rand(len(magnitudes), 5, 7, generator=generator, dtype=torch.float64)
    rows = (rows * torch.tensor(magnitudes)[:, None, None].double()).float()
    norms = rows.double().flatten(1).norm(dim=1)
    clipped = clip_rows(rows, l2_clip).flatten(1).norm(dim=1)
    assert bool((clipped <= l2_clip).all())
    np.testing.assert_allclose(clipped, norms.clamp_max(l2_clip), rtol=2e-5)


@settings(max_examples=100, deadline=None)
@given(
    records=st.lists(
        st.tuples(st.integers(0, 2), st.sampled_from(_MAGNITUDES)), min_size=1, max_size=8
    ),
    l2_clip=st.sampled_from(_CLIPS),
)
def test_a_patient_of_several_records_is_within_the_clip_whatever_their_magnitudes(
    records: list[tuple[int, float]], l2_clip: float
) -> None:
    rows = torch.linspace(0.1, 1.0, 40)[None] * torch.tensor([m for _, m in records])[:, None]
    patients = by_patient(rows, torch.tensor([owner for owner, _ in records]), 3)
    factors = clip_factors(patients.square().sum(dim=1), l2_clip)
    assert bool(((factors[:, None] * patients).norm(dim=1) <= l2_clip).all())


@pytest.mark.parametrize("value", [float("inf"), float("nan")])
def test_a_row_that_is_not_finite_counts_as_zero(value: float) -> None:
    rows = torch.tensor([[1.0, value], [3e38, 3e38], [1e-45, 0.0]])
    clipped = clip_rows(rows, 1.0)
    assert not clipped[0].any() and bool(torch.isfinite(clipped).all())
    assert float(clipped[1].norm()) == pytest.approx(1.0, rel=2e-5)
