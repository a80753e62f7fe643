"""Seeds of noise: only those open that a sum can spare, and a bad one costs its dealer nothing."""

import itertools
import math

import numpy as np
import pytest

from accounting.parts import SEED_BYTES, SEED_NUMBERS, SEED_PRIME, Seeds, plan_parts
from accounting.randomness import Stream
from crypto import one_time_plans, seeds, sharing
from crypto.errors import CapacityError, RosterError, ShareError
from crypto.one_time_plans import Sharing
from crypto.planning import Absent, plan_sharing
from crypto.thresholds import most_colluders


def parts_for(hospitals, dropouts, colluders=0):
    return plan_parts(1.0, hospitals=hospitals, dropouts=dropouts, colluders=colluders)


def sharing_for(hospitals, dropouts, colluders=0, threshold=None):
    parts = parts_for(hospitals, dropouts, colluders)
    return Sharing(
        dropouts=dropouts,
        holders=hospitals,
        threshold=threshold or hospitals - dropouts,
        seeds=parts.opened_up_to if parts else (),
    )


def test_seeds_are_what_the_accounting_draws_and_go_where_it_says():
    assert (SEED_BYTES, SEED_NUMBERS, SEED_PRIME) == (
        seeds.SEED_BYTES,
        one_time_plans.SEED_NUMBERS,
        sharing.PRIME,
    )
    for hospitals, dropouts, colluders in ((5, 1, 1), (10, 2, 0), (13, 3, 2), (20, 6, 1)):
        parts = parts_for(hospitals, dropouts, colluders)
        told = sharing_for(hospitals, dropouts, colluders)
        for missing in range(dropouts + 1):
            here = hospitals - missing
            assert seeds.given_away(told, hospitals, here) == parts.removed(missing)
    assert list(seeds.given_away(Sharing(dropouts=2, holders=9, threshold=7), 9, 9)) == []


def test_a_plan_says_which_seeds_go_and_means_it():
    told = plan_sharing(10, Absent(dropouts=2, seeds=(0, 1)))
    assert told.seeds == (0, 1)
    told.require(10)
    for wrong in ((1,), (0, 2), (0, 0), (0, 1, 1), (-1, 0)):
        with pytest.raises(CapacityError, match="seeds are given away"):
            Sharing(dropouts=2, holders=10, threshold=8, seeds=wrong).require(10)


# What a server that lies about rosters gets


def honest_kept(told, parts, hospitals, colluding, rosters):
    """Noise that the honest members of an opened sum keep, at worst; None where nothing opens.

    Args:
        rosters: by honest holder, the roster that it was shown and answered.
    """
    honest = [name for name in range(hospitals) if name not in colluding]
    needed = told.threshold - len(colluding)
    shown = {}
    for roster in rosters.values():
        group = frozenset(roster) - colluding
        shown[group] = shown.get(group, 0) + 1
    opened = [group for group, count in shown.items() if count >= needed]
    assert len(opened) <= 1
    if not opened:
        return None
    kept = 0.0
    for name in honest:
        if name not in opened[0]:
            continue
        kept += parts.stddevs[0] ** 2
        for part in range(1, len(parts.stddevs)):
            shares = sum(
                name in roster and part in seeds.given_away(told, hospitals, len(roster))
                for roster in rosters.values()
            )
            kept += parts.stddevs[part] ** 2 * (shares < needed)
    return kept


def rosters_of(hospitals, dropouts):
    names = range(hospitals)
    for missing in range(dropouts + 1):
        for away in itertools.combinations(names, missing):
            yield frozenset(names) - frozenset(away)


@pytest.mark.parametrize(("hospitals", "colluders"), [(4, 0), (5, 0), (5, 1)])
def test_no_assignment_of_rosters_takes_noise_from_a_sum(hospitals, colluders):
    """All of them, one missing at most: the server may show every holder another roster."""
    told, parts = sharing_for(hospitals, 1, colluders), parts_for(hospitals, 1, colluders)
    colluding = frozenset(range(colluders))
    holders = [name for name in range(hospitals) if name not in colluding]
    every, opened, least = list(rosters_of(hospitals, 1)), 0, math.inf
    for shown in itertools.product(every, repeat=len(holders)):
        kept = honest_kept(
            told, parts, hospitals, colluding, dict(zip(holders, shown, strict=True))
        )
        if kept is not None:
            opened += 1
            least = min(least, kept)
    assert opened > hospitals
    assert least == pytest.approx(1.0, rel=1e-12)


