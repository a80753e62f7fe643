"""The way back through a recorded layer that takes it by itself, against autograd in float64."""

from __future__ import annotations

import pytest
import torch
from torch.nn import Parameter, functional

from clients.learning.ghost_norms import Owners
from clients.learning.recorded_pass import RecordedPass

GROUPS, CHANNELS = 3, 12


def _normalised(inputs: torch.Tensor, parameters: dict[str, Parameter], loss: torch.Tensor) -> None:
    outputs = functional.group_norm(inputs, GROUPS, **parameters)
    torch.autograd.backward((outputs * loss.to(outputs.dtype)).sum())


@pytest.mark.parametrize("space", [(), (9,), (5, 7), (2, 3, 4)], ids=str)
@pytest.mark.parametrize("last", [False, True], ids=["channels first", "channels last"])
@pytest.mark.parametrize(
    ("weight", "bias"),
    [("trained", "trained"), ("frozen", "trained"), ("trained", "frozen")],
)
def test_group_norm_goes_back_as_near_to_float64_as_torch_does(
    space: tuple[int, ...], last: bool, weight: str, bias: str
) -> None:
    """Means far from 0 and records of very different size: what is subtracted is large."""
    torch.manual_seed(3)
    records = (torch.randn(4, CHANNELS, *space) * 2 + 5).mul(
        torch.tensor([1.0, 1e-3, 1e3, 1.0]).reshape(4, *[1] * (1 + len(space)))
    )
    if last and len(space) == 2:
        records = records.contiguous(memory_format=torch.channels_last)
    loss = torch.randn(records.shape)
    states = {"weight": weight, "bias": bias}
    values = {name: torch.rand(CHANNELS) + 0.5 for name in states}

    def gradient(dtype: torch.dtype, recorded: bool) -> torch.Tensor:
        inputs = records.detach().to(dtype).requires_grad_()
        parameters = {
            name: Parameter(one.to(dtype), requires_grad=states[name] == "trained")
            for name, one in values.items()
        }
        if recorded:
            trained = [one for one in parameters.values() if one.requires_grad]
            alone = Owners.of(torch.arange(len(records)))[1]
            with RecordedPass(trained, alone) as record:
                _normalised(inputs, parameters, loss)
            record.gradients()
        else:
            _normalised(inputs, parameters, loss)
        assert inputs.grad is not None
        return inputs.grad.double().flatten(1)

    exact = gradient(torch.float64, recorded=False)
    ours, torchs = (
        (gradient(torch.float32, recorded) - exact).norm(dim=1) for recorded in (True, False)
    )
    assert bool((ours <= 4 * torchs + 1e-6 * exact.norm(dim=1)).all()), (ours, torchs)


@pytest.mark.parametrize("mean", [1.0, 1e2, 1e4])
@pytest.mark.parametrize(("groups", "space"), [(12, ()), (12, (6, 5)), (3, (6, 5))], ids=str)
def test_a_group_of_equal_values_goes_back_exactly_however_large_they_are(
    groups: int, space: tuple[int, ...], mean: float
) -> None:
    """Nothing is left of them but rounding, times an inverse deviation of 316, to the third."""
    torch.manual_seed(4)
    ones = torch.ones(4, CHANNELS, *space)
    values = torch.randn(4, groups, 1).expand(4, groups, CHANNELS // groups).reshape(4, CHANNELS)
    inputs = (ones * values.reshape(4, CHANNELS, *[1] * len(space)) * mean).requires_grad_()
    bias, loss = Parameter(torch.zeros(CHANNELS)), torch.randn(ones.shape)
    weight = Parameter(torch.rand(CHANNELS) + 0.5)
    with RecordedPass([weight, bias], Owners.of(torch.arange(4))[1]) as record:
        outputs = functional.group_norm(inputs, groups, weight, bias)
    torch.autograd.backward((outputs * loss).sum())
    record.gradients()
    assert inputs.grad is not None
    scaled = (loss * weight.detach().reshape(-1, *[1] * len(space))).double()
    grouped = scaled.reshape(4, groups, -1)
    expected = (grouped - grouped.mean(dim=2, keepdim=True)).reshape(ones.shape) / 1e-5**0.5
    torch.testing.assert_close(inputs.grad.double(), expected, rtol=0, atol=2e-3)
