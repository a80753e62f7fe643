"""Evidence against a claim errs as seldom as it says for every plan, and sees what is wrong."""

import itertools
import math

import numpy as np
import pytest

from accounting.audit_evidence import RATIOS, _log_means, refutes
from accounting.audit_scores import log_likelihood_ratio
from accounting.events import GaussianEvent, SharedPatientEvent


def draw(event, canaries, rng, *, noise=0.0, rate=0.0, clip=1.0, step=0.0):
    """Scores and coins of one audit; by default of what is claimed, on a grid of steps."""
    coins = rng.random(canaries) < 0.5
    hospitals, scores = getattr(event, "hospitals", 1), np.zeros(canaries)
    for _ in range(event.count):
        seen = (noise or event.noise_multiplier) * rng.standard_normal(canaries)
        seen += clip * coins * rng.binomial(hospitals, rate or event.sampling_rate, canaries)
        if step:
            seen = np.rint(seen / step) * step
        scores += log_likelihood_ratio(seen, event)
    return scores, coins


def plan(rate, rounds, apart):
    """An event whose scores are about so many standard deviations apart."""
    noise = max(rate * math.sqrt(rounds) / apart, 0.02)
    return GaussianEvent(sampling_rate=rate, noise_multiplier=noise, count=rounds)


@pytest.mark.parametrize(
    "event",
    [
        GaussianEvent(sampling_rate=0.2, noise_multiplier=1.5, count=20),
        GaussianEvent(sampling_rate=1.0, noise_multiplier=0.4, count=1),
        GaussianEvent(sampling_rate=0.02, noise_multiplier=0.2, count=3),
        SharedPatientEvent(sampling_rate=0.3, noise_multiplier=1.0, hospitals=3, count=4),
    ],
    ids=["many rounds", "one round", "rare and loud", "three hospitals"],
)
def test_means_by_integration_are_those_of_draws(event):
    """The one number that evidence rests on, against a million simulated scores."""
    scores, coins = draw(event, 1_000_000, np.random.default_rng(1))
    here, away = scores[coins], scores[~coins]
    centre = away.mean() - away.std() / 3.0
    for tilt, bend in ((0.05, 0.2), (0.5, 0.3), (1.0, 1.5)):
        first, second, bend = tilt / 4 / here.std(), tilt / away.std(), bend / away.std()
        found = _log_means(event, event.noise_multiplier, first, second, bend, centre)
        drawn = np.exp(first * here), np.exp(-second * (away + bend * (away - centre) ** 2))
        for log, values in zip(found, drawn, strict=True):
            allowed = 5 * values.std() / values.mean() / math.sqrt(len(values))
            assert log == pytest.approx(math.log(values.mean()), abs=allowed)


def share_refuted(event, canaries, *, audits, error, seed=5, step=0.0):
    rng, noise = np.random.default_rng(seed), event.noise_multiplier
    found = (
        refutes(
            *draw(event, canaries, rng, step=step),
            event,
            noise=math.hypot(noise, step / math.sqrt(12.0)),
            error=error,
        )
        for _ in range(audits)
    )
    return sum(found) / audits


#: Few and many canaries; rare and constant sampling; coins that nobody can tell, and anybody can;
#: one round and many; values as drawn, and on a grid of a third of the noise.
PLANS = list(
    itertools.product((20, 50, 500), (0.0005, 0.02, 0.2, 1.0), (0.3, 1.5, 6.0), (1, 4, 40), (0, 3))
)


def within(share, error, audits):
    return share <= error + 5 * math.sqrt(error / audits)


@pytest.mark.exhaustive
def test_an_honest_claim_is_refuted_as_seldom_as_is_said_whatever_the_plan():
    audits, error, found = 200, 0.02, []
    for canaries, rate, apart, rounds, steps in PLANS:
        event = plan(rate, rounds, apart)
        step = event.noise_multiplier / steps if steps else 0.0
        found.append(share_refuted(event, canaries, audits=audits, error=error, step=step))
        assert within(found[-1], error, audits), (canaries, event, step)
    assert within(np.mean(found), error / 2, audits * len(found))


@pytest.mark.exhaustive
@pytest.mark.parametrize("canaries, rate, rounds", [(50, 0.5, 1), (500, 0.02, 30), (2000, 0.2, 10)])
def test_it_is_so_a_thousandfold_further_out(canaries, rate, rounds):
    event, audits = plan(rate, rounds, 1.0), 10_000
    assert within(share_refuted(event, canaries, audits=audits, error=1e-3), 1e-3, audits)


@pytest.mark.parametrize(
    "canaries, rate, apart, rounds",
    [(20, 0.02, 6.0, 1), (50, 0.02, 1.5, 4), (500, 0.02, 0.7, 30), (500, 1.0, 1.5, 4)],
)
def test_an_honest_claim_is_seldom_refuted_where_the_normal_law_refutes_it_often(
    canaries, rate, apart, rounds
):
    event = plan(rate, rounds, apart)
    assert within(share_refuted(event, canaries, audits=100, error=0.05), 0.05, 100)


@pytest.mark.parametrize(
    "wrong", [{"noise": 0.5}, {"noise": 0.8}, {"rate": 1.0}, {"clip": 2.0}], ids=str
)
@pytest.mark.parametrize(
    "canaries, rate, rounds", [(500, 0.2, 60), (500, 0.02, 60), (5000, 0.5, 1)]
)
def test_what_is_wrong_is_seen_at_the_error_of_a_run(canaries, rate, rounds, wrong):
    event = plan(rate, rounds, 1.5 if canaries == 500 and rate > 0.1 else 0.5)
    if wrong == {"noise": 0.8} and canaries == 5000:
        wrong = {"noise": 0.6}
    changes = {**wrong, "noise": wrong.get("noise", 1.0) * event.noise_multiplier}
    scores, coins = draw(event, canaries, np.random.default_rng(7), **changes)
    assert refutes(scores, coins, event, noise=event.noise_multiplier, error=1e-8)


def test_more_noise_than_claimed_refutes_nothing():
    event = plan(0.2, 10, 1.0)
    for factor in (1.0, 1.3, 2.0):
        noise = factor * event.noise_multiplier
        scores, coins = draw(event, 20_000, np.random.default_rng(1), noise=noise)
        assert not refutes(scores, coins, event, noise=noise, error=0.01)


def test_nothing_is_refuted_where_there_is_nothing_to_see():
    event = GaussianEvent(sampling_rate=0.02, noise_multiplier=0.005, count=1)
    scores, coins = draw(event, 100, np.random.default_rng(1))
    assert not refutes(scores, coins, event, noise=0.005, error=0.5)
    event = plan(0.2, 10, 1.0)
    assert not refutes(np.ones(9), np.ones(9, dtype=bool), event, noise=1.0, error=0.5)
    assert len(RATIOS) == len(set(RATIOS))
