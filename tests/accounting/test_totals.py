"""What a site's book adds up to: both ways, against oracles, and what is not covered."""

import math
from dataclasses import replace

import pytest
from dp_accounting import dp_event
from dp_accounting.pld import pld_privacy_accountant
from hypothesis import given, settings
from hypothesis import strategies as st

from accounting.accountants import epsilon
from accounting.against import HOSPITAL, parse_against
from accounting.events import ExactEvent, GaussianEvent
from accounting.grid import plan_grid
from accounting.limits import SiteLimits
from accounting.noise import make_noise_plan
from accounting.spending import DeclaredPlan, Slack, Spending
from accounting.totals import SLACK_PART, declared_total, filtered_total, least_total

#: Sampling is rare and noise small: RDP at the orders of a filter says little of it.
RARE = GaussianEvent(sampling_rate=0.001, noise_multiplier=0.42)
NONE = Slack(0.0, 0.0)
DELTA = 1e-4


def spending(event, training="t", left=None, **fields):
    left = event.noise_multiplier if left is None else left
    views = (("server", event.noise_multiplier), ("hospital", left))
    return Spending(training, "gradients", event, **{"views": views, "slack": NONE, **fields})


def declared(event, places, count, training="t", left=None, delta=DELTA, **fields):
    """(b) of one training that spent `count` of its `places`."""
    one = spending(replace(event, count=count), training, left, **fields)
    plans = {training: DeclaredPlan(event=event, places=places)}
    return declared_total([one], plans, against=HOSPITAL, delta=delta, limit=3.0)


def pld_epsilon(event, count, delta):
    accountant = pld_privacy_accountant.PLDAccountant()
    accountant.compose(
        dp_event.PoissonSampledDpEvent(
            event.sampling_rate, dp_event.GaussianDpEvent(event.noise_multiplier)
        ),
        count,
    )
    return accountant.get_epsilon(delta)


def test_a_plan_fixed_beforehand_counts_what_pld_says_where_the_filter_says_thrice_that():
    whole = replace(RARE, count=60)
    filtered = filtered_total([spending(whole)], against=HOSPITAL, delta=DELTA, limit=2.0)
    exact = pld_epsilon(RARE, 60, DELTA)
    assert exact == pytest.approx(2.39, abs=0.02)
    assert filtered > 2.8 * exact
    counted = declared(RARE, 60, 1)
    assert counted == pytest.approx(pld_epsilon(RARE, 60, 0.65 / 2 * DELTA), rel=0.02)
    assert exact < counted < 1.35 * exact


@pytest.mark.parametrize(
    ("q", "sigma", "places"), [(0.2, 5.14, 60), (0.0341, 2.09, 300), (1.0, 30.0, 20)]
)
def test_a_declared_plan_is_composed_exactly_with_every_spare_attempt(q, sigma, places):
    event = GaussianEvent(sampling_rate=q, noise_multiplier=sigma)
    oracle = pld_epsilon(event, places, 0.65 / 2 * DELTA)
    assert oracle * 0.999 <= declared(event, places, 1) <= oracle * 1.02
    assert declared(event, places, places) == declared(event, places, 1)


def test_an_event_of_several_messages_a_place_counts_all_of_them():
    event = GaussianEvent(sampling_rate=0.1, noise_multiplier=4.0, count=3)
    single = replace(event, count=1)
    plan = {"t": DeclaredPlan(event=event, places=10)}
    one = [spending(event)]
    total = declared_total(one, plan, against=HOSPITAL, delta=DELTA, limit=1.0)
    assert total == declared(single, 30, 1)


def test_a_training_beyond_its_declared_plan_is_not_covered_by_it():
    assert math.isfinite(declared(RARE, 60, 60))
    assert declared(RARE, 60, 61) == math.inf


def test_a_training_that_spends_another_event_or_is_seen_otherwise_is_not_covered():
    plans = {"t": DeclaredPlan(event=RARE, places=60)}
    noisier = GaussianEvent(sampling_rate=0.001, noise_multiplier=9.0)
    for other in (spending(noisier), spending(RARE, left=0.1)):
        found = declared_total(
            [spending(RARE), other], plans, against=HOSPITAL, delta=DELTA, limit=3.0
        )
        assert found == math.inf


def test_what_was_charged_is_never_part_of_a_plan():
    plans = {"t": DeclaredPlan(event=RARE, places=60)}
    lost = spending(replace(RARE, count=1), charged=True)
    both = declared_total([spending(RARE), lost], plans, against=HOSPITAL, delta=DELTA, limit=3.0)
    assert both > declared(RARE, 60, 1)


def test_an_observer_with_less_noise_gives_a_larger_epsilon():
    event = GaussianEvent(sampling_rate=0.1, noise_multiplier=3.0, count=60)
    one = spending(event, left=2.5)
    plans = {"t": DeclaredPlan(event=replace(event, count=1), places=60)}
    server = parse_against("server")
    for total, more in ((filtered_total, ()), (declared_total, (plans,))):
        fields = {"delta": DELTA, "limit": 2.0}
        assert total([one], *more, against=server, **fields) < total(
            [one], *more, against=HOSPITAL, **fields
        )
    less = GaussianEvent(sampling_rate=0.1, noise_multiplier=2.5)
    assert declared(replace(event, count=1), 60, 60, left=2.5) == declared(less, 60, 60)


