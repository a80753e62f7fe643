"""Targets that are read as their patients go through the model are those that lie in memory."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from clients.contract.settings import Settings
from clients.data import DatasetInfo
from clients.data.records import Ints, LazyTargets
from clients.learning.batch import Batch, take
from clients.learning.dp_sgd import GradientSum, clipped_gradient_sum, clipped_gradient_sums
from clients.learning.late_rows import LateRows
from clients.learning.per_sample import PerSample
from clients.learning.task_loss import loss_of
from clients.models import build_model
from clients.tasks.question import UNREAD

pytestmark = pytest.mark.filterwarnings("ignore:Full backward hook is firing:UserWarning")
COUNT = 40
INFO = DatasetInfo(
    name="made",
    title="made",
    task="segmentation",
    shape=(1, 8, 8),
    classes=("rest", "a", "b"),
    kind="image",
    input_range=(0.0, 1.0),
)


class Masks:
    """Masks on a disk, some of them damaged."""

    def __init__(self, damaged: tuple[int, ...] = ()) -> None:
        self.masks = np.random.default_rng(3).integers(0, 3, (COUNT, 8, 8)).astype(np.uint8)
        self.damaged, self.most = damaged, 0

    @property
    def shape(self) -> tuple[int, ...]:
        return self.masks.shape

    def read(self, rows: Ints) -> NDArray[Any]:
        self.most = max(self.most, len(rows))
        found = self.masks[rows]
        found[np.isin(rows, self.damaged)] = UNREAD
        return found


def batch_of(store: Masks, *, late: bool) -> Batch:
    torch.manual_seed(2)
    labels = LateRows(LazyTargets(store), torch.arange(COUNT))
    return Batch(
        inputs=torch.rand(COUNT, 1, 8, 8),
        labels=labels if late else torch.from_numpy(store.masks),
        patients=torch.arange(COUNT) // 2,
    )


@pytest.fixture(scope="module")
def model() -> PerSample:
    module = build_model(Settings.from_config({"model.name": "unet"}), INFO, 1)
    return PerSample(module, loss=loss_of(INFO))


def summed(model: PerSample, batch: Batch) -> GradientSum:
    return clipped_gradient_sum(model, batch, l2_clip=0.5)


def test_late_masks_move_the_sum_as_those_in_memory_and_few_are_read_at_once(
    model: PerSample,
) -> None:
    store = Masks()
    whole, late = (summed(model, batch_of(store, late=one)) for one in (False, True))
    assert whole.total.tobytes() == late.total.tobytes()
    assert 0 < store.most < COUNT


def test_a_mask_that_cannot_be_read_leaves_its_own_record_out(model: PerSample) -> None:
    # One record of patient 2, and both of patient 9.
    store = Masks(damaged=(4, 18, 19))
    found = summed(model, batch_of(store, late=True))
    good = torch.tensor([k for k in range(COUNT) if k not in store.damaged])
    only = summed(model, take(batch_of(store, late=False), good))
    np.testing.assert_allclose(found.total, only.total, rtol=1e-6, atol=1e-9)
    assert found.patients == COUNT // 2
    assert found.discarded == 1
    assert found.reasons == ("1 patients: no record could be read",)


def test_late_and_ready_targets_of_two_hospitals_go_through_together(model: PerSample) -> None:
    store = Masks()
    few = torch.arange(6)
    parts = [take(batch_of(store, late=one), few) for one in (True, False)]
    first, second = clipped_gradient_sums(model, parts, l2_clip=0.5)
    np.testing.assert_allclose(first.total, second.total, rtol=1e-6, atol=1e-9)
