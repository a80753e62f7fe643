"""Whom a limit may be against, and what each faces in a spending."""

import math

import pytest

from accounting.against import (
    HOSPITAL,
    MOST_HOSPITALS,
    multiplier_of,
    parse_against,
    views_of_spend,
)
from accounting.errors import AccountingError
from accounting.noise import make_noise_plan
from accounting.runs import RunDescription
from accounting.views import views_of

ALL = ("server", "hospital", "colluders:1", "colluders:3", "server+hospitals:1")


def views(regime="FSCDP", exchange="gradients", scheme="bfv", held=None, **plan):
    names = {"FSCDP": "semi-central", "FPDP": "local", "CDP": "central", "F": "none"}
    sigma = 0.0 if regime == "F" else 2.0
    plan = {"hospitals": 6, "removable": scheme == "one-time", **plan}
    made = make_noise_plan(names[regime], noise_multiplier=sigma, **plan)
    return views_of_spend(made, regime=regime, exchange=exchange, scheme=scheme, held=held)


def faced(given, whom, purpose="gradients"):
    return multiplier_of(2.0, parse_against(whom), views=given, purpose=purpose)


@pytest.mark.parametrize("word", ["server", "hospital", "colluders:2", "server+hospitals:64"])
def test_an_observer_is_written_as_it_is_read(word):
    assert str(parse_against(word)) == word
    assert parse_against(word).title
    assert parse_against("hospital") == HOSPITAL


@pytest.mark.parametrize(
    "word",
    [
        "",
        "Server",
        "public",
        "server:1",
        "hospital:2",
        "colluders",
        "colluders:0",
        "colluders:-1",
        "colluders:2\n",
        f"colluders:{MOST_HOSPITALS + 1}",
        "server+hospitals:9999999",
    ],
)
def test_an_unknown_observer_is_refused_with_the_known_ones(word):
    with pytest.raises(AccountingError, match=r"server\+hospitals:1"):
        parse_against(word)


@pytest.mark.parametrize("plan", [{}, {"dropouts": 2}, {"colluders": 2}, {"hospitals": 2}])
@pytest.mark.parametrize("scheme", ["bfv", "modular", "one-time"])
def test_views_of_a_spending_are_those_of_the_observer_table(plan, scheme):
    held = 2 if scheme == "one-time" and plan.get("dropouts") else None
    given = views(scheme=scheme, held=held, **plan)
    run = RunDescription(
        regime="FSCDP",
        scheme=scheme,
        sampling_rate=0.1,
        noise_multiplier=2.0,
        rounds=1,
        delta=1e-5,
        held=held,
        **{"hospitals": 6, **plan},
    )
    table = {view.observer: view.multiplier for view in views_of(run)}
    assert given["server"] == table["server"]
    assert given["hospital"] == table["any one other hospital"]
    beside = "one key holder"
    if scheme == "one-time":
        beside = "all other hospitals" if run.hospitals == 2 else "any one other hospital"
    assert given["server+hospitals:1"] == table[f"server + {beside}"]
    if plan.get("colluders"):
        assert faced(views(**plan), "colluders:2") == pytest.approx(
            table["any 2 colluding hospitals"]
        )


def test_under_one_time_keys_the_server_adds_nothing_to_what_hospitals_know():
    given, shared_key = views(scheme="one-time"), views(scheme="bfv")
    for count in range(1, 6):
        left = 2.0 * math.sqrt((6 - count) / 6)
        assert faced(given, f"server+hospitals:{count}") == pytest.approx(left)
        assert faced(given, f"colluders:{count}") == pytest.approx(left)
        # One key that all hospitals hold opens single updates to the first of them.
        assert faced(shared_key, f"server+hospitals:{count}") == pytest.approx(2.0 / math.sqrt(6))


def test_shared_keys_hold_up_to_a_number_and_beyond_it_single_updates_are_open():
    """K = 10, d = 2: held against 3. With nobody missing a single update keeps sigma/sqrt(10)."""
    given = views(scheme="one-time", hospitals=10, dropouts=2, held=3)
    for count in range(1, 4):
        # Worst with as many missing as planned, whatever they take out of the sum.
        left = 2.0 * math.sqrt((8 - count) / 8)
        assert faced(given, f"server+hospitals:{count}") == pytest.approx(left)
        assert faced(given, f"colluders:{count}") == pytest.approx(left)
    for count in (4, 7, 9, 64):
        assert faced(given, f"server+hospitals:{count}") == pytest.approx(2.0 / math.sqrt(10))
    # Without the server they see sums, but have shares enough to open every seed of noise.
    assert faced(given, "colluders:5") == pytest.approx(2.0 * math.sqrt(3 / 10))
    assert faced(views(hospitals=10, dropouts=2), "colluders:5") == pytest.approx(
        2.0 * math.sqrt(3 / 8)
    )