SHAPES = [(8, 2, 1), (10, 2, 0), (10, 2, 3), (11, 3, 0), (20, 4, 2)]


def drawn_assignments_keep_the_noise(hospitals, dropouts, colluders, tries):
    dice = np.random.default_rng(hospitals * 100 + colluders)
    told = sharing_for(hospitals, dropouts, colluders)
    parts = parts_for(hospitals, dropouts, colluders)
    held = most_colluders(
        hospitals=hospitals, holders=hospitals, threshold=told.threshold, dropouts=dropouts
    )
    assert colluders <= max(held, 0)
    colluding = frozenset(range(colluders))
    holders = [name for name in range(hospitals) if name not in colluding]
    needed, found = told.threshold - colluders, []
    for _ in range(tries):
        # One sum opens; what the others were shown, and whom of the colluders, the server picks.
        away = dice.choice(hospitals, dice.integers(0, dropouts + 1), replace=False)
        group = frozenset(holders) - frozenset(away.tolist())
        rosters = {}
        for number, name in enumerate(dice.permutation(holders)):
            roster = group | {one for one in colluding if dice.random() < 0.7}
            if number >= needed:
                more = dice.choice(hospitals, dice.integers(0, dropouts + 1), replace=False)
                roster = frozenset(range(hospitals)) - frozenset(more.tolist())
            if len(roster) < hospitals - dropouts:
                roster = group | colluding
            rosters[int(name)] = roster
        kept = honest_kept(told, parts, hospitals, colluding, rosters)
        if kept is not None:
            found.append(kept)
    assert len(found) > tries // 2
    return min(found)


@pytest.mark.parametrize(("hospitals", "dropouts", "colluders"), SHAPES)
def test_no_drawn_assignment_of_rosters_takes_noise_from_a_sum(hospitals, dropouts, colluders):
    least = drawn_assignments_keep_the_noise(hospitals, dropouts, colluders, 100)
    assert least >= 1.0 - 1e-12


@pytest.mark.exhaustive
@pytest.mark.parametrize(("hospitals", "dropouts", "colluders"), SHAPES)
def test_none_of_many_assignments_takes_noise_from_a_sum(hospitals, dropouts, colluders):
    least = drawn_assignments_keep_the_noise(hospitals, dropouts, colluders, 20_000)
    assert least == pytest.approx(1.0, rel=1e-12)


def test_seeds_that_their_owners_send_would_be_taken_by_a_lying_roster():
    """The control: ten hospitals, three missing, seven answers. Three members see "all ten"."""
    told = sharing_for(10, 3, threshold=7)
    parts = parts_for(10, 3)
    everybody, group = frozenset(range(10)), frozenset(range(7))
    shown = {name: group if name >= 3 else everybody for name in range(10)}
    sent = sum(
        sum(parts.stddevs[part] ** 2 for part in range(4) if part not in gone)
        for name in group
        for gone in [seeds.given_away(told, 10, len(shown[name]))]
    )
    assert sent == pytest.approx(4 / 7 + 3 / 10) and round(sent, 2) == 0.87
    # Shared: seven answered for the seven, and nobody else's answers open a seed.
    assert honest_kept(told, parts, 10, frozenset(), shown) == pytest.approx(1.0)


# Opening


def dealt(each, threshold, holders, dice):
    """Shares of one hospital's seeds at points 1 .. holders, as two-byte numbers each."""
    secret = seeds.numbers_of(each)
    points = list(range(1, threshold))
    derived = {p: dice.integers(0, sharing.PRIME, secret.size).astype(float) for p in points}
    others = [point for point in range(1, holders + 1) if point not in derived]
    rest = sharing.shares_of(secret, derived, others)
    shares = derived | dict(zip(others, rest, strict=True))
    return {point: share.astype("<u2").tobytes() for point, share in shares.items()}


