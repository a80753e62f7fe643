"""What a model says of records where it tells no one class of several: in its task's words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from accounting.private import Unreleased
from clients.tasks.catalogue import name_of, task_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from clients.prediction.asked import Asked
    from clients.prediction.predictor import Predictor
    from clients.tasks.task import Task


@dataclass(frozen=True, kw_only=True)
class Answered(Unreleased):
    """What a model says of the records that it was asked about.

    Attributes:
        asked: the records.
        task: how answers are read and judged.
        outputs: float [m, outputs, ...], of the records that can be read.
    """

    asked: Asked
    task: Task
    outputs: NDArray[np.floating]

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of what is told; none of a measurement."""
        return self.task.question.names

    def columns(self) -> dict[str, list[Any]]:
        """Return the table of answers: column -> a value for each record, None for none."""
        count, rows = len(self.asked), self.asked.rows
        table: dict[str, list[Any]] = {name: list(v) for name, v in self.asked.keys.items()}
        for name, values in self.task.answers(self.outputs).items():
            column: list[Any] = [None] * count
            for row, value in zip(rows.tolist(), values, strict=True):
                column[row] = value
            table[name] = column
        if self.asked.labels is not None:
            table |= self.task.truths(self.asked.labels)
        table["note"] = list(self.asked.notes)
        return table

    def evaluation(self) -> dict[str, Any]:
        """Return how good the answers are where the truth is told; JSON-ready.

        Raises:
            ValueError: it is told of no record that can be read.
        """
        labels = self.asked.labels
        if labels is None:
            raise ValueError("no record has its truth beside it")
        truth = labels[self.asked.rows]
        told = self.task.question.known(truth)
        if not told.any():
            raise ValueError("no record that can be read has its truth beside it")
        outputs, truth = self.outputs[told], truth[told]
        return {
            "records": len(truth),
            "task": name_of(self.task.question),
            **self.task.measures(outputs, truth),
            "rows": self.task.judged(outputs, truth).get("rows", []),
        }


def answer(predictor: Predictor, asked: Asked) -> Answered:
    """Return what a model says of records."""
    task = task_of(predictor.artefact.info.question)
    return Answered(asked=asked, task=task, outputs=predictor.logits(asked.inputs))
