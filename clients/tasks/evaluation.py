"""Judging a model's logits on labelled rows.

Only on public rows (the holdout) or rows declared public: a number computed here is a release.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray


def probabilities(logits: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the softmax of logits [n, classes], stable for any finite or infinite value."""
    scores = np.nan_to_num(np.asarray(logits, dtype=np.float64), posinf=1e300, neginf=-1e300)
    shifted = np.exp(scores - scores.max(axis=1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=1, keepdims=True))


def evaluate(
    logits: NDArray[np.floating], labels: NDArray[np.integer], *, ordinal: bool = False
) -> dict[str, float]:
    """Return accuracy, balanced accuracy, AUC, log loss and, for grades, quadratic kappa.

    Args:
        logits: [n, classes].
        labels: [n], class numbers; classes may be absent.
        ordinal: the classes are grades.

    Returns:
        `accuracy`, `balanced_accuracy` (over the classes present), `auc` (binary, or the mean of
        one-against-rest over the classes that are present and not alone; NaN when there is none),
        `loss` (mean negative log likelihood, nats) and `kappa` when `ordinal`. All NaN for no rows.
    """
    truth = np.asarray(labels, dtype=np.int64)
    names = ("accuracy", "balanced_accuracy", "auc", "loss", *(("kappa",) if ordinal else ()))
    if truth.size == 0:
        return dict.fromkeys(names, math.nan)
    chances = probabilities(logits)
    guesses = chances.argmax(axis=1)
    right = guesses == truth
    recalls = [float(right[truth == one].mean()) for one in np.unique(truth)]
    likelihood = np.clip(chances[np.arange(len(truth)), truth], 1e-15, 1.0)
    results = {
        "accuracy": float(right.mean()),
        "balanced_accuracy": float(np.mean(recalls)),
        "auc": _auc(chances, truth),
        "loss": float(-np.log(likelihood).mean()),
    }
    if ordinal:
        from sklearn.metrics import cohen_kappa_score

        # One grade only, in truth and guesses alike, leaves nothing to disagree about.
        alone = len(np.union1d(truth, guesses)) == 1
        results["kappa"] = (
            1.0 if alone else float(cohen_kappa_score(truth, guesses, weights="quadratic"))
        )
    return results


def _auc(chances: NDArray[np.float64], truth: NDArray[np.int64]) -> float:
    """Binary AUC, or its one-against-rest mean over the classes that have both sides."""
    classes = [1] if chances.shape[1] == 2 else range(chances.shape[1])
    areas = [
        area_under_curve(truth == one, chances[:, one])
        for one in classes
        if 0 < np.count_nonzero(truth == one) < len(truth)
    ]
    return float(np.mean(areas)) if areas else math.nan


def area_under_curve(positive: NDArray[np.bool_], scores: NDArray[np.float64]) -> float:
    """Return how often a positive row scores above a negative one; ties count half.

    Hanley and McNeil (1982). It is here because a library's import would be a third of what a
    process of hospitals takes to start.

    Args:
        positive: [n], with both kinds in it.
        scores: [n], finite.
    """
    _, place, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[place]
    ones = int(np.count_nonzero(positive))
    above = float(ranks[positive].sum()) - ones * (ones + 1) / 2
    return above / (ones * (len(positive) - ones))


def confusion(logits: NDArray[np.floating], labels: NDArray[np.integer]) -> NDArray[np.int64]:
    """Return counts [classes, classes]: rows are the truth, columns the guess."""
    chances = probabilities(logits)
    classes = chances.shape[1]
    pairs = np.asarray(labels, dtype=np.int64) * classes + chances.argmax(axis=1)
    return np.bincount(pairs, minlength=classes**2).astype(np.int64).reshape(classes, classes)


def calibration(
    logits: NDArray[np.floating], labels: NDArray[np.integer], *, bins: int = 10
) -> list[dict[str, float]]:
    """Return confidence against accuracy in equal bins of the highest probability.

    Returns:
        One row a non-empty bin: `low`, `high`, `count`, `confidence`, `accuracy`.
    """
    chances = probabilities(logits)
    truth = np.asarray(labels, dtype=np.int64)
    confidence = chances.max(axis=1) if len(chances) else np.zeros(0)
    right = chances.argmax(axis=1) == truth if len(chances) else np.zeros(0, dtype=bool)
    edges = np.linspace(0.0, 1.0, bins + 1)
    place = np.clip(np.digitize(confidence, edges[1:-1], right=True), 0, bins - 1)
    return [
        {
            "low": float(edges[one]),
            "high": float(edges[one + 1]),
            "count": float(np.count_nonzero(place == one)),
            "confidence": float(confidence[place == one].mean()),
            "accuracy": float(right[place == one].mean()),
        }
        for one in range(bins)
        if np.any(place == one)
    ]
