"""Seeds of noise against a lying server, lying dealers and silent members: real shares, opened."""

import dataclasses
import itertools
import math
import random

import pytest
from shared_keys import PLACE, Federation

from accounting.noise import make_noise_plan, multiplier_against
from accounting.parts import plan_parts
from crypto import key_shares, seeds
from crypto.envelope import wrap
from crypto.errors import TagMismatchError
from crypto.key_shares import Answers
from crypto.parcels import Parcel
from crypto.planning import Absent, plan_sharing


@pytest.fixture(name="eight", scope="module")
def make_eight():
    """K = 8, d = 2: six answers open a sum, and one colluder is held."""
    parts = plan_parts(1.0, hospitals=8, dropouts=2, colluders=0)
    return Federation(hospitals=8, dropouts=2, values=50, noise_seeds=parts.opened_up_to)


def opens_for(federation, shown, members):
    """Whether the holders who were shown these members open their sum."""
    given = {
        holder: federation.answer(holder, members).answer
        for holder, roster in shown.items()
        if roster == members
    }
    answers = Answers(roster=b"r" * 32, by_holder=given)
    try:
        federation.opener().open(*federation.total(members), PLACE, answers)
    except TagMismatchError:
        return False
    return True


def kept(federation, members, opened):
    """Variance that a sum's noise keeps, sigma*C = 1."""
    parts = plan_parts(1.0, hospitals=8, dropouts=2, colluders=0)
    return sum(
        stddev**2
        for name in members
        for part, stddev in enumerate(parts.stddevs)
        if (name, part) not in opened
    )


def test_a_lying_roster_takes_no_noise_from_the_sum_that_is_opened(eight):
    """All eight are shown to some, six of them to the others, who open it: nothing of it goes."""
    everybody, six = eight.names, eight.names[2:]
    for liars in range(3):
        shown = {
            holder: everybody if number < liars else six
            for number, holder in enumerate(eight.holders)
        }
        assert opens_for(eight, shown, six)
        assert eight.opened_seeds(shown) == {}
        assert kept(eight, six, {}) == pytest.approx(1.0)
    # Between: seven shown to two, whose members' last part two shares cannot open.
    shown = dict.fromkeys(eight.holders, six) | dict.fromkeys(eight.holders[:2], eight.names[1:])
    assert opens_for(eight, shown, six) and eight.opened_seeds(shown) == {}
    # The control: with a third part of the holders more, other sums' seeds do open.
    shown = dict.fromkeys(eight.holders, everybody)
    opened = eight.opened_seeds(shown)
    assert len(opened) == 16 and not opens_for(eight, shown, six)
    assert kept(eight, everybody, opened) == pytest.approx(1.0)


def test_a_colluders_shares_and_rosters_without_it_take_none_either(eight):
    """One colluder gives every share it has; the server leaves it out of some rosters."""
    colluder, honest = eight.holders[0], eight.holders[1:]
    for missing in ((), (1,), (1, 2)):
        group = [name for name in honest if eight.names.index(name) not in missing]
        with_it, without = sorted([*group, colluder]), group
        rosters = [one for one in (with_it, without) if len(one) >= 6]
        for shown in itertools.product(rosters, repeat=2):
            given = dict.fromkeys(honest[:4], shown[0]) | dict.fromkeys(honest[4:], shown[1])
            given[colluder] = with_it  # it answers what opens most
            opened = eight.opened_seeds(given)
            left = kept(eight, group, opened)
            # Planned without colluders: the colluder's own share is what is gone, no more.
            assert left >= (len(group)) / (len(group) + 1) - 1e-12


def test_the_seeds_of_a_member_that_died_after_its_update_go_all_the_same(eight):
    """It dealt its shares with its update; nobody asks it again."""
    members, dead = eight.names, eight.names[3]
    shown = {holder: members for holder in eight.holders if holder != dead}
    opened = eight.opened_seeds(shown)
    assert {part for name, part in opened if name == dead} == {1, 2}
    assert kept(eight, members, opened) == pytest.approx(1.0)
    # The control: sent by their owners, its parts would have stayed.
    sent = {part: seed for part, seed in opened.items() if part[0] != dead}
    assert kept(eight, members, sent) == pytest.approx(1.0 + 1 / 6 - 1 / 8)


