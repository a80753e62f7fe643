import json
import math

import pytest

from accounting.accountants import epsilon
from accounting.errors import AccountingError
from accounting.events import GaussianEvent, SharedPatientEvent
from accounting.grid import plan_grid
from accounting.observers import SEEDED, RunDescription, epsilon_on_grid, observers

DOPAMINE = {
    "regime": "FSCDP",
    "hospitals": 10,
    "sampling_rate": 100 / 2930,
    "noise_multiplier": 1.15,
    "rounds": 3001,
    "delta": 1e-4,
}
SMALL = {**DOPAMINE, "sampling_rate": 0.2, "noise_multiplier": 5.0, "rounds": 60}


def table(accountants=("rdp",), **run):
    rows = observers(RunDescription(**run), accountants)
    return {row.observer: row for row in rows}


def spent(q, sigma, rounds, delta=1e-4):
    event = GaussianEvent(sampling_rate=q, noise_multiplier=sigma, count=rounds)
    return epsilon([event], delta)


def test_dopamines_run_has_the_published_epsilon_for_every_observer():
    rows = table(("rdp", "prv"), **DOPAMINE)
    expected = {
        "server": (9.85, 8.99),
        "public after release": (9.85, 8.99),
        "any one other hospital": (None, 9.90),
        "server + one key holder": (None, 206),
        "server, of a patient in 2 hospitals": (None, 22.31),
    }
    assert set(rows) == set(expected)
    for name, (rdp, prv) in expected.items():
        found = rows[name].epsilon
        assert found["prv"] == pytest.approx(prv, rel=2e-3)
        assert rdp is None or found["rdp"] == pytest.approx(rdp, abs=0.02)
        assert rows[name].why and rows[name].guaranteed
    assert [name for name, row in rows.items() if row.binds_target] == [
        "server",
        "public after release",
    ]


def test_under_one_time_keys_no_single_hospital_opens_updates_to_the_server():
    rows = table(("rdp", "prv"), **{**DOPAMINE, "scheme": "one-time"})
    beside = rows["server + any one other hospital"].epsilon
    assert beside == rows["any one other hospital"].epsilon
    assert beside["prv"] == pytest.approx(9.90, rel=2e-3)
    assert rows["server + all other hospitals"].epsilon["prv"] == pytest.approx(206, rel=2e-3)
    assert "server + one key holder" not in rows


def test_of_two_hospitals_one_with_the_server_is_all_but_one():
    """They open a sum of two, and one of the two is their own."""
    for colluders, bound in ((0, False), (1, True)):
        given = {**SMALL, "scheme": "one-time", "hospitals": 2, "colluders": colluders}
        beside = [row for name, row in table(**given).items() if name.startswith("server +")]
        assert [row.observer for row in beside] == ["server + all other hospitals"]
        assert beside[0].binds_target is bound


SHARED = {**SMALL, "scheme": "one-time", "dropouts": 2, "held": 3}


def test_shared_keys_have_a_row_for_those_held_and_one_for_those_beyond():
    rows = table(**SHARED)
    q, sigma, rounds = 0.2, 5.0, 60
    assert rows["server"].epsilon["rdp"] == spent(q, sigma, rounds)
    for name, count in (("one other hospital", 1), ("3 other hospitals", 3)):
        left = sigma * math.sqrt((8 - count) / 8)
        found = rows[f"server + any {name}"]
        assert found.epsilon["rdp"] == pytest.approx(spent(q, left, rounds))
        assert "no single update" in found.why and not found.binds_target
    beyond = rows["server + any 4 other hospitals or more"]
    # Not sigma/sqrt(K - d): whoever opens single updates takes the other parts out of them.
    assert beyond.epsilon["rdp"] == pytest.approx(spent(q, sigma / math.sqrt(10), rounds))
    assert "open single updates" in beyond.why
    assert "server + all other hospitals" not in rows


def test_without_noise_the_table_says_how_many_open_single_updates_beside_the_server():
    exact = {**SMALL, "regime": "F", "noise_multiplier": 0.0, "scheme": "one-time"}
    for changes, beyond, again in (
        ({}, "server + all other hospitals", False),
        ({"dropouts": 2, "held": 3}, "server + any 4 other hospitals or more", True),
        ({"group": 5}, "server + any 4 other hospitals or more", False),
    ):
        rows = {name: row for name, row in table(**{**exact, **changes}).items() if "+" in name}
        assert list(rows) == ["server + any one other hospital", beyond]
        assert all(row.epsilon is None and not row.guaranteed for row in rows.values())
        assert ("done again" in rows["server + any one other hospital"].why) is again
        assert "open single updates" in rows[beyond].why
    assert [name for name in table(**{**exact, "hospitals": 2}) if "+" in name] == [
        "server + all other hospitals"
    ]


