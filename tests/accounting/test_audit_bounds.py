"""Bounds on epsilon hold where the truth is known, are close to it, and rise with less noise."""

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from accounting.accountants import epsilon
from accounting.audit_bounds import (
    chance_of_guesses,
    clopper_pearson,
    correct_guesses,
    family_bound,
    gaussian_epsilon,
    noise_at_most,
    one_run_bound,
    plan_guesses,
    threshold_bound,
)
from accounting.audit_evidence import refutes
from accounting.audit_scores import log_likelihood_ratio, scores_of, threshold_of
from accounting.errors import AccountingError
from accounting.events import GaussianEvent, SharedPatientEvent

DELTA = 1e-4


#: Epsilon by PRV of ten rounds at q = 0.2 -> their noise multiplier.
NOISE = {0.3: 6.2543, 1.0: 2.4315, 3.0: 1.1916, 8.0: 0.6966}


#: At both ends of what is claimed; `make test-all` tries all.
CLAIMS = [
    0.3,
    *(pytest.param(claim, marks=pytest.mark.exhaustive) for claim in (1.0, 3.0)),
    8.0,
]


def event_at(claim):
    return GaussianEvent(sampling_rate=0.2, noise_multiplier=NOISE[claim], count=10)


def draw(event, canaries, seed, *, noise=None, rate=None):
    """Scores and coins of one audit of a mechanism whose noise and rate are known."""
    rng = np.random.default_rng(seed)
    coins = rng.random(canaries) < 0.5
    hospitals = getattr(event, "hospitals", 1)
    scores = np.zeros(canaries)
    for _ in range(event.count):
        seen = (noise or event.noise_multiplier) * rng.standard_normal(canaries)
        seen += coins * rng.binomial(hospitals, rate or event.sampling_rate, canaries)
        scores += log_likelihood_ratio(seen, event)
    return scores, coins


def bounds_of(scores, coins, event, error=0.05):
    plan = plan_guesses(event, len(scores), DELTA)
    return [
        family_bound(scores, coins, event, delta=DELTA, error=error),
        threshold_bound(scores, coins, threshold=threshold_of(event), delta=DELTA, error=error),
        one_run_bound(
            scores[: plan.canaries],
            coins[: plan.canaries],
            guesses=plan.guesses,
            delta=DELTA,
            error=error,
        ),
    ]


def test_the_likelihood_ratio_is_that_of_the_two_densities():
    seen = np.linspace(-3.0, 4.0, 29)
    normal = stats.norm(scale=0.7).pdf
    one = GaussianEvent(sampling_rate=0.3, noise_multiplier=0.7)
    ratio = (0.7 * normal(seen) + 0.3 * normal(seen - 1)) / normal(seen)
    assert np.exp(log_likelihood_ratio(seen, one)) == pytest.approx(ratio, rel=1e-10)
    two = SharedPatientEvent(sampling_rate=0.3, noise_multiplier=0.7, hospitals=2)
    ratio = 0.49 * normal(seen) + 0.42 * normal(seen - 1) + 0.09 * normal(seen - 2)
    found = np.exp(log_likelihood_ratio(seen, two))
    assert found == pytest.approx(ratio / normal(seen), rel=1e-10)
    always = GaussianEvent(sampling_rate=1.0, noise_multiplier=0.7)
    ratio = normal(seen - 1) / normal(seen)
    assert np.exp(log_likelihood_ratio(seen, always)) == pytest.approx(ratio, rel=1e-10)
    assert scores_of(np.stack([seen, seen]), one) == pytest.approx(
        2 * log_likelihood_ratio(seen, one)
    )


@pytest.mark.parametrize("hospitals", [1, 2, 3])
def test_small_noise_overflows_no_likelihood(hospitals):
    event = SharedPatientEvent(sampling_rate=0.3, noise_multiplier=0.01, hospitals=hospitals)
    found = log_likelihood_ratio(np.array([-5.0, 0.0, 1.0, 2.0, 9.0]), event)
    assert np.isfinite(found).all()
    assert found[1] == pytest.approx(hospitals * math.log(0.7))
    if hospitals == 1:
        assert found[2] == pytest.approx(0.5 / 0.01**2 + math.log(0.3))


