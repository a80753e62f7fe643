"""How common each class is, and how a training makes up for it.

Where classes are uneven, a model that learns by likelihood from little, and under noise, says the
commonest of all records. Shares of the classes undo that, in one of two ways:

- by the *loss*: logits are moved by the logarithms of the shares, so that the model itself learns
  as if classes were even (Menon et al. 2021, "Long-tail learning via logit adjustment", equation
  10). It needs a clip that is seldom reached: the rare class has the larger gradients, which a
  clip cuts to those of the common one, and the common one has its way again;
- in the *clip*: a patient's clipped gradient is multiplied by the share of the rarest class over
  that of their own, at the most 1. Whatever is clipped, each class pulls as much as any other.

Shares are declared, or *learnt* with the model from the same sums: beside a gradient each patient
contributes the classes of their records, as a vector of norm at the most a quarter of the clip, and
the gradient is clipped to what is left of it. Opened sums of these are counts of patients with
noise; added up over the rounds they say how common each class is.

Formal guarantee: a patient's gradient has norm <= C * sqrt(1 - PART^2) and their classes C * PART,
so both together have norm <= C; weights are at the most 1 and functions of opened sums. So the
sum's sensitivity, noise and cost are what they were, and shares are post-processing of sums that
were paid for. Bounding the parts one by one, not together, keeps the counts free of what the
gradients are like.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: What the terms of a training, and a frame of a replica, call sums of classes.
NAME = "class-counts"
#: Norm of a patient's classes, in clips; 3% of the gradient's clip are left to them.
PART = 0.25
REST = math.sqrt(1.0 - PART**2)
#: Rounds' worth of even classes that the counts begin with: the first sums are mostly noise.
EVEN_ROUNDS = 2.0


class ClassCounts:
    """Sums over the rounds of what opened mean gradients hold of the classes.

    Args:
        classes: how many there are.
        l2_clip: C, in gradient units.

    Attributes:
        total: float64 ``[classes]``, gradient units.
    """

    def __init__(self, classes: int, l2_clip: float) -> None:
        if classes < 2:
            raise ValueError(f"{classes} classes to count, expected two at least")
        self.total: NDArray[np.float64] = np.zeros(classes)
        self._even = EVEN_ROUNDS * PART * l2_clip / classes

    @property
    def classes(self) -> int:
        """How many classes are counted."""
        return len(self.total)

    def add(self, mean: NDArray[np.float64]) -> None:
        """Add what a round's opened mean holds of the classes, float64 ``[classes]``."""
        self.total = self.total + mean

    def shares(self) -> NDArray[np.float64]:
        """Return the share of each class so far, float64 ``[classes]``, positive, adding up to 1.

        Noise can take a count below zero; such a class is as rare as the even beginning leaves it.
        """
        counts = np.maximum(self.total, 0.0) + self._even
        return np.asarray(counts / counts.sum())


@dataclass(frozen=True, slots=True, kw_only=True)
class Marks:
    """The classes of the patients of a chunk, beside their gradients.

    Attributes:
        rows: ``[patients, classes]``, what part of each one's records is of each class.
        weights: float64 ``[classes]``, at the most 1, of clipped gradients; None: they all weigh 1.
        counted: whether the classes are part of the sum.
    """

    rows: torch.Tensor
    weights: torch.Tensor | None
    counted: bool


class ClassShares:
    """What is known of how common each class is at each pass, and what follows from it.

    Args:
        declared: public shares; empty where they are learnt.
        counts: what they are learnt from.
        balance: how they are made up for.
    """

    def __init__(
        self,
        declared: Sequence[float] = (),
        counts: ClassCounts | None = None,
        balance: Literal["loss", "clip"] = "loss",
    ) -> None:
        self.counts = counts
        self._declared = torch.tensor(declared)
        self._balance = balance

    @property
    def marked(self) -> bool:
        """Whether the classes of records are needed beside their gradients."""
        return self.counts is not None or self._balance == "clip"

    def moved(self) -> torch.Tensor | None:
        """Return what logits are moved by, float32 ``[classes]``; None: they are left."""
        return torch.log(self._shares()).float() if self._balance == "loss" else None

    def marks_of(self, labels: torch.Tensor) -> torch.Tensor:
        """Return the class of each record as a row with a one, float32 ``[n, classes]``."""
        return torch.nn.functional.one_hot(labels, len(self._shares())).float()

    def marks(self, rows: torch.Tensor) -> Marks:
        """Return patients' marks from the means of their records' rows."""
        shares = self._shares().double().to(rows.device)
        weights = shares.min() / shares if self._balance == "clip" else None
        return Marks(rows=rows, weights=weights, counted=self.counts is not None)

    def _shares(self) -> torch.Tensor:
        return self._declared if self.counts is None else torch.from_numpy(self.counts.shares())