def test_a_row_says_whether_its_claim_takes_encryption_to_hold():
    rests = {name: row.rests_on for name, row in table(**SHARED).items()}
    assert rests == {
        "server": "noise and encryption",
        "public after release": "noise",
        "any one other hospital": "noise",
        "server + any one other hospital": "noise and encryption",
        "server + any 3 other hospitals": "noise and encryption",
        "server + any 4 other hospitals or more": "noise",
        "server, of a patient in 2 hospitals": "noise and encryption",
    }
    assert {row.rests_on for row in table(**{**SMALL, "regime": "FPDP"}).values()} == {"noise"}
    exact = table(**{**SMALL, "regime": "F", "noise_multiplier": 0.0})
    assert {row.rests_on for row in exact.values()} == {""}


def test_who_takes_off_more_updates_than_planned_pays_for_coarser_rounding():
    run = RunDescription(**SHARED)
    grid = plan_grid(
        dimensions=1_000,
        hospitals=10,
        plan=run.plan(),
        l2_clip=1.0,
        expected_patients=10.0,
        rounds=60,
        epsilon=1.0,
        delta=1e-4,
    )
    assert grid.slack_at(1.0, 1e-4, unplanned=2)[0] > grid.slack_at(1.0, 1e-4)[0]
    # One honest contribution is post-processing of its own noise.
    assert grid.slack_at(1.0, 1e-4, unplanned=8)[0] < grid.slack_at(1.0, 1e-4)[0]


@pytest.mark.parametrize("colluders", [2, 9])
def test_colluders_that_the_target_reckons_with_may_have_the_server_with_them(colluders):
    """Keys that open sums alone leave them what they know without it; bfv's would not."""
    given = {**SMALL, "colluders": colluders}
    rows = table(**{**given, "scheme": "one-time"})
    few = rows[
        "server + all other hospitals" if colluders == 9 else "server + any 2 other hospitals"
    ]
    assert few.binds_target
    assert few.epsilon == pytest.approx(rows["server"].epsilon)
    assert not table(**given)["server + one key holder"].binds_target


def test_another_hospital_subtracts_its_own_noise_at_the_floor_of_contributions():
    rows = table(**{**SMALL, "dropouts": 2})
    q, sigma, rounds = 0.2, 5.0, 60
    assert rows["server"].epsilon["rdp"] == spent(q, sigma, rounds)
    left = sigma / math.sqrt(8) * math.sqrt(7)
    assert rows["any one other hospital"].epsilon["rdp"] == pytest.approx(spent(q, left, rounds))
    single = spent(q, sigma / math.sqrt(8), rounds)
    assert rows["server + one key holder"].epsilon["rdp"] == pytest.approx(single)


def test_with_colluders_planned_for_any_of_them_is_bound_by_the_target():
    rows = table(**{**SMALL, "colluders": 3, "dropouts": 1})
    target = rows["server"].epsilon
    assert rows["any 3 colluding hospitals"].epsilon == target
    assert rows["any 3 colluding hospitals"].binds_target
    assert rows["any one other hospital"].epsilon == target  # surplus noise is not credited
    single = spent(0.2, 5.0 / math.sqrt(6), 60)
    assert rows["server + one key holder"].epsilon["rdp"] == pytest.approx(single)


def test_two_hospitals_leave_each_other_only_the_others_share():
    rows = table(**{**SMALL, "hospitals": 2})
    single = pytest.approx(spent(0.2, 5.0 / math.sqrt(2), 60))
    assert rows["any one other hospital"].epsilon["rdp"] == single
    one = table(**{**SMALL, "hospitals": 2, "dropouts": 1})
    assert one["any one other hospital"].epsilon["rdp"] == pytest.approx(spent(0.2, 5.0, 60))


def test_one_hospital_alone_has_no_others():
    assert set(table(**{**SMALL, "hospitals": 1})) == {"server", "public after release"}


@pytest.mark.parametrize("scheme", ["plain", "modular"])
def test_without_encryption_the_server_sees_single_updates_and_the_row_says_so(scheme):
    rows = table(**{**SMALL, "scheme": scheme})
    single = pytest.approx(spent(0.2, 5.0 / math.sqrt(10), 60))
    assert rows["server"].epsilon["rdp"] == single
    assert not rows["server"].binds_target and scheme in rows["server"].why
    assert rows["public after release"].epsilon["rdp"] == spent(0.2, 5.0, 60)
    assert rows["public after release"].binds_target


@pytest.mark.parametrize("scheme", ["plain", "bfv"])
@pytest.mark.parametrize("exchange", ["gradients", "weights", "cyclic", "single", "ensemble"])
def test_local_noise_gives_every_observer_the_same_epsilon(exchange, scheme):
    rows = table(**{**SMALL, "regime": "FPDP", "exchange": exchange, "scheme": scheme})
    shared = rows.pop("server, of a patient in 2 hospitals")
    assert {row.epsilon["rdp"] for row in rows.values()} == {spent(0.2, 5.0, 60)}
    assert all(row.binds_target for row in rows.values())
    assert shared.epsilon["rdp"] == pytest.approx(spent(0.2, 5.0, 120))
    assert not shared.binds_target


