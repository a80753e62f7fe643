"""Gradients that are taken for another record's: what a patient changes is not one clipped one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from clients.data.records import DatasetInfo
from clients.learning.batch import Batch
from clients.learning.device_check import check_computes
from clients.learning.dp_sgd import clipped_gradient_sum
from clients.learning.per_sample import PerSample
from clients.learning.row_check import check_rows
from clients.models.errors import ModelError
from clients.models.readiness import check_private_ready

pytestmark = pytest.mark.filterwarnings("ignore:Full backward hook is firing:UserWarning")


class _StepsFirst(nn.Module):
    """Gives its layer the steps of a series along the first axis."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(3, 2)

    def forward(self, series: torch.Tensor) -> torch.Tensor:
        return self.inner(series.transpose(0, 1)).mean(dim=0)


class _Ordered(nn.Module):
    """Gives one of its layers the records in another order."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.inner, self.outer, self.how = nn.Linear(3, 4), nn.Linear(4, 2), how

    def order(self, rows: torch.Tensor) -> torch.Tensor:
        match self.how:
            case "turned round":
                return torch.arange(len(rows)).flip(0)
            case "by length":
                return (rows != 0).sum(dim=1).argsort(descending=True, stable=True)
            case "by value":
                return rows[:, 0].argsort()
        return torch.arange(len(rows))

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        order = self.order(rows)
        return self.outer(torch.tanh(self.inner(rows[order]))[order.argsort()])


def _info(shape: tuple[int, ...]) -> DatasetInfo:
    return DatasetInfo(name="t", title="t", task="binary", shape=shape, classes=("a", "b"))


def _furthest(model: PerSample, shape: tuple[int, ...]) -> float:
    """The most that a sum moves when one of two patients is removed."""
    moves = []
    for seed in range(20):
        random = torch.Generator().manual_seed(seed)
        inputs, labels = 30 * torch.randn(2, *shape, generator=random), torch.tensor([0, 1])
        batch = Batch(inputs=inputs, labels=labels, patients=torch.arange(2))
        one = Batch(inputs=inputs[:1], labels=labels[:1], patients=torch.arange(1))
        sums = [clipped_gradient_sum(model, b, l2_clip=1.0).total for b in (batch, one)]
        moves.append(float(np.linalg.norm(sums[0] - sums[1])))
    return max(moves)


@pytest.mark.parametrize("how", ["turned round", "by length", "by value"])
def test_a_model_that_orders_records_is_refused(how: str) -> None:
    model, info = _Ordered(how), _info((3,))
    check_private_ready(model, info)
    check_computes(PerSample(model), (3,), 2)
    with pytest.raises(ModelError, match="another order") as found:
        check_rows(_Ordered(how), info, (3,))
    assert found.value.code == "not-private-ready"


def test_what_is_refused_would_move_a_sum_by_more_than_the_clip() -> None:
    torch.manual_seed(0)
    for way in ("hooks", "recorded"):
        assert _furthest(PerSample(_Ordered("by value"), way=way), (3,)) > 1.1
        assert _furthest(PerSample(_Ordered("as they come"), way=way), (3,)) <= 1.0


@pytest.mark.parametrize("steps", [2, 4, 7])
def test_a_model_with_another_axis_first_is_refused(steps: int) -> None:
    model, info = _StepsFirst(), _info((steps, 3))
    check_private_ready(model, info)
    with pytest.raises(ModelError, match="along the first axis"):
        check_rows(model, info, (steps, 3))
    with pytest.raises(ValueError, match="one input for each record"):
        PerSample(model).gradients(torch.zeros(3, steps, 3), torch.zeros(3, dtype=torch.long))


@pytest.mark.parametrize(
    ("model", "shape"),
    [
        pytest.param(lambda: _Ordered("as they come"), (3,), id="as they come"),
        pytest.param(
            lambda: nn.Sequential(
                nn.Conv2d(1, 4, 3), nn.GroupNorm(2, 4), nn.Flatten(), nn.Linear(64, 2)
            ),
            (1, 6, 6),
            id="pictures",
        ),
        pytest.param(
            lambda: nn.Sequential(nn.Conv2d(1, 32, 3), nn.Flatten(), nn.Linear(32 * 400, 30)),
            (1, 22, 22),
            id="recorded",
        ),
    ],
)
def test_others_are_taken_and_left_as_they_were(model, shape) -> None:
    module = model()
    before = {name: one.clone() for name, one in module.state_dict().items()}
    state = torch.random.get_rng_state()
    check_rows(module, _info(shape), shape)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(before[name], one) for name, one in module.state_dict().items())
    assert not any(layer._forward_hooks for layer in module.modules())


def test_layers_that_write_in_place_are_hooked_all_the_same() -> None:
    def net(inplace: bool) -> nn.Sequential:
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(3, 4), nn.ReLU(inplace), nn.Linear(4, 2))

    records, labels = torch.randn(5, 3), torch.arange(5) % 2
    check_rows(net(True), _info((3,)), (3,))
    found = [PerSample(net(one), way="hooks").gradients(records, labels) for one in (True, False)]
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=0.0, atol=0.0)
