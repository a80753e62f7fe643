"""Calibration: from a target epsilon to the least noise that meets it.

>>> sigma = noise_multiplier_for(
...     target_epsilon=2.0, delta=1e-4, sampling_rate=0.1, rounds=50, accountant="rdp"
... )
>>> round(sigma, 2)
1.69
"""

from __future__ import annotations

import math
from functools import lru_cache

from accounting.accountants import find_accountant
from accounting.errors import AccountingError
from accounting.events import (
    GaussianEvent,
    check_delta,
    check_rounds,
    check_sampling_rate,
)
from accounting.grid import DELTA_SLACK, EPSILON_SLACK

PRECISION = 1e-3
_LARGEST = 1e6


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
        AccountingError: a parameter is out of range, or even sigma = 1e6 does not meet the target.

    Source: bisection; epsilon does not grow with sigma. With "prv" the search starts at the
    multiplier that RDP finds, which is enough.
    """
    _check(target_epsilon, delta, sampling_rate)
    check_rounds(rounds)
    if rounds < 1:
        raise AccountingError("rounds is 0, expected >= 1: nothing to calibrate")
    return _search(target_epsilon, delta, sampling_rate, rounds, accountant)


def _check(target_epsilon: float, delta: float, sampling_rate: float) -> None:
    check_delta(delta)
    check_sampling_rate(sampling_rate)
    if not (target_epsilon > 0.0 and math.isfinite(target_epsilon)):
        raise AccountingError(f"target_epsilon is {target_epsilon}, expected > 0 and finite")


def _meets(
    name: str, target: float, delta: float, sampling_rate: float, sigma: float, rounds: int
) -> bool:
    """Whether the target holds with the grid's reserve."""
    event = GaussianEvent(sampling_rate=sampling_rate, noise_multiplier=sigma, count=rounds)
    goal = target - EPSILON_SLACK * min(target, 1.0)
    return find_accountant(name)([event], delta * (1 - DELTA_SLACK)) <= goal


@lru_cache(maxsize=256)
def _search(target: float, delta: float, sampling_rate: float, rounds: int, name: str) -> float:
    def enough(sigma: float) -> bool:
        return _meets(name, target, delta, sampling_rate, sigma, rounds)

    high = 1.0 if name == "rdp" else _search(target, delta, sampling_rate, rounds, "rdp")
    low = high * (0.5 if name == "rdp" else 0.9)
    while not enough(high):
        low, high = high, 1.5 * high
        if high > _LARGEST:
            raise AccountingError(
                f"no noise_multiplier up to {_LARGEST:g} gives epsilon {target} at delta {delta}"
            )
    while enough(low):
        low, high = low / 1.5, low
    while high / low > 1 + PRECISION:
        middle = math.sqrt(low * high)
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high
