"""Means that a few liars cannot move far: how opened sums of groups become one.

    median        in each coordinate the middle of all (Yin et al. 2018)
    trimmed-mean  in each coordinate the mean without the f largest and the f smallest (the same)
    krum          the row that is nearest to its n - f - 2 neighbours (Blanchard et al. 2017)
    bulyan        n - 2f rows by Krum's scores, then in each coordinate the mean of the n - 4f
                  values nearest to their median (El Mhamdi et al. 2018)

The rules are those of Flower's strategies of these names, which the tests compare them with. Those
choose among records that a server holds; here hospitals combine what they open, and all must come
to the same bits: distances are exact sums, rounded once, and columns are added in the order of
rows, so no choice depends on how a processor adds.

What comes out depends on opened sums alone, so it is post-processing of these.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Rule = Callable[[Floats, int], Floats]


#: What is farther off than this is as far: squares of distances stay numbers.
_FAR = 1e140


def robust_mean(rows: Floats, rule: str, liars: int) -> Floats:
    """Return a mean of rows that so many of them cannot move far, float64 ``[d]``.

    Args:
        rows: float64 ``[n, d]``, with as many rows as `clients.contract.groups` asks for.
        rule: a key of `RULES`.
        liars: f, rows that may be anything.
    """
    return RULES[rule](rows, liars)


def _median(rows: Floats, _: int) -> Floats:
    return np.asarray(np.median(rows, axis=0))


def _trimmed_mean(rows: Floats, liars: int) -> Floats:
    kept = np.sort(rows, axis=0)[liars : len(rows) - liars]
    return _mean(kept)


def _krum(rows: Floats, liars: int) -> Floats:
    return np.array(rows[_by_score(rows, liars)[0]])


def _bulyan(rows: Floats, liars: int) -> Floats:
    chosen = rows[_by_score(rows, liars)[: len(rows) - 2 * liars]]
    away = np.abs(chosen - np.median(chosen, axis=0))
    nearest = np.argsort(away, axis=0, kind="stable")[: len(rows) - 4 * liars]
    return _mean(np.take_along_axis(chosen, nearest, axis=0))


def _by_score(rows: Floats, liars: int) -> list[int]:
    """Return all rows, least score first: the sum of squared distances to n - f - 2 neighbours."""
    count = len(rows)
    rows = np.clip(rows, -_FAR, _FAR)
    squared = np.zeros((count, count))
    for one in range(count):
        for other in range(one):
            squared[one, other] = squared[other, one] = math.fsum((rows[one] - rows[other]) ** 2)
    near = max(1, count - liars - 2)
    scores = [math.fsum(sorted(np.delete(own, at))[:near]) for at, own in enumerate(squared)]
    return sorted(range(count), key=lambda at: (scores[at], at))


def _mean(rows: Floats) -> Floats:
    total = np.zeros(rows.shape[1])
    for row in rows:
        total += row
    return total / len(rows)


RULES: Mapping[str, Rule] = {
    "median": _median,
    "trimmed-mean": _trimmed_mean,
    "krum": _krum,
    "bulyan": _bulyan,
}
