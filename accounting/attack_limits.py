"""What a guarantee allows an attacker: how often it may be right, at how many false alarms.

Whoever decides between two neighbouring data sets and is wrong about the one with chance alpha is
right about the other with a chance of at most

    e^epsilon * alpha + delta                       of an (epsilon, delta) (Kairouz et al. 2015)
    1 - e^-epsilon * (1 - delta - alpha)            the same claim, read from the other side
    Phi(Phi^-1(alpha) + mu)                         of a Gaussian, exact (Dong, Roth and Su 2022)

with mu = 1/sigma for one sum in which the patient is known to be sampled, and sqrt(T)/sigma for T
of them. For picking one of n equally likely records, alpha is 1/n: a release is compared with one
in which the record is not (Hayes, Mahloujifar and Balle 2023, theorem 2; a concave curve may be
averaged over records).

    >>> round(Limit(mu=1.0).most_hits(0.01), 3)
    0.092
    >>> Limit(claims=((1.0, 0.0),)).most_hits(0.01) < 0.03
    True
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr, ndtri

from accounting.accountants import epsilon
from accounting.errors import AccountingError
from accounting.events import GaussianEvent

#: Deltas at which a run's events are accounted for, beside its own: each gives two lines that no
#: attack is above, and the least of all lines is the limit.
DELTAS = (1e-1, 3e-2, 1e-2, 1e-3, 1e-6)
#: False-alarm rates between which the area under a limit is summed.
_STEPS = 4000


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """What no attack exceeds; without any claim, everything is allowed.

    Attributes:
        claims: (epsilon, delta) that all hold of the same release.
        mu: of the Gaussian that the release is no easier to see through than; None: not known.
    """

    claims: tuple[tuple[float, float], ...] = ()
    mu: float | None = None

    def most_hits(self, false_alarms: float) -> float:
        """Return the largest chance to be right, given the chance of a false alarm."""
        found = [1.0]
        for level, delta in self.claims:
            with suppress(OverflowError):
                found.append(math.exp(level) * false_alarms + delta)
            found.append(1.0 - math.exp(-level) * max(0.0, 1.0 - delta - false_alarms))
        if self.mu is not None:
            found.append(float(ndtr(ndtri(false_alarms) + self.mu)))
        return max(min(found), false_alarms)

    def most_area(self) -> float:
        """Return the largest area under a ROC curve."""
        rates = (np.arange(_STEPS) + 0.5) / _STEPS
        return float(np.mean([self.most_hits(float(rate)) for rate in rates]))


def limit_of(
    *, sampling_rate: float, noise_multiplier: float, count: int, delta: float, accountant: str
) -> Limit:
    """Return what `count` noised sums allow whoever sees them all; 0 noise allows everything.

    Where every patient is in every sum the Gaussian curve is exact; else claims at several deltas
    stand for the curve, each of which holds. Rounding to a grid is left out: it costs a hundredth
    of delta and a thousandth of epsilon (`accounting.grid`), less than an attack can resolve.

    Args:
        sampling_rate: q; 1 where the attacker knows that the patient was sampled.
        noise_multiplier: noise left for the attacker, in clips.
        count: T.
        delta: of the run's own claim, which is among those accounted for.
        accountant: that the run is accounted for by; where it has no epsilon, RDP's.
    """
    if not noise_multiplier or not count:
        return Limit()
    if sampling_rate >= 1.0:
        return Limit(mu=math.sqrt(count) / noise_multiplier)
    event = GaussianEvent(
        sampling_rate=sampling_rate, noise_multiplier=noise_multiplier, count=count
    )
    claims = []
    for one in (delta, *DELTAS):
        level = epsilon_or_rdp([event], one, accountant)
        if math.isfinite(level):
            claims.append((level, one))
    return Limit(claims=tuple(claims))


def epsilon_or_rdp(events: Sequence[GaussianEvent], delta: float, accountant: str) -> float:
    """Return epsilon by an accountant, or by RDP where the other has none as large."""
    for name in (accountant, "rdp"):
        with suppress(AccountingError):
            if math.isfinite(found := epsilon(events, delta, name)):
                return found
    return math.inf
