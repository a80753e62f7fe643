"""What a guarantee allows is reached by the best attack on a Gaussian, and never exceeded."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import norm

from accounting.attack_limits import Limit, epsilon_or_rdp, limit_of
from accounting.events import GaussianEvent

RATES = (0.001, 0.01, 0.1, 0.5)


def gaussian(sampling_rate=1.0, sigma=2.0, count=4):
    return limit_of(
        sampling_rate=sampling_rate,
        noise_multiplier=sigma,
        count=count,
        delta=1e-4,
        accountant="prv",
    )


def test_without_a_guarantee_everything_is_allowed():
    assert Limit().most_hits(0.01) == 1.0
    assert gaussian(sigma=0.0) == gaussian(count=0) == Limit()


def test_the_best_attack_on_a_gaussian_reaches_the_limit_and_half_the_noise_exceeds_it():
    generator, limit = np.random.default_rng(1), gaussian()
    out = generator.normal(size=200_000)
    threshold = np.quantile(out, 0.99)
    for mu, above in ((1.0, False), (2.0, True)):
        hits = float(np.mean(generator.normal(size=200_000) + mu > threshold))
        assert (hits > limit.most_hits(0.01) + 0.01) == above
        if not above:
            assert hits == pytest.approx(limit.most_hits(0.01), abs=0.005)


@pytest.mark.parametrize("rate", RATES)
def test_claims_at_several_deltas_come_close_to_the_exact_curve_from_above(rate):
    event = GaussianEvent(sampling_rate=1.0, noise_multiplier=2.0, count=4)
    deltas = (1e-4, 1e-3, 1e-2, 3e-2, 1e-1)
    claims = tuple((epsilon_or_rdp([event], delta, "prv"), delta) for delta in deltas)
    exact = float(norm.cdf(norm.ppf(rate) + 1.0))
    assert exact <= Limit(claims=claims).most_hits(rate) <= 1.45 * exact


def test_one_claim_is_both_of_its_lines():
    limit = Limit(claims=((1.0, 1e-2),))
    assert limit.most_hits(0.1) == pytest.approx(math.e * 0.1 + 1e-2)
    assert limit.most_hits(0.9) == pytest.approx(1 - math.exp(-1) * (1 - 1e-2 - 0.9))
    assert limit.most_hits(1.0) == 1.0


def test_sampling_helps_and_more_rounds_do_not():
    few, many, all_of_them = gaussian(0.2, 3.0, 60), gaussian(0.2, 3.0, 300), gaussian(1.0, 3.0, 60)
    for rate in RATES:
        assert few.most_hits(rate) <= many.most_hits(rate)
        assert few.most_hits(rate) <= all_of_them.most_hits(rate)
    assert 0.5 < few.most_area() < many.most_area() < 1.0


def test_the_area_under_the_gaussian_curve_is_known():
    assert Limit(mu=1.0).most_area() == pytest.approx(norm.cdf(1 / math.sqrt(2)), abs=1e-3)


def test_picking_one_of_ten_keeps_to_the_limit_and_comes_near_it():
    generator, tries = np.random.default_rng(2), 40_000
    for mu in (0.5, 2.0):
        seen = generator.normal(size=(tries, 10))
        seen[:, 0] += mu
        right = float(np.mean(seen.argmax(axis=1) == 0))
        allowed = Limit(mu=mu).most_hits(0.1)
        assert 0.75 * allowed < right <= allowed
