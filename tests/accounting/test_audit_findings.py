"""A claim is refuted where what is seen costs more than it, whatever a plan says of the noise."""

from dataclasses import replace

import numpy as np
import pytest

from accounting.accountants import epsilon
from accounting.audit_bounds import noise_of_claim
from accounting.audit_findings import weigh
from accounting.audit_scores import scores_of
from accounting.audit_sights import Sight
from accounting.events import GaussianEvent
from accounting.observers import ObserverRow

DELTA, ERROR, CANARIES = 1e-4, 1e-8, 6000
#: What is claimed: noise of 2 clips, ten rounds at q = 0.2.
CLAIMED = GaussianEvent(sampling_rate=0.2, noise_multiplier=2.0, count=10)
CLAIM = epsilon([CLAIMED], DELTA, "prv")


def refuted(*, noise: float, claim: float = CLAIM, planned: float | None = None) -> bool:
    """Whether an audit of so much noise refutes a claim; the plan says how much was to be there."""
    event = replace(CLAIMED, noise_multiplier=planned or noise)
    random = np.random.default_rng(1)
    coins = random.random(CANARIES) < 0.5
    sampled = coins & (random.random((event.count, CANARIES)) < event.sampling_rate)
    seen = sampled + noise * random.standard_normal(sampled.shape)
    sight = Sight(
        single=False, knows=0, hospitals=1, apart=False, draws=1, event=event,
        claimed_noise=CLAIMED.noise_multiplier,
    )  # fmt: skip
    row = ObserverRow(
        observer="server", epsilon={"prv": claim}, delta=DELTA, binds_target=True, why=""
    )
    scores = scores_of(seen, event)
    found = weigh(sight, [row], scores, coins, noise=event.noise_multiplier, error=ERROR)
    return "family" in found.refuted_by


def test_an_honest_run_and_one_with_more_noise_than_its_claim_needs_are_not_refuted():
    assert not refuted(noise=2.0)
    assert not refuted(noise=3.0)


def test_less_noise_than_the_plan_says_is_refuted():
    assert refuted(noise=1.0, planned=2.0)


def test_a_plan_of_less_noise_than_its_claim_rests_on_is_refuted_by_what_fits_the_plan():
    assert refuted(noise=1.0)


def test_a_claim_below_what_its_noise_costs_is_refuted():
    assert refuted(noise=2.0, claim=CLAIM / 4)


def test_the_noise_of_a_claim_costs_what_is_claimed_and_never_is_less_than_the_plans():
    assert noise_of_claim(CLAIMED, CLAIM, DELTA) == 2.0
    assert noise_of_claim(CLAIMED, 2 * CLAIM, DELTA) == 2.0
    needed = noise_of_claim(CLAIMED, CLAIM / 2, DELTA)
    cost = epsilon([replace(CLAIMED, noise_multiplier=needed)], DELTA, "prv")
    assert cost == pytest.approx(CLAIM / 2, rel=0.01)
