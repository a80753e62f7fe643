"""How good probabilities are, and how much better a model is on what it is sure of."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Chances = NDArray[np.float64]

#: Shares of records that a rejection curve leaves out.
REJECTED = tuple(step / 20 for step in range(19))


def calibration_error(chances: Chances, labels: NDArray[np.integer], *, bins: int = 15) -> float:
    """Return the expected calibration error: how far confidence is from accuracy, on average.

    Args:
        chances: probabilities [n, classes].
        labels: [n], class numbers.
        bins: equal ones of the highest probability (Naeini et al. 2015).

    Returns:
        In [0, 1]; NaN for no records.
    """
    truth = np.asarray(labels, dtype=np.int64)
    if truth.size == 0:
        return math.nan
    confidence = chances.max(axis=1)
    right = chances.argmax(axis=1) == truth
    place = np.minimum((confidence * bins).astype(np.int64), bins - 1)
    gaps = np.bincount(place, weights=right - confidence, minlength=bins)
    return float(np.abs(gaps).sum() / len(truth))


def brier_score(chances: Chances, labels: NDArray[np.integer]) -> float:
    """Return the mean squared distance between probabilities and truth, summed over classes.

    In [0, 2] (Brier 1950); NaN for no records.
    """
    truth = np.asarray(labels, dtype=np.int64)
    if truth.size == 0:
        return math.nan
    right = np.eye(chances.shape[1])[truth]
    return float(((chances - right) ** 2).sum(axis=1).mean())


def rejection_curve(chances: Chances, labels: NDArray[np.integer]) -> list[dict[str, float]]:
    """Return accuracy on what is left when the least sure records are left to a person.

    Returns:
        A row for each of `REJECTED`: `rejected` (share) and `accuracy` on the rest; none for no
        records.
    """
    truth = np.asarray(labels, dtype=np.int64)
    if truth.size == 0:
        return []
    surest = np.argsort(-chances.max(axis=1), kind="stable")
    right = (chances.argmax(axis=1) == truth)[surest]
    return [
        {"rejected": share, "accuracy": float(right[: _left(len(right), share)].mean())}
        for share in REJECTED
    ]


def _left(count: int, share: float) -> int:
    return max(1, round(count * (1 - share)))
