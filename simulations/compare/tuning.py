"""Which of several settings a setup takes, from its trainings on the tuning seeds.

A few dozen holdout records in a few seeds do not tell good settings apart by accuracy, and whatever
leads by chance may be an extreme. So the best mean only says who is in question: all within one
standard error of it (Breiman, Friedman, Olshen and Stone 1984, section 3.4.3), taken of differences
on the same seed, which share holdout and split. Of these the one with the least loss is taken,
which moves with every record's probability and not just with those that change sides.

    >>> figures = {"wild": [(0.98, 0.6), (0.95, 0.5)], "calm": [(0.97, 0.1), (0.95, 0.1)]}
    >>> chosen(figures)
    'calm'
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Hashable, Mapping, Sequence
from typing import TypeVar

#: As a comparison's file calls the rule; those without it took the best mean.
RULE = "one standard error, then loss"
#: What is measured of a training: a figure of which more is better, and its loss; None has none.
Measured = tuple[float | None, float | None]
C = TypeVar("C", bound=Hashable)


def chosen(figures: Mapping[C, Sequence[Measured]]) -> C:
    """Return the settings to take.

    Whatever lacks a figure more often than another does not count beside it; of the rest only seeds
    count in which each has one.

    Args:
        figures: settings -> what each tuning seed measured, all in the same order of seeds.
    """
    lacking = {one: sum(value is None for value, _ in found) for one, found in figures.items()}
    counted = [one for one in figures if lacking[one] == min(lacking.values())]
    by_seed = list(zip(*([value for value, _ in figures[one]] for one in counted), strict=True))
    whole = [[v for v in values if v is not None] for values in by_seed if None not in values]
    values = dict(zip(counted, map(list, zip(*whole, strict=True)), strict=bool(whole)))
    if values:
        best = max(values, key=lambda one: statistics.fmean(values[one]))
        counted = [one for one in values if _near(values[best], values[one])]
    return min(counted, key=lambda one: _mean_loss(figures[one]))


def _near(best: Sequence[float], other: Sequence[float]) -> bool:
    """Whether a mean is within one standard error of the best; of one seed, whether it is equal."""
    less = [one - two for one, two in zip(best, other, strict=True)]
    error = statistics.stdev(less) / math.sqrt(len(less)) if len(less) > 1 else 0.0
    return statistics.fmean(less) <= error + 1e-9  # what rounding makes of the same mean


def _mean_loss(found: Sequence[Measured]) -> float:
    losses = [math.inf if loss is None else loss for _, loss in found]
    return statistics.fmean(losses)
