"""A task of one's own: `package.module:name`, a class or function of a `Question`.

It has `outputs` and `losses`; `measures`, `judged`, `answers`, `truths` and `headline` where it
wants to be judged and to predict. Its losses are asked of one record at a time, so that it cannot
mix patients, whatever it does with a batch::

    class Quantile:
        outputs = 1

        def __init__(self, question):
            self.low, self.high = question.range

        def losses(self, outputs, targets):
            error = (targets - self.low) / (self.high - self.low) - outputs[:, 0]
            return torch.maximum(0.9 * error, -0.1 * error)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from clients.tasks.question import Question
    from clients.tasks.task import Outputs, Targets


class Own:
    """Somebody's own task, with what it leaves out."""

    def __init__(self, question: Question, made_by: Callable[[Question], Any]) -> None:
        self.question = question
        self._own = made_by(question)
        self.headline = str(getattr(self._own, "headline", "loss"))

    @property
    def outputs(self) -> int:
        """As the task says."""
        return int(self._own.outputs)

    def losses(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return the loss of each record, each computed alone."""
        import torch

        rows = [slice(row, row + 1) for row in range(len(targets))]
        return torch.stack([self._own.losses(outputs[r], targets[r]).mean() for r in rows])

    def batched(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return what the task itself makes of several records, for whoever compares the two."""
        found: torch.Tensor = self._own.losses(outputs, targets)
        return found

    def measures(self, outputs: Outputs, targets: Targets) -> dict[str, float]:
        """Return the task's own figures; the mean loss where it has none."""
        if hasattr(self._own, "measures"):
            return {str(k): float(v) for k, v in self._own.measures(outputs, targets).items()}
        import numpy as np
        import torch

        if not len(targets):
            return {"loss": float("nan")}
        given = torch.from_numpy(np.array(outputs, dtype=np.float32))
        with torch.no_grad():
            made = self.losses(given, self.question.formed(torch.from_numpy(np.array(targets))))
        return {"loss": float(made.mean())}

    def judged(self, outputs: Outputs, targets: Targets) -> dict[str, Any]:
        """Return what the task shows beside its figures; nothing where it shows nothing."""
        found = getattr(self._own, "judged", None)
        return dict(found(outputs, targets)) if found else {}

    def answers(self, outputs: Outputs) -> dict[str, list[Any]]:
        """Return the task's own columns; the outputs as they are where it has none."""
        if hasattr(self._own, "answers"):
            return dict(self._own.answers(outputs))
        rows = outputs.reshape(len(outputs), -1)
        return {f"output {k}": rows[:, k].tolist() for k in range(rows.shape[1])}

    def truths(self, targets: Targets) -> dict[str, list[Any]]:
        """Return the task's own columns; the targets as they are where it has none."""
        if hasattr(self._own, "truths"):
            return dict(self._own.truths(targets))
        rows = targets.reshape(len(targets), -1)
        return {f"target {k}": rows[:, k].tolist() for k in range(rows.shape[1])}
