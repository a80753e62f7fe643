"""A patient whose records cannot be computed counts as zero, and moves nobody else's part."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from clients.learning import pass_gradients
from clients.learning.augmentation import augmented
from clients.learning.batch import Batch, take
from clients.learning.device_check import DeviceError, check_computes
from clients.learning.dp_sgd import GradientSum, clip_factors, clipped_gradient_sum
from clients.learning.late_rows import LateRows
from clients.learning.per_sample import PerSample
from clients.learning.split_ends import Part, by_patient

pytestmark = pytest.mark.filterwarnings("ignore:Full backward hook is firing:UserWarning")

CLIP = 0.5
PATIENTS = 40
FAULTY = 17
#: What breaks the layer below, in the first column of a record.
BREAKS = 99.0


class _Fragile(nn.Module):
    """A layer that raises for some values of a record, forward or backward."""

    def __init__(self, moment: str = "forward") -> None:
        super().__init__()
        self.moment = moment

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        if self.moment == "always":
            raise RuntimeError("device-side assert triggered")
        if self.moment == "forward" and bool((inputs[:, 0] == BREAKS).any()):
            raise RuntimeError("cannot take this record")
        if self.moment == "backward" and inputs.requires_grad:
            broken = bool((inputs[:, 0] == BREAKS).any())
            inputs.register_hook(lambda gradient: _raise() if broken else gradient)
        return inputs


def _raise() -> torch.Tensor:
    raise RuntimeError("cannot take this record")


def _model(moment: str = "forward") -> PerSample:
    torch.manual_seed(0)
    first = nn.Linear(6, 6)
    with torch.no_grad():
        first.weight.copy_(torch.eye(6))
        first.bias.zero_()
    return PerSample(nn.Sequential(first, _Fragile(moment), nn.Tanh(), nn.Linear(6, 3)))


def _batch(records: int = 2) -> Batch:
    generator = torch.Generator().manual_seed(1)
    patients = torch.arange(PATIENTS).repeat_interleave(records)
    inputs = 3 * torch.randn(len(patients), 6, generator=generator)
    labels = torch.zeros(len(patients), dtype=torch.long)
    return Batch(inputs=inputs, labels=labels, patients=patients)


def _without(batch: Batch, patient: int) -> Batch:
    rows = batch.patients != patient
    return Batch(
        inputs=batch.inputs[rows], labels=batch.labels[rows], patients=batch.patients[rows]
    )


def _sum(batch: Batch, moment: str = "forward") -> GradientSum:
    return clipped_gradient_sum(_model(moment), batch, l2_clip=CLIP)


def _spoilt(how: str) -> Batch:
    batch = _batch()
    first = int(torch.nonzero(batch.patients == FAULTY)[0])
    match how:
        case "raises":
            batch.inputs[first, 0] = BREAKS
        case "unreadable":
            batch.inputs[first : first + 2] = torch.nan
        case "label":
            batch.labels[first] = 7
        case "overflows":
            batch.inputs[first] = 3e38
    return batch


@pytest.mark.parametrize("spoilt", [(), (2 * FAULTY,), (2 * FAULTY, 2 * FAULTY + 1)])
def test_rows_that_are_read_late_give_the_same_sum(spoilt: tuple[int, ...]) -> None:
    """None unreadable, one record of a patient, all records of one."""
    batch = _batch()
    batch.inputs[list(spoilt)] = torch.nan
    rows = LateRows(batch.inputs.numpy(), torch.arange(len(batch)))
    late = Batch(inputs=rows, labels=batch.labels, patients=batch.patients)
    here, found = _sum(batch), _sum(late)
    np.testing.assert_allclose(found.total, here.total, rtol=1e-12, atol=1e-12)
    assert (found.patients, found.discarded) == (here.patients, here.discarded)
    assert found.reasons == here.reasons


@pytest.mark.parametrize("how", ["raises", "unreadable", "label", "overflows"])
def test_removing_a_faulty_patient_moves_the_sum_by_no_more_than_the_clip(how: str) -> None:
    faulty = _spoilt(how)
    found, without = _sum(faulty), _sum(_without(faulty, FAULTY))
    assert np.linalg.norm(found.total - without.total) <= CLIP
    assert found.patients == PATIENTS
    # Negative control: had the batch been given up, the same neighbours would differ by far more.
    emptied = np.zeros_like(found.total)
    assert np.linalg.norm(emptied - without.total) > 10 * CLIP


@pytest.mark.parametrize("how", ["raises", "unreadable", "label"])
def test_a_faulty_patient_counts_as_zero_and_the_log_says_why(how: str) -> None:
    found = _sum(_spoilt(how))
    np.testing.assert_allclose(found.total, _sum(_without(_batch(), FAULTY)).total, atol=1e-6)
    assert found.discarded == 1
    [reason] = found.reasons
    assert reason.startswith("1 patients: ")
    assert reason not in repr(found)


def test_one_record_that_cannot_be_read_leaves_its_patient_the_others() -> None:
    batch = _batch()
    row = int(torch.nonzero(batch.patients == FAULTY)[0])
    rows = torch.arange(len(batch)) != row
    fewer = Batch(
        inputs=batch.inputs[rows], labels=batch.labels[rows], patients=batch.patients[rows]
    )
    batch.inputs[row] = torch.nan
    found = _sum(batch)
    np.testing.assert_array_equal(found.total, _sum(fewer).total)
    assert found.discarded == 0


@pytest.mark.parametrize("moment", ["forward", "backward"])
def test_a_broken_pass_leaves_nothing_behind_for_the_next(moment: str) -> None:
    model = _model(moment)
    faulty = clipped_gradient_sum(model, _spoilt("raises"), l2_clip=CLIP)
    assert faulty.discarded == 1
    after = clipped_gradient_sum(model, _batch(), l2_clip=CLIP)
    np.testing.assert_array_equal(after.total, _sum(_batch(), moment).total)


def test_copies_of_an_unreadable_picture_leave_the_other_copies_alone() -> None:
    from accounting.randomness import Stream

    def copies(spoil: bool) -> Batch:
        batch = Batch(
            inputs=torch.linspace(0, 1, 3 * 64).reshape(3, 1, 8, 8),
            labels=torch.zeros(3, dtype=torch.long),
            patients=torch.arange(3),
        )
        if spoil:
            batch.inputs[1] = torch.nan
        return augmented(batch, copies=4, stream=Stream.from_seed(0, "copies")).made()

    spoilt, whole = copies(True), copies(False)
    others = spoilt.patients != 1
    assert torch.equal(spoilt.inputs[others], whole.inputs[others])
    assert bool(torch.isnan(spoilt.inputs[~others]).all())


def test_a_patient_with_very_many_records_is_summed_piece_by_piece(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    batch = _batch(records=100)
    whole = clipped_gradient_sum(_model(), batch, l2_clip=CLIP)
    monkeypatch.setattr(pass_gradients, "PATIENT_RECORDS", 50)
    pieces = clipped_gradient_sum(_model(), batch, l2_clip=CLIP)
    np.testing.assert_allclose(pieces.total, whole.total, rtol=1e-4, atol=1e-6)


def test_made_up_records_tell_a_broken_device_from_faulty_records() -> None:
    check_computes(_model(), (6,), 3)
    with pytest.raises(DeviceError, match="cannot be computed here"):
        check_computes(_model("always"), (6,), 3)
    with pytest.raises(DeviceError, match="shape"):
        check_computes(_model(), (5,), 3)


def test_a_trial_draws_nothing_from_the_global_generator_and_keeps_no_gradient() -> None:
    model = _model()
    before = torch.get_rng_state()
    check_computes(model, (6,), 3)
    assert torch.equal(before, torch.get_rng_state())
    assert all(p.grad is None and p.grad_sample is None for p in model.parameters)


def test_where_nobody_can_be_computed_the_device_is_tried_again() -> None:
    batch = _batch()
    batch.inputs[:, 0] = BREAKS
    found = _sum(batch)
    assert found.discarded == PATIENTS
    assert not found.total.any()
    with pytest.raises(DeviceError):
        _sum(batch, "always")


def test_at_a_split_end_a_record_that_raises_counts_as_zero_alone() -> None:
    def patients(batch: Batch) -> torch.Tensor:
        part = Part(nn.Sequential(*_model().module.children()))
        weights = torch.full((len(batch),), 0.5)
        gradients, at_input = part.backward_from_loss(batch.inputs, batch.labels, weights)
        assert bool(torch.isfinite(at_input).all())
        return by_patient(gradients, batch.patients, PATIENTS)

    spoilt, whole = patients(_spoilt("raises")), patients(_batch())
    factors = clip_factors(spoilt.square().sum(dim=1), CLIP)
    assert factors[FAULTY] == 0
    assert int((factors == 0).sum()) == 1
    others = torch.arange(PATIENTS) != FAULTY
    np.testing.assert_allclose(spoilt[others], whole[others], rtol=1e-4, atol=1e-5)


def test_outputs_of_a_split_end_are_zeros_for_a_record_that_raises() -> None:
    part = Part(nn.Sequential(*_model().module.children()))
    batch, whole = _spoilt("raises"), _batch()
    batch.inputs[0] = torch.nan
    outputs, expected = part.outputs(batch.inputs, (3,)), part.outputs(whole.inputs, (3,))
    zeros = ~outputs.any(dim=1)
    assert torch.nonzero(zeros).flatten().tolist() == [0, 2 * FAULTY]
    np.testing.assert_allclose(outputs[~zeros], expected[~zeros], rtol=1e-5, atol=1e-6)


def test_outputs_of_a_split_end_are_zeros_where_every_record_raises() -> None:
    alone = _spoilt("raises").inputs[2 * FAULTY : 2 * FAULTY + 1]
    part = Part(nn.Sequential(*_model().module.children()))
    assert part.outputs(alone, (3,)).tolist() == [[0.0, 0.0, 0.0]]
    with pytest.raises(DeviceError, match="device-side"):
        Part(nn.Sequential(_Fragile("always"))).outputs(alone, (3,))


@pytest.mark.parametrize("way", ["hooks", "recorded"])
def test_after_a_record_that_raises_others_pass_in_as_large_a_company(way: str) -> None:
    """Passes of another size are rounded in another way: at a kink that turns a whole gradient."""
    sizes, module = [], nn.Sequential(_Fragile(), nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 3))
    model = PerSample(module, way=way)
    model.choose_pass((6,))
    module.register_forward_pre_hook(lambda _, given: sizes.append(len(given[0])))
    batch = _batch(records=1)
    batch = Batch(inputs=batch.inputs[:32], labels=batch.labels[:32], patients=batch.patients[:32])
    rest = torch.arange(32) != FAULTY
    without = clipped_gradient_sum(model, take(batch, torch.nonzero(rest).flatten()), l2_clip=CLIP)
    expected = {model.chunk_records}
    assert {*sizes} == expected
    sizes.clear()
    batch.inputs[FAULTY, 0] = BREAKS
    found = clipped_gradient_sum(model, batch, l2_clip=CLIP)
    assert found.discarded == 1
    assert len(sizes) > 1
    assert {*sizes} == expected
    np.testing.assert_allclose(found.total, without.total, rtol=1e-5, atol=1e-7)


def test_at_a_split_end_others_pass_in_as_large_a_company() -> None:
    sizes, part = [], Part(nn.Sequential(*_model().module.children()))
    part.module[0].register_forward_pre_hook(lambda _, given: sizes.append(len(given[0])))
    batch = _spoilt("raises")
    part.outputs(batch.inputs, (3,))
    part.backward_from_loss(batch.inputs, batch.labels, torch.ones(len(batch)))
    assert len(sizes) > 2
    assert {*sizes} == {len(batch)}
