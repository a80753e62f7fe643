"""What is seen of a round: whose updates are in it, how often each has noise, what it costs."""

from __future__ import annotations

import math

import numpy as np
import pytest

from accounting.attack_limits import epsilon_or_rdp
from accounting.events import GaussianEvent
from simulations.attacks.ground import Ground
from simulations.attacks.one_round import OneRound
from simulations.attacks.sights import sights
from simulations.scenario import find_scenario, resolve

GROUPS = ["exchange.group-size=2", "exchange.robust=median"]
LOCAL = ["privacy.regime=FPDP", "exchange.name=weights", "exchange.local-steps=8"]


def seen(told, regime):
    settings = resolve(find_scenario("default"), told, {})
    ground = Ground(settings=settings, epsilons=(3.0,), regimes=(regime,))
    for sight in list(sights(ground))[1:]:
        settings = ground.told(sight.way)
        made = OneRound(
            settings,
            ground.cohorts.of(settings),
            ground.noise_multiplier(settings),
            model=None,
            seed=0,
        )
        yield sight, made, settings


@pytest.mark.parametrize("regime", ["FPDP", "FSCDP"])
def test_of_groups_the_sum_of_one_group_is_seen_with_the_noise_of_that_group(regime):
    _, (sight, made, settings) = seen(GROUPS, regime)
    assert sight.title == "the sum of a group of 2"
    assert sight.sealed == "yes"
    drawn = np.concatenate([made.sum_of([]) for _ in range(60)]) / made.terms.l2_clip
    assert np.std(drawn) == pytest.approx(sight.multiplier(made.terms), rel=0.05)
    event = GaussianEvent(
        sampling_rate=made.terms.schedule.sampling_rate,
        noise_multiplier=float(np.std(drawn)),
        count=made.terms.schedule.events,
    )
    real = epsilon_or_rdp([event], settings.privacy.delta, settings.privacy.accountant)
    assert sight.epsilon(made.terms, settings) == pytest.approx(real, rel=0.1)


def test_of_groups_of_one_each_update_is_opened_and_there_is_no_sum():
    told = ["exchange.group-size=1", "exchange.robust=median", "sealing.scheme=plain"]
    found = [sight for sight, *_ in seen([*told, "privacy.regime=FPDP"], "FPDP")]
    assert [(one.title, one.sealed) for one in found] == [("a single update", "no")]


def test_of_several_local_steps_each_has_the_patient_and_its_noise():
    (sight, made, _), _ = seen(LOCAL, "FPDP")
    drawn = np.concatenate([made.update(None) for _ in range(60)]) / made.terms.l2_clip
    spread = float(np.std(drawn))
    assert spread == pytest.approx(math.sqrt(8) * sight.multiplier(made.terms), rel=0.05)
    # A patient in all eight steps moves their sum by up to eight clips.
    assert sight.apart(made.terms) == pytest.approx(8 / spread, rel=0.05)


def test_without_noise_nothing_is_too_near():
    sight, made, _ = next(seen([], "F"))
    assert sight.apart(made.terms) == math.inf