def test_the_gaussian_epsilon_is_the_accountants():
    for mu in (0.05, 0.4, 2.0, 9.0):
        event = GaussianEvent(sampling_rate=1.0, noise_multiplier=1 / mu)
        assert gaussian_epsilon(mu, DELTA) == pytest.approx(epsilon([event], DELTA, "prv"), 1e-3)
    assert gaussian_epsilon(0.0, DELTA) == gaussian_epsilon(-1.0, DELTA) == 0.0


def test_the_claims_of_these_tests_are_the_accountants():
    for claim in NOISE:
        assert epsilon([event_at(claim)], DELTA, "prv") == pytest.approx(claim, rel=3e-3)


def test_clopper_and_pearson_are_scipys():
    for hits, trials in ((0, 10), (3, 10), (10, 10), (4000, 9000)):
        known = stats.binomtest(hits, trials).proportion_ci(0.9, "exact")
        assert clopper_pearson(hits, trials, 0.05) == pytest.approx((known.low, known.high))


def test_guesses_are_of_the_best_and_the_worst_scores():
    scores = np.array([5.0, -4.0, 1.0, 0.5, -3.0, 4.0])
    coins = np.array([True, False, False, True, True, True])
    assert correct_guesses(scores, coins, 4) == 3
    with pytest.raises(AccountingError, match="7 guesses of 6"):
        one_run_bound(scores, coins, guesses=7, delta=DELTA)


def test_the_chance_of_guesses_is_binomial_without_delta_and_charged_for_each_canary_with_it():
    chance = chance_of_guesses(70, 100, 1000, 0.5, 0.0)
    assert chance == pytest.approx(stats.binom.sf(69, 100, 1 / (1 + math.exp(-0.5))))
    accuracy = 1 / (1 + math.exp(-0.5))
    # Theorem 5.2, term by term: max over i of P(v > W >= v - i) / i.
    law = stats.binom(100, accuracy)
    worst = max((law.cdf(69) - law.cdf(69 - i)) / i for i in range(1, 71))
    charged = chance_of_guesses(70, 100, 1000, 0.5, DELTA)
    assert charged == pytest.approx(chance + 2 * 1000 * DELTA * worst)


@pytest.mark.parametrize("claim", CLAIMS)
def test_bounds_at_95_percent_are_above_the_truth_once_in_twenty_at_most(claim):
    event, audits = event_at(claim), 100
    plan, threshold = plan_guesses(event, 1500, DELTA), threshold_of(event)
    above = np.zeros(3)
    for seed in range(audits):
        scores, coins = draw(event, 1500, seed)
        few = slice(plan.canaries)
        above += (
            noise_at_most(scores, coins, event, error=0.05) < event.noise_multiplier,
            threshold_bound(scores, coins, threshold=threshold, delta=DELTA).value > claim,
            chance_of_guesses(
                correct_guesses(scores[few], coins[few], plan.guesses),
                plan.guesses,
                plan.canaries,
                claim,
                DELTA,
            )
            < 0.05,
        )
    assert (above / audits <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / audits)).all(), above


def test_a_claim_is_refuted_where_its_bound_is_above_it():
    event = event_at(3.0)
    for seed, noise in ((1, 1.0), (2, 0.94), (3, 0.8)):
        scores, coins = draw(event, 4000, seed, noise=noise * event.noise_multiplier)
        for error in (0.005, 1e-6):
            bound = family_bound(scores, coins, event, delta=DELTA, error=error)
            assert refutes(scores, coins, event, noise=event.noise_multiplier, error=error) == (
                bound.value > 3.0
            )


#: Few canaries and many, rare samples and all, few rounds and many, faint noise and loud.
PLANS = [
    (canaries, rate, rounds, apart)
    for canaries in (20, 500)
    for rate, rounds in ((0.5, 1), (0.1, 4), (0.02, 1), (0.02, 30), (1.0, 20), (0.0005, 40))
    for apart in (0.3, 6.0)
]


