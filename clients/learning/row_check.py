"""Whether a record's gradient in a batch is the one that it has alone, on made-up records.

A model that treats each record alone may still hand its layers the records in another order, sorted
by length for example, or with another axis first. What a layer's gradient is made of is then taken
for another record's, or for a sum over all: what one patient changes would be no longer clipped as
one gradient. It catches mistakes, not malice.
"""

from __future__ import annotations

import copy
import math
from typing import TYPE_CHECKING

import torch
from torch import nn

from clients.learning.patient_gradients import written
from clients.learning.per_sample import PerSample
from clients.learning.task_loss import loss_of
from clients.models.errors import ModelError
from clients.models.independence import TOLERANCES, smaller

if TYPE_CHECKING:
    from collections.abc import Callable

    from clients.data.records import DatasetInfo

#: How much of each record is not zero: neither rising nor falling, whatever they are sorted by.
_FILLED = (0.5, 1.0, 0.25, 0.75)
#: Parameters beyond which smaller pictures are tried first.
_LARGE = 300_000


def check_rows(module: nn.Module, info: DatasetInfo, shape: tuple[int, ...]) -> None:
    """Insist that gradients of single records are theirs; the module is left as it was.

    Args:
        module: in training mode.
        info: public facts of the data set.
        shape: of one record as the model gets it.

    Raises:
        ModelError: `not-private-ready`: they are not, or cannot be computed.
    """
    large = sum(p.numel() for p in module.parameters()) > _LARGE
    shapes = [*(smaller(shape) if large else ()), shape]
    ways = [(one, dtype) for one in shapes for dtype in (torch.float64, torch.float32)]
    loss = loss_of(info)
    failure: Exception | None = None
    for one, dtype in ways:
        # A model may not run on small records, or insist on float32.
        try:
            same = _are_their_own(module, one, info.input_range, dtype, loss)
        except Exception as error:
            failure = error
            continue
        if same:
            return
        raise ModelError(
            "a record's gradient in a batch is not the one that it has alone: a layer is given "
            "the records in another order, or with another axis first. Keep records in the order "
            "in which they come, along the first axis (batch_first=True)",
            code="not-private-ready",
        )
    raise ModelError(
        f"gradients of single made-up records of shape {shape} cannot be computed ({failure}); "
        "every layer needs the records in the order in which they come, along the first axis",
        code="not-private-ready",
    )


def _are_their_own(
    module: nn.Module,
    shape: tuple[int, ...],
    input_range: tuple[float, float],
    dtype: torch.dtype,
    loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] | None,
) -> bool:
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.default_generator.manual_seed(0)
        model = PerSample(_moved(module, dtype), loss=loss)
        records, labels = _records(shape, input_range, dtype), torch.arange(len(_FILLED)) % 2
        found = model.gradients(records, labels)
        for number in range(len(records)):
            row = slice(number, number + 1)
            alone = [written(one) for one in model.gradients(records[row], labels[row])]
            scale = max(float(one.abs().max()) for one in alone)
            for one, expected in zip(found, alone, strict=True):
                apart = float((written(one, torch.tensor([number])) - expected).abs().max())
                # What is not a number tells nothing.
                if math.isfinite(apart) and apart > TOLERANCES[dtype] * scale:
                    return False
    return True


def _records(
    shape: tuple[int, ...], input_range: tuple[float, float], dtype: torch.dtype
) -> torch.Tensor:
    low, high = input_range
    made = low + (high - low) * torch.rand(len(_FILLED), *shape, dtype=dtype)
    for row, share in zip(made, _FILLED, strict=True):
        row.view(-1)[math.ceil(share * row.numel()) :] = 0.0
    return made


def _moved(module: nn.Module, dtype: torch.dtype) -> nn.Module:
    """Return a copy whose weights are moved at random: one of zeros would hide what is before."""
    moved = copy.deepcopy(module).to(dtype)
    with torch.no_grad():
        for parameter in moved.parameters():
            width = parameter[0].numel() if parameter.ndim > 1 else parameter.numel()
            parameter.add_(torch.randn_like(parameter) * 0.5 / max(width, 1) ** 0.5)
    return moved
