"""Keys in shares: any roster that may be opened opens, to the sum of `modular`."""

import dataclasses
import itertools
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some
from shared_keys import PLACE, Federation, grid_of, modular_sum, opens

from crypto.errors import CapacityError, KeysError, SealError, ShareError
from crypto.key_shares import deal
from crypto.parcels import MAX_PARCEL_BYTES, Parcel
from crypto.planning import Absent, plan_sealing
from crypto.plans import SealingPlan
from crypto.roles import Place
from crypto.schemes import make_keys, make_sealer
from crypto.seats import Seats


@pytest.fixture(name="six", scope="module")
def make_six():
    return Federation()


# The oracle


def sums_agree(hospitals, dropouts, data, values, bits, seed, extreme):
    federation = Federation(
        hospitals, dropouts, values, bits, seed, noise_seeds=range(dropouts), extreme=extreme
    )
    missing = data.draw(some.integers(0, dropouts))
    members = data.draw(some.permutations(federation.names))[missing:]
    threshold = federation.plan.sharing.threshold
    holders = data.draw(some.permutations(federation.holders))[:threshold]
    opened = federation.opener(data.draw(some.sampled_from(federation.names))).open(
        *federation.total(members), PLACE, federation.answers(members, holders)
    )
    goes = {
        (name, part): federation.seeds[name][part - 1]
        for name in members
        for part in range(missing + 1, dropouts + 1)
    }
    given = federation.opened_seeds(dict.fromkeys(holders, members))
    return given == goes and opened.tobytes() == modular_sum(federation, sorted(members)).tobytes()


CASES = {
    "shape": some.sampled_from([(5, 1), (6, 1), (8, 2), (9, 2), (11, 3)]),
    "data": some.data(),
    "values": some.integers(1, 9_000),
    "bits": some.integers(2, 30),
    "extreme": some.booleans(),
    "seed": some.integers(0, 2**32),
}


@settings(max_examples=8, deadline=None)
@given(**CASES)
def test_every_roster_opens_to_the_sum_of_modular_bit_for_bit(
    shape, data, values, bits, extreme, seed
):
    assert sums_agree(*shape, data, values, bits, seed, extreme)


@pytest.mark.exhaustive
@settings(max_examples=150, deadline=None)
@given(**CASES)
def test_many_rosters_open_to_the_sum_of_modular_bit_for_bit(
    shape, data, values, bits, extreme, seed
):
    assert sums_agree(*shape, data, values, bits, seed, extreme)


def test_any_t_holders_open_a_sum_that_lacks_one(six):
    for missing in six.names[:2]:
        members = [name for name in six.names if name != missing]
        for silent in six.names[:3]:
            holders = [name for name in six.holders if name != silent]
            assert opens(six, members, holders, opener=silent)


def test_a_committee_of_twenty_opens_sums_of_more_hospitals():
    federation = Federation(hospitals=42, dropouts=3, committee=20)
    assert federation.plan.sharing.committee == federation.holders
    assert len(federation.holders) == 20
    members = federation.names[3:]
    assert opens(federation, members, federation.holders[4:], opener="hospital-00")
    # A dealer sends what its holders do not derive: 20 - 16 + 1 envelopes.
    assert {len(one.envelopes) for one in federation.sealed.values()} == {5}
    with pytest.raises(ShareError, match="holds no shares"):
        federation.answer("hospital-00", members)


def test_every_holder_derives_about_as_many_shares_as_any_other(six):
    sent = Counter(h for one in six.sealed.values() for h in one.envelopes)
    assert set(sent.values()) == {2}  # t = 5 of 6: four are derived, and they turn


# Plans


def test_plans_of_shared_keys_survive_json_and_are_proved(six):
    plan = six.plan
    assert plan.key_mode == "threshold"
    assert SealingPlan.from_json(plan.to_json()) == plan
    assert plan.describe()["answers that open"] == 5
    up = sum(len(one) for one in six.sealed[six.names[0]].envelopes.values())
    up += sum(map(len, six.answer(six.names[0], six.names)))
    assert plan.describe()["bytes of shares and answer up"] == up
    assert plan.describe()["colluders held"] == 2
    for change in (
        {"threshold": 3},
        {"threshold": 7},
        {"holders": 5},
        {"dropouts": 0},
        {"dropouts": 6},
        {"committee": ("b", "a")},
    ):
        with pytest.raises(CapacityError):
            dataclasses.replace(plan, sharing=dataclasses.replace(plan.sharing, **change))
    with pytest.raises(CapacityError, match="mode threshold"):
        dataclasses.replace(plan, key_mode="full")
    with pytest.raises(CapacityError, match="mode threshold"):
        dataclasses.replace(plan, sharing=None)


def test_a_committee_does_not_depend_on_the_training():
    """It is named by the plan: nobody can try ids until friends sit in it."""
    federation = Federation(hospitals=42, dropouts=3, committee=20)
    committees = set()
    for number in range(50):
        place = Place(training=f"training-{number}", round=1, attempt=1)
        assert place.training not in federation.plan.to_json()
        committees.add(Seats(federation.plan.sharing, federation.names).holders)
    assert committees == {federation.holders}