@pytest.mark.exhaustive
def test_the_family_bound_is_above_the_truth_as_seldom_as_is_said_whatever_the_plan():
    audits, error = 20, 0.05
    for canaries, rate, rounds, apart in PLANS:
        noise = max(rate * math.sqrt(rounds) / apart, 0.02)
        event = GaussianEvent(sampling_rate=rate, noise_multiplier=noise, count=rounds)
        above = sum(
            noise_at_most(*draw(event, canaries, seed), event, error=error) < noise
            for seed in range(audits)
        )
        # By the normal law with skewness, errors are up to 1.3 times what they are said to be.
        assert above / audits <= 1.3 * error + 4 * math.sqrt(error / audits), (canaries, event)


def test_few_rare_scores_do_not_put_the_bound_above_the_truth():
    """By its expansion one honest audit in eight would have it there."""
    event = GaussianEvent(sampling_rate=0.02, noise_multiplier=0.164, count=30)
    above = sum(
        noise_at_most(*draw(event, 500, seed), event, error=0.05) < 0.164 for seed in range(8)
    )
    assert above <= 1
    scores, coins = draw(event, 500, 1, noise=0.1)
    assert family_bound(scores, coins, event, delta=DELTA).value > 0.0


def test_the_gaussian_bound_may_be_above_the_truth_of_a_mechanism_that_samples():
    """So it fails no run that does: at delta 0.01 this mechanism has epsilon 0."""
    event = GaussianEvent(sampling_rate=0.01, noise_multiplier=0.2, count=1)
    assert epsilon([event], 0.01, "prv") == pytest.approx(0.0, abs=1e-3)
    scores, coins = draw(event, 1_000_000, 1)
    bound = threshold_bound(scores, coins, threshold=threshold_of(event), delta=0.01, error=1e-6)
    assert bound.value > 0.1


@pytest.mark.parametrize("claim", CLAIMS)
def test_bounds_are_close_to_the_truth(claim):
    event = event_at(claim)
    found = [
        [b.value for b in bounds_of(*draw(event, 30_000, s), event)]
        for s in range(5 if claim > 1.0 else 9)
    ]
    family, gaussian, one_run = np.median(found, axis=0) / claim
    assert family > (0.6 if claim < 1.0 else 0.85)
    assert gaussian > 0.4
    assert one_run > 0.2


def test_a_patient_of_several_hospitals_is_bound_as_well():
    event = SharedPatientEvent(sampling_rate=0.2, noise_multiplier=3.0, hospitals=2, count=10)
    truth = epsilon([event], DELTA, "prv")
    found = [family_bound(*draw(event, 20_000, s), event, delta=DELTA).value for s in range(5)]
    assert 0.85 * truth < np.median(found) < truth


@pytest.mark.parametrize("wrong", [{"noise": 0.5}, {"noise": 0.8}, {"rate": 1.0}, {"rate": 0.4}])
def test_less_noise_or_more_sampling_than_claimed_is_refuted(wrong):
    event = event_at(3.0)
    changed = {"noise": event.noise_multiplier * wrong.get("noise", 1.0), "rate": wrong.get("rate")}
    scores, coins = draw(event, 30_000, 1, **changed)
    assert family_bound(scores, coins, event, delta=DELTA, error=1e-8).value > 3.0
    assert noise_at_most(scores, coins, event, error=1e-8) < event.noise_multiplier


def test_more_noise_than_claimed_refutes_nothing():
    event = event_at(3.0)
    scores, coins = draw(event, 20_000, 1, noise=1.5 * event.noise_multiplier)
    assert all(bound.value < 3.0 for bound in bounds_of(scores, coins, event))


def test_what_is_planned_for_the_attack_follows_from_the_claim_alone():
    event = event_at(1.0)
    plan = plan_guesses(event, 20_000, DELTA)
    assert 0 < plan.guesses <= plan.canaries <= 20_000
    # Delta is charged for every canary, so a larger one is met by fewer of them.
    assert plan_guesses(event, 50_000, 1e-3).canaries < plan_guesses(event, 50_000, 1e-7).canaries
    assert threshold_of(event) == threshold_of(replace(event))


def test_nothing_is_bound_where_nothing_was_seen():
    event = event_at(1.0)
    coins = np.array([True, False] * 50)
    for bound in bounds_of(np.zeros(100), coins, replace(event, count=0)):
        assert bound.value == 0.0
