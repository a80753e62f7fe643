"""Calibration: from a target epsilon to the least noise that meets it.

>>> sigma = noise_multiplier_for(
...     target_epsilon=2.0, delta=1e-4, sampling_rate=0.1, rounds=50, accountant="rdp"
... )
>>> round(sigma, 2)
1.69
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from functools import cache, lru_cache, partial

from accounting.accountants import find_accountant
from accounting.errors import AccountingError
from accounting.events import (
    GaussianEvent,
    check_delta,
    check_rounds,
    check_sampling_rate,
    hollow_delta,
)
from accounting.grid import DELTA_SLACK, EPSILON_SLACK
from accounting.prv import gaussian_epsilon

PRECISION = 1e-3
_LARGEST = 1e6
#: Times that the end of a bisection is guessed at before all of it is gone through.
_GUESSES = 4


def noise_multiplier_for(
    *,
    target_epsilon: float,
    delta: float,
    sampling_rate: float,
    rounds: int,
    accountant: str = "prv",
) -> float:
    """The smallest noise multiplier, within 0.1%, whose epsilon is at most the target.

    Guarantee: `rounds` events (q, sigma) are (target_epsilon, delta)-private for neighbours that
    differ by one patient at one hospital, with a hundredth of delta and a thousandth of epsilon
    kept back for the grid that values are rounded to (`accounting.grid`). The value returned has
    itself been accounted for; rounding of the search never errs to the side of less noise.

    Args:
        target_epsilon: > 0.
        delta: 0 < delta < 1.
        sampling_rate: q, 0 < q <= 1.
        rounds: T, retries included, >= 1.
        accountant: a name in `ACCOUNTANTS`.

    Raises:
        AccountingError: a parameter is out of range, any noise at all meets the target, or even
            sigma = 1e6 does not.

    Source: bisection; epsilon does not grow with sigma. With "prv" the search starts at the
    multiplier that RDP finds, which is enough; where RDP finds none, at that of the central limit
    (Dong, Roth and Su 2022, section 5.2).
    """
    _check(target_epsilon, delta, sampling_rate)
    check_rounds(rounds)
    if rounds < 1:
        raise AccountingError("rounds is 0, expected >= 1: nothing to calibrate")
    if fault := hollow_delta(delta, sampling_rate, rounds):
        raise AccountingError(fault)
    return _search(target_epsilon, delta, sampling_rate, rounds, accountant)


def _check(target_epsilon: float, delta: float, sampling_rate: float) -> None:
    check_delta(delta)
    check_sampling_rate(sampling_rate)
    if not (target_epsilon > 0.0 and math.isfinite(target_epsilon)):
        raise AccountingError(f"target_epsilon is {target_epsilon}, expected > 0 and finite")


def _spent(name: str, delta: float, sampling_rate: float, sigma: float, rounds: int) -> float:
    """Epsilon with the grid's reserve of delta."""
    event = GaussianEvent(sampling_rate=sampling_rate, noise_multiplier=sigma, count=rounds)
    return find_accountant(name)([event], delta * (1 - DELTA_SLACK))


@lru_cache(maxsize=256)
def _search(target: float, delta: float, sampling_rate: float, rounds: int, name: str) -> float:
    goal = target - EPSILON_SLACK * min(target, 1.0)

    @cache
    def spent(sigma: float) -> float:
        return _spent(name, delta, sampling_rate, sigma, rounds)

    high = 1.0
    if name != "rdp":
        try:
            high = _search(target, delta, sampling_rate, rounds, "rdp")
        except AccountingError:  # RDP has no epsilon as small
            kept = delta * (1 - DELTA_SLACK)
            near = partial(
                _by_central_limit, delta=kept, sampling_rate=sampling_rate, rounds=rounds
            )
            return _aimed(near, spent, goal, f"epsilon {target} at delta {delta} by {name}")
    low = high * (0.5 if name == "rdp" else 0.9)
    while spent(high) > goal:
        low, high = high, 1.5 * high
        if high > _LARGEST:
            raise _none_found(f"epsilon {target} at delta {delta} by {name}")
    while spent(low) <= goal:
        low, high = low / 1.5, low
    return _bisected(spent, goal, low, high)


def _bisected(spent: Callable[[float], float], goal: float, low: float, high: float) -> float:
    """Return where bisection ends, which is not asked at every middle on its way.

    It is looked at first where it would end, were the border where a straight line through what is
    known has it. If the border is between these two ends, they are the ends: every middle on the
    way to them lies beyond one of them.

    Args:
        spent: sigma -> epsilon, which takes time.
        goal: the epsilon.
        low: spends more.
        high: does not.
    """
    less, more = low, high
    for _ in range(_GUESSES):
        near = _between(spent, goal, less, more)
        ends = _halved(low, high, partial(operator.le, near))
        if spent(ends[0]) > goal >= spent(ends[1]):
            return ends[1]
        for end in ends:
            less, more = (max(less, end), more) if spent(end) > goal else (less, min(more, end))
    return _halved(low, high, lambda sigma: spent(sigma) <= goal)[1]


def _between(spent: Callable[[float], float], goal: float, less: float, more: float) -> float:
    """Return where epsilon is the goal on a straight line, of its logarithm by sigma's."""
    over, under = math.log(spent(less) / goal), math.log(max(spent(more), 1e-300) / goal)
    return less * math.pow(more / less, over / (over - under))


def _halved(low: float, high: float, meets: Callable[[float], bool]) -> tuple[float, float]:
    """Halve a range until its ends are as close as asked for: the lower one does not meet."""
    while high / low > 1 + PRECISION:
        middle = math.sqrt(low * high)
        low, high = (low, middle) if meets(middle) else (middle, high)
    return low, high


def _aimed(
    near: Callable[[float], float], spent: Callable[[float], float], goal: float, what: str
) -> float:
    """Search where an epsilon is small, and finding what a sigma spends takes seconds.

    The central limit errs by nearly the same amount at neighbouring epsilons. So what it is asked
    for is moved by how far off its last answer was: two or three steps are enough.

    Args:
        near: epsilon -> about the sigma that spends it, in no time.
        spent: sigma -> epsilon.
        goal: the epsilon.
        what: is looked for, for people.
    """
    aim, sigma, less, more = goal, near(goal), 0.0, math.inf  # less noise than needed, and more
    while True:
        found = spent(sigma)
        if found <= goal:
            more = sigma
        elif sigma >= _LARGEST:
            raise _none_found(what)
        else:
            less = sigma
        if goal * (1 - 2 * PRECISION) <= found <= goal or more <= less * (1 + PRECISION):
            return more
        aim += goal * (1 - PRECISION) - found
        sigma = near(aim) if aim > 0 else 0.0
        if not less < sigma < more:
            sigma = min(math.sqrt(less * more) if more < math.inf else 2 * less, _LARGEST)
            sigma = sigma or more / 2


def _none_found(what: str) -> AccountingError:
    hint = ": use the prv accountant" if what.endswith("rdp") else ""
    return AccountingError(f"no noise_multiplier up to {_LARGEST:g} gives {what}{hint}")


def _by_central_limit(target: float, delta: float, sampling_rate: float, rounds: int) -> float:
    """The multiplier of many rounds, were their sum one Gaussian: where a search may start."""
    low, high = 1e-9, 1e3
    while high / low > 1 + PRECISION / 1000:
        middle = math.sqrt(low * high)
        if gaussian_epsilon(middle**2, delta) <= target:
            low = middle
        else:
            high = middle
    return min(1.0 / math.sqrt(math.log1p((low / sampling_rate) ** 2 / rounds)), _LARGEST)
