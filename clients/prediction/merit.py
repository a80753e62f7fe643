"""Figures of merit that do not flatter: what a model is worth where classes are uneven.

Accuracy alone says little of a table in which 85 of 100 records are negative: whoever says negative
of all has .85. So it stands beside the share of the commonest class; a class by itself has
sensitivity and specificity, at a threshold, and the area under its curves over all thresholds.

A threshold that is judged on the records that it was chosen on looks better than it is. Here the
patients are dealt into two halves, class by class; each half is judged at the threshold that is
best on the *other*, so every record is judged once, by a threshold that does not know it. Best is
the largest sensitivity + specificity - 1 (Youden 1950), which no share of classes moves.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clients.prediction.quality import brier_score, calibration_error

Chances = NDArray[np.float64]

#: Points that a curve keeps.
POINTS = 101
#: How much more common than the rarest the commonest class is where classes count as uneven.
UNEVEN = 2.0
#: Figures of a class against the others, of which those of what is looked for are averaged.
_OVER_CLASSES = ("average_precision", "sensitivity", "specificity")


def measure_merit(
    chances: Chances,
    labels: NDArray[np.int64],
    patients: NDArray[np.int64],
    classes: Sequence[str],
    *,
    seed: int,
) -> dict[str, Any]:
    """Return figures of merit of a model's probabilities for labelled public records.

    Args:
        chances: [n, classes], n > 0.
        labels: [n], class numbers.
        patients: [n], whose records they are; all of a patient's are in one half.
        classes: names.
        seed: public, of the halves.

    Returns:
        JSON-ready, NaN where a figure is not defined: `figures` by name, over all classes (of two
        classes, those of the second, which is what is looked for); `majority` with its class and
        share; `uneven`; `by_class` with counts, `precision` (NaN where it is never guessed),
        `recall`, and the figures of each class against the others; `curves` of those that are
        looked for.
    """
    counts = np.bincount(labels, minlength=len(classes))
    halves = halves_of(labels, patients, seed)
    by_class = [_of_class(chances, labels, one, classes, halves) for one in range(len(classes))]
    looked_for = [1] if len(classes) == 2 else list(range(len(classes)))
    figures = {name: _mean([by_class[one][name] for one in looked_for]) for name in _OVER_CLASSES}
    present, guesses = counts[counts > 0], chances.argmax(axis=1)
    majority = float(counts.max() / counts.sum())
    return {
        "figures": {
            "majority": majority,
            **figures,
            "balanced_at_threshold": (figures["sensitivity"] + figures["specificity"]) / 2,
            "ece": calibration_error(chances, labels),
            "brier": brier_score(chances, labels),
        },
        "looked_for": [classes[one] for one in looked_for],
        "majority": {"class": classes[int(counts.argmax())], "share": majority},
        "uneven": bool(present.max() > UNEVEN * present.min()),
        "one_guess": classes[int(guesses[0])] if (guesses == guesses[0]).all() else None,
        "by_class": by_class,
        "curves": [
            {"class": classes[one], **_curves(chances[:, one], labels == one)}
            for one in looked_for
            if 0 < counts[one] < len(labels)
        ],
    }


def _of_class(
    chances: Chances,
    labels: NDArray[np.int64],
    one: int,
    classes: Sequence[str],
    halves: NDArray[np.bool_],
) -> dict[str, Any]:
    """Return what a class comes to by the most probable class, and against all others."""
    truth, guessed = labels == one, chances.argmax(axis=1) == one
    return {
        "class": classes[one],
        "records": int(truth.sum()),
        "guessed": int(guessed.sum()),
        "precision": _share(truth[guessed]),
        "recall": _share(guessed[truth]),
        **_against_others(chances[:, one], truth, halves),
    }


def halves_of(
    labels: NDArray[np.int64], patients: NDArray[np.int64], seed: int
) -> NDArray[np.bool_]:
    """Deal patients into two halves, class by class, by a public seed.

    Returns:
        bool [n], which half each record is in. A patient's class is that of their first record.
    """
    everyone, first, owner = np.unique(patients, return_index=True, return_inverse=True)
    generator = np.random.default_rng([seed, 0x4A1F])
    second, turn = np.zeros(len(everyone), dtype=bool), 0
    for one in np.unique(labels):
        alike = generator.permutation(np.flatnonzero(labels[first] == one))
        # Who is left over where a class is odd goes to each half in turn.
        second[alike[turn::2]] = True
        turn = (turn + len(alike)) % 2
    return np.asarray(second[owner])


def best_threshold(scores: Chances, truth: NDArray[np.bool_]) -> float:
    """Return the score from which on records count as positive, for the best Youden index.

    It lies halfway to the next lower score, and is the highest of those that are as good. NaN where
    a class is missing.
    """
    from sklearn.metrics import roc_curve

    if truth.all() or not truth.any():
        return math.nan
    false, true, thresholds = roc_curve(truth, scores, drop_intermediate=False)
    best = int(np.argmax((true - false).round(12)))  # the first, and so the highest, of equals
    if best == 0:  # no threshold is better than calling nothing
        return float(np.nextafter(scores.max(), math.inf))
    lower = scores[scores < thresholds[best]]
    return float((thresholds[best] + lower.max()) / 2 if lower.size else thresholds[best])


def _against_others(
    scores: Chances, truth: NDArray[np.bool_], halves: NDArray[np.bool_]
) -> dict[str, float]:
    """Return a class's figures against all others: areas, and what holds at a fair threshold."""
    from sklearn.metrics import average_precision_score, roc_auc_score

    found = dict.fromkeys(("auc", "average_precision", "sensitivity", "specificity"), math.nan)
    found["threshold"] = best_threshold(scores, truth)
    if math.isnan(found["threshold"]):
        return found
    found["auc"] = float(roc_auc_score(truth, scores))
    found["average_precision"] = float(average_precision_score(truth, scores))
    chosen = [best_threshold(scores[halves == one], truth[halves == one]) for one in (True, False)]
    # Each half is judged at the other's threshold.
    positive = scores >= np.where(halves, chosen[1], chosen[0])
    if not any(map(math.isnan, chosen)):
        found["sensitivity"] = float(positive[truth].mean())
        found["specificity"] = float((~positive[~truth]).mean())
    return found


def _curves(scores: Chances, truth: NDArray[np.bool_]) -> dict[str, list[list[float]]]:
    """Return points of a class's two curves.

    Returns:
        `roc`: (1 - specificity, sensitivity) from (0, 0) to (1, 1); `precision_recall`: (recall,
        precision) from the surest record on.
    """
    from sklearn.metrics import precision_recall_curve, roc_curve

    false, true, _ = roc_curve(truth, scores)
    precision, recall, _ = precision_recall_curve(truth, scores)
    return {
        "roc": _thinned(false, true),
        "precision_recall": _thinned(recall[::-1], precision[::-1]),
    }


def _thinned(across: Chances, up: Chances) -> list[list[float]]:
    """Return so many points of a curve, evenly along it, its ends among them."""
    places = np.unique(np.linspace(0, len(across) - 1, POINTS).round().astype(int))
    return [[round(float(across[k]), 5), round(float(up[k]), 5)] for k in places]


def _share(found: NDArray[np.bool_]) -> float:
    return float(found.mean()) if found.size else math.nan


def _mean(values: Sequence[float]) -> float:
    """Return the mean of those that are numbers."""
    known = [value for value in values if not math.isnan(value)]
    return float(np.mean(known)) if known else math.nan