def test_more_than_twenty_hospitals_draw_a_committee_where_none_is_named():
    absent = Absent(dropouts=3)
    plan = plan_sealing(values=10, hospitals=42, grid=grid_of(13), scheme="one-time", absent=absent)
    assert (plan.sharing.holders, plan.sharing.threshold) == (20, 17)
    assert plan.sharing.is_drawn(42) and not plan.sharing.is_drawn(20)
    names = [f"hospital-{k:02}" for k in range(42)]
    assert Seats(plan.sharing, names, tuple(names[:20])).holders == tuple(names[:20])
    with pytest.raises(KeysError, match="42 holders are seated, expected 20"):
        Seats(plan.sharing, names)


def test_a_place_is_sealed_in_the_mode_of_its_plan_alone(six):
    """Masked and shared keys of one place would give the missing hospital's key by subtraction."""
    full = plan_sealing(values=2_000, hospitals=6, grid=grid_of(13), scheme="one-time")
    assert full.parameter_id != six.plan.parameter_id
    keys = make_keys(full)
    with pytest.raises(Exception, match="keys belong to parameters"):
        make_sealer(six.plan, keys.with_pairs(six.pairs[six.names[0]]), six.names[0])
    with pytest.raises(ShareError, match="not shared"):
        deal(np.zeros(4096, np.int64), (), full, six.pairs[six.names[0]], PLACE, bytes(32))
    sealed = six.sealed[six.names[0]]
    assert sealed.size == six.plan.bytes_up  # no masked key beside the shares
    assert sealed.envelopes


def test_all_rosters_of_a_small_federation_open():
    federation = Federation(hospitals=5, dropouts=1, values=50)
    for size in (4, 5):
        for members in itertools.combinations(federation.names, size):
            assert opens(federation, members, federation.holders[1:])


def test_lists_of_envelopes_have_one_encoding(six):
    name = six.names[0]
    parcel = six.parcel(name)
    data = parcel.to_bytes()
    assert Parcel.from_bytes(data) == parcel
    assert set(parcel.envelopes) == set(Seats(six.plan.sharing, six.names).enveloped(name))
    assert Parcel.of(b"vector", {}).digest == Parcel.of(b"vector", {}).payload
    first, second = data[32 : 32 + (len(data) - 32) // 2], data[32 + (len(data) - 32) // 2 :]
    for bad in (
        b"",
        data[:-1],
        data + b"x",
        data[:32] + second + first,
        data + first,
        data[:34] + b"\xff" * 11 + data[45:],
        bytes(MAX_PARCEL_BYTES + 1),
    ):
        with pytest.raises(ShareError):
            Parcel.from_bytes(bad)


# Seeds of noise


@pytest.fixture(name="seeded", scope="module")
def make_seeded():
    """Eight hospitals, two may be missing, each with two seeds; one goes where one is missing."""
    return Federation(hospitals=8, dropouts=2, values=50, noise_seeds=(0, 1))


def test_a_roster_gives_away_the_seeds_that_its_sum_can_spare(seeded):
    for missing, parts in ((0, (1, 2)), (1, (2,)), (2, ())):
        members = seeded.names[missing:]
        opened = seeded.opened_seeds(dict.fromkeys(seeded.holders, members))
        expected = {
            (name, part): seeded.seeds[name][part - 1] for name in members for part in parts
        }
        assert opened == expected
        assert opens(seeded, members, seeded.holders[2:])
    # Shares of any t are enough, also of a member that was dealt with and then fell silent.
    silent = [name for name in seeded.holders if name not in seeded.names[3:5]]
    assert len(seeded.opened_seeds(dict.fromkeys(silent, seeded.names))) == 16
    assert seeded.opened_seeds(dict.fromkeys(silent[1:], seeded.names)) == {}


def test_what_travels_with_seeds_is_as_long_as_the_plan_says(seeded):
    plan, name = seeded.plan, seeded.names[0]
    assert len(plan.sharing.seeds) == 2 and SealingPlan.from_json(plan.to_json()) == plan
    assert {len(one) for one in seeded.sealed[name].envelopes.values()} == {
        plan.sharing.envelope_bytes(plan.degree)
    }
    answered = seeded.answer(name, seeded.names)
    assert len(answered.answer) == plan.layout.answer_bytes
    assert len(answered.seeds) == 8 * 2 * 32
    up = sum(len(one) for one in seeded.sealed[name].envelopes.values())
    assert plan.describe()["bytes of shares and answer up"] == up + sum(map(len, answered))
    assert plan.parameter_id != Federation(8, 2, 50).plan.parameter_id
    assert len(seeded.sealed[name].seeds) == 64


def test_a_sealer_takes_as_many_seeds_as_its_plan_shares(seeded, six):
    one = bytes(32)
    for federation, wrong in ((seeded, ()), (seeded, (one,)), (six, (one,))):
        name = federation.names[0]
        sealer = make_sealer(federation.plan, federation.of(name), name)
        with pytest.raises(SealError, match="seeds of noise"):
            sealer.seal(federation.vectors[name], PLACE, wrong)
    plain = plan_sealing(values=4, hospitals=2, grid=grid_of(13), scheme="modular")
    with pytest.raises(SealError, match="expected 0"):
        make_sealer(plain, make_keys(plain), "a").seal(np.zeros(4), PLACE, (one,))
