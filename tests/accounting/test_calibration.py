import math
import random
from collections.abc import Callable
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accounting import calibration
from accounting.accountants import epsilon
from accounting.calibration import PRECISION, noise_multiplier_for
from accounting.errors import AccountingError
from accounting.events import GaussianEvent
from accounting.grid import DELTA_SLACK, EPSILON_SLACK, plan_grid
from accounting.noise import make_noise_plan
from accounting.observers import epsilon_on_grid

LINES = [
    ("rdp", 1.0, 1e-4, 0.2, 60),
    ("prv", 1.0, 1e-4, 0.2, 60),
    ("prv", 8.0, 1e-5, 0.03, 1000),
    ("prv", 0.3, 1e-5, 0.02, 20),
    ("rdp", 20.0, 1e-4, 1.0, 3),
    ("prv", 0.5, 1e-5, 1.0, 1),
]


@pytest.mark.parametrize(("accountant", "target", "delta", "q", "rounds"), LINES)
def test_the_noise_found_meets_the_target_and_less_noise_would_not(
    accountant, target, delta, q, rounds
):
    sigma = noise_multiplier_for(
        target_epsilon=target, delta=delta, sampling_rate=q, rounds=rounds, accountant=accountant
    )

    def spent(multiplier):
        event = GaussianEvent(sampling_rate=q, noise_multiplier=multiplier, count=rounds)
        return epsilon([event], delta * (1 - DELTA_SLACK), accountant)

    goal = target - EPSILON_SLACK * min(target, 1.0)
    assert spent(sigma) <= goal
    assert spent(sigma / (1 + PRECISION)) > goal * (1 - 1e-3)


@pytest.mark.parametrize("hospitals", [1, 10])
def test_the_target_still_holds_once_the_grid_is_charged(hospitals):
    sigma = noise_multiplier_for(target_epsilon=1.0, delta=1e-4, sampling_rate=0.2, rounds=60)
    plan = make_noise_plan("semi-central", noise_multiplier=sigma, hospitals=hospitals)
    grid = plan_grid(
        dimensions=725_061,
        hospitals=hospitals,
        plan=plan,
        l2_clip=1.0,
        expected_patients=10.0,
        rounds=60,
        epsilon=1.0,
        delta=1e-4,
    )
    event = plan.event(0.2, rounds=60)
    assert epsilon_on_grid([event], 1e-4, "prv", grid) <= 1.0


@pytest.mark.parametrize(
    "changes",
    [
        {"target_epsilon": 0.0},
        {"target_epsilon": float("inf")},
        {"delta": 0.0},
        {"delta": 1.0},
        {"sampling_rate": 0.0},
        {"sampling_rate": 1.5},
        {"rounds": 0},
        {"rounds": -1},
        {"accountant": "gdp"},
    ],
)
def test_a_parameter_out_of_range_is_refused_by_name(changes):
    good = {"target_epsilon": 1.0, "delta": 1e-4, "sampling_rate": 0.1, "rounds": 10}
    with pytest.raises(AccountingError, match=next(iter(changes))):
        noise_multiplier_for(**{**good, **changes})


def test_a_target_that_no_noise_meets_is_refused():
    with pytest.raises(AccountingError, match="no noise_multiplier"):
        noise_multiplier_for(
            target_epsilon=1e-5, delta=1e-9, sampling_rate=0.9, rounds=10**6, accountant="rdp"
        )


@pytest.mark.parametrize("q", [1.0, pytest.param(0.2, marks=pytest.mark.exhaustive)])
def test_an_epsilon_below_all_that_rdp_can_show_is_found_by_prv(q):
    asked = {"target_epsilon": 0.001, "delta": 1e-4, "sampling_rate": q, "rounds": 60}
    with pytest.raises(AccountingError, match="by rdp: use the prv accountant"):
        noise_multiplier_for(**asked, accountant="rdp")
    sigma = noise_multiplier_for(**asked)
    event = GaussianEvent(sampling_rate=q, noise_multiplier=sigma, count=60)
    assert epsilon([event], 1e-4, "prv") <= 0.001
    weaker = GaussianEvent(sampling_rate=q, noise_multiplier=0.97 * sigma, count=60)
    assert epsilon([weaker], 1e-4, "prv") > 0.001


@pytest.mark.parametrize("accountant", ["rdp", "prv"])
@pytest.mark.parametrize(("q", "rounds"), [(0.01, 1), (0.01, 40), (0.2, 60), (0.999, 1)])
def test_a_delta_that_holds_without_noise_is_refused_and_any_below_is_answered(
    accountant, q, rounds
):
    drawn = 1.0 - (1.0 - q) ** rounds
    asked = {"target_epsilon": 1.0, "sampling_rate": q, "rounds": rounds, "accountant": accountant}
    for delta in (math.nextafter(drawn, 1.0), (1.0 + drawn) / 2):
        with pytest.raises(AccountingError, match="would hold without any noise"):
            noise_multiplier_for(**asked, delta=delta)
    assert noise_multiplier_for(**asked, delta=drawn / 2) > 0.0


def plainly_bisected(
    spent: Callable[[float], float], goal: float, low: float, high: float
) -> float:
    while high / low > 1 + calibration.PRECISION:
        middle = math.sqrt(low * high)
        low, high = (low, middle) if spent(middle) <= goal else (middle, high)
    return high


@given(
    border=st.floats(1.0, 1.999),
    steepness=st.floats(0.1, 8.0),
    bend=st.floats(-0.4, 0.4),
)
def test_what_is_guessed_is_where_bisection_ends_in_fewer_steps(
    border: float, steepness: float, bend: float
) -> None:
    asked: list[float] = []

    @cache
    def spent(sigma: float) -> float:
        asked.append(sigma)
        part = math.log(sigma / border)
        return 2.0 * math.exp(-steepness * part * (1.0 + bend * math.tanh(part)))

    plain = plainly_bisected(spent, 2.0, 0.999, 2.0)
    of_plain = len(asked)
    spent.cache_clear()
    asked.clear()
    assert calibration._bisected(spent, 2.0, 0.999, 2.0) == plain
    assert plain in asked
    assert len(asked) <= of_plain


@given(seed=st.integers(0, 10**6))
def test_a_multiplier_meets_the_goal_even_if_epsilon_is_no_straight_matter(seed: int) -> None:
    @cache
    def spent(sigma: float) -> float:
        return 3.0 / sigma + random.Random(f"{seed} {sigma}").uniform(-0.2, 0.2)

    assert spent(calibration._bisected(spent, 2.0, 1.0, 4.0)) <= 2.0
