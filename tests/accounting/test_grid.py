"""The grid's claims: rounding is inside the proof, by exact convolution where that is possible."""

import dataclasses
import itertools
import math

import numpy as np
import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st
from scipy.special import log_ndtr

from accounting.errors import AccountingError
from accounting.grid import DELTA_SLACK, EPSILON_SLACK, plan_grid
from accounting.noise import make_noise_plan
from accounting.noising import noised_unpaid
from accounting.randomness import Stream
from accounting.rounding import sum_rounding_kl, sum_rounding_ratio
from crypto.planning import plan_sealing
from crypto.roles import Place, Quantiser
from crypto.schemes import make_adder, make_keys, make_opener, make_sealer


def planned(name="semi-central", sigma=1.15, hospitals=10, dropouts=0, colluders=0, **changes):
    plan = make_noise_plan(
        name,
        noise_multiplier=sigma if name != "none" else 0.0,
        hospitals=hospitals,
        dropouts=dropouts,
        colluders=colluders,
    )
    given = {
        "dimensions": 725_061,
        "hospitals": hospitals,
        "plan": plan,
        "l2_clip": 1.0,
        "expected_patients": 10.0,
        "rounds": 60,
        "epsilon": 1.0,
        "delta": 1e-4,
    }
    return plan_grid(**{**given, **changes})


def log_rounded_normal(mean, stddev, points):
    """log P(round(N(mean, stddev)) = k), with full relative precision in both tails."""
    low, high = (points - 0.5 - mean) / stddev, (points + 0.5 - mean) / stddev
    low, high = np.where(low > 0, -high, low), np.where(low > 0, -low, high)
    upper = log_ndtr(high)
    return upper + np.log1p(-np.exp(log_ndtr(low) - upper))


def convolved(steps, means):
    """The sum of roundings exactly, and the rounding of one Gaussian: (z, log ratio, weights)."""
    reach = math.ceil(13 * steps)
    points = np.arange(-reach, reach + 1)
    exact = np.ones(1)
    for mean in means:
        exact = np.convolve(exact, np.exp(log_rounded_normal(mean, steps, points)))
    variance = len(means) * steps**2 + (len(means) - 1) / 12
    total = np.arange(len(exact)) - reach * len(means)
    z = (total - sum(means)) / math.sqrt(variance)
    near = np.abs(z) <= 11.0
    ideal = log_rounded_normal(sum(means), math.sqrt(variance), total[near].astype(float))
    return np.abs(z[near]), np.log(exact[near]) - ideal, np.exp(ideal)


@pytest.mark.parametrize(
    ("contributions", "steps"), [(2, 3), (2, 5), (3, 3), (5, 3), (9, 3), (4, 7)]
)
@pytest.mark.parametrize("kind", ["halves", "whole", "mixed"])
def test_a_sum_of_roundings_is_as_close_to_a_rounded_gaussian_as_claimed(
    contributions, steps, kind
):
    means = {
        "halves": np.full(contributions, 0.5),
        "whole": np.zeros(contributions),
        "mixed": np.random.default_rng(contributions).random(contributions),
    }[kind]
    z, log_ratio, weights = convolved(steps, means)
    bound = np.array([sum_rounding_ratio(contributions, steps, one) for one in z])
    assert np.all(np.abs(log_ratio) <= bound + 1e-12)
    # The divergence's terms of first order cancel over the whole line: take the second.
    divergence = float((weights * log_ratio**2).sum()) / 2
    assert divergence <= sum_rounding_kl(contributions, steps)
    # Negative control: the bounds are not generous, half of them would be broken.
    assert np.any(np.abs(log_ratio) > bound / 2 + 1e-12)
    assert divergence > sum_rounding_kl(contributions, steps) / 2


def test_the_claimed_divergence_fails_where_the_noise_is_below_three_steps():
    z, log_ratio, _ = convolved(0.3, np.full(2, 0.5))
    scale = 1 / (2880 * (2 * 0.3**2) ** 2)
    far = z > 2
    assert np.any(np.abs(log_ratio[far]) > 1.1 * scale * (z[far] ** 4 + 6 * z[far] ** 2 + 3)) or (
        np.abs(log_ratio).max() > 0.5
    )
    with pytest.raises(AccountingError, match="expected at least"):
        sum_rounding_kl(2, 2.9)


