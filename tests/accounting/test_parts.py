"""Noise in parts: a sum carries what was planned, whoever is missing, and never less."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from accounting.errors import AccountingError
from accounting.grid import GridPlan, plan_grid
from accounting.noise import make_noise_plan, multiplier_against
from accounting.noising import noised_unpaid, without_parts
from accounting.parts import SEED_BYTES, SEED_PRIME, NoiseParts, Seeds, part_noise, plan_parts
from accounting.randomness import Stream
from accounting.rounding import MIN_NOISE_IN_STEPS, floating_drift, rounding_drift


@some.composite
def federations(draw):
    hospitals = draw(some.integers(2, 200))
    dropouts = draw(some.integers(1, hospitals - 1))
    colluders = draw(some.integers(0, hospitals - dropouts - 1))
    return hospitals, dropouts, colluders


def noise_of(hospitals, dropouts, colluders, sigma=2.0):
    return make_noise_plan(
        "semi-central",
        noise_multiplier=sigma,
        hospitals=hospitals,
        dropouts=dropouts,
        colluders=colluders,
        removable=True,
    )


def grid_for(plan, dimensions=2_000, **changes):
    given = {"expected_patients": 5.0, "rounds": 20, "epsilon": 1.0, "delta": 1e-4}
    return plan_grid(
        dimensions=dimensions,
        hospitals=plan.hospitals,
        plan=plan,
        l2_clip=1.0,
        **{**given, **changes},
    )


# The plan


@given(federation=federations(), sigma=some.floats(0.5, 20.0))
def test_honest_hospitals_of_a_sum_keep_sigma_whoever_is_missing(federation, sigma):
    hospitals, dropouts, colluders = federation
    plan = noise_of(*federation, sigma)
    parts = plan.parts
    gain = math.sqrt((hospitals - colluders) / (hospitals - colluders - dropouts))
    if parts is None:
        assert gain <= 1.05
        return
    assert gain > 1.05
    exact = hospitals * dropouts <= 40
    assert not exact or parts.levels == tuple(range(1, dropouts + 1))
    for missing in range(dropouts + 1):
        together = plan.kept(missing) * math.sqrt(hospitals - colluders - missing)
        if missing in (0, *parts.levels):
            assert together == pytest.approx(sigma, rel=1e-12)
        else:
            assert together > sigma
            level = min(one for one in parts.levels if one > missing)
            assert plan.kept(missing) == plan.parts.kept(level) and not exact
    drawn = math.sqrt(sum(one**2 for one in parts.stddevs))
    assert drawn == pytest.approx(plan.multiplier_of_update, rel=1e-12)
    # Fewer colluders than planned, or none: what is left is no less.
    for actual in range(colluders + 1):
        assert multiplier_against(plan, actual) == pytest.approx(sigma, rel=1e-12)


@given(federation=federations(), more=some.integers(1, 5))
def test_who_knows_more_than_planned_is_worst_off_with_nobody_more_missing(federation, more):
    """The claim for c' > c: sqrt((K - d - c')/(K - d - c)), as without parts."""
    hospitals, dropouts, colluders = federation
    known = colluders + more
    if hospitals - dropouts - known < 1:
        return
    claim = 2.0 * math.sqrt((hospitals - dropouts - known) / (hospitals - dropouts - colluders))
    assert multiplier_against(noise_of(*federation), known) == pytest.approx(claim)


def test_parts_are_exact_where_that_is_cheap_and_in_levels_where_it_is_dear():
    levels = {
        (10, 2): (1, 2),
        (13, 3): (1, 2, 3),
        (20, 3): (1, 3),
        (20, 6): (1, 3, 6),
        (100, 20): (1, 3, 7, 15, 20),
        (100, 15): (1, 3, 7, 15),
    }
    for (hospitals, dropouts), expected in levels.items():
        found = plan_parts(1.0, hospitals=hospitals, dropouts=dropouts, colluders=0)
        assert found.levels == expected
    assert plan_parts(1.0, hospitals=20, dropouts=1, colluders=0) is None
    # Who shares no keys opens no seeds: nothing is in parts, whatever is missing.
    whole = make_noise_plan("semi-central", noise_multiplier=1.0, hospitals=10, dropouts=2)
    assert whole.parts is None and whole.kept(0) == whole.multiplier_of_update


@pytest.mark.parametrize(
    ("levels", "stddevs"),
    [((), (1.0,)), ((2, 1), (1.0, 1.0, 1.0)), ((0, 1), (1.0, 1.0, 1.0)), ((1,), (1.0,))],
    ids=["no-level", "falling", "zero", "too-few"],
)
def test_levels_that_mean_nothing_are_refused(levels, stddevs):
    with pytest.raises(AccountingError, match="levels"):
        NoiseParts(levels=levels, stddevs=stddevs)


def test_parts_of_no_noise_are_refused():
    for wrong in (0.0, math.nan, math.inf):
        with pytest.raises(AccountingError, match="parts of noise"):
            NoiseParts(levels=(1,), stddevs=(1.0, wrong))


# The grid


@settings(max_examples=40, deadline=None)
@given(
    federation=federations(),
    sigma=some.floats(0.5, 20.0),
    dimensions=some.integers(1, 10**7),
    epsilon=some.floats(0.1, 20.0),
)
def test_a_grid_is_fine_enough_for_what_stays_however_many_are_missing(
    federation, sigma, dimensions, epsilon
):
    plan = noise_of(*federation, sigma)
    grid = grid_for(plan, dimensions, epsilon=epsilon)
    if plan.parts is None:
        assert grid.parts is None
        return
    hospitals, dropouts, colluders = federation
    steps = [plan.kept(missing) / grid.step for missing in range(dropouts + 1)]
    assert min(steps) == steps[0] >= MIN_NOISE_IN_STEPS - 1e-9
    # The bound has room for all that is drawn, not for what stays.
    assert grid.bound >= grid.clamp + grid.tail * plan.multiplier_of_update - 1e-9 * grid.bound
    assert 0 < grid.epsilon_slack <= 1e-3 * min(epsilon, 1.0)
    assert 0 < grid.delta_slack <= 1e-6
    log_part, reach = -30.0, 8.0
    if grid.summed > 1:
        worst = max(
            rounding_drift(
                max(2, hospitals - missing - max(colluders, 1)), kept, reach, grid.sums, log_part
            )
            for missing, kept in enumerate(steps)
        )
        of_the_whole = rounding_drift(
            grid.summed, grid.noise_stddev / grid.step, reach, grid.sums, log_part
        )
        assert worst >= of_the_whole


def test_parts_cost_a_fraction_of_a_bit():
    whole = make_noise_plan("semi-central", noise_multiplier=2.0, hospitals=10, dropouts=2)
    wide, parted = grid_for(whole, 725_061), grid_for(noise_of(10, 2, 0), 725_061)
    assert 0.0 < math.log2(parted.levels / wide.levels) < 0.3


def test_floating_point_is_charged_for_every_part_against_what_always_stays():
    """Sampler, a product and an addition a part, one for the fraction: against n_0 alone."""
    alone = floating_drift(3.0, 8.0, 1e6, -30.0)
    parts = noise_of(10, 2, 0).parts
    spread = sum(parts.stddevs) / parts.stddevs[0]
    parted = floating_drift(3.0, 8.0, 1e6, -30.0, parts=3, spread=spread)
    assert parted / alone == pytest.approx(spread * (8 + 4) / (8 + 2), rel=1e-6)
    # No more than (d + 2)/2 times the additions of the whole, and the share of what stays.
    assert parted <= alone * (2 + 2) / 2 * math.sqrt(10 / 8)


def test_a_grid_with_parts_survives_json_and_the_whole_one_reads_as_before():
    grid = grid_for(noise_of(10, 2, 1))
    assert grid.parts.levels == (1, 2)
    assert GridPlan.from_json(grid.to_json()) == grid
    whole = grid_for(make_noise_plan("semi-central", noise_multiplier=2.0, hospitals=10))
    written = whole.to_json()
    del written["parts"]  # as it was written before there were any
    assert GridPlan.from_json(written) == whole


# Drawing and taking out


def contributions(plan, grid, dimensions, label, values=0.0):
    """Every hospital's noised vector, and the seeds of its parts, by name."""
    made = {}
    for number in range(plan.hospitals):
        stream = Stream.from_seed(3, label, number)
        seeds = Seeds.drawn(stream, grid.parts)
        vector = noised_unpaid(np.full(dimensions, values), grid, stream, seeds)
        made[f"hospital-{number:03}"] = vector, seeds
    return made


