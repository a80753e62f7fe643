"""A task: how targets are learnt, and what a model's answers are worth.

    task = task_of(info.question)
    task.losses(outputs, targets)       # one for each record, of that record alone
    task.measures(outputs, targets)     # on public records

A patient's gradient is clipped by itself, so a loss is a sum over records of something that depends
on that record alone. Whatever compares records with each other (a partial likelihood, a batch's
mean, pairs that are to be ranked) has no place here: its gradient would be one patient's and
another's at once, and no clip could bound what either of them changes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

    from clients.tasks.question import Question

    Outputs = NDArray[np.floating]
    Targets = NDArray[Any]


class Task(Protocol):
    """How one kind of question is learnt and judged."""

    @property
    def question(self) -> Question:
        """The public form of what is learnt."""
        ...

    @property
    def headline(self) -> str:
        """Name of the measure that a model is judged by first."""
        ...

    @property
    def outputs(self) -> int:
        """Values that a model says of a record, or of each pixel of it."""
        ...

    def losses(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return the loss of each record, float ``[n]``.

        Formal guarantee: a record's loss depends on its own outputs and target alone.

        Args:
            outputs: ``[n, outputs, ...]``, as a model gives them.
            targets: in the form of the question.
        """
        ...

    def measures(self, outputs: Outputs, targets: Targets) -> dict[str, float]:
        """Return figures of a model on public records, `headline` among them; NaN where undefined.

        Args:
            outputs: ``[n, outputs, ...]``.
            targets: in the form of the question.
        """
        ...

    def judged(self, outputs: Outputs, targets: Targets) -> dict[str, Any]:
        """Return what a report shows beside the measures, JSON-ready.

        `rows`: a line for each label, horizon or class, `name` first; others are drawn.
        """
        ...

    def answers(self, outputs: Outputs) -> dict[str, list[Any]]:
        """Return what is said of each record, column by column."""
        ...

    def truths(self, targets: Targets) -> dict[str, list[Any]]:
        """Return targets as `answers` are written, column by column; None for an unknown one."""
        ...
