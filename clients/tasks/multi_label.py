"""Several labels, each of which holds or does not: a sigmoid each, summed over a record's labels.

A record's loss is the sum of the labels' cross-entropies, and a patient's gradient the mean over
their records, clipped as a whole: one clip bounds all that a patient tells of all labels together.
A label of which nobody knows whether it holds adds nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from clients.tasks.question import UNKNOWN

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

    from clients.tasks.question import Question
    from clients.tasks.task import Outputs, Targets

#: From this chance on a label is said to hold, where a word is asked for.
THRESHOLD = 0.5
#: Points that a curve keeps.
_POINTS = 101


@dataclass(frozen=True)
class MultiLabel:
    """A logit for each label; none of them turns on the others."""

    question: Question
    headline: ClassVar[str] = "macro_auc"

    @property
    def outputs(self) -> int:
        """A logit for each label."""
        return len(self.question.names)

    def losses(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return each record's sum of binary cross-entropies, nats, over its known labels."""
        from torch.nn import functional

        known = targets != UNKNOWN
        each = functional.binary_cross_entropy_with_logits(
            outputs, targets.clamp(min=0).to(outputs.dtype), reduction="none"
        )
        return (each * known).sum(dim=1)

    def measures(self, outputs: Outputs, targets: Targets) -> dict[str, float]:
        """Return means over labels of AUC and average precision, and Brier score and log loss."""
        chances, known = sigmoid(outputs), targets != UNKNOWN
        rows = self._rows(chances, targets)
        truth = targets[known] == 1
        right = np.clip(np.where(truth, chances[known], 1 - chances[known]), 1e-15, 1.0)
        return {
            "macro_auc": _mean([row["auc"] for row in rows]),
            "macro_average_precision": _mean([row["average_precision"] for row in rows]),
            "brier": float(np.mean((chances[known] - truth) ** 2)) if known.any() else math.nan,
            # As it is learnt: the sum over a record's labels.
            "loss": float(-np.log(right).sum() / len(targets)) if len(targets) else math.nan,
        }

    def judged(self, outputs: Outputs, targets: Targets) -> dict[str, Any]:
        """Return each label's figures, and the curves of those that hold of some, not of all."""
        from sklearn.metrics import precision_recall_curve, roc_curve

        chances, curves = sigmoid(outputs), []
        for number, name in enumerate(self.question.names):
            known = targets[:, number] != UNKNOWN
            truth, scores = targets[known, number] == 1, chances[known, number]
            if not 0 < truth.sum() < len(truth):
                continue
            false, true, _ = roc_curve(truth, scores)
            precision, recall, _ = precision_recall_curve(truth, scores)
            roc, both = _thinned(false, true), _thinned(recall[::-1], precision[::-1])
            curves.append({"class": name, "roc": roc, "precision_recall": both})
        return {"rows": self._rows(chances, targets), "curves": curves}

    def _rows(self, chances: NDArray[np.float64], targets: Targets) -> list[dict[str, Any]]:
        from sklearn.metrics import average_precision_score, roc_auc_score

        rows = []
        for number, name in enumerate(self.question.names):
            known = targets[:, number] != UNKNOWN
            truth, scores = targets[known, number] == 1, chances[known, number]
            both = 0 < truth.sum() < len(truth)
            area = float(roc_auc_score(truth, scores)) if both else math.nan
            precise = float(average_precision_score(truth, scores)) if both else math.nan
            share = float(truth.mean()) if len(truth) else math.nan
            rows.append(
                {
                    "name": name,
                    "records": len(truth),
                    "share": share,
                    "auc": area,
                    "average_precision": precise,
                }
            )
        return rows

    def answers(self, outputs: Outputs) -> dict[str, list[Any]]:
        """Return which labels probably hold, and the chance of each."""
        chances, names = sigmoid(outputs), self.question.names
        said = {"prediction": [_joined(names, row >= THRESHOLD) for row in chances]}
        return said | {
            f"probability: {name}": chances[:, k].round(6).tolist() for k, name in enumerate(names)
        }

    def truths(self, targets: Targets) -> dict[str, list[Any]]:
        """Return which labels hold, where all are known."""
        names = self.question.names
        return {
            "label": [
                None if (row == UNKNOWN).any() else _joined(names, row == 1) for row in targets
            ]
        }


def sigmoid(logits: Outputs) -> NDArray[np.float64]:
    """Return the logistic function, for any finite value without overflow."""
    half = 0.5 * np.asarray(logits, dtype=np.float64)
    return np.asarray(0.5 * (1.0 + np.tanh(half)))


def _joined(names: tuple[str, ...], chosen: NDArray[np.bool_]) -> str:
    return " | ".join(name for name, one in zip(names, chosen, strict=True) if one)


def _mean(values: list[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return float(np.mean(known)) if known else math.nan


def _thinned(across: NDArray[np.float64], up: NDArray[np.float64]) -> list[list[float]]:
    places = np.unique(np.linspace(0, len(across) - 1, _POINTS).round().astype(int))
    return [[round(float(across[k]), 5), round(float(up[k]), 5)] for k in places]
