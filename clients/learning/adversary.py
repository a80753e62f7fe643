"""Records as an adversary would change them, for a model that learns to withstand it.

Madry et al. (2018), "Towards deep learning models resistant to adversarial attacks", section 2.1:
each record is moved a few steps along the sign of its loss' gradient, no value by more than a
radius and none out of its public range; the gradient that the model learns from is taken there.

Formal guarantee: what a record becomes is a function of this record, its label and the model alone,
which no other patient's records of the round enter. So a patient's gradient is still their own: it
is clipped, sampled and counted as it was.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import torch
from torch.func import functional_call

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn

    Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]

#: Steps, and the length of each in radii.
STEPS, STRIDE = 3, 0.5


def changed_against(
    loss_of: Callable[[torch.Tensor], torch.Tensor],
    rows: torch.Tensor,
    *,
    reach: float,
    bounds: tuple[float, float],
    steps: int,
    stride: float,
) -> torch.Tensor:
    """Return records that a model is likelier to be wrong about, of the same shape.

    Args:
        loss_of: from records to the sum of their losses, none of which depends on another's.
        rows: float32 ``[n, *shape]``.
        reach: how far a value may move.
        bounds: lowest and highest value.
        steps: along the sign of the gradient, from the record itself.
        stride: of a step, in units of a value.
    """
    low, high = bounds
    moved = rows.detach().clone()
    for _ in range(steps):
        moved.requires_grad_(True)
        (slope,) = torch.autograd.grad(loss_of(moved), moved)
        moved = moved.detach() + stride * slope.sign()
        moved = torch.minimum(torch.maximum(moved, rows - reach), rows + reach)
        moved = moved.clamp(low, high)
    return moved


class Adversary:
    """Changes records against a model as it is now.

    Args:
        module: the model; a copy of it is asked, which no hook of its own is attached to.
        loss: (outputs, targets) -> the sum of the records' losses.
        radius: how far a value may move, in widths of the range.
        bounds: lowest and highest value of an input; public.
    """

    def __init__(
        self, module: nn.Module, loss: Loss, *, radius: float, bounds: tuple[float, float]
    ) -> None:
        self._module, self._loss, self._bounds = module, loss, bounds
        self._asked = copy.deepcopy(module)
        self._reach = radius * (bounds[1] - bounds[0])

    def meet(self, inputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Return the records ``[n, *shape]`` as it changes them, on the model's device."""
        weights = {name: one.detach() for name, one in self._module.named_parameters()}

        def loss_of(rows: torch.Tensor) -> torch.Tensor:
            return self._loss(functional_call(self._asked, weights, (rows,)), labels)

        return changed_against(
            loss_of,
            inputs,
            reach=self._reach,
            bounds=self._bounds,
            steps=STEPS,
            stride=STRIDE * self._reach,
        )
