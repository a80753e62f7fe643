"""Hospitals whose records go through the model together: each one's sum is its own."""

import numpy as np
import pytest
import torch

from clients.learning.batch import Batch, chunks_of_patients, passes, take
from clients.learning.dp_sgd import clipped_gradient_sum, clipped_gradient_sums
from clients.learning.ghost_norms import Owners
from clients.learning.late_rows import LateRows
from clients.learning.patient_gradients import written
from clients.learning.per_sample import PerSample, filled
from tests.clients.learning.test_device import batch, net

pytestmark = pytest.mark.filterwarnings("ignore:Full backward hook is firing:UserWarning")
CLIP = 0.5


def late(records: Batch) -> Batch:
    rows = LateRows(records.inputs.numpy(), torch.arange(len(records)))
    return Batch(inputs=rows, labels=records.labels, patients=records.patients)


def each_alone(model, batches):
    return [clipped_gradient_sum(model, one, l2_clip=CLIP) for one in batches]


def assert_same(together, alone):
    for one, other in zip(together, alone, strict=True):
        np.testing.assert_allclose(one.total, other.total, rtol=1e-5, atol=1e-7)
        assert (one.patients, one.discarded) == (other.patients, other.discarded)
        assert one.reasons == other.reasons


@pytest.mark.parametrize("form", [lambda b: b, late], ids=["whole", "late"])
@pytest.mark.parametrize("chunk", [4, 16, 100])
def test_each_hospital_gets_the_sum_that_it_would_get_alone(form, chunk):
    model = PerSample(net())
    batches = [form(batch(n, p, n)) for n, p in ((5, 5), (0, 1), (9, 3), (1, 1), (13, 4))]
    together = clipped_gradient_sums(model, batches, l2_clip=CLIP, chunk_records=chunk)
    assert_same(together, each_alone(model, batches))
    assert not together[1].total.any() and together[0].total.any()


def test_hospitals_of_late_and_whole_records_are_joined():
    model = PerSample(net())
    batches = [late(batch(5, 5, 1)), batch(4, 2, 2)]
    assert_same(clipped_gradient_sums(model, batches, l2_clip=CLIP), each_alone(model, batches))


def test_what_one_hospital_cannot_compute_is_told_to_it_alone():
    """A patient who raises ends the pass of all; it is done again, and only theirs is zero."""

    class Refuses(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = net()

        def forward(self, rows: torch.Tensor) -> torch.Tensor:
            if bool((rows[:, 0, 0, 0] == 77.0).any()):
                raise ArithmeticError("seventy-seven")
            made: torch.Tensor = self.inner(rows)
            return made

    model = PerSample(Refuses())
    bad, unread, huge, good = batch(6, 3, 1), batch(5, 5, 2), batch(4, 4, 3), batch(6, 6, 4)
    bad.inputs[2::3, 0, 0, 0] = 77.0
    unread.inputs[1] = torch.nan
    huge.inputs[0] = 1e38
    batches = [late(one) for one in (bad, unread, huge, good)]
    together = clipped_gradient_sums(model, batches, l2_clip=CLIP)
    assert_same(together, each_alone(model, batches))
    assert [one.discarded for one in together] == [1, 1, 1, 0]
    assert "seventy-seven" in together[0].reasons[0] and not together[3].reasons
    assert "could be read" in together[1].reasons[0]


def test_removing_a_patient_moves_their_own_hospitals_sum_by_one_clip_and_no_other():
    model = PerSample(net())
    before = [batch(9, 3, 1), batch(8, 8, 2)]
    kept = before[0].patients != 1
    gone = take(before[0], torch.nonzero(kept).flatten())
    one = clipped_gradient_sums(model, before, l2_clip=1e-3)
    other = clipped_gradient_sums(model, [gone, before[1]], l2_clip=1e-3)
    assert 0.9e-3 < np.linalg.norm(one[0].total - other[0].total) <= 1e-3
    np.testing.assert_allclose(one[1].total, other[1].total, rtol=1e-5, atol=1e-9)


def test_passes_hold_as_many_hospitals_as_fit():
    patients = [torch.arange(n) for n in (3, 4, 9, 2)]
    found = [[(n, len(rows)) for n, rows in one] for one in passes(patients, 8)]
    assert found == [[(0, 3), (1, 4)], [(2, 8)], [(2, 1), (3, 2)]]


@pytest.mark.parametrize(("records", "patients"), [(16, 16), (17, 17), (5, 2), (1, 1)])
def test_passes_that_are_filled_hold_the_same_gradients_of_those_who_are_there(records, patients):
    model = PerSample(net())
    some = batch(records, patients, 1)
    rows = next(chunks_of_patients(some.patients, records))
    _, owners = Owners.of(some.patients[rows])
    inputs, labels, all_owners = filled(some.inputs[rows], some.labels[rows], owners, records + 7)
    assert len(inputs) == len(labels) == len(all_owners.index) == records + 7
    whole = model.means(inputs, labels, all_owners)
    alone = model.means(some.inputs[rows], some.labels[rows], owners)
    for one, other in zip(alone, whole, strict=True):
        torch.testing.assert_close(written(one), written(other[:patients]))
