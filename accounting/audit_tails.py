"""How likely a sum is to be so far off, at the most: Chernoff's bound, for any number of terms.

An audit fails a run at chances of 1e-8 and less. There the normal law is no guide: with few
canaries, rare samples or few rounds a sum is that far off thousands of times more often than its
standard deviation says. Chernoff's bound needs no large numbers. For every t,

    P(X >= x) <= exp(K(t) - t*x),    K(t) = log E exp(t*X),

and K of a sum of independent terms is the sum of theirs, which are known here in closed form. Of a
normal value six standard deviations away it says 3e-8 where the truth is 2e-9: it is never below
the truth, and asks for a tenth more distance than the exact chance would.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp

Values = NDArray[np.float64]
#: The log of E exp(t*X).
Cumulants = Callable[[float], float]

_NEAR, _DOUBLINGS = 4.0, 40  # t is looked for from so many inverse standard deviations outwards
_NEVER = -700.0  # the log of a chance that nobody meets


def chance_at_most(
    found: float,
    cumulants: Cumulants,
    *,
    mean: float,
    stddev: float,
    least: float = -math.inf,
    most: float = math.inf,
) -> float:
    """Bound the chance of a value at least so far from its mean, on either side.

    Args:
        found: the value.
        cumulants: K(t); any t gives a bound, so where it is looked for costs no truth.
        mean: of the value.
        stddev: of it, to know where to look.
        least: K is finite above it.
        most: K is finite below it.
    """
    if math.isclose(found, mean, rel_tol=1e-9, abs_tol=1e-9 * stddev):
        return 1.0
    if stddev == 0.0:
        return 0.0
    upwards = found > mean
    end = (most if upwards else -least) * (1.0 - 1e-9)

    def exponent(size: float) -> float:
        t = size if upwards else -size
        return cumulants(t) - t * found

    reach = min(_NEAR / stddev, end)
    for _ in range(_DOUBLINGS):  # it is convex: while it falls, the best t lies further out
        further = min(2.0 * reach, end)
        if further == reach or exponent(further) >= exponent(reach):
            break
        reach = further
    best = minimize_scalar(exponent, bounds=(0.0, min(2.0 * reach, end)), method="bounded")
    return min(1.0, 2.0 * math.exp(min(float(best.fun), 0.0)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Draws:
    """Independent draws of a law with finitely many values.

    Attributes:
        values: that a draw may have, float64 [n].
        log_chances: the log of each one's chance, float64 [n].
        count: of draws.
    """

    values: Values
    log_chances: Values
    count: int


def sum_chance(found: float, draws: Sequence[Draws]) -> float:
    """Bound the chance of a sum of all draws.

    Args:
        found: the sum.
        draws: of one law or several.
    """
    mean, variance, laws = 0.0, 0.0, []
    for one in draws:
        known = one.log_chances > _NEVER
        values, logs = one.values[known], one.log_chances[known]
        centre = float(np.exp(logs) @ values)
        mean += one.count * centre
        variance += one.count * float(np.exp(logs) @ (values - centre) ** 2)
        laws.append((one.count, values - centre, logs))

    def cumulants(t: float) -> float:
        return float(sum(count * logsumexp(t * away + logs) for count, away, logs in laws))

    return chance_at_most(found - mean, cumulants, mean=0.0, stddev=math.sqrt(variance))


def pairs_chance(found: float, *, parties: int, count: int) -> float:
    """Bound the chance of a sum of products of all pairs of standard normal values.

    Args:
        found: the sum over all pairs of parties, and all independent repetitions.
        parties: values that are paired with each other.
        count: of repetitions.

    The matrix of all pairs has the eigenvalues parties - 1, once, and -1, so
    K(t) = -(log(1 - t*(parties - 1)) + (parties - 1)*log(1 + t))/2 for each repetition.
    """
    others = parties - 1

    def cumulants(t: float) -> float:
        return -count / 2.0 * (math.log1p(-t * others) + others * math.log1p(t))

    stddev = math.sqrt(count * parties * others / 2.0)
    return chance_at_most(found, cumulants, mean=0.0, stddev=stddev, least=-1.0, most=1.0 / others)


def lag_chance(found: Values | float, count: Values | float) -> Values:
    """Bound the chance of sums of products of standard normal values with later ones.

    Args:
        found: the sums, float64, any shape.
        count: of products in each. Values may be in two of them, the earlier one and the later.

    A chain of n products has K(t) = -log det(1 - t*A)/2 with A of a path, which is at most
    n*f(t), f(t) = -log((1 + sqrt(1 - 4*t^2))/2)/2: by D[k] = D[k-1] - t^2*D[k-2] each
    determinant is at least that root times the one before.
    """
    mean = np.abs(found) / np.maximum(count, 1)
    t = mean / (1.0 + 3.0 * mean**2)  # near the best one, and below 1/2
    f = -0.5 * np.log((1.0 + np.sqrt(1.0 - 4.0 * t**2)) / 2.0)
    return np.minimum(1.0, 2.0 * np.exp(count * (f - t * mean)))
