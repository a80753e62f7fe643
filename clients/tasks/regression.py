"""A measurement: the squared distance to it, in widths of a range that is declared.

The range is public and decides on the scale, so nothing is fitted to patients' values; a target
beyond it is clipped to it. Errors are told in the target's own unit.
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

#: Public records that a figure of truth against answer shows.
_SHOWN = 400


@dataclass(frozen=True)
class Regression:
    """One output: the target, brought from its declared range to [-1, 1]."""

    question: Question
    headline: ClassVar[str] = "mae"

    @property
    def outputs(self) -> int:
        """The target alone."""
        return 1

    @property
    def _middle(self) -> float:
        return sum(self.question.range) / 2

    @property
    def _radius(self) -> float:
        low, high = self.question.range
        return (high - low) / 2

    def losses(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return half of each record's squared error, in half widths of the range."""
        scaled = (targets.to(outputs.dtype) - self._middle) / self._radius
        return 0.5 * (outputs[:, 0] - scaled.clamp(-1.0, 1.0)).square()

    def measures(self, outputs: Outputs, targets: Targets) -> dict[str, float]:
        """Return mean absolute and root mean squared error in the target's unit, and R squared."""
        if not len(targets):
            return dict.fromkeys(("mae", "rmse", "r2", "loss"), math.nan)
        said, truth = self._said(outputs), self._clipped(targets)
        error, spread = said - truth, truth - truth.mean()
        around = float(np.square(spread).sum())
        scaled = (np.asarray(outputs, dtype=np.float64)[:, 0] * self._radius + self._middle) - truth
        return {
            "mae": float(np.abs(error).mean()),
            "rmse": float(np.sqrt(np.square(error).mean())),
            "r2": 1.0 - float(np.square(error).sum()) / around if around > 0 else math.nan,
            "loss": float(0.5 * np.square(scaled / self._radius).mean()),
        }

    def judged(self, outputs: Outputs, targets: Targets) -> dict[str, Any]:
        """Return truth and answer of some records, evenly along the truth, and whom errors hit."""
        said, truth = self._said(outputs), self._clipped(targets)
        order = np.argsort(truth, kind="stable")
        shown = order[np.unique(np.linspace(0, len(order) - 1, _SHOWN).round().astype(int))]
        parts, rows = self.question.strata(truth), []
        for number, name in enumerate(self.question.stratum_names):
            here = parts == number
            error = said[here] - truth[here]
            rows.append(
                {
                    "name": name,
                    "records": int(here.sum()),
                    "mae": float(np.abs(error).mean()) if here.any() else math.nan,
                    "bias": float(error.mean()) if here.any() else math.nan,
                }
            )
        pairs = [[round(float(truth[k]), 6), round(float(said[k]), 6)] for k in shown]
        return {"rows": rows, "pairs": pairs, "range": list(self.question.range)}

    def answers(self, outputs: Outputs) -> dict[str, list[Any]]:
        """Return the target that is expected of each record, within its declared range."""
        return {"prediction": [float(f"{one:.6g}") for one in self._said(outputs)]}

    def truths(self, targets: Targets) -> dict[str, list[Any]]:
        """Return the target of each record."""
        return {"label": [float(one) if math.isfinite(one) else None for one in targets]}

    def _said(self, outputs: Outputs) -> NDArray[np.float64]:
        return self._clipped(
            np.asarray(outputs, dtype=np.float64)[:, 0] * self._radius + self._middle
        )

    def _clipped(self, targets: Targets) -> NDArray[np.float64]:
        return np.clip(np.asarray(targets, dtype=np.float64), *self.question.range)
