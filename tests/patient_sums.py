"""What a sum of clipped gradients must be: of one patient after the other, by autograd alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn

    from clients.learning.batch import Batch


def one_by_one(
    module: nn.Module,
    loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    batch: Batch,
    *,
    l2_clip: float,
) -> torch.Tensor:
    """Return the sum, float64 ``[d]``, of each patient's mean gradient, clipped.

    Args:
        module: takes the batch's inputs.
        loss: (outputs, targets) -> the sum of the records' losses.
        batch: of all patients.
        l2_clip: bound of each one's norm.
    """
    total = torch.zeros(sum(one.numel() for one in module.parameters()), dtype=torch.float64)
    for patient in batch.patients.unique():
        rows = torch.nonzero(batch.patients == patient).flatten()
        value = loss(module(batch.inputs[rows]), batch.labels[rows]) / len(rows)
        parts = torch.autograd.grad(value, list(module.parameters()))
        gradient = torch.cat([part.reshape(-1) for part in parts]).double()
        total += gradient * min(1.0, l2_clip / float(gradient.norm()))
    return total
