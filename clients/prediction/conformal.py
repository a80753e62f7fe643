"""Prediction sets that hold the truth as often as promised: split conformal prediction.

The score of a labelled record is 1 less the probability that the model gives its true class. A set
holds every class whose score is at most a threshold, and the most probable class in any case. The
threshold is the k-th smallest score of n labelled records that the model did not learn from::

    threshold = threshold_at(scores, coverage=0.9, confidence=0.99)
    prediction_sets(chances, threshold)          # bool [n, classes]

**Guarantee.** If those n records and the ones to come are exchangeable (drawn alike, as patients of
one hospital in one time are), the share of all patients to come whose set holds the truth is at
least Beta(k, n + 1 - k) distributed over the draw of the n (Vovk 2012, "Conditional validity of
inductive conformal predictors"; equal where scores have no ties). The usual k makes its *mean* the
coverage, so every other hospital falls below it. Here k is the smallest for which

    P(Beta(k, n + 1 - k) >= coverage) >= confidence,

so a hospital that is covered is so with that confidence, whatever the model, its noise and the
distribution are. Where no k will do (n < 44 at 90 % and 99 %) sets hold all classes: they promise
no less, and say that they know nothing.

Nothing is promised of patients unlike the n: another scanner, another mix of diseases. That is what
a hospital's own calibration is for. Scores of one patient's records are no independent draws: one
record of each patient counts.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

COVERAGE, CONFIDENCE = 0.9, 0.99


def scores_of(chances: NDArray[np.float64], labels: NDArray[np.integer]) -> NDArray[np.float64]:
    """Return the score of each record, sorted: float64 [n] in [0, 1].

    Args:
        chances: probabilities [n, classes].
        labels: [n], class numbers.
    """
    truth = np.asarray(labels, dtype=np.int64)
    return np.sort(1.0 - chances[np.arange(len(truth)), truth])


def rank_for(count: int, *, coverage: float, confidence: float) -> int:
    """Return the smallest k that the guarantee holds for; 0 where there is none.

    Args:
        count: n.
        coverage: share of patients to come whose set is to hold the truth, in (0, 1).
        confidence: chance, over the draw of the n, that it does, in (0, 1).
    """
    from scipy.special import betainc

    check_levels(coverage, confidence)
    ranks = np.arange(1, count + 1)
    falls_short = betainc(ranks, count + 1 - ranks, coverage)
    enough = np.flatnonzero(falls_short <= 1 - confidence)
    return int(ranks[enough[0]]) if enough.size else 0


def least_count(*, coverage: float, confidence: float) -> int:
    """Return the fewest records with which sets can be smaller than all classes."""
    check_levels(coverage, confidence)
    return math.ceil(math.log(1 - confidence) / math.log(coverage))


def threshold_at(
    scores: NDArray[np.float64],
    *,
    coverage: float = COVERAGE,
    confidence: float = CONFIDENCE,
) -> float:
    """Return the score up to which a class is in the set; infinite where that is all of them."""
    rank = rank_for(len(scores), coverage=coverage, confidence=confidence)
    return float(np.sort(scores)[rank - 1]) if rank else math.inf


def prediction_sets(chances: NDArray[np.float64], threshold: float) -> NDArray[np.bool_]:
    """Return which classes are in each record's set, bool [n, classes]; no set is empty.

    A most probable class that is added makes a set no less likely to hold the truth.
    """
    sets = np.asarray(1.0 - chances <= threshold)
    sets[np.arange(len(chances)), chances.argmax(axis=1)] = True
    return sets


def one_record_each(patients: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """Return rows, ascending: one of each patient, drawn evenly among theirs."""
    order = np.random.default_rng([seed, 0x0DE]).permutation(len(patients))
    _, first = np.unique(patients[order], return_index=True)
    return np.asarray(np.sort(order[first]), dtype=np.int64)


def check_levels(coverage: float, confidence: float) -> None:
    """Refuse a level that is no share."""
    for name, value in (("coverage", coverage), ("confidence", confidence)):
        if not 0.0 < value < 1.0:
            raise ValueError(f"{name} is {value}, expected a share between 0 and 1, such as 0.9")