def opened_of(grid, made, members, missing):
    return {
        (name, part): made[name][1].each[part - 1]
        for name in members
        for part in grid.parts.removed(missing)
    }


def variance_left(plan, grid, missing, *, removal="right", dimensions=20_000):
    """Variance of an opened sum's noise, less that of rounding, in units of (sigma*C)^2."""
    made = contributions(plan, grid, dimensions, f"missing {missing}")
    members = sorted(made)[missing:]
    opened = opened_of(grid, made, members, missing)
    total = sum(made[name][0] for name in members)
    if removal == "none":
        opened = {}
    left = without_parts(total, grid, opened, missing=missing)
    if removal == "one too many":
        stays = grid.parts.removed(missing).start - 1
        for name in members:
            seed = made[name][1].each[stays - 1]
            left = left - part_noise(seed, dimensions, grid.parts.stddevs[stays])
    rounding = len(members) * grid.step**2 / 12
    return (left.var() - rounding) / plan.multiplier_of_sum**2


def test_the_variance_is_the_planned_one_for_every_number_missing():
    """Within one percent, 4 standard errors of 320,000 values; both controls are off by 10."""
    plan = noise_of(10, 2, 0)
    grid = grid_for(plan)
    for missing in range(3):
        found = variance_left(plan, grid, missing, dimensions=320_000)
        assert found == pytest.approx(1.0, abs=0.01)
    # Controls: nothing taken out leaves K/(K - d); one part too many less than was promised.
    assert variance_left(plan, grid, 0, removal="none") == pytest.approx(10 / 8, abs=0.05)
    assert variance_left(plan, grid, 1, removal="none") == pytest.approx(9 / 8, abs=0.05)
    for missing, less in ((1, 9 / 10), (2, 8 / 9)):
        found = variance_left(plan, grid, missing, removal="one too many")
        assert found == pytest.approx(less, abs=0.04) and found < 0.95


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("hospitals", "dropouts", "colluders"), [(5, 1, 1), (13, 3, 2), (20, 6, 1)]
)
def test_the_variance_is_the_planned_one_in_many_federations(hospitals, dropouts, colluders):
    plan = noise_of(hospitals, dropouts, colluders)
    grid = grid_for(plan)
    for missing in range(dropouts + 1):
        level = min(one for one in (0, *plan.parts.levels) if one >= missing)
        # The colluders' noise is in the sum too, and is theirs to subtract.
        due = (hospitals - missing) / (hospitals - colluders - level)
        found = variance_left(plan, grid, missing, dimensions=320_000)
        assert found == pytest.approx(due, rel=0.01)