class Opened:
    """Seeds of three hospitals in shares among six, of which five open one."""

    def __init__(self):
        dice, parts = np.random.default_rng(4), parts_for(6, 2)
        self.names, self.threshold = ("a", "b", "c"), 5
        self.each = {n: Seeds.drawn(Stream.from_seed(1, n), parts).each for n in self.names}
        self.signed = {name: seeds.digests(each) for name, each in self.each.items()}
        shares = {name: dealt(each, 5, 6, dice) for name, each in self.each.items()}
        self.wanted = [(name, part) for name in self.names for part in (1, 2)]
        self.shares = {p: b"".join(shares[name][p] for name in self.names) for p in range(1, 7)}
        self.expected = {(n, part): self.each[n][part - 1] for n, part in self.wanted}

    def recovered(self, shares, **changes):
        given = {"wanted": self.wanted, "signed": self.signed, **changes}
        return seeds.recovered(shares, threshold=self.threshold, **given)


@pytest.fixture(name="six", scope="module")
def make_six():
    return Opened()


def test_enough_shares_open_every_seed_and_fewer_none(six):
    assert six.recovered(six.shares) == six.expected
    for silent in range(1, 7):
        five = {point: data for point, data in six.shares.items() if point != silent}
        assert six.recovered(five) == six.expected
        four = dict(list(five.items())[:4])
        assert six.recovered(four) == {}
    assert six.recovered({}) == {} == six.recovered(six.shares, wanted=[])


def test_a_wrong_share_is_passed_over_while_others_are_enough(six):
    for liar in (1, 6):
        for wrong in (
            bytes(len(six.shares[1])),
            b"\xff" * len(six.shares[1]),  # no numbers below the prime
            six.shares[liar][:-1],
            six.shares[liar] + b"x",
            b"",
        ):
            assert six.recovered({**six.shares, liar: wrong}) == six.expected
    two = {**six.shares, 1: bytes(len(six.shares[1])), 2: bytes(len(six.shares[1]))}
    assert six.recovered(two) == {}  # of six, four are not enough


def test_a_seed_that_is_not_what_was_signed_stays_and_the_others_go(six):
    other = seeds.digests([bytes(32), six.each["b"][1]])
    found = six.recovered(six.shares, signed={**six.signed, "b": other})
    assert found == {part: seed for part, seed in six.expected.items() if part != ("b", 1)}
    for short in (b"", six.signed["b"][:32]):
        found = six.recovered(six.shares, signed={**six.signed, "b": short})
        assert ("b", 2) not in found and ("a", 1) in found and ("c", 2) in found


def checked(six, opened, members=6):
    told = sharing_for(6, 2)
    nonces = {f"{name}": b"" for name in "abcdef"[:members]}
    return seeds.checked(opened, told, 6, nonces, six.signed)


def test_a_hospital_takes_signed_seeds_of_parts_that_go_in_order(six):
    turned = dict(reversed(six.expected.items()))
    assert list(checked(six, turned)) == list(six.expected)
    first = {part: seed for part, seed in six.expected.items() if part[1] == 2}
    assert checked(six, first, members=5) == first
    assert checked(six, {}, members=4) == {}


def test_a_hospital_refuses_seeds_of_parts_that_stay_or_that_nobody_signed(six):
    """The server lists a part that stays, one of a stranger, or another seed than was signed."""
    for opened, members in (
        (six.expected, 5),
        (six.expected, 4),
        ({("f", 1): bytes(32)}, 5),
        ({("stranger", 1): bytes(32)}, 6),
        ({("a", 0): bytes(32)}, 6),
        ({("a", 3): bytes(32)}, 6),
    ):
        with pytest.raises(RosterError, match="stays"):
            checked(six, opened, members)
    for wrong in (bytes(32), six.each["b"][0], six.each["a"][1], b""):
        with pytest.raises(RosterError, match="not the one that its hospital signed"):
            checked(six, {("a", 1): wrong})
    with pytest.raises(RosterError, match="signed"):
        checked(six, {("d", 1): bytes(32)})  # a member that signed no seeds


def test_bytes_that_are_no_seeds_are_not_shared():
    with pytest.raises(ShareError, match="31 bytes"):
        seeds.numbers_of([bytes(31)])
    with pytest.raises(ShareError, match="not below"):
        seeds.numbers_of([b"\xff" * 32])
    assert seeds.numbers_of([]).size == 0 and seeds.digests([]) == b""
