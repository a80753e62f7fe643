"""Chances of a privacy loss, and what float64 may leave them off by."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from scipy.special import ndtr

from accounting.accountants import epsilon
from accounting.errors import AccountingError
from accounting.events import SharedPatientEvent
from accounting.privacy_losses import PrivacyLoss

#: Hospitals, q, sigma.
SHARED = [(1, 0.01, 1.0), (10, 0.01, 5.0), (1000, 0.01, 1e3), (1000, 0.5, 1e2), (1000, 0.5, 1e4)]


@pytest.mark.parametrize(("hospitals", "q", "sigma"), SHARED)
def test_a_chance_is_off_by_the_roundings_that_are_charged(
    hospitals: int, q: float, sigma: float
) -> None:
    loss = PrivacyLoss(q, sigma, hospitals, reverse=False)
    x = np.linspace(-2.0, 8.0 + hospitals / sigma, 4001)
    losses = loss._loss(x)
    ways = np.arange(hospitals + 1)
    # Far out one minus a chance is all rounding; what is left to come adds up without it.
    left = stats.binom(hospitals, q).pmf(ways) @ ndtr(ways[:, None] / sigma - x)
    found = loss.cdf(np.append(losses, losses[-1] + 100.0))
    beyond = found[-1] - found[:-1]
    far = left < 1e-9  # nearer, the places' own rounding is more
    assert far.any()
    assert np.abs(beyond - left)[far].max() < 2.0**-52 * (1 + loss.roundings)


def test_a_thousand_terms_round_off_what_a_delta_near_them_does_not_have() -> None:
    event = SharedPatientEvent(sampling_rate=0.01, noise_multiplier=1e3, hospitals=1000, count=500)
    assert 0.0 < epsilon([event], 1e-6, "prv") <= epsilon([event], 1e-6, "rdp")
    with pytest.raises(AccountingError, match="delta 1e-11 in float64 after 500 events"):
        epsilon([event], 1e-11, "prv")