def test_exact_releases_and_unknown_noise_have_no_total():
    for one in (
        Spending("t", "x", ExactEvent(), slack=NONE),
        Spending("t", "x", RARE, (("server", 1.0), ("hospital", None)), slack=NONE),
    ):
        assert least_total([one], {}, against=HOSPITAL, delta=DELTA, limit=3.0) == math.inf


def test_the_least_total_is_that_of_the_plan_where_the_filter_is_beyond_the_limit():
    one = [spending(replace(RARE, count=60))]
    plans = {"t": DeclaredPlan(event=RARE, places=60)}
    ways = {"against": HOSPITAL, "delta": DELTA, "limit": 4.0}
    assert least_total(one, plans, **ways) == declared_total(one, plans, **ways) < 4.0
    assert least_total(one, {}, **ways) == filtered_total(one, **ways) > 4.0


def test_a_trainings_slack_is_charged_once_and_the_unknown_one_is_more():
    event = GaussianEvent(sampling_rate=0.1, noise_multiplier=5.0)
    free = declared(event, 10, 1)
    known = [spending(event, slack=Slack(0.003, 1e-9)), spending(event, slack=Slack(0.002, 1e-9))]
    plans = {"t": DeclaredPlan(event=event, places=10)}
    total = declared_total(known, plans, against=HOSPITAL, delta=DELTA, limit=3.0)
    assert total == pytest.approx(free + 0.003)
    assert declared(event, 10, 1, slack=None) == pytest.approx(free + 0.01)


def test_slack_beyond_its_share_of_delta_leaves_no_bound():
    event = GaussianEvent(sampling_rate=0.1, noise_multiplier=50.0)
    assert declared(event, 1, 1, slack=Slack(0.0, 0.04 * DELTA)) < 1.0
    assert declared(event, 1, 1, slack=Slack(0.0, 0.06 * DELTA)) == math.inf


@pytest.mark.parametrize("hospitals", [2, 10])
@pytest.mark.parametrize("target", [0.2, 1.0, 8.0])
def test_what_lines_do_not_say_of_slack_covers_every_grid_that_is_planned(hospitals, target):
    grid = plan_grid(
        dimensions=725_000,
        hospitals=hospitals,
        plan=make_noise_plan("semi-central", noise_multiplier=1.15, hospitals=hospitals),
        l2_clip=1.0,
        expected_patients=100.0,
        rounds=3001,
        epsilon=target,
        delta=DELTA,
    )
    for limit in (target, 2.0, target + 15.0):
        slack = SiteLimits(max_epsilon=limit, delta=DELTA).slack_of(grid)
        assert 0.0 < slack.epsilon <= 1e-2
        assert 0.0 < slack.delta <= 1e-2 * SLACK_PART * DELTA
    assert SiteLimits().slack_of(grid) == NONE


def test_a_limit_against_more_hospitals_than_planned_is_charged_for_rounding_of_fewer():
    plan = make_noise_plan("semi-central", noise_multiplier=1.15, hospitals=10)
    grid = plan_grid(
        dimensions=725_000,
        hospitals=10,
        plan=plan,
        l2_clip=1.0,
        expected_patients=100.0,
        rounds=3001,
        epsilon=1.0,
        delta=DELTA,
    )

    def charged(against, colluders=0):
        limits = SiteLimits(max_epsilon=1.0, delta=DELTA, against=parse_against(against))
        return limits.slack_of(grid, colluders)

    assert charged("server") == charged("hospital") < charged("colluders:3")
    assert charged("colluders:3", colluders=3) == charged("hospital")
    assert charged("server+hospitals:5") == charged("colluders:5") > charged("colluders:3")


events = st.builds(
    GaussianEvent,
    sampling_rate=st.sampled_from([0.005, 0.1, 1.0]),
    noise_multiplier=st.sampled_from([1.0, 4.0, 20.0]),
    count=st.integers(1, 3),
)


trainings_that_spend = st.lists(
    st.tuples(events, st.integers(1, 20), st.integers(1, 20), st.booleans()), max_size=3
)
limits = st.sampled_from([0.5, 2.0, 8.0])


@settings(max_examples=3, deadline=None)
@given(trainings_that_spend, limits)
def test_neither_way_is_ever_below_the_exact_composition_of_what_was_spent(trainings, limit):
    check_against_exact_composition(trainings, limit)


@pytest.mark.exhaustive
@settings(max_examples=100, deadline=None)
@given(trainings_that_spend, limits)
def test_neither_way_is_below_the_exact_composition_in_a_hundred_cases(trainings, limit):
    check_against_exact_composition(trainings, limit)


def check_against_exact_composition(trainings, limit):
    spent, plans = [], {}
    for number, (event, places, used, bound) in enumerate(trainings):
        name = f"t{number}"
        count = event.count * min(used, places)
        spent.append(spending(replace(event, count=count), name))
        if bound:
            plans[name] = DeclaredPlan(event=event, places=places)
    exact = epsilon([one.event for one in spent], DELTA, "prv")
    ways = {"against": HOSPITAL, "delta": DELTA, "limit": limit}
    least = min(filtered_total(spent, **ways), declared_total(spent, plans, **ways))
    assert least >= exact - 1e-9
    assert least_total(spent, plans, **ways) >= least