def test_a_part_that_stays_is_never_taken_out():
    plan = noise_of(10, 2, 0)
    grid = grid_for(plan)
    total, seed = np.zeros(50), bytes(SEED_BYTES)
    for missing, part in ((1, 1), (2, 1), (2, 2), (0, 0), (0, 3)):
        with pytest.raises(AccountingError, match="stay"):
            without_parts(total, grid, {("a", part): seed}, missing=missing)
    for missing in (-1, 3):
        with pytest.raises(AccountingError, match="planned for 2"):
            without_parts(total, grid, {("a", 2): seed}, missing=missing)
    whole = grid_for(make_noise_plan("semi-central", noise_multiplier=2.0, hospitals=10))
    with pytest.raises(AccountingError, match="stay"):
        without_parts(total, whole, {("a", 1): seed}, missing=0)


def test_taking_out_gives_the_same_bits_whatever_the_order_and_nothing_where_nothing_goes():
    plan = noise_of(8, 2, 0)
    grid = grid_for(plan)
    made = contributions(plan, grid, 500, "order", values=0.3)
    members = sorted(made)
    total = sum(made[name][0] for name in members)
    opened = opened_of(grid, made, members, 0)
    turned = dict(reversed(opened.items()))
    first = without_parts(total, grid, opened, missing=0)
    assert np.array_equal(first, without_parts(total, grid, turned, missing=0))
    assert without_parts(total, grid, {}, missing=0) is total
    # The oracle: whole numbers less every removed draw, in order, then the step.
    left = np.rint(total / grid.step)
    for name in members:
        for part in (1, 2):
            scale = grid.parts.stddevs[part] / grid.step * (1.0 + 1e-9)
            left = left - part_noise(made[name][1].each[part - 1], 500, scale)
    assert np.array_equal(first, left * grid.step)


