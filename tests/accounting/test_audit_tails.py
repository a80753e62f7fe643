"""Bounds on chances are never below the chance, however few the terms, and not far above it."""

import math

import numpy as np
import pytest
from scipy import stats

from accounting.audit_gates import moved_gate
from accounting.audit_tails import (
    Draws,
    chance_at_most,
    lag_chance,
    pairs_chance,
    sum_chance,
)
from accounting.events import GaussianEvent, SharedPatientEvent

LEVEL = 0.02


def law_chance(found, values, logs, *, count):
    """Of one law; two halves of the draws are as good as all of them."""
    halves = [Draws(values=values, log_chances=logs, count=n) for n in (count // 2, -(-count // 2))]
    return sum_chance(found, halves)


def too_often(chances):
    """Whether chances are small more often than they say, five standard errors allowed."""
    share = float((np.array(chances) < LEVEL).mean())
    return share > LEVEL + 5 * math.sqrt(LEVEL / len(chances))


def test_a_normal_value_is_as_rare_as_it_is_but_for_a_tenth_of_its_distance():
    for z in (0.5, 2.0, 5.0, 8.0, -5.0):
        bound = chance_at_most(z, lambda t: t * t / 2.0, mean=0.0, stddev=1.0)
        assert 2 * stats.norm.sf(abs(z)) <= bound == pytest.approx(min(1, 2 * math.exp(-z * z / 2)))


@pytest.mark.parametrize("count, rate", [(50, 0.5), (250, 0.0005), (40_000, 0.2), (1000, 0.01)])
def test_a_count_is_rarer_than_its_bound_far_out_and_near(count, rate):
    law, logs = stats.binom(count, rate), np.log([1 - rate, rate])
    for found in np.unique(law.ppf([1e-9, 1e-4, 0.1, 0.9, 1 - 1e-4, 1 - 1e-9])):
        bound = law_chance(found, np.array([0.0, 1.0]), logs, count=count)
        beyond = min(law.cdf(found), law.sf(found - 1))
        assert beyond <= bound <= 1.0
        if beyond < 1e-3:
            assert bound < 60.0 * beyond


def test_what_never_varies_is_as_rare_as_it_is():
    """Ten batches of exactly the expected size: the furthest that a bound has to look."""
    sizes = np.arange(1501.0)
    logs = stats.binom.logpmf(sizes, 1500, 0.2)
    exact = 10 * logs[300]
    found = law_chance(0.0, (sizes - 300.0) ** 2, logs, count=10)
    assert math.log(found) == pytest.approx(exact + math.log(2), abs=0.5)


def test_what_has_no_chance_at_all_shuts_and_what_has_no_choice_does_not():
    values, logs = np.array([0.0, 1.0]), np.log([0.5, 0.5])
    assert law_chance(30.0, values, logs, count=20) < 1e-5
    assert law_chance(20.0, np.array([1.0, 2.0]), np.array([0.0, -np.inf]), count=20) == 1.0
    assert law_chance(21.0, np.array([1.0, 2.0]), np.array([0.0, -np.inf]), count=20) == 0.0


@pytest.mark.parametrize("parties, count", [(2, 1), (2, 25), (10, 3), (100, 2)])
def test_products_of_all_pairs_are_as_rare_as_their_bound_says_or_rarer(parties, count):
    values = np.random.default_rng(1).standard_normal((1500, count, parties))
    sums = (values.sum(-1) ** 2 - (values**2).sum(-1)).sum(-1) / 2.0
    assert not too_often([pairs_chance(one, parties=parties, count=count) for one in sums])
    assert pairs_chance(2.0 * parties * count * parties, parties=parties, count=count) < 0.2
    # Negative ones too: hospitals whose noise cancels.
    assert pairs_chance(-parties * 400 / 2.0, parties=parties, count=400) < 1e-8


@pytest.mark.parametrize("rounds, width", [(2, 1), (2, 25), (10, 4), (300, 1)])
def test_products_along_a_chain_are_as_rare_as_their_bound_says_or_rarer(rounds, width):
    values = np.random.default_rng(2).standard_normal((4000, rounds, width))
    sums = (values[:, 1:] * values[:, :-1]).sum((1, 2))
    assert not too_often(lag_chance(sums, (rounds - 1) * width))
    same = 200.0 * (rounds - 1)
    assert lag_chance(same, 200 * (rounds - 1)) < 1e-12 > lag_chance(-same, 200 * (rounds - 1))


@pytest.mark.parametrize(
    "rate, noise, hospitals, looks, here",
    [(0.0005, 0.01, 1, 1, 250), (0.0005, 0.1, 2, 5, 250), (0.2, 3.0, 1, 10, 25), (1, 1, 1, 1, 9)],
)
def test_what_a_patient_moves_is_as_rare_as_its_bound_says_or_rarer(
    rate, noise, hospitals, looks, here
):
    event = SharedPatientEvent(sampling_rate=rate, noise_multiplier=noise, hospitals=hospitals)
    if hospitals == 1:
        event = GaussianEvent(sampling_rate=rate, noise_multiplier=noise)
    rng, audits = np.random.default_rng(3), 3000
    moved = rng.binomial(here * looks * hospitals, rate, audits) / (here * looks)
    moved = moved + noise * math.sqrt(2.0 / here / looks) * rng.standard_normal(audits)

    def gate(found):
        return moved_gate("m", "s", found=found, sides=(here, here), looks=looks, event=event)

    assert not too_often([gate(one).chance for one in moved])
    # By its standard deviation alone the first of these is at chance 1e-10 of what an honest run
    # in three thousand shows.
    assert gate(hospitals * rate + 40.0 * noise / math.sqrt(here * looks) + 1.0).chance < 1e-8
