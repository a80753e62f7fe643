"""Whether what an observer saw refutes the claimed noise: an e-value, exact for any plan.

A run fails at chances of 1e-8. No normal law holds so far out, least of all for few canaries, rare
samples or a few rounds. So the claim is tested by a likelihood ratio whose mean is 1 if it holds;
by Markov's inequality it is 1/error or more with chance `error` at most. Nothing is approximate in
that: each factor is divided by its own mean under the claim, found by integration.

What is weighed is what the family bound weighs, how far apart the scores of both sides are in
standard deviations of those who take no part. The distance of the means is d, their spread s, and
d > a*s for the expected a whenever d > a*(s^2/c + c)/2 for some c, equal at c = s. So for a few
ratios r, the noise being that part of the claimed one, with s_r and b_r the spread and mean then,

    X = mean of S (here) - mean of [S + a*(S - b_r)^2 / (2*s_r)] (away)

is a sum of independent terms, exp(t*X)/E exp(t*X) has mean 1, and so has the mean over all r.

    refutes(scores, coins, event, noise=1.15, error=1e-8)
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from accounting.audit_scores import (
    Coins,
    Sampled,
    Values,
    hospitals_of,
    log_likelihood_ratio,
    moments_of,
)

Tilts = NDArray[np.complex128]
#: Parts of the claimed noise that evidence looks for.
RATIOS = (1.0, 0.8, 0.6, 0.4)
_REACH, _POINTS = 10.0, 1 << 10  # of one round's value, in its standard deviations
_FURTHEST = 200.0  # standard deviations that a tilt may move it; beyond, nothing is said
_NODES = np.linspace(0.0, 7.0, 71)  # of the integral over a normal value; its other half is alike


def refutes(scores: Values, coins: Coins, event: Sampled, *, noise: float, error: float) -> bool:
    """Whether scores are too far apart for so much noise.

    Guarantee: where canaries are independent and each round's noise is Gaussian and `noise` large,
    a yes has chance `error` at most, for any number of canaries, rounds and any q.

    Args:
        scores: by `accounting.audit_scores` of `event`, float64 [m].
        coins: who takes part, bool [m].
        event: what scores were made with.
        noise: in units of the clip, as for `event`.
        error: the chance of a yes where there is so much noise.
    """
    here, away = scores[coins], scores[~coins]
    if min(len(here), len(away)) < 2 or event.count == 0:
        return False
    logs = [_log_evidence(here, away, event, noise, ratio, error) for ratio in RATIOS]
    return float(np.logaddexp.reduce(logs)) - math.log(len(RATIOS)) >= -math.log(error)


def _log_evidence(
    here: Values, away: Values, event: Sampled, noise: float, ratio: float, error: float
) -> float:
    """Log of exp(t*X) over its mean, t being best where evidence is just enough."""
    one, none = moments_of(event, noise, True), moments_of(event, noise, False)
    other = moments_of(event, ratio * noise, False)
    if math.isinf(one.kurtosis + none.kurtosis + other.kurtosis):
        return -math.inf
    spread, centre = math.sqrt(none.variance), other.mean
    bend = (one.mean - none.mean) / spread / (2.0 * math.sqrt(other.variance))
    slope = 1.0 + 2.0 * bend * (none.mean - centre)
    variance = one.variance / len(here) + none.variance / len(away) * (
        slope**2
        + 2.0 * slope * bend * none.skewness * spread
        + bend**2 * (none.kurtosis + 2.0) * none.variance
    )
    t = math.sqrt(2.0 * math.log(len(RATIOS) / error) / variance)
    mean = _log_means(event, noise, t / len(here), t / len(away), bend, centre)
    if mean is None:
        return -math.inf
    found = float(here.mean()) - float((away + bend * (away - centre) ** 2).mean())
    return t * found - len(here) * mean[0] - len(away) * mean[1]


@lru_cache(maxsize=256)
def _log_means(
    event: Sampled, noise: float, here: float, away: float, bend: float, centre: float
) -> tuple[float, float] | None:
    """Log E exp(here*S) of who takes part; of others E exp(-away*(S + bend*(S - centre)^2)).

    The second is a mean of characteristic functions: exp(-v*y^2) = E exp(i*sqrt(2*v)*g*y) for a
    standard normal g. None where a tilt reaches further than is integrated.
    """
    hospitals = hospitals_of(event)
    furthest = max(here, away) * hospitals * noise / event.noise_multiplier**2
    if furthest > _FURTHEST:
        return None
    first = _log_round(event, noise, np.array([here + 0j]), furthest, present=True)
    turns = math.sqrt(2.0 * away * bend) * _NODES.astype(np.complex128)
    rounds = _log_round(event, noise, -away + 1j * turns, furthest, present=False)
    waves = np.exp(event.count * (rounds - rounds[0].real) - 1j * turns * centre)
    weights = np.exp(-0.5 * _NODES**2)
    weights[0] /= 2.0
    second = float((weights @ waves).real / weights.sum())
    if second <= 0.0:
        return None
    return (
        event.count * float(first[0].real),
        event.count * float(rounds[0].real) + math.log(second),
    )


def _log_round(
    event: Sampled, noise: float, tilts: Tilts, furthest: float, *, present: bool
) -> Tilts:
    """Log E exp(tilt * score of one round), complex128 [tilts]."""
    counts = np.arange(hospitals_of(event) + 1)
    chances = stats.binom.pmf(counts, counts[-1], event.sampling_rate if present else 0.0)
    reach = _REACH + furthest
    grid = np.linspace(-reach, reach, math.ceil(_POINTS * reach / _REACH))
    density = -0.5 * grid**2
    density -= np.log(np.exp(density).sum())
    parts = [
        (math.log(chance) + density, log_likelihood_ratio(noise * grid + count, event))
        for count, chance in zip(counts, chances, strict=True)
        if chance > 0.0
    ]
    largest = max(float((logs + tilts[0].real * score).max()) for logs, score in parts)
    total = sum(
        np.exp(np.outer(tilts, score) + logs - largest).sum(axis=1) for logs, score in parts
    )
    return np.asarray(np.log(total) + largest, dtype=np.complex128)