def test_what_is_left_is_the_sum_with_the_kept_noise_alone_but_for_rounding():
    plan = noise_of(6, 2, 0)
    grid = grid_for(plan)
    values = np.linspace(-2.0, 2.0, 300)
    total, kept, opened = np.zeros(300), np.zeros(300), {}
    for number in range(6):
        stream, again = (Stream.from_seed(9, number) for _ in range(2))
        seeds = Seeds.drawn(stream, grid.parts)
        assert Seeds.drawn(again, grid.parts).each == seeds.each
        total += noised_unpaid(values, grid, stream, seeds)
        kept += values + again.normal(300) * grid.parts.stddevs[0]
        opened |= {(f"h{number}", part): seeds.each[part - 1] for part in (1, 2)}
    off = without_parts(total, grid, opened, missing=0) - kept
    assert np.abs(off).max() <= 6 * grid.step / 2 * 1.001


def test_noise_in_parts_wants_one_seed_for_each_and_the_whole_none():
    plan = noise_of(10, 2, 0)
    grid = grid_for(plan)
    fresh = Stream.from_seed(1, "noise")
    for wrong in (None, Seeds(()), Seeds((bytes(SEED_BYTES),))):
        with pytest.raises(AccountingError, match="2 parts to remove"):
            noised_unpaid(np.zeros(5), grid, fresh, wrong)
    whole = grid_for(make_noise_plan("semi-central", noise_multiplier=2.0, hospitals=10))
    with pytest.raises(AccountingError, match="0 parts to remove"):
        noised_unpaid(np.zeros(5), whole, fresh, Seeds.drawn(fresh, grid.parts))
    with pytest.raises(AccountingError, match="a seed of 5 bytes"):
        part_noise(b"12345", 3, 1.0)


# Seeds


def test_seeds_are_uniform_residues_and_fresh_unless_the_run_is_seeded():
    parts = noise_of(10, 2, 0).parts
    fresh = [Seeds.drawn(Stream.fresh(), parts).each for _ in range(2_000)]
    assert len({seed for each in fresh for seed in each}) == 4_000
    numbers = np.frombuffer(b"".join(seed for each in fresh for seed in each), dtype="<u2")
    assert numbers.max() < SEED_PRIME
    counts = np.histogram(numbers, bins=64, range=(0, SEED_PRIME))[0]
    expected = numbers.size / 64
    assert ((counts - expected) ** 2 / expected).sum() < 63 + 6 * math.sqrt(126)
    assert Seeds.drawn(Stream.from_seed(1, "a"), None).each == ()


def test_seeds_show_nothing_and_are_not_copied():
    import pickle

    seeds = Seeds.drawn(Stream.fresh(), noise_of(10, 2, 0).parts)
    assert repr(seeds) == str(seeds) == "Seeds"
    for leak in (pickle.dumps, list, bool, "{}".format, lambda one: one == seeds):
        with pytest.raises(TypeError):
            leak(seeds)


def test_parts_of_different_seeds_have_nothing_in_common():
    one, other = (part_noise(bytes([n]) * SEED_BYTES, 50_000, 1.0) for n in (1, 2))
    assert abs(np.corrcoef(one, other)[0, 1]) < 5 / math.sqrt(50_000)
    assert one.std() == pytest.approx(1.0, abs=0.02)
