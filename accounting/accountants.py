"""Accountants: from events and delta to epsilon, behind one callable.

    >>> from accounting.events import GaussianEvent
    >>> training = GaussianEvent(sampling_rate=0.0341, noise_multiplier=1.15, count=3001)
    >>> round(epsilon([training], 1e-4, "rdp"), 2)
    9.84

"rdp" takes microseconds and serves every round; "prv" is tighter, takes milliseconds to a second,
and serves a few points. Tests check both against Opacus and google's dp-accounting.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from accounting.errors import AccountingError
from accounting.events import Event, check_delta
from accounting.prv import prv_epsilon
from accounting.rdp import rdp_epsilon

Accountant = Callable[[Sequence[Event], float], float]

ACCOUNTANTS: dict[str, Accountant] = {"rdp": rdp_epsilon, "prv": prv_epsilon}


def find_accountant(name: str) -> Accountant:
    """The accountant of that name.

    Raises:
        AccountingError: there is none of that name; the message lists the known ones.
    """
    if name not in ACCOUNTANTS:
        raise AccountingError(f"accountant is {name!r}, expected one of {', '.join(ACCOUNTANTS)}")
    return ACCOUNTANTS[name]


def epsilon(events: Sequence[Event], delta: float, accountant: str = "rdp") -> float:
    """Epsilon at `delta` of the composition of `events`; 0 for none, inf where there is none.

    Guarantee: an upper bound, for neighbours that differ by one patient at one hospital, if the
    events happened with Poisson sampling and parameters fixed beforehand.

    Args:
        events: in any order.
        delta: 0 < delta < 1.
        accountant: "rdp" (Mironov 2017) or "prv" (Gopi, Lee and Wutschitz 2021).

    Raises:
        AccountingError: delta out of range, an unknown accountant, or events outside what the
            accountant can compute soundly (it says why; nothing falls back silently).
    """
    check_delta(delta)
    return find_accountant(accountant)(events, delta)
