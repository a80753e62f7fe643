"""Lower bounds on epsilon from canaries: what an attack that was carried out proves.

A canary is a made-up patient who takes part or not by the toss of a coin. An observer scores each
of m canaries; the better scores tell the coins, the larger epsilon must be. Three bounds differ in
what they take for granted:

================ =============================================================== ============
bound            assumes                                                         of the claim
================ =============================================================== ============
family           every round is a sum over a Poisson sample, with Gaussian noise  0.9 or so
                 of some size
gaussian         the run as a whole is as hard to see through as one Gaussian    0.5 to 0.9
                 mechanism
one run          nothing about the mechanism (Steinke, Nasr and Jagielski 2023)  0.2 to 0.6
================ =============================================================== ============

Each is above the truth with chance `error` at most, so one honest run in twenty has a bound at 95%
above what holds. Scores, thresholds and numbers of guesses follow from the claimed event alone,
before anything is drawn: a choice made on the same scores would void every one of them.

    >>> from accounting.audit_scores import scores_of
    >>> from accounting.events import GaussianEvent
    >>> event = GaussianEvent(sampling_rate=0.2, noise_multiplier=3.0, count=60)
    >>> rng = np.random.default_rng(1)
    >>> coins = rng.random(4000) < 0.5
    >>> sampled = coins & (rng.random((60, 4000)) < 0.2)
    >>> scores = scores_of(sampled + 3.0 * rng.standard_normal((60, 4000)), event)
    >>> bound = family_bound(scores, coins, event, delta=1e-4, error=0.05)
    >>> f"at least {bound.value:.1f}"
    'at least 1.7'
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from scipy import stats
from scipy.optimize import brentq
from scipy.special import log_ndtr, ndtr, ndtri

from accounting.audit_evidence import refutes
from accounting.audit_scores import Coins, Moments, Sampled, Values, moments_of
from accounting.errors import AccountingError
from accounting.events import check_delta
from accounting.prv import prv_epsilon
from accounting.rdp import rdp_epsilon

ERROR = 0.05  # of the bounds that are shown: 95%
_FURTHEST = 7.0  # e^7 times the claimed noise, or its e^7th part, is as far as is looked
# The expansion of the statistic's law holds to this error, and to this relative variance of either
# side's estimated variance; beyond, a few rare scores decide. Runs that train have 0.005.
_LEAST_ERROR, _ROUGHEST = 0.01, 0.05
# In clips: under fainter noise scores lie on few values, and no expansion of their means holds.
_FAINTEST = 0.15
_SAME = 1e-6  # of a claim: what two ways to the same epsilon may differ by
_MOST_EPSILON = 600.0  # beyond it e^epsilon is no float64


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """A lower bound on epsilon.

    Attributes:
        name: which bound.
        value: epsilon at the claim's delta is at least this, ...
        error: ... but with this chance at most.
        assumes: what it takes for granted beside independent canaries.
        accountant: how epsilon follows from the noise, where one was used; else "".
    """

    name: str
    value: float
    error: float
    assumes: str
    accountant: str = ""

    def to_json(self) -> dict[str, str | float]:
        """Everything, JSON-ready."""
        return {name: getattr(self, name) for name in self.__slots__}


def clopper_pearson(successes: int, trials: int, error: float) -> tuple[float, float]:
    """Bounds below and above a probability, each wrong with chance `error` at most."""
    low = float(stats.beta.ppf(error, successes, trials - successes + 1)) if successes else 0.0
    if successes == trials:
        return low, 1.0
    return low, float(stats.beta.isf(error, successes + 1, trials - successes))


def gaussian_epsilon(mu: float, delta: float) -> float:
    """Epsilon of a Gaussian whose two means lie mu standard deviations apart (Balle and Wang 2018).

    0 where mu is 0 or less.
    """

    def excess(value: float) -> float:
        second = value + float(log_ndtr(-mu / 2.0 - value / mu))
        return float(ndtr(mu / 2.0 - value / mu)) - math.exp(min(second, 0.0)) - delta

    if mu <= 0.0 or excess(0.0) <= 0.0:
        return 0.0
    high = mu * mu / 2.0 + 10.0 * mu + 1.0
    while excess(high) > 0.0:
        high *= 2.0
    return float(brentq(excess, 0.0, high, xtol=1e-9))


def family_bound(
    scores: Values, coins: Coins, event: Sampled, *, delta: float, error: float = ERROR
) -> Bound:
    """Bound epsilon by the most noise with which scores as far apart as these are still likely.

    The statistic is the distance of the mean scores of those who take part and those who do not,
    in standard deviations of the latter. Under every noise its mean, variance and skewness follow
    from one round's by integration. It uses the scores alone: not how loud the noise is, which a
    gate measures. Where a few rare scores decide, and far out, the same distance is weighed by
    `accounting.audit_evidence`, which is exact and a little less sharp.

    Args:
        scores: as `scores_of`, float64 [m], each canary with a coordinate of its own.
        coins: who takes part, bool [m].
        event: as claimed; sampling rate and rounds are taken for granted.
        delta: of the claim.
        error: the chance with which the bound may be wrong.

    Source: the distance as in Dong, Roth and Su 2022, section 2.3; epsilon by
    `accounting.accountants`.
    """
    check_delta(delta)
    noise = noise_at_most(scores, coins, event, error=error)
    value, accountant = 0.0, "prv"
    if math.isfinite(noise):
        value, accountant = _epsilon_of(replace(event, noise_multiplier=noise), delta)
    return Bound(
        name="family",
        value=value,
        error=error,
        assumes=f"sums over Poisson samples with q = {event.sampling_rate:.4g} and Gaussian noise "
        f"of some size, {event.count} times",
        accountant=accountant,
    )


def noise_at_most(scores: Values, coins: Coins, event: Sampled, *, error: float) -> float:
    """The noise, in units of the clip, that what is seen carries at most; inf: no bound."""
    apart = _apart(scores, coins, event)
    if apart is None or event.noise_multiplier < _FAINTEST:
        return math.inf
    claimed = math.log(event.noise_multiplier)

    def excess(log_noise: float) -> float:
        return _excess(apart, scores, coins, event, math.exp(log_noise), error)

    # More noise brings scores closer together, so what is unlikely at one noise is so at more.
    low = high = claimed
    while excess(high) <= 0.0:
        if high > claimed + _FURTHEST:
            return math.inf
        low, high = high, high + 0.25
    while excess(low) > 0.0 and low > claimed - _FURTHEST:
        low, high = low - 0.25, low
    if excess(low) > 0.0:
        return math.exp(low)
    return math.exp(float(brentq(excess, low, high, xtol=1e-4)))


def _apart(scores: Values, coins: Coins, event: Sampled) -> float | None:
    """The distance of the means in standard deviations; None where there is nothing to compare."""
    if min(int(coins.sum()), int((~coins).sum())) < 2 or event.count == 0:
        return None
    spread = float(scores[~coins].std(ddof=1))
    return float(scores[coins].mean() - scores[~coins].mean()) / spread if spread else math.inf


def _excess(
    apart: float, scores: Values, coins: Coins, event: Sampled, noise: float, error: float
) -> float:
    """Above 0 where scores are further apart than is likely at a noise, at this error."""
    here = int(coins.sum())
    away = len(coins) - here
    one, none = moments_of(event, noise, True), moments_of(event, noise, False)
    rough = max((one.kurtosis + 2.0) / here, (none.kurtosis + 2.0) / away)
    if error < _LEAST_ERROR or rough > _ROUGHEST:
        return 1.0 if refutes(scores, coins, event, noise=noise, error=error) else -1.0
    expected, spread, skewness = _distance(event, noise, here, away)
    normal = -float(ndtri(error))
    allowed = normal + skewness * (normal * normal - 1.0) / 6.0  # Cornish and Fisher 1938
    return apart - expected - allowed * spread


def _distance(event: Sampled, noise: float, here: int, away: int) -> tuple[float, float, float]:
    """Mean, standard deviation and skewness of the statistic of `family_bound`."""
    one, none = moments_of(event, noise, True), moments_of(event, noise, False)
    far = (one.mean - none.mean) / math.sqrt(none.variance)
    ratio = one.variance / none.variance
    # The distance d and the estimated variance 1 + v, in standard deviations of those left out.
    dd = ratio / here + 1.0 / away
    dv = -none.skewness / away
    vv = (none.kurtosis + 2.0) / away
    ddd = one.skewness * ratio**1.5 / here**2 - none.skewness / away**2
    vvv = (8.0 + 12.0 * none.kurtosis) / away**2
    # Cumulants of d / sqrt(1 + v) by the delta method: mean and skewness to the next order.
    by_d, by_v = dd - far / 2.0 * dv, dv - far / 2.0 * vv
    variance = max(by_d - far / 2.0 * by_v, 1e-300)
    third = ddd - far**3 / 8.0 * vvv + 3.0 * by_v * (0.75 * far * by_v - by_d)
    expected = far - dv / 2.0 + 0.375 * far * vv
    return expected, math.sqrt(variance), third / variance**1.5


def noise_of_claim(event: Sampled, claim: float, delta: float) -> float:
    """The least noise, in units of the clip, at which an event costs no more than is claimed.

    It is the event's own where that is enough; else the claim is below what its noise costs, and
    more is looked for.
    """

    def excess(log_noise: float) -> float:
        return _epsilon_of(replace(event, noise_multiplier=math.exp(log_noise)), delta)[0] - claim

    if _epsilon_of(event, delta)[0] - claim <= _SAME * claim:  # known from the claim, as a rule
        return event.noise_multiplier
    low = high = math.log(event.noise_multiplier)
    while excess(high) > 0.0 and high < low + _FURTHEST:
        high += 0.5
    return math.exp(float(brentq(excess, low, high, xtol=1e-3)) if excess(high) <= 0.0 else high)


def _epsilon_of(event: Sampled, delta: float) -> tuple[float, str]:
    # By the functions themselves, whatever claims are made by.
    try:
        return prv_epsilon([event], delta), "prv"
    except AccountingError:
        return rdp_epsilon([event], delta), "rdp"


def threshold_bound(
    scores: Values,
    coins: Coins,
    *,
    threshold: float,
    delta: float,
    error: float = ERROR,
) -> Bound:
    """Bound epsilon by how well one threshold tells the coins, as if the run were one Gaussian.

    Args:
        scores: any, float64 [m].
        coins: who takes part, bool [m].
        threshold: fixed beforehand, for example `threshold_of`.
        delta: of the claim.
        error: the chance with which the bound may be wrong.

    Source: Nasr et al. 2023, "Tight auditing of differentially private machine learning",
    section 4, with Clopper and Pearson's bounds, half the error each.
    """
    check_delta(delta)
    above = scores > threshold
    hit, _ = clopper_pearson(int((above & coins).sum()), int(coins.sum()), error / 2.0)
    _, false = clopper_pearson(int((above & ~coins).sum()), int((~coins).sum()), error / 2.0)
    mu = float(ndtri(hit) - ndtri(false)) if hit > 0.0 and false < 1.0 else 0.0
    return Bound(
        name="gaussian",
        value=gaussian_epsilon(mu, delta),
        error=error,
        assumes="the run as a whole is as hard to see through as one Gaussian mechanism",
    )


def correct_guesses(scores: Values, coins: Coins, guesses: int) -> int:
    """How many coins are guessed right: the best scores as taking part, the worst as not."""
    order = np.argsort(scores, kind="stable")
    half = guesses // 2
    worst, best = order[:half], order[len(order) - (guesses - half) :]
    return int(coins[best].sum() + (~coins[worst]).sum())


def one_run_bound(
    scores: Values,
    coins: Coins,
    *,
    guesses: int,
    delta: float,
    error: float = ERROR,
) -> Bound:
    """Bound epsilon by so many guesses of coins, whatever the mechanism is.

    Args:
        scores: any, float64 [m]; all m canaries were in one and the same run.
        coins: who takes part, bool [m], tossed independently with even odds.
        guesses: how many of the m coins are guessed, fixed beforehand.
        delta: of the claim.
        error: the chance with which the bound may be wrong.

    Source: Steinke, Nasr and Jagielski 2023, "Privacy auditing with one (1) training run",
    Theorem 5.2.
    """
    check_delta(delta)
    if not 0 < guesses <= len(scores):
        raise AccountingError(f"{guesses} guesses of {len(scores)} coins, expected 1 .. m")
    right = correct_guesses(scores, coins, guesses)
    return Bound(
        name="one run",
        value=_least_epsilon(right, guesses, len(scores), delta, error),
        error=error,
        assumes="nothing but independent coins",
    )


def _least_epsilon(right: int, guesses: int, canaries: int, delta: float, error: float) -> float:
    """The epsilon below which so many right guesses have a chance of `error` at most."""

    def excess(value: float) -> float:
        return chance_of_guesses(right, guesses, canaries, value, delta) - error

    if excess(0.0) > 0.0:
        return 0.0
    high = 1.0
    while excess(high) <= 0.0:
        high *= 2.0
        if high > _MOST_EPSILON:
            return _MOST_EPSILON
    return float(brentq(excess, 0.0 if high == 1.0 else high / 2.0, high, xtol=1e-4))


def chance_of_guesses(right: int, guesses: int, canaries: int, value: float, delta: float) -> float:
    """Bound the chance of so many right guesses, or more, under (epsilon = value, delta)."""
    accuracy = 1.0 / (1.0 + math.exp(-value))
    chance = float(stats.binom.sf(right - 1, guesses, accuracy))
    if right == 0 or delta == 0.0:
        return min(1.0, chance)
    # Further down than this there is no mass, and shares of it only fall.
    deviation = math.sqrt(guesses * accuracy * (1.0 - accuracy))
    most = min(right, max(1, math.ceil(right - guesses * accuracy + 12.0 * deviation) + 12))
    fewer = np.arange(1, most + 1)
    shares = np.cumsum(stats.binom.pmf(right - fewer, guesses, accuracy)) / fewer
    return min(1.0, chance + 2.0 * canaries * delta * float(shares.max()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Guessing:
    """How coins are guessed for `one_run_bound`.

    Attributes:
        canaries: of those at hand, the first so many.
        guesses: among them.
    """

    canaries: int
    guesses: int


@lru_cache(maxsize=256)
def plan_guesses(event: Sampled, canaries: int, delta: float) -> Guessing:
    """The guessing that would bound epsilon best if the claim held, from the claim alone.

    More canaries find better ones to guess, but delta is charged for each of them.
    """
    one = moments_of(event, event.noise_multiplier, True)
    none = moments_of(event, event.noise_multiplier, False)
    best, most = Guessing(canaries=canaries, guesses=max(1, canaries // 2)), -1.0
    counts = [n for n in (200, 500, 1000, 2000, 5000, 10000, 20000, 50000) if n < canaries]
    for count in (*counts, canaries):
        for share in (0.01, 0.03, 0.1, 0.3, 1.0):
            guesses = round(count * share)
            if guesses < 20 and share < 1.0:
                continue
            guesses = max(guesses, 1)
            right = math.floor(guesses * _accuracy(one, none, share))
            if most > 0.0 and chance_of_guesses(right, guesses, count, most, delta) > ERROR:
                continue  # likely enough where the best bound so far lies: this one lies below
            value = _least_epsilon(right, guesses, count, delta, ERROR)
            if value > most:
                best, most = Guessing(canaries=count, guesses=guesses), value
    return best


def _accuracy(one: Moments, none: Moments, share: float) -> float:
    """The share of right guesses among the extreme scores, as if scores were Gaussian."""
    first, second = math.sqrt(one.variance), math.sqrt(none.variance)

    def above(score: float) -> tuple[float, float]:
        return (
            float(ndtr((one.mean - score) / first)) / 2.0,
            float(ndtr((none.mean - score) / second)) / 2.0,
        )

    span = 12.0 * max(first, second)
    lowest, highest = none.mean - span, one.mean + span
    upper = brentq(lambda s: sum(above(s)) - share / 2.0, lowest, highest)
    lower = brentq(lambda s: sum(above(s)) - (1.0 - share / 2.0), lowest, highest)
    hit = above(upper)[0]
    missed = 0.5 - above(lower)[1]
    return min(1.0, (hit + missed) / share)