@pytest.mark.parametrize("exchange", ["gradients", "weights", "layers", "cyclic", "single"])
@pytest.mark.parametrize("scheme", ["plain", "bfv"])
def test_without_noise_no_row_has_an_epsilon_and_every_row_says_why(exchange, scheme):
    run = {**SMALL, "regime": "F", "noise_multiplier": 0.0, "hospitals": 2}
    rows = table(**{**run, "exchange": exchange, "scheme": scheme})
    assert {"server", "public after release", "any one other hospital"} <= set(rows)
    assert all(row.epsilon is None and not row.guaranteed for row in rows.values())
    assert all(row.why.startswith("no noise") for row in rows.values())
    assert not any(row.binds_target for row in rows.values())
    if exchange == "gradients" and scheme == "bfv":
        assert "the other's own update" in rows["any one other hospital"].why


def test_a_curator_sees_everything_and_the_public_only_with_noise_something_private():
    pooled = table(**{**SMALL, "regime": "CDP"})
    assert pooled["curator"].epsilon is None
    assert pooled["public after release"].epsilon["rdp"] == spent(0.2, 5.0, 60)
    shared = SharedPatientEvent(sampling_rate=0.2, noise_multiplier=5.0, hospitals=2, count=60)
    linked = pooled["public, of a patient in 2 hospitals"].epsilon["rdp"]
    assert linked == epsilon([shared], 1e-4)
    exact = table(**{**SMALL, "regime": "C", "noise_multiplier": 0.0})
    assert all(row.epsilon is None for row in exact.values())


def test_layers_are_accounted_for_as_two_messages_a_release_without_amplification():
    run = {**SMALL, "regime": "FPDP", "exchange": "layers", "rounds": 7, "noise_multiplier": 9.0}
    rows = table(**run)
    assert rows["server"].epsilon["rdp"] == spent(1.0, 9.0, 14)
    with_sums = table(**{**run, "messages": 3})
    assert with_sums["server"].epsilon["rdp"] == spent(1.0, 9.0, 21)


def test_hospitals_with_schedules_of_their_own_cost_as_the_worst_of_them():
    schedules = ((0.1, 50), (0.3, 20), (0.05, 400))
    run = {**SMALL, "regime": "FPDP", "exchange": "cyclic", "schedules": schedules}
    worst = max(spent(q, 5.0, rounds) for q, rounds in schedules)
    assert table(**run)["server"].epsilon["rdp"] == worst


@pytest.mark.parametrize("regime", ["C", "F", "CDP", "FPDP", "FSCDP"])
def test_every_row_of_a_seeded_run_says_that_there_is_no_guarantee(regime):
    sigma = 0.0 if regime in "CF" else 5.0
    rows = table(**{**SMALL, "regime": regime, "noise_multiplier": sigma, "seeded": True})
    assert all(row.why.startswith(SEEDED) and not row.guaranteed for row in rows.values())


def grid_for(run, epsilon, name="semi-central"):
    plan = RunDescription(**run).plan()
    return plan_grid(
        dimensions=725_061,
        hospitals=10,
        plan=plan,
        l2_clip=1.0,
        expected_patients=10.0,
        rounds=run["rounds"],
        epsilon=epsilon,
        delta=1e-4,
    )


def test_the_grid_is_charged_to_every_observer_and_costs_little():
    grid = grid_for(DOPAMINE, 9.85)
    plain, charged = table(**DOPAMINE), table(**DOPAMINE, grid=grid)
    for name, row in plain.items():
        assert row.epsilon["rdp"] < charged[name].epsilon["rdp"] < row.epsilon["rdp"] * 1.01


def test_a_grid_too_coarse_for_an_epsilon_is_said_and_not_passed_over():
    grid = grid_for(SMALL, 0.5)
    event = GaussianEvent(sampling_rate=1.0, noise_multiplier=1.0, count=300)
    with pytest.raises(AccountingError, match="finer grid"):
        epsilon_on_grid([event], 1e-4, "rdp", grid)
    rows = table(**{**SMALL, "noise_multiplier": 0.3, "grid": grid})
    assert rows["server"].epsilon is None and "finer grid" in rows["server"].why


def test_shared_noise_outside_a_sum_is_refused():
    for exchange in ("cyclic", "single", "ensemble", "layers"):
        with pytest.raises(AccountingError, match="FPDP"):
            RunDescription(**{**SMALL, "exchange": exchange})


@pytest.mark.parametrize(
    "changes",
    [
        {"regime": "DP"},
        {"exchange": "tokens"},
        {"delta": 0.0},
        {"rounds": -1},
        {"sampling_rate": 0.0},
        {"noise_multiplier": 0.0},
        {"dropouts": 5, "colluders": 5},
        {"schedules": ((0.1, -3),)},
    ],
)
def test_a_description_out_of_range_is_refused(changes):
    with pytest.raises(AccountingError):
        RunDescription(**{**SMALL, **changes})


def test_rows_are_json_ready():
    for row in observers(RunDescription(**SMALL), ("rdp",)):
        assert json.loads(json.dumps(row.to_json(), allow_nan=False))["why"] == row.why
