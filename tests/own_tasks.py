"""Tasks of somebody's own, as a hospital's list of functions would name them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch


class Quantile:
    """The value that nine of ten stay below: pinball loss, in the width of the range."""

    outputs = 1
    headline = "below"

    def __init__(self, question: Any) -> None:
        self.low, self.high = question.range

    def losses(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        error = (targets - self.low) / (self.high - self.low) - outputs[:, 0]
        return torch.maximum(0.9 * error, -0.1 * error)

    def measures(self, outputs: np.ndarray, targets: np.ndarray) -> dict[str, float]:
        said = self.low + outputs[:, 0] * (self.high - self.low)
        return {"below": float(np.mean(targets <= said))}


class Ranking(Quantile):
    """Compares records with each other, so that a patient's loss is another's too."""

    def losses(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return (super().losses(outputs, targets) - outputs.mean()).square()


class Drawing(Quantile):
    """Draws randomness of its own."""

    def losses(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return super().losses(outputs, targets) + torch.rand(1)
