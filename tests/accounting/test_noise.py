import math

import numpy as np
import pytest

from accounting.errors import AccountingError
from accounting.events import GaussianEvent
from accounting.grid import plan_grid
from accounting.noise import NOISE_PLANS, make_noise_plan
from accounting.noising import noised_unpaid
from accounting.randomness import Stream


def plan(name, **changes):
    sigma = 0.0 if name == "none" else 2.0
    return make_noise_plan(name, **{"noise_multiplier": sigma, "hospitals": 10, **changes})


@pytest.mark.parametrize("name", NOISE_PLANS)
class TestEveryPlan:
    def test_noise_and_cost_come_together_or_not_at_all(self, name):
        one = plan(name)
        event = one.event(0.1, rounds=7)
        assert (one.stddev_per_hospital(1.0) > 0) == (event is not None)
        if event is not None:
            assert event == GaussianEvent(sampling_rate=0.1, noise_multiplier=2.0, count=7)

    def test_noise_scales_with_the_clip(self, name):
        assert plan(name).stddev_per_hospital(3.0) == 3.0 * plan(name).stddev_per_hospital(1.0)

    def test_as_many_dropouts_and_colluders_as_hospitals_are_refused(self, name):
        for dropouts, colluders in ((10, 0), (0, 10), (5, 5), (11, 0)):
            with pytest.raises(AccountingError, match="hospitals"):
                plan(name, dropouts=dropouts, colluders=colluders)
        for wrong in ({"dropouts": -1}, {"colluders": -1}, {"hospitals": 0}):
            with pytest.raises(AccountingError, match=next(iter(wrong))):
                plan(name, **wrong)

    def test_a_clip_or_sigma_out_of_range_is_refused(self, name):
        for clip in (0.0, -1.0, math.inf, math.nan):
            with pytest.raises(AccountingError, match="l2_clip"):
                plan(name).stddev_per_hospital(clip)
        wrong = [1.0] if name == "none" else [0.0, -1.0, math.inf, math.nan]
        for sigma in wrong:
            with pytest.raises(AccountingError, match="noise_multiplier"):
                plan(name, noise_multiplier=sigma)


@pytest.mark.parametrize(("dropouts", "colluders"), [(0, 0), (1, 0), (0, 1), (3, 4)])
def test_the_shares_of_honest_survivors_add_up_to_the_noise_that_is_claimed(dropouts, colluders):
    one = plan("semi-central", dropouts=dropouts, colluders=colluders)
    honest = 10 - dropouts - colluders
    assert one.stddev_per_hospital(1.0) * math.sqrt(honest) == pytest.approx(2.0)
    assert one.min_contributions == 10 - dropouts
    assert one.honest_contributions == honest


def test_noise_is_a_standard_deviation_and_not_a_variance():
    assert plan("semi-central").stddev_per_hospital(1.0) == pytest.approx(2.0 / math.sqrt(10))


def test_local_noise_is_the_whole_noise_whoever_drops_out():
    assert plan("local", dropouts=4, colluders=3).stddev_per_hospital(1.0) == 2.0


def test_ten_shares_add_to_central_noise_and_two_thirds_of_it_would_be_noticed():
    one = plan("semi-central")
    grid = plan_grid(
        dimensions=20_000,
        hospitals=10,
        plan=one,
        l2_clip=1.0,
        expected_patients=5.0,
        rounds=10,
        epsilon=1.0,
        delta=1e-5,
    )
    zeros = np.zeros(20_000)
    total = sum(noised_unpaid(zeros, grid, Stream.from_seed(1, "share", k)) for k in range(10))
    error = 1 / math.sqrt(2 * zeros.size)
    assert abs(total.std() / 2.0 - 1) < 4 * error
    assert abs(total.std() * 2 / 3 / 2.0 - 1) > 40 * error


def test_an_unknown_plan_names_the_known_ones():
    with pytest.raises(AccountingError, match="none, local, semi-central, central"):
        plan("global")
