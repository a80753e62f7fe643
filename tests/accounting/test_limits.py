import math
import pickle
import random
from typing import NamedTuple

import pytest

from accounting import lines, totals
from accounting.accountants import epsilon
from accounting.against import HOSPITAL, parse_against, views_of_spend
from accounting.book import Book, read_spent
from accounting.chain import Flush
from accounting.errors import AccountingError, LedgerError, LimitRefused
from accounting.events import GaussianEvent
from accounting.ledger import Ledger
from accounting.limits import SiteLimits, SpendRequest
from accounting.noise import make_noise_plan
from accounting.renyi_filter import RenyiFilter
from accounting.spending import DeclaredPlan, Slack
from accounting.totals import declared_total, filtered_total

EVENT = GaussianEvent(sampling_rate=0.1, noise_multiplier=1.5)
VIEWS = {"server": 1.5, "hospital": 1.5, "server+hospitals:1": 1.5}  # local noise


class Place(NamedTuple):
    training: str
    round: int
    attempt: int


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
        "views": VIEWS,
        "held": 2,
    }
    return SpendRequest(**{**good, **changes})


LIMITS = SiteLimits(
    max_epsilon=2.0,
    delta=1e-5,
    min_noise_multiplier=1.0,
    min_hospitals=3,
    min_colluders=2,
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
        ({"held": 1}, "min-colluders"),
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
        ledger.spend(EVENT, training="t", round=rounds, attempt=1, purpose="x", views=VIEWS)
    assert rounds > 10
    assert ledger.epsilon(1e-5) <= 2.0
    assert LIMITS.would_be(ledger) <= 2.0 < LIMITS.would_be(ledger, request())
    assert epsilon([EVENT] * (rounds + 1), 1e-5) > 1.6  # the price of adaptivity


@pytest.fixture
def book(tmp_path):
    with Book(tmp_path / "b.jsonl", site="n", cohort="c", flush=Flush.WRITE) as opened:
        yield opened


def bind(book, training, rounds=60, spare=0):
    digests = {"terms": "T", "own": "O", "members": "M", "code": "C"}
    line = lines.bind(training, **digests, rounds=rounds, spare=spare, failures=3)
    book.append(line, lines.keyed(training, keys="K"))


def run(book, limits, rounds, training="t", **changes):
    """Spend round after round within the limits; returns how many."""
    asked = request(training=training, **changes)
    for number in range(1, rounds + 1):
        try:
            book.spend(
                Place(training, number, 1),
                asked.event,
                purpose="gradients",
                views=asked.views,
                check=lambda account: limits.check(asked, account),
            )
        except LimitRefused:
            return number - 1
        book.append(lines.adopt(training, round=number, chain="c"))
    return rounds


def test_a_run_whose_terms_are_bound_goes_on_where_a_filter_alone_would_stop_it(book):
    limits = SiteLimits(max_epsilon=3.3, delta=1e-4)
    for training in ("told", "second"):
        bind(book, training)
    assert run(book, limits, 60, "told", **RARELY) == 60
    assert 2.4 < limits.would_be(book) <= 3.3
    assert filtered_total(book.spendings(), against=HOSPITAL, delta=1e-4, limit=3.3) > 6.0
    assert run(book, limits, 60, "second", **RARELY) == 0


def test_each_training_is_composed_once_whatever_processes_come_after(tmp_path, monkeypatch):
    composed = []
    real = totals.composed_epsilon
    monkeypatch.setattr(
        totals, "composed_epsilon", lambda *given: composed.append(given) or real(*given)
    )
    limits = SiteLimits(max_epsilon=6.0, delta=1e-4)
    found = []
    for number in range(1, 5):
        with Book(tmp_path / "b.jsonl", site="n", cohort="c", flush=Flush.WRITE) as book:
            if number == 1:
                for training in ("told", "second"):
                    bind(book, training)
                assert run(book, limits, 60, "told", **RARELY) == 60
            shown = {"views": RARELY["views"], "slack": Slack(0.0, 0.0)}
            book.spend(Place("second", number, 1), RARELY["event"], purpose="x", **shown)
            book.append(lines.adopt("second", round=number, chain="c"))
            found.append(limits.would_be(book))
    assert len(composed) == len(set(composed)) == 2
    by_hand = limits.counted(*read_spent(tmp_path / "b.jsonl"))
    assert by_hand == found[-1]
    with Book(tmp_path / "b.jsonl", site="n", cohort="c", flush=Flush.WRITE) as book:
        # At another delta, or by another computation, it is another number.
        SiteLimits(max_epsilon=6.0, delta=1e-5).would_be(book)
        assert len(composed) > 2
        monkeypatch.setattr(totals, "COMPOSED_BY", totals.COMPOSED_BY + 1)
        before = len(composed)
        assert limits.would_be(book) == found[-1] and len(composed) > before


def test_what_was_composed_is_part_of_the_chain(tmp_path):
    path = tmp_path / "b.jsonl"
    with Book(path, site="n", cohort="c", flush=Flush.WRITE) as book:
        bind(book, "t")
        assert book.composed(EVENT, 1e-4) == pytest.approx(epsilon([EVENT], 1e-4, "prv"))
        bind(book, "u")
    data = path.read_bytes()
    path.write_bytes(data.replace(b'"epsilon":', b'"epsilon":0', 1))
    with pytest.raises(LedgerError, match="damaged"):
        Book(path, site="n", cohort="c")


def test_a_ledger_that_binds_nothing_goes_by_the_filter_alone(ledger):
    limits = SiteLimits(max_epsilon=3.3, delta=1e-4)
    with pytest.raises(LimitRefused, match="max-epsilon"):
        limits.check(request(training="t", **RARELY), ledger)


def test_a_plan_is_counted_whole_from_its_first_round_on(book):
    event = GaussianEvent(sampling_rate=0.2, noise_multiplier=5.14)
    counted = []
    for training, rounds, spare in (("short", 60, 0), ("spare", 60, 30), ("long", 90, 0)):
        bind(book, training, rounds, spare)
        book.spend(Place(training, 1, 1), event, purpose="gradients", slack=Slack(0.0, 0.0))
        own = [one for one in book.spendings() if one.training == training]
        total = declared_total(own, book.plans(), against=HOSPITAL, delta=1e-4, limit=1.0)
        counted.append(total)
    assert counted[0] < counted[1] == counted[2]


RARE = GaussianEvent(sampling_rate=0.001, noise_multiplier=0.42)
RARELY = {"event": RARE, "views": {"server": 0.42, "hospital": 0.42}, "delta": 1e-4}


@pytest.mark.parametrize(("places", "covered"), [(61, True), (60, False), (1000, False)])
def test_a_declared_plan_that_is_not_the_books_covers_nothing(book, places, covered):
    bind(book, "t", 60, spare=1)
    plan = DeclaredPlan(event=RARE, places=places)
    limits = SiteLimits(max_epsilon=3.3, delta=1e-4)
    assert (run(book, limits, 60, "t", plan=plan, **RARELY) == 60) is covered


def test_the_same_run_counts_more_against_a_stronger_observer(book):
    plan = make_noise_plan("semi-central", noise_multiplier=5.14, hospitals=5)
    views = views_of_spend(plan, regime="FSCDP", exchange="gradients", scheme="bfv")
    event = plan.event(0.2)
    bind(book, "t")
    counted = [
        SiteLimits(max_epsilon=1e-9, delta=1e-4, against=parse_against(word)).would_be(
            book, request(training="t", event=event, views=views)
        )
        for word in ("server", "hospital", "colluders:2", "server+hospitals:1")
    ]
    assert counted == sorted(set(counted))


def test_a_ledger_that_does_not_say_how_noise_was_shared_is_refused_against_the_server(ledger):
    ledger.spend(
        GaussianEvent(sampling_rate=0.01, noise_multiplier=20.0),
        training="old",
        round=1,
        attempt=1,
        purpose="gradients",
    )
    for word in ("server", "server+hospitals:2"):
        limits = SiteLimits(max_epsilon=2.0, delta=1e-5, against=parse_against(word))
        with pytest.raises(LimitRefused, match=r"lower \[limits\] against by hand, or begin a new"):
            limits.check(request(), ledger)
    SiteLimits(max_epsilon=2.0, delta=1e-5).check(request(), ledger)


def test_a_refusal_says_against_whom(ledger):
    limits = SiteLimits(max_epsilon=0.1, delta=1e-5, against=parse_against("colluders:2"))
    with pytest.raises(LimitRefused, match=r"0.1 against any 2 other hospitals together"):
        limits.check(request(), ledger)


def test_a_budget_spent_by_one_training_is_gone_for_the_next(ledger):
    for number in range(200):
        ledger.spend(EVENT, training="one", round=number, attempt=1, purpose="x", views=VIEWS)
    with pytest.raises(LimitRefused, match="max-epsilon"):
        LIMITS.check(request(), ledger)


@pytest.mark.parametrize(
    "fields",
    [
        {"max_epsilon": 1.0},
        {"max_epsilon": 0.0, "delta": 1e-5},
        {"max_epsilon": math.inf, "delta": 1e-5},
        {"delta": 0.0},
        {"max_epsilon": math.nan, "delta": 1e-5},
        {"min_noise_multiplier": math.nan},
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
