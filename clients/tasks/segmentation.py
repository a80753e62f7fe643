"""A class for each pixel or voxel: Dice and cross-entropy of each record by itself.

Dice is a ratio of sums. Taken over a batch, as losses often do, a record's share of it depends on
how large the other patients' lesions are; taken over one record it is that record's own, so its
gradient can be clipped. Both parts are means over the record's own pixels and classes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

    from clients.tasks.question import Question
    from clients.tasks.task import Outputs, Targets

#: Added above and below: a record without a class neither divides by zero nor pulls hard.
_SMOOTH = 1.0


@dataclass(frozen=True)
class Segmentation:
    """A logit for each class, of each pixel; the first class is the background."""

    question: Question
    headline: ClassVar[str] = "dice"

    @property
    def outputs(self) -> int:
        """A logit for each class."""
        return len(self.question.names)

    def losses(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return each record's mean cross-entropy, nats, plus one less its mean soft Dice."""
        from torch.nn import functional

        crossed = functional.cross_entropy(outputs, targets, reduction="none").flatten(1).mean(1)
        chances = outputs.softmax(dim=1)[:, 1:].flatten(2)
        truth = functional.one_hot(targets, self.outputs).movedim(-1, 1)[:, 1:].flatten(2)
        truth = truth.to(chances.dtype)
        both, either = (chances * truth).sum(2), chances.sum(2) + truth.sum(2)
        dice = ((2.0 * both + _SMOOTH) / (either + _SMOOTH)).mean(1)
        return crossed + 1.0 - dice

    def measures(self, outputs: Outputs, targets: Targets) -> dict[str, float]:
        """Return Dice over all but the background, each class's mean first, and pixel accuracy.

        A record in which a class is neither there nor said to be tells nothing of it.
        """
        if not len(targets):
            return dict.fromkeys(("dice", "pixel_accuracy"), math.nan)
        scores = self._dice(outputs, targets)
        each = [float(np.nanmean(one)) for one in scores.T if not np.isnan(one).all()]
        right = np.asarray(outputs).argmax(axis=1) == targets
        return {
            "dice": float(np.mean(each)) if each else math.nan,
            "pixel_accuracy": float(right.mean()),
        }

    def judged(self, outputs: Outputs, targets: Targets) -> dict[str, Any]:
        """Return each class's Dice: its mean and quarters over records."""
        scores, rows = self._dice(outputs, targets), []
        for number, name in enumerate(self.question.names[1:]):
            known = scores[~np.isnan(scores[:, number]), number]
            quarters = np.quantile(known, [0.25, 0.5, 0.75]) if len(known) else [math.nan] * 3
            rows.append(
                {
                    "name": name,
                    "records": len(known),
                    "dice": float(known.mean()) if len(known) else math.nan,
                    "lower_quarter": float(quarters[0]),
                    "median": float(quarters[1]),
                    "upper_quarter": float(quarters[2]),
                }
            )
        return {"rows": rows}

    def _dice(self, outputs: Outputs, targets: Targets) -> NDArray[np.float64]:
        """Return Dice of each record and class but the background; NaN where neither has it."""
        said = np.asarray(outputs).argmax(axis=1).reshape(len(targets), -1)
        truth = np.asarray(targets).reshape(len(targets), -1)
        scores = np.full((len(targets), self.outputs - 1), math.nan)
        for number in range(1, self.outputs):
            a, b = said == number, truth == number
            either = a.sum(axis=1) + b.sum(axis=1)
            both = (a & b).sum(axis=1)
            there = either > 0
            scores[there, number - 1] = 2.0 * both[there] / either[there]
        return scores

    def answers(self, outputs: Outputs) -> dict[str, list[Any]]:
        """Return what share of each record is said to be of each class but the background."""
        said = np.asarray(outputs).argmax(axis=1).reshape(len(outputs), -1)
        return {
            f"share: {name}": (said == number).mean(axis=1).round(6).tolist()
            for number, name in enumerate(self.question.names)
            if number
        }

    def truths(self, targets: Targets) -> dict[str, list[Any]]:
        """Return what share of each record is of each class but the background."""
        rows = np.asarray(targets).reshape(len(targets), -1)
        known = self.question.known(targets).tolist()
        table = {}
        for number, name in enumerate(self.question.names[1:], start=1):
            shares = (rows == number).mean(axis=1).round(6).tolist()
            table[f"true share: {name}"] = [
                share if one else None for share, one in zip(shares, known, strict=True)
            ]
        return table
