"""The loss that a training teaches by: of the run's task, or what an app brings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from clients.tasks.catalogue import task_of
from clients.tasks.classification import Classification

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch

    from clients.data.records import DatasetInfo

    #: (outputs, targets) -> the sum of the records' losses, none of which depends on another.
    SummedLoss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def loss_of(info: DatasetInfo) -> SummedLoss | None:
    """Return the summed loss of a data set's records.

    None: cross-entropy of classes, which models with per-sample gradients compute by themselves.
    """
    own = info.own
    if own is not None:
        return own.summed_loss if own.loss is not None else None
    question = info.question
    task = task_of(question)
    if isinstance(task, Classification):
        return None

    def summed(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return task.losses(outputs, question.formed(targets)).sum()

    return summed
