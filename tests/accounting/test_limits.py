import math
import pickle
import random

import pytest

from accounting.accountants import epsilon
from accounting.errors import AccountingError, LimitRefused
from accounting.events import GaussianEvent
from accounting.ledger import Ledger
from accounting.limits import SiteLimits, SpendRequest
from accounting.renyi_filter import RenyiFilter

EVENT = GaussianEvent(sampling_rate=0.1, noise_multiplier=1.5)


@pytest.fixture
def ledger(tmp_path):
    with Ledger(tmp_path / "l.jsonl", site="north", cohort="lungs", durable=False) as opened:
        yield opened


def request(**changes):
    good = {
        "regime": "FSCDP",
        "event": EVENT,
        "hospitals": 5,
        "noise_multiplier": 1.5,
        "delta": 1e-5,
    }
    return SpendRequest(**{**good, **changes})


LIMITS = SiteLimits(
    max_epsilon=2.0,
    delta=1e-5,
    min_noise_multiplier=1.0,
    min_hospitals=3,
    allowed_regimes=("FSCDP", "FPDP"),
)


def test_a_round_within_every_limit_may_go_on(ledger):
    LIMITS.check(request(), ledger)
    SiteLimits().check(request(event=None, regime="F", noise_multiplier=0.0, delta=None), ledger)


@pytest.mark.parametrize(
    ("changes", "limit"),
    [
        ({"regime": "F"}, "allowed-regimes"),
        ({"hospitals": 2}, "min-hospitals"),
        ({"noise_multiplier": 0.9}, "min-noise-multiplier"),
        ({"delta": 1e-4}, "delta"),
        ({"event": None}, "max-epsilon"),
        (
            {"event": GaussianEvent(sampling_rate=1.0, noise_multiplier=1.0, count=9)},
            "max-epsilon",
        ),
    ],
)
def test_a_refusal_names_the_limit_what_was_found_and_what_is_allowed(ledger, changes, limit):
    with pytest.raises(LimitRefused) as refused:
        LIMITS.check(request(**changes), ledger)
    assert refused.value.limit == limit
    assert limit in str(refused.value)
    assert str(refused.value.found) in str(refused.value)
    assert not ledger.entries()


def test_a_refusal_survives_the_way_between_processes():
    refused = pickle.loads(pickle.dumps(LimitRefused("delta", 1e-4, 1e-5)))
    assert (refused.limit, refused.found, refused.bound) == ("delta", 1e-4, 1e-5)


def test_all_violations_are_known_at_once(ledger):
    found = LIMITS.violations(request(regime="C", hospitals=1, event=None), ledger)
    assert [one.limit for one in found] == ["allowed-regimes", "min-hospitals", "max-epsilon"]


def test_the_budget_stops_before_the_round_that_would_exceed_it(ledger):
    rounds = 0
    while not LIMITS.violations(request(), ledger):
        rounds += 1
        ledger.spend(EVENT, training="t", round=rounds, attempt=1, purpose="gradient")
    assert rounds > 10
    assert ledger.epsilon(1e-5) <= 2.0
    assert ledger.would_be(EVENT, 1e-5, planned_epsilon=2.0) > 2.0
    assert epsilon([EVENT] * (rounds + 1), 1e-5) > 1.8  # the price of adaptivity is small


def test_a_budget_spent_by_one_training_is_gone_for_the_next(ledger):
    for number in range(200):
        ledger.spend(EVENT, training="one", round=number, attempt=1, purpose="gradient")
    with pytest.raises(LimitRefused, match="max-epsilon"):
        LIMITS.check(request(), ledger)


@pytest.mark.parametrize(
    "fields",
    [
        {"max_epsilon": 1.0},
        {"max_epsilon": 0.0, "delta": 1e-5},
        {"max_epsilon": math.inf, "delta": 1e-5},
        {"delta": 0.0},
        {"allowed_regimes": ("FSCDP", "DP")},
    ],
)
def test_limits_that_make_no_sense_are_refused(fields):
    with pytest.raises(AccountingError):
        SiteLimits(**fields)


@pytest.mark.parametrize("planned", [None, 0.3, 1.0, 3.0, 10.0])
def test_a_filter_never_promises_less_than_fixed_parameters_would(planned):
    chosen = random.Random(5)
    for _ in range(10):
        events = [
            GaussianEvent(
                sampling_rate=chosen.choice([0.01, 0.1, 1.0]),
                noise_multiplier=chosen.uniform(0.8, 8.0),
                count=chosen.randint(1, 30),
            )
            for _ in range(3)
        ]
        assert RenyiFilter.planned(1e-5, planned).epsilon(events) >= epsilon(events, 1e-5)


@pytest.mark.parametrize("planned", [None, 0.01, 1.0, 50.0, 1e4])
def test_a_filters_shares_of_delta_add_up_to_no_more_than_delta(planned):
    one = RenyiFilter.planned(1e-5, planned)
    assert sum(one.deltas) <= 1e-5 * (1 + 1e-12)
    assert min(one.orders) > 1.0 and len(one.orders) == len(one.deltas)


def test_a_filters_orders_do_not_depend_on_what_was_spent():
    one = RenyiFilter.planned(1e-5, 1.0)
    one.epsilon([EVENT] * 100)
    assert one == RenyiFilter.planned(1e-5, 1.0)
    assert one.epsilon([]) == 0.0


def test_a_filter_without_orders_is_refused():
    for fields in ({"orders": (), "deltas": ()}, {"orders": (1.0,), "deltas": (1e-5,)}):
        with pytest.raises(AccountingError):
            RenyiFilter(**fields)
    for planned in (0.0, -1.0, math.inf):
        with pytest.raises(AccountingError, match="planned"):
            RenyiFilter.planned(1e-5, planned)
