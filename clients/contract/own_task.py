"""What an app of one's own brings beside records: a model, and a loss or a loop that trains it.

Whoever writes a Flower app hands these over as Python objects; nothing is imported at a server's
word. A loss is called with one record at a time, so that it cannot mix patients, whatever it does
with a batch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import nn

    #: (outputs ``[1, ...]``, targets ``[1, ...]``) of one record -> its loss.
    Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
    Tensors = Mapping[str, torch.Tensor]
    #: (round, tensors before) -> tensors after, and how many examples they learnt from.
    Loop = Callable[[int, Tensors], tuple[Tensors, float]]


@dataclass(frozen=True, kw_only=True)
class OwnTask:
    """A model and how it is taught.

    Attributes:
        module: SHA-256 of the tensors that a training begins with -> the model with these.
        loss: of one record; None for cross-entropy on class numbers.
        target_shape: of one record's target.
        target_dtype: of targets, as torch names it.
        target_values: how many whole numbers, from 0, a made-up target can be; 0: as many as a
            model has outputs.
        loop: an app's own training; None where gradients are computed here.
    """

    module: Callable[[str], nn.Module]
    loss: Loss | None = None
    target_shape: tuple[int, ...] = ()
    target_dtype: str = "int64"
    target_values: int = 0
    loop: Loop | None = None

    def summed_loss(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return the sum of the records' losses, each computed alone."""
        import torch

        assert self.loss is not None
        targets = formed(targets, self.target_shape, self.target_dtype)
        each = [
            self.loss(outputs[row : row + 1], targets[row : row + 1]).mean()
            for row in range(len(targets))
        ]
        return torch.stack(each).sum()


def formed(targets: torch.Tensor, shape: tuple[int, ...], dtype: str) -> torch.Tensor:
    """Return targets ``[n, *shape]``; a number for each record stands for all of its own.

    Args:
        targets: ``[n, *shape]``, or ``[n]``: devices are tried on made-up records, whose targets
            are made-up whole numbers.
        shape: of one record's target.
        dtype: of targets, as torch names it.
    """
    import torch

    targets = targets.to(getattr(torch, dtype))
    if targets.shape[1:] == shape:
        return targets
    ones = [1] * len(shape)
    return targets.reshape(-1, *ones).expand(-1, *shape)