@settings(max_examples=60, deadline=None)
@given(
    name=st.sampled_from(["semi-central", "local"]),
    sigma=st.floats(0.5, 20),
    hospitals=st.integers(1, 200),
    dimensions=st.integers(1, 10**8),
    rounds=st.integers(1, 5000),
    expected_patients=st.floats(0, 200),
    epsilon=st.floats(0.05, 25),
    delta=st.floats(1e-9, 1e-3),
    l2_clip=st.floats(1e-3, 1e3),
)
def test_every_grid_keeps_its_charges_and_has_room(name, sigma, hospitals, delta, epsilon, **other):
    try:
        grid = planned(name, sigma, hospitals, epsilon=epsilon, delta=delta, **other)
    except AccountingError as refused:
        # Near 1e12 draws at a small epsilon there is no such grid, and that is said.
        assert "floating point costs" in str(refused)
        assert other["dimensions"] * other["rounds"] * hospitals > 1e11
        reject()
    assert 0 < grid.delta_slack <= DELTA_SLACK * delta
    assert 0 < grid.epsilon_slack <= EPSILON_SLACK * min(epsilon, 1.0)
    assert grid.noise_stddev / grid.step >= 3.0 - 1e-9
    assert grid.bound >= grid.clamp + grid.tail * grid.noise_stddev - 1e-9 * grid.bound
    assert grid.bound / grid.step == pytest.approx(round(grid.bound / grid.step), abs=1e-6)
    assert grid.clamp >= other["l2_clip"] * other["expected_patients"]
    assert grid.levels <= 2**grid.bits < 2 * grid.levels
    assert grid.draws * 2 * math.exp(log_ndtr(-grid.tail)) * (1 + math.exp(epsilon)) < delta / 100


def test_the_width_is_planned_and_not_a_constant():
    assert planned(sigma=6.0).bits <= 10
    assert planned().bits <= 12
    assert planned(rounds=3001, epsilon=8.99, sigma=1.15).bits <= 13
    assert planned(dimensions=31, expected_patients=20.0, sigma=6.0).bits <= 10
    assert planned(delta=1e-9, rounds=100_000).bits > planned().bits


def test_noise_that_protects_one_update_alone_pays_nothing_for_rounding():
    local = planned("local")
    assert local.kl == 0.0 and local.noise_stddev / local.step == pytest.approx(3.0)
    shared = planned("semi-central")
    assert shared.kl > 0.0 and shared.noise_stddev / shared.step > 3.0
    assert planned("semi-central", hospitals=1).kl == 0.0


def test_an_observer_of_more_epsilon_is_charged_more_delta_and_never_less():
    grid = planned()
    slacks = [grid.slack_at(epsilon, 1e-4) for epsilon in (0.5, 1.0, 5.0, 20.0, 60.0)]
    assert all(a[0] <= b[0] and a[1] <= b[1] + 1e-9 for a, b in itertools.pairwise(slacks))
    assert slacks[3][1] < 2e-6  # the tail was planned with this much room
    assert slacks[4][1] > 1e-4  # and not with this much
    assert grid.slack_at(206.0, 1e-4, single_update=True)[1] < 1e-6


def test_without_noise_the_grid_has_the_bits_that_are_asked_for_and_charges_nothing():
    grid = planned("none", bits=20)
    assert grid.bits == 20 and grid.bound == pytest.approx(grid.clamp)
    assert grid.slack_at(5.0, 1e-4) == (0.0, 0.0) and grid.delta_slack == 0.0
    values = np.array([-1e9, -0.3, 0.0, 0.3, 1e9])
    result = noised_unpaid(values, grid, None)
    assert np.abs(result[1:4] - values[1:4]).max() <= grid.step / 2
    assert result[0] == -result[4] and result[4] <= grid.bound


