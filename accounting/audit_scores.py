"""Scores of canaries: how likely it is that one took part, and what scores are like beforehand.

A canary is a made-up patient who takes part or not by the toss of a coin. The score of what an
observer saw of it is the likelihood ratio of the two under the claimed mechanism, which is the
strongest test that there is (Neyman and Pearson 1933); over rounds its logarithm adds up.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from accounting.events import GaussianEvent, SharedPatientEvent

Values = NDArray[np.float64]
Coins = NDArray[np.bool_]
#: One observer's sight of one canary in every round; its noise is what that observer faces.
Sampled = GaussianEvent | SharedPatientEvent

_POINTS = 1 << 12  # of the integrals over one round's value
_REACH = 12.0  # standard deviations that they cover
_LEAST_VARIANCE = 1e-60
_MOST_EXPONENT = 600.0  # e^x is a float64 below it


def log_likelihood_ratio(seen: Values, event: Sampled) -> Values:
    """Log of how much likelier a round's values are of canaries that take part than of others.

    Args:
        seen: values of one or more rounds in units of the clip, float64, any shape.
        event: the claimed event; its noise is that of `seen`.

    Returns:
        float64, the shape of `seen`.
    """
    rate, variance = event.sampling_rate, event.noise_multiplier**2
    hospitals = hospitals_of(event)
    if rate == 1.0:
        return np.asarray((hospitals * seen - hospitals**2 / 2.0) / variance)
    if hospitals == 1:
        exponent = (seen - 0.5) / variance
        if float(exponent.max(initial=0.0)) < _MOST_EXPONENT:
            return np.asarray(np.log((1.0 - rate) + rate * np.exp(exponent)))
    # Relative to the likeliest count, so that e^x is a float64 where the noise is small.
    counts = np.arange(hospitals + 1)
    likeliest = np.clip(np.rint(seen), 0, hospitals)
    largest = (likeliest * seen - likeliest**2 / 2.0) / variance
    total = np.zeros_like(largest)
    for count, chance in zip(counts, stats.binom.pmf(counts, hospitals, rate), strict=True):
        total += chance * np.exp((count * seen - count**2 / 2.0) / variance - largest)
    return np.asarray(np.log(total) + largest)


def hospitals_of(event: Sampled) -> int:
    """How many hospitals sample the canary into one sum, each by itself."""
    return event.hospitals if isinstance(event, SharedPatientEvent) else 1


def scores_of(seen: Values, event: Sampled) -> Values:
    """Each canary's score, float64 [m], from what was seen of it in all rounds, float64 [T, m]."""
    return np.asarray(log_likelihood_ratio(seen, event).sum(axis=0))


@dataclass(frozen=True, slots=True)
class Moments:
    """Mean, variance, skewness and excess kurtosis of a canary's score over all rounds."""

    mean: float
    variance: float
    skewness: float
    kurtosis: float


@lru_cache(maxsize=4096)
def moments_of(event: Sampled, noise: float, present: bool) -> Moments:
    """Of the claimed event's score where the values really carry another noise."""
    rate = event.sampling_rate if present else 0.0
    counts = np.arange(hospitals_of(event) + 1)
    chances = stats.binom.pmf(counts, counts[-1], rate)
    grid = np.linspace(-_REACH * noise, _REACH * noise, _POINTS)
    density = np.exp(-0.5 * (grid / noise) ** 2)
    density /= density.sum()
    mean, raw = 0.0, []
    for count, chance in zip(counts, chances, strict=True):
        if chance > 0.0:
            raw.append((chance, log_likelihood_ratio(grid + count, event)))
            mean += float(chance * (density @ raw[-1][1]))
    second, third, fourth = (
        sum(float(chance * (density @ (value - mean) ** power)) for chance, value in raw)
        for power in (2, 3, 4)
    )
    rounds = max(event.count, 1)
    if second < _LEAST_VARIANCE:  # no noise reaches as far as a canary: scores are all alike
        return Moments(rounds * mean, rounds * _LEAST_VARIANCE, 0.0, math.inf)
    return Moments(
        mean=rounds * mean,
        variance=rounds * second,
        skewness=third / second**1.5 / math.sqrt(rounds),
        kurtosis=(fourth / second**2 - 3.0) / rounds,
    )


def threshold_of(event: Sampled) -> float:
    """The score that splits canaries best if the claim holds: halfway between the two means."""
    one = moments_of(event, event.noise_multiplier, True)
    none = moments_of(event, event.noise_multiplier, False)
    first, second = math.sqrt(one.variance), math.sqrt(none.variance)
    return (one.mean * second + none.mean * first) / (first + second)