def test_shared_keys_that_do_not_say_whom_they_hold_against_claim_nothing():
    with pytest.raises(AccountingError, match="how many"):
        views(scheme="one-time", hospitals=10, dropouts=2)
    described = {
        "regime": "FSCDP",
        "scheme": "one-time",
        "hospitals": 10,
        "sampling_rate": 0.1,
        "noise_multiplier": 2.0,
        "rounds": 1,
        "delta": 1e-5,
    }
    with pytest.raises(AccountingError, match="held against"):
        RunDescription(**described, dropouts=2)
    for held, dropouts in ((3, 0), (10, 2), (-1, 2)):
        with pytest.raises(AccountingError, match="held is"):
            RunDescription(**described, dropouts=dropouts, held=held)


def test_each_hospital_more_subtracts_its_share_until_one_is_left():
    given = views()
    for count in range(1, 6):
        left = 2.0 * math.sqrt((6 - count) / 6)
        assert faced(given, f"colluders:{count}") == pytest.approx(left)
    assert faced(given, "colluders:64") == faced(given, "colluders:5")
    assert faced(given, "server+hospitals:3") == pytest.approx(2.0 / math.sqrt(6))


def test_more_hospitals_than_a_limit_may_name_make_a_line_no_longer():
    assert len(views(hospitals=1000)) <= MOST_HOSPITALS + 2


def test_local_noise_is_all_there_for_everybody_and_no_noise_for_nobody():
    assert {faced(views("FPDP"), whom) for whom in ALL} == {2.0}
    assert {faced(views("F"), whom) for whom in ALL} == {None}
    assert faced(views("CDP", hospitals=1), "server+hospitals:1") is None


def test_where_the_server_sees_single_updates_every_limit_reckons_with_it():
    single = 2.0 / math.sqrt(6)
    for whom in ALL:
        assert faced(views(scheme="modular"), whom) == pytest.approx(single)
        assert faced(views(), "server") == 2.0


def test_a_stronger_observer_never_faces_more_noise():
    for plan in ({}, {"dropouts": 3}, {"colluders": 4}, {"hospitals": 1}):
        given = views(**plan)
        left = [faced(given, whom) for whom in ALL]
        assert left == sorted(left, reverse=True)


def test_a_share_of_noise_outside_a_sum_or_another_regimes_plan_is_refused():
    with pytest.raises(AccountingError, match="only in a sum"):
        views(exchange="cyclic")
    with pytest.raises(AccountingError, match="scheme"):
        views(scheme="rot13")
    plan = make_noise_plan("local", noise_multiplier=2.0, hospitals=2)
    with pytest.raises(AccountingError, match="semi-central"):
        views_of_spend(plan, regime="FSCDP", exchange="gradients", scheme="bfv")


@pytest.mark.parametrize("hospitals", range(2, 9))
@pytest.mark.parametrize("count", [1, 2, 5])
def test_a_line_without_views_counts_as_the_worst_that_it_may_have_been(hospitals, count):
    whom = "hospital" if count == 1 else f"colluders:{count}"
    worst = faced({}, whom)
    assert worst == pytest.approx(2.0 / math.sqrt(count + 1))
    for dropouts in range(hospitals - 1):
        for colluders in range(hospitals - dropouts - 1):
            known = views(hospitals=hospitals, dropouts=dropouts, colluders=colluders)
            if hospitals > count:
                assert worst <= faced(known, whom) + 1e-12


def test_a_line_without_views_bounds_nothing_against_the_server_unless_models_travelled():
    for whom in ("server", "server+hospitals:1"):
        assert faced({}, whom) is None
        assert faced({"with a key": 2.0}, whom) is None
        assert faced({}, whom, purpose="cyclic") == 2.0
    assert faced({}, "hospital", purpose="layers") == 2.0
