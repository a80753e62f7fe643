"""Whether values leave as themselves with their noise, and nothing was done to them before it.

Noise hides what one patient moves, not what is done with a sum first. Where a sum is brought to a
grid *before* its noise, as quantising does that sends fewer bits, every value moves by up to a
whole step for a patient who adds next to nothing there, a vector of d values by up to sqrt(d)
steps. So chosen values that lie between two steps, each in many places of a vector, are noised as a
sum is, and the mean of what comes of each must be the value.

Guarantee: a Gaussian that is rounded once has, about its mean, the moments of the same Gaussian
with a uniform rounding error added (but for e^(-19 s^2), s its deviation in steps), so a mean of n
is sub-Gaussian with the variance (s^2 + 1/12)/n. For a sum of k squares of independent ones, each
over its variance, E exp(t*sum) <= (1 - 2t)^(-k/2), and Chernoff's bound follows.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from accounting.audit_gates import Gate
from accounting.randomness import Stream

Values = NDArray[np.float64]

#: Values that are tried, and how far each lies from a step of the grid.
TRIED, BETWEEN = 32, 7.0 / 16.0
#: Of so many places one holds no value: noise must be there all the same.
_EMPTY_EVERY = 4


def draw_values(count: int, *, step: float, reach: float) -> Values:
    """Return values to be noised, float64 [count]: `TRIED` of them again and again, and zeros.

    Args:
        count: of them.
        step: of the grid.
        reach: the largest that a value may be; at least one step is reached.
    """
    stream, most = Stream.fresh(), max(1, math.floor(reach / step))
    whole = stream.integers(TRIED, 2 * most + 1) - most
    signs = np.where(stream.bernoulli(TRIED, 0.5), 1.0, -1.0)
    values = (whole + BETWEEN * signs) * step
    chosen = values[stream.integers(count, TRIED)]
    chosen[::_EMPTY_EVERY] = 0.0
    return np.asarray(chosen)


def values_gate(values: Values, noise: Values, *, name: str, subject: str) -> Gate:
    """Whether noise has no mean at any of the values that it was put on.

    Args:
        values: that were noised, float64 [n], few different ones.
        noise: what is left without them, in units of its standard deviation, rounding included.
        name: of the gate.
        subject: whose noise it is.
    """
    found, index = np.unique(values, return_inverse=True)
    counts = np.bincount(index, minlength=len(found))
    means = np.bincount(index, weights=noise, minlength=len(found)) / np.sqrt(counts)
    at = int(np.abs(means).argmax())
    squares, freedom = float(means @ means), len(found)
    chance = 1.0
    if squares > freedom:
        ratio = squares / freedom
        chance = math.exp(-freedom / 2.0 * (ratio - 1.0 - math.log(ratio)))
    return Gate(
        name=name,
        subject=f"{subject}, most of all at {found[at]:.4g}",
        found=squares / freedom,
        expected=1.0,
        chance=chance,
    )
