"""What rounding to a grid, and floating point, do to the likelihoods of sums and draws.

Bounds for `accounting.grid`, whose first paragraphs say what is compared with what.
"""

from __future__ import annotations

import math

from accounting.errors import AccountingError
from accounting.randomness import NORMAL_ERROR

MIN_NOISE_IN_STEPS = 3.0  # noise of one hospital in grid steps; below, the likelihood bound fails
_SAFETY = 1.1  # exact convolution stays below 1
# n*s, f + n*s: two roundings of a number of size (|n| + 1)*s, beside the sampler's own error.
# Each part of noise more brings a product of its own and one addition to the sum of all.
_ROUNDING_ERROR = 2.0**-53


def sum_rounding_kl(contributions: int, noise_in_steps: float) -> float:
    """KL(sum of m rounded Gaussians || rounded Gaussian), one coordinate, in nats: a bound.

    kappa^2 / (48 * S^4), kappa = (m-1)/120 the fourth cumulant, S = m*noise_in_steps^2, for any
    means and noise of 3 steps or more. The second Gaussian has variance S + (m-1)/12.
    """
    _check_steps(contributions, noise_in_steps)
    variance = contributions * noise_in_steps**2
    return ((contributions - 1) / (120.0 * variance**2)) ** 2 / 48.0


def sum_rounding_ratio(contributions: int, noise_in_steps: float, reach: float) -> float:
    """Bound on the log of the likelihood ratio of the same two within `reach` deviations.

    c * (reach^4 + 6*reach^2 + 3), c = (m-1)/(2880*S^2): the fourth Hermite polynomial.
    """
    _check_steps(contributions, noise_in_steps)
    scale = (contributions - 1) / (2880.0 * (contributions * noise_in_steps**2) ** 2)
    return scale * (reach**4 + 6.0 * reach**2 + 3.0)


def _check_steps(contributions: int, noise_in_steps: float) -> None:
    if contributions < 1 or noise_in_steps < MIN_NOISE_IN_STEPS:
        raise AccountingError(
            f"{contributions} contributions with noise of {noise_in_steps} steps, expected at "
            f"least 1 and {MIN_NOISE_IN_STEPS:g}"
        )


def coarsest_noise(
    summed: int, sums: float, reach: float, log_part: float, allowed: float
) -> float:
    """The least noise of a hospital in grid steps whose rounding drifts by at most `allowed`."""

    def enough(noise_in_steps: float) -> bool:
        return rounding_drift(summed, noise_in_steps, reach, sums, log_part) <= allowed

    low = high = MIN_NOISE_IN_STEPS
    if enough(low):
        return low
    while not enough(high):
        low, high = high, 2.0 * high
    while high - low > 1e-3 * high:
        middle = (low + high) / 2.0
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def rounding_drift(
    summed: int, noise_in_steps: float, reach: float, sums: float, log_part: float
) -> float:
    """How far rounding moves the log-likelihood of all sums, but for e^log_part."""
    if summed == 1:
        return 0.0
    largest = _SAFETY * sum_rounding_ratio(summed, noise_in_steps, reach)
    factor = math.exp(min(largest, 100.0))
    variance = _SAFETY * 2.0 * sum_rounding_kl(summed, noise_in_steps) * factor
    return _drift(variance * factor / 2.0, variance, largest, sums, log_part)


def floating_drift(
    noise_in_steps: float,
    reach: float,
    draws: float,
    log_part: float,
    *,
    parts: int = 1,
    spread: float = 1.0,
) -> float:
    """How far floating point moves the log-likelihood of all draws, but for e^log_part.

    Args:
        noise_in_steps: of what always stays of a hospital's noise.
        reach: no draw lies beyond it, in its own standard deviations.
        draws: how many there are.
        log_part: see there.
        parts: draws that are added up in one hospital's noise.
        spread: the sum of their standard deviations over that of the first, which always stays.
    """
    # Given all other parts, an edge at x of the first moves by up to edge_error*spread*(|x| + 1); a
    # cell is 1/noise_in_steps wide, and the density varies in it and beside it by at most
    # e^((reach + 1)/noise_in_steps).
    edge = (NORMAL_ERROR + (parts + 1) * _ROUNDING_ERROR) * spread * (reach + 1.0)
    ratio = 2.0 * edge * noise_in_steps * math.exp((reach + 1.0) / noise_in_steps)
    return _drift(ratio**2, ratio**2, ratio, draws, log_part)


def _drift(mean: float, variance: float, largest: float, count: float, log_part: float) -> float:
    """What `count` adaptive terms add up to at most, but with probability e^log_part.

    n*mean + sqrt(2*n*v*L) + 4/3*b*L, where n = `count`, L = -log_part, and each term, given those
    before it, has mean and variance of at most `mean` and v and lies within +-b, b = `largest`.
    Centred, terms are at most R = 2*b, and the chance that their sum passes t is at most
    exp(-t^2/2 / (n*v + R*t/3)) (Freedman 1975, in the form of Tropp 2011, Theorem 1.1). That is
    e^-L at some t <= sqrt(2*n*v*L) + 2/3*R*L.
    """
    spread = math.sqrt(-2.0 * count * variance * log_part)
    return count * mean + spread - (4.0 / 3.0) * largest * log_part