def test_a_dealer_whose_seeds_are_not_what_it_signed_keeps_its_noise_and_is_named(eight):
    bad = Federation(hospitals=8, dropouts=2, values=50, noise_seeds=(0, 1))
    dealer = bad.names[4]
    other = [bad.seeds[dealer][0], bytes(32)]
    bad.sealed[dealer] = dataclasses.replace(bad.sealed[dealer], seeds=seeds.digests(other))
    opened = bad.opened_seeds(dict.fromkeys(bad.holders, bad.names))
    goes = seeds.parts_of(bad.plan.sharing, 8, dict.fromkeys(bad.names))
    assert [part for part in goes if part not in opened] == [(dealer, 2)]
    signed = {name: one.seeds for name, one in bad.sealed.items()}
    nonces = {name: one.nonce for name, one in bad.sealed.items()}
    assert seeds.checked(opened, bad.plan.sharing, 8, nonces, signed) == opened
    assert kept(bad, bad.names, opened) > 1.0


def test_shares_of_seeds_off_the_polynomial_are_passed_over_while_enough_agree(eight):
    """A dealer that gives one holder a wrong share, in an envelope that it signed."""
    bad = Federation(hospitals=8, dropouts=2, values=50, noise_seeds=(0, 1))
    dealer = bad.names[0]
    sealed = bad.sealed[dealer]
    holder = sorted(sealed.envelopes)[0]
    key = bad.pairs[dealer].key(holder, b"asclepias envelope 1", PLACE, dealer.encode())
    context = key_shares._share_context(
        bad.plan, bad.pairs[dealer], PLACE, dealer, holder, sealed.nonce
    )
    wrong = wrap(key, bytes(2 * bad.plan.sharing.numbers(bad.plan.degree)), context)
    bad.sealed[dealer] = dataclasses.replace(sealed, envelopes={**sealed.envelopes, holder: wrong})
    assert isinstance(bad.parcel(dealer), Parcel)
    opened = bad.opened_seeds(dict.fromkeys(bad.holders, bad.names))
    assert opened == {(n, part): bad.seeds[n][part - 1] for n in bad.names for part in (1, 2)}


def opened_by(sharing, hospitals, shown, colluders):
    """Seeds of honest hospitals that honest holders' answers and the colluders' shares open.

    `shown` has for each honest holder the honest members of its roster and the roster's size.
    """
    given = {size: seeds.given_away(sharing, hospitals, size) for _, size in shown}
    counts = {}
    for members, size in shown:
        for part in itertools.product(members, given[size]):
            counts[part] = counts.get(part, 0) + 1
    return {part for part, count in counts.items() if count >= sharing.threshold - colluders}


@pytest.mark.parametrize(
    ("hospitals", "dropouts", "planned"),
    [(5, 1, 0), (8, 1, 1), (8, 2, 0), (11, 3, 0), (14, 3, 2), (17, 4, 0), (20, 5, 1)],
)
def test_lying_rosters_leave_what_is_claimed_against_the_server_and_hospitals(
    hospitals, dropouts, planned
):
    """For every number of hospitals that keys in shares hold against, planned for or not."""
    dice = random.Random(hospitals)
    plan = make_noise_plan(
        "semi-central",
        noise_multiplier=1.0,
        hospitals=hospitals,
        dropouts=dropouts,
        colluders=planned,
        removable=True,
    )
    absent = Absent(dropouts=dropouts, colluders=planned, seeds=plan.parts.opened_up_to)
    sharing = plan_sharing(hospitals, absent)
    for colluders in range(sharing.most_colluders(hospitals) + 1):
        honest = range(colluders, hospitals)  # every hospital holds shares
        enough = sharing.threshold - colluders
        claim, least = multiplier_against(plan, colluders, sharing.most_colluders(hospitals)), 9.0
        for trial in range(30 + dropouts + 1):
            # A roster of few honest ones with all colluders is what gives most away.
            missing = trial if trial <= dropouts else dice.randint(0, dropouts)
            group = dice.sample(honest, max(2, len(honest) - missing))
            shown = [(group, len(group) + colluders)] * enough
            while len(shown) < len(honest):
                other = dice.sample(honest, len(honest) - dice.randint(0, dropouts))
                shown.append((other, len(other) + colluders))
            opened = opened_by(sharing, hospitals, shown, colluders)
            left = math.fsum(
                stddev**2
                for name in group
                for part, stddev in enumerate(plan.parts.stddevs)
                if (name, part) not in opened
            )
            least = min(least, math.sqrt(left))
        assert least >= claim - 1e-12
        if colluders >= planned:
            assert least == pytest.approx(claim)  # and not a whit more