def test_noised_values_are_whole_steps_that_sealing_would_not_move():
    grid = planned(dimensions=50_000)
    values = np.random.default_rng(3).normal(size=50_000) * 5
    result = noised_unpaid(values, grid, Stream.from_seed(1, "noise"))
    levels = (np.clip(result, -grid.bound, grid.bound) + grid.bound) / grid.step
    assert np.abs(levels - np.rint(levels)).max() < 1e-6
    assert levels.min() >= 0 and np.rint(levels).max() <= grid.levels - 1
    again = np.rint(levels) * grid.step - grid.bound
    assert np.abs(again - result).max() < 1e-9 * grid.bound


@pytest.mark.parametrize(("hospitals", "epsilon"), [(2, 9.0), (10, 1.0)])
def test_sealing_moves_nothing_that_was_noised(hospitals, epsilon):
    grid = planned(hospitals=hospitals, epsilon=epsilon, dimensions=500)
    sealing = plan_sealing(
        values=500,
        hospitals=hospitals,
        grid=Quantiser(step=grid.step, bound=grid.bound),
        scheme="modular",
    )
    keys, place = make_keys(sealing), Place(training="t", round=1, attempt=1)
    adder, expected, nonces = make_adder(sealing), np.zeros(500), {}
    names = [f"hospital-{k}" for k in range(hospitals)]
    for name in names:
        values = noised_unpaid(np.full(500, 3.3), grid, Stream.from_seed(5, name))
        expected += np.rint(values / grid.step)
        sealed = make_sealer(sealing, keys, name).seal(values, place)
        adder.add(sealed)
        nonces[name] = sealed.nonce
    opened = make_opener(sealing, keys).open(adder.total(), nonces, place)
    assert np.array_equal(np.rint(opened / grid.step), expected)


def test_noised_values_carry_the_planned_noise_around_the_clamped_sum():
    grid = planned(dimensions=100_000)
    values = np.full(100_000, 0.123)
    values[0] = 1e6
    result = noised_unpaid(values, grid, Stream.from_seed(2, "noise"))
    off = result[1:] - 0.123
    expected = math.hypot(grid.noise_stddev, grid.step / math.sqrt(12))
    assert abs(off.mean()) < 4 * expected / math.sqrt(100_000)
    assert abs(off.std() / expected - 1) < 4 / math.sqrt(200_000)
    assert result[0] <= grid.clamp + 8 * grid.noise_stddev


def test_clamping_never_moves_two_neighbours_apart():
    grid = planned(dimensions=100)
    draw = np.random.default_rng(4)
    for _ in range(50):
        one = draw.normal(size=100) * 40
        step = draw.normal(size=100)
        other = one + step / np.linalg.norm(step)
        apart = np.clip(one, -grid.clamp, grid.clamp) - np.clip(other, -grid.clamp, grid.clamp)
        assert np.linalg.norm(apart) <= 1.0 + 1e-12


def test_noise_without_a_stream_or_values_that_are_not_finite_are_refused():
    with pytest.raises(AccountingError, match="stream"):
        noised_unpaid(np.zeros(3), planned(), None)
    with pytest.raises(AccountingError, match="finite"):
        noised_unpaid(np.array([0.0, np.nan]), planned(), Stream.from_seed(1))


@pytest.mark.parametrize(
    "changes",
    [
        {"dimensions": 0},
        {"rounds": -1},
        {"epsilon": 0.0},
        {"epsilon": math.inf},
        {"delta": 0.0},
        {"delta": 1.0},
        {"l2_clip": 0.0},
        {"expected_patients": -1.0},
        {"expected_patients": math.nan},
    ],
)
def test_a_parameter_out_of_range_is_refused_by_name(changes):
    with pytest.raises(AccountingError, match=next(iter(changes))):
        planned(**changes)


def test_a_grid_for_other_hospitals_than_the_plan_is_refused():
    plan = make_noise_plan("local", noise_multiplier=1.0, hospitals=3)
    with pytest.raises(AccountingError, match="4 hospitals"):
        planned(plan=plan, hospitals=4)


def test_what_was_charged_is_json_ready():
    record = planned().to_json()
    assert record["bits"] == planned().bits
    assert {"delta_slack", "epsilon_slack", "kl", "tail", "step", "bound"} <= set(record)
    assert dataclasses.replace(planned()) == planned()
