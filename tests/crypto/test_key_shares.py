"""Keys in shares: any roster that may be opened opens, once, and nothing else does."""

import dataclasses
import itertools
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some
from pairing import pair_keys

from crypto import key_shares, sharing
from crypto.envelope import unwrap, wrap
from crypto.errors import (
    CapacityError,
    ContributionError,
    EnvelopeError,
    RosterError,
    ShareError,
    TagMismatchError,
)
from crypto.key_shares import Answered, Answers, Parts, ShareRequest, answer, deal, open_answers
from crypto.planning import Absent, plan_sealing
from crypto.plans import SealingPlan
from crypto.roles import Place, Quantiser
from crypto.schemes import make_adder, make_keys, make_opener, make_sealer
from crypto.tags import derive_key

PLACE = Place(training="t", round=3, attempt=1)
ROSTER, OTHER_ROSTER = b"r" * 32, b"s" * 32


def grid_of(bits):
    return Quantiser(step=1.0 / (2 ** (bits - 1) - 1), bound=1.0)


class Federation:
    """Hospitals of one training in which some may be missing, and what each sealed."""

    def __init__(self, hospitals=6, dropouts=1, values=2_000, bits=13, seed=0, committee=0):
        self.names = tuple(f"hospital-{index:02}" for index in range(hospitals))
        chosen = self.names[1 : 2 * committee : 2]
        self.plan = plan_sealing(
            values=values,
            hospitals=hospitals,
            grid=grid_of(bits),
            scheme="one-time",
            absent=Absent(dropouts=dropouts, committee=chosen, silent=4 if committee else None),
        )
        self.holders = chosen or self.names
        self.keys, self.pairs = make_keys(self.plan), pair_keys(self.names)
        dice = np.random.default_rng(seed)
        self.vectors = {name: dice.normal(scale=0.4, size=values) for name in self.names}
        self.sealed = {name: self.seal(name) for name in self.names}

    def of(self, name):
        return self.keys.with_pairs(self.pairs[name])

    def seal(self, name, place=PLACE):
        return make_sealer(self.plan, self.of(name), name).seal(self.vectors[name], place)

    def request(self, holder, members, roster=ROSTER, **changes):
        fields = {
            "place": PLACE,
            "roster": roster,
            "contributors": {name: self.sealed[name].nonce for name in members},
            "parts": {name: Parts.of(self.sealed[name]) for name in members},
            "envelopes": {
                name: self.sealed[name].envelopes[holder]
                for name in members
                if holder in self.sealed[name].envelopes
            },
        }
        return ShareRequest(**(fields | changes))

    def answer(self, holder, members, roster=ROSTER, last=None, **changes):
        return answer(
            self.request(holder, members, roster, **changes), self.plan, self.of(holder), last
        )

    def answers(self, members, holders=None, roster=ROSTER):
        return Answers(
            roster=roster,
            by_holder={
                holder: self.answer(holder, members, roster).answer
                for holder in holders or self.holders
            },
        )

    def total(self, members):
        adder = make_adder(self.plan)
        for name in members:
            adder.add(self.sealed[name])
        return adder.total(), {name: self.sealed[name].nonce for name in members}

    def opener(self, name=None):
        return make_opener(self.plan, self.of(name or self.names[0]))

    def expected(self, members):
        grid = self.plan.grid
        fields = sum(
            np.rint((np.clip(self.vectors[name], -1, 1) + grid.bound) / grid.step)
            for name in members
        )
        return (fields - len(members) * grid.half) * grid.step


@pytest.fixture(name="six", scope="module")
def make_six():
    return Federation()


def opens(federation, members, holders, opener=None):
    answers = federation.answers(members, holders)
    opened = federation.opener(opener).open(*federation.total(members), PLACE, answers)
    return np.array_equal(opened, federation.expected(members))


# The oracle


def modular_sum(federation, members):
    plan = plan_sealing(
        values=federation.plan.values,
        hospitals=federation.plan.hospitals,
        grid=federation.plan.grid,
        scheme="modular",
    )
    keys, adder, nonces = make_keys(plan), make_adder(plan), {}
    for name in members:
        sealed = make_sealer(plan, keys, name).seal(federation.vectors[name], PLACE)
        adder.add(sealed)
        nonces[name] = sealed.nonce
    return make_opener(plan, keys).open(adder.total(), nonces, PLACE)


def sums_agree(hospitals, dropouts, data, values, bits, seed):
    federation = Federation(hospitals, dropouts, values, bits, seed)
    missing = data.draw(some.integers(0, dropouts))
    members = data.draw(some.permutations(federation.names))[missing:]
    threshold = federation.plan.sharing.threshold
    holders = data.draw(some.permutations(federation.holders))[:threshold]
    opened = federation.opener(data.draw(some.sampled_from(federation.names))).open(
        *federation.total(members), PLACE, federation.answers(members, holders)
    )
    return np.array_equal(opened, modular_sum(federation, sorted(members)))


CASES = {
    "shape": some.sampled_from([(5, 1), (6, 1), (8, 2), (9, 2), (11, 3)]),
    "data": some.data(),
    "values": some.integers(1, 9_000),
    "bits": some.integers(2, 20),
    "seed": some.integers(0, 2**32),
}


@settings(max_examples=8, deadline=None)
@given(**CASES)
def test_every_roster_opens_to_the_sum_of_modular_bit_for_bit(shape, data, values, bits, seed):
    assert sums_agree(*shape, data, values, bits, seed)


@pytest.mark.exhaustive
@settings(max_examples=150, deadline=None)
@given(**CASES)
def test_many_rosters_open_to_the_sum_of_modular_bit_for_bit(shape, data, values, bits, seed):
    assert sums_agree(*shape, data, values, bits, seed)


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


# Fewer than t answers


def test_share_sums_of_fewer_than_t_holders_are_uniform(six):
    """The server has all that was sent; with t - 1 answers every sum of keys is as likely."""
    members, threshold = six.names[1:], six.plan.sharing.threshold
    shares = open_answers(
        six.answers(members, six.holders[: threshold - 1]),
        six.plan,
        six.keys,
        six.pairs[six.names[0]].bind,
        PLACE,
    )
    points = {index + 1: share for index, share in enumerate(shares.values())}
    values = sharing.interpolate(points, [0])[0]  # as if they were enough
    counts = np.histogram(values, bins=64, range=(0, sharing.PRIME))[0]
    expected = values.size / 64
    assert ((counts - expected) ** 2 / expected).sum() < 63 + 5 * np.sqrt(126)
    assert list(sharing.key_candidates(points, threshold, 32 * len(members))) == []
    with pytest.raises(TagMismatchError, match="none of the keys"):
        six.opener().open(
            *six.total(members), PLACE, six.answers(members, six.holders[: threshold - 1])
        )
    # The control: one answer more is the key.
    assert opens(six, members, six.holders[:threshold])


def test_a_sum_without_answers_or_of_too_few_opens_nowhere(six):
    with pytest.raises(ContributionError, match="answers"):
        six.opener().open(*six.total(six.names), PLACE)
    few = six.names[2:]
    with pytest.raises(ContributionError, match="fewer than 5"):
        six.opener().open(*six.total(few), PLACE, six.answers(six.names))
    with pytest.raises(RosterError, match="expected 5 members"):
        six.answer(six.names[0], few)


# One answer a place


def test_a_holder_answers_one_roster_of_a_place_for_ever(six):
    holder, members = six.names[0], six.names[1:]
    first = six.answer(holder, members)
    again = six.answer(holder, members, last=first)
    assert again is first
    # Also by another process, from what the first one left on disk.
    first = Answered.from_bytes(first.to_bytes())
    assert six.answer(holder, members, last=first) == again
    for bad in (b"", b"{}", b"[]", first.to_bytes()[:-1], first.to_bytes().replace(b"3", b'"x"')):
        with pytest.raises(ShareError, match="no answer"):
            Answered.from_bytes(bad)
    with pytest.raises(RosterError, match="another roster"):
        six.answer(holder, six.names, roster=OTHER_ROSTER, last=first)
    earlier = dataclasses.replace(PLACE, round=2)
    with pytest.raises(RosterError, match="already"):
        six.answer(holder, members, last=first, place=earlier)
    other = dataclasses.replace(PLACE, training="u")
    with pytest.raises(RosterError, match="already"):
        six.answer(holder, members, last=first, place=other)


def test_two_rosters_of_one_place_never_both_open(six):
    """The server shows half of the holders one roster, and half another."""
    one, other = six.names[1:], six.names[:-1]
    for split in range(7):
        answered = {
            roster: six.answers(members, holders, roster).by_holder if holders else {}
            for roster, members, holders in (
                (ROSTER, one, six.holders[:split]),
                (OTHER_ROSTER, other, six.holders[split:]),
            )
        }
        opened = 0
        for roster, members in ((ROSTER, one), (OTHER_ROSTER, other)):
            # Whatever answers the server passes off as those of a roster, only its own unwrap.
            everything = answered[ROSTER] | answered[OTHER_ROSTER]
            for by_holder in (answered[roster], everything):
                try:
                    six.opener().open(
                        *six.total(members), PLACE, Answers(roster=roster, by_holder=by_holder)
                    )
                    opened += 1
                    break
                except TagMismatchError:
                    continue
        assert opened <= 1


def test_a_restored_holder_answers_again_and_colluders_gain_one_answer(six):
    """It cannot know: what it forgot it answers anew. c_max counts it as a colluder."""
    holder = six.names[0]
    first = six.answer(holder, six.names[1:])
    again = six.answer(holder, six.names[:-1], roster=OTHER_ROSTER, last=None)
    assert first.roster != again.roster
    assert six.plan.sharing.most_colluders(6) >= 1


# Envelopes


def test_an_envelope_opens_for_one_place_dealer_holder_and_header_alone(six):
    # A dealer and a holder who got an envelope from it.
    dealer = six.names[0]
    holder = sorted(six.sealed[dealer].envelopes)[0]
    members = [name for name in six.names if name != six.names[-1] or name == dealer]
    members = sorted({*members, dealer, holder})[:6]
    good = six.request(holder, members)
    assert answer(good, six.plan, six.of(holder), None).answer
    again = six.seal(dealer)
    elsewhere = six.seal(dealer, dataclasses.replace(PLACE, attempt=2))
    other = next(
        name for name in six.names if name != dealer and holder in six.sealed[name].envelopes
    )
    replays = {
        "another attempt": elsewhere.envelopes[holder],
        "another header of the place": again.envelopes[holder],
        "another dealer": six.sealed[other].envelopes[holder],
        "another holder": next(v for k, v in six.sealed[dealer].envelopes.items() if k != holder),
        "changed": good.envelopes[dealer][:-1] + bytes([good.envelopes[dealer][-1] ^ 1]),
        "short": b"",
    }
    for what, envelope in replays.items():
        handed = {**good.envelopes, dealer: envelope}
        # By the server: the dealer signed another one.
        with pytest.raises(ShareError, match="not the one it signed") as caught:
            answer(dataclasses.replace(good, envelopes=handed), six.plan, six.of(holder), None)
            pytest.fail(what)
        assert caught.value.culprit == ""
        # By the dealer, who signs it: it does not open either, and the dealer is named.
        parts = Parts.of(dataclasses.replace(six.sealed[dealer], envelopes={holder: envelope}))
        bad = dataclasses.replace(good, envelopes=handed, parts=good.parts | {dealer: parts})
        with pytest.raises(ShareError, match=f"envelope of '{dealer}'") as caught:
            answer(bad, six.plan, six.of(holder), None)
            pytest.fail(what)
        assert caught.value.culprit == dealer
    lacking = {name: one for name, one in good.envelopes.items() if name != dealer}
    with pytest.raises(ShareError, match="not the one it signed"):
        answer(dataclasses.replace(good, envelopes=lacking), six.plan, six.of(holder), None)
    unsigned = Parts.of(dataclasses.replace(six.sealed[dealer], envelopes={}))
    with pytest.raises(ShareError, match="signed no envelope") as caught:
        answer(
            dataclasses.replace(good, parts=good.parts | {dealer: unsigned}),
            six.plan,
            six.of(holder),
            None,
        )
    assert caught.value.culprit == dealer


def test_the_digest_that_is_signed_stands_for_vector_and_envelopes(six):
    sealed = six.sealed[six.names[0]]
    digest = Parts.of(sealed).digest
    holders = sorted(sealed.envelopes)
    swapped = dict(zip(holders, reversed([sealed.envelopes[h] for h in holders]), strict=True))
    for change in (
        {"payload": sealed.payload[:-1] + b"x"},
        {"envelopes": {}},
        {"envelopes": swapped},
        {"envelopes": {**sealed.envelopes, "stranger": b""}},
    ):
        assert Parts.of(dataclasses.replace(sealed, **change)).digest != digest


def test_an_envelope_with_the_header_it_was_made_for_opens_though_sealed_twice(six):
    """A repeated place: one of the two ciphertexts can be opened, the other nowhere."""
    again = Federation()
    again.keys, again.pairs, again.sealed = six.keys, six.pairs, dict(six.sealed)
    again.sealed[six.names[0]] = again.seal(six.names[0])
    assert opens(again, six.names, six.holders)
    mixed = again.answers(six.names)
    with pytest.raises(TagMismatchError):
        six.opener().open(*six.total(six.names), PLACE, mixed)


def test_the_server_cannot_read_an_answer(six):
    wrapped = six.answer(six.names[0], six.names).answer
    key = derive_key(bytes(32), b"asclepias answer 1", PLACE)
    with pytest.raises(EnvelopeError):
        unwrap(key, wrapped, b"")
    stranger = make_keys(six.plan)
    answers = six.answers(six.names)
    bind = six.pairs[six.names[0]].bind
    assert open_answers(answers, six.plan, stranger, bind, PLACE) == {}
    assert len(open_answers(answers, six.plan, six.keys, bind, PLACE)) == 6
    other = dataclasses.replace(answers, roster=OTHER_ROSTER)
    assert open_answers(other, six.plan, six.keys, bind, PLACE) == {}


# Lies


def lied(federation, answers, liar, change):
    """The answers with one holder's sum of shares changed, wrapped as a holder can."""
    plan, place = federation.plan, PLACE
    bind = federation.pairs[liar].bind
    share = open_answers(answers, plan, federation.keys, bind, place)[liar]
    key = derive_key(federation.keys.group_key, b"asclepias answer 1", place)
    context = key_shares._answer_context(plan, bind, place, answers.roster, liar)
    data = key_shares._packed(sharing.reduce(change(share)))
    return dataclasses.replace(
        answers, by_holder=answers.by_holder | {liar: wrap(key, data, context)}
    )


def test_a_wrong_answer_is_corrected_and_its_holder_named(six):
    dice = np.random.default_rng(5)
    members = six.names[1:]
    for change in (lambda share: share + 1, lambda share: dice.integers(0, 65521, share.size)):
        answers = lied(six, six.answers(members), six.names[2], change)
        opening = six.opener().recover(*six.total(members), PLACE, answers)
        assert np.array_equal(opening.values, six.expected(members))
        assert opening.suspects == (six.names[2],)
    honest = six.opener().recover(*six.total(members), PLACE, six.answers(members))
    assert honest.suspects == ()


def test_a_wrong_share_leads_to_the_holder_it_was_dealt_to(six):
    """A dealer that gives one holder another share: beside an honest server, the name is a hint."""
    bad = Federation()
    bad.keys, bad.pairs, bad.sealed = six.keys, six.pairs, dict(six.sealed)
    dealer = six.names[0]
    sealed = bad.sealed[dealer]
    holder = sorted(sealed.envelopes)[0]
    key = bad.pairs[dealer].key(holder, b"asclepias envelope 1", PLACE, dealer.encode())
    context = key_shares._share_context(
        bad.plan, bad.pairs[dealer], PLACE, dealer, holder, sealed.nonce
    )
    wrong = wrap(key, bytes(bad.plan.degree * 2), context)
    bad.sealed[dealer] = dataclasses.replace(sealed, envelopes={**sealed.envelopes, holder: wrong})
    opening = bad.opener().recover(*bad.total(bad.names), PLACE, bad.answers(bad.names))
    assert opening.suspects == (holder,)


def test_with_t_answers_alone_a_wrong_one_voids_the_attempt(six):
    threshold = six.plan.sharing.threshold
    answers = six.answers(six.names, six.holders[:threshold])
    answers = lied(six, answers, six.holders[0], lambda share: share + 1)
    with pytest.raises(TagMismatchError, match="none of the keys"):
        six.opener().open(*six.total(six.names), PLACE, answers)


def test_a_server_with_a_holder_can_make_an_honest_one_look_wrong(six):
    """Why suspects are for the log: their shifts cancel, and the honest answer is off."""
    liar, honest, threshold = six.holders[0], six.holders[-1], six.plan.sharing.threshold
    chosen = list(range(1, threshold + 1))
    weight = int(sharing.lagrange(chosen, [0])[0, 0])
    # Moving the liar's answer by shift/weight moves the key by shift, still a small one.
    shift = np.zeros(six.plan.degree)
    shift[0] = 1
    move = sharing.reduce(shift * pow(weight, -1, sharing.PRIME))
    answers = lied(six, six.answers(six.names), liar, lambda share: share + move)
    bind = six.pairs[liar].bind
    shares = open_answers(answers, six.plan, six.keys, bind, PLACE)
    found = list(key_shares.candidates(shares, six.holders, threshold, 6))
    # A key other than the true one is in range, and the last holder does not fit it.
    assert any(honest not in agreeing and liar in agreeing for _, agreeing in found)
    # The true key is tried too, and the honest total opens with it alone.
    opening = six.opener().recover(*six.total(six.names), PLACE, answers)
    assert opening.suspects == (liar,)


@pytest.mark.parametrize("bad", [b"", b"\xff" * 8192, bytes(8191)], ids=["none", "large", "short"])
def test_hostile_answers_and_shares_are_refused_by_name(six, bad):
    """Numbers that are no residues, and other lengths, in a well wrapped answer or envelope."""
    holder, place, plan = six.names[1], PLACE, six.plan
    key = derive_key(six.keys.group_key, b"asclepias answer 1", place)
    context = key_shares._answer_context(plan, six.pairs[holder].bind, place, ROSTER, holder)
    answers = six.answers(six.names)
    answers = dataclasses.replace(
        answers, by_holder=answers.by_holder | {holder: wrap(key, bad, context), "stranger": bad}
    )
    assert holder not in open_answers(answers, plan, six.keys, six.pairs[holder].bind, place)
    opened = six.opener().open(*six.total(six.names), PLACE, answers)
    assert np.array_equal(opened, six.expected(six.names))


# Plans


def test_plans_of_shared_keys_survive_json_and_are_proved(six):
    plan = six.plan
    assert plan.key_mode == "threshold"
    assert SealingPlan.from_json(plan.to_json()) == plan
    assert plan.describe()["answers that open"] == 5
    up = sum(len(one) for one in six.sealed[six.names[0]].envelopes.values())
    up += len(six.answer(six.names[0], six.names).answer)
    assert plan.describe()["bytes of shares and answer up"] == up
    assert plan.describe()["colluders held"] == 2
    for change in (
        {"threshold": 3},
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
        committees.add(
            key_shares.holders_of(federation.plan.sharing, federation.pairs["hospital-00"])
        )
    assert committees == {federation.holders}


def test_more_than_twenty_hospitals_need_a_committee():
    with pytest.raises(CapacityError, match="committee"):
        plan_sealing(
            values=10,
            hospitals=42,
            grid=grid_of(13),
            scheme="one-time",
            absent=Absent(dropouts=3),
        )


def test_a_place_is_sealed_in_the_mode_of_its_plan_alone(six):
    """Masked and shared keys of one place would give the missing hospital's key by subtraction."""
    full = plan_sealing(values=2_000, hospitals=6, grid=grid_of(13), scheme="one-time")
    assert full.parameter_id != six.plan.parameter_id
    keys = make_keys(full)
    with pytest.raises(Exception, match="keys belong to parameters"):
        make_sealer(six.plan, keys.with_pairs(six.pairs[six.names[0]]), six.names[0])
    with pytest.raises(ShareError, match="not shared"):
        deal(np.zeros(4096, np.int64), full, six.pairs[six.names[0]], PLACE, bytes(32))
    sealed = six.sealed[six.names[0]]
    assert sealed.size == six.plan.bytes_up  # no masked key beside the shares
    assert sealed.envelopes


def test_envelopes_differ_in_everything_between_two_sealings(six):
    first, second = six.sealed[six.names[0]], six.seal(six.names[0])
    for holder, envelope in first.envelopes.items():
        other = second.envelopes[holder]
        same = np.frombuffer(envelope, np.uint8) == np.frombuffer(other, np.uint8)
        assert same.mean() < 0.05


def test_all_rosters_of_a_small_federation_open():
    federation = Federation(hospitals=5, dropouts=1, values=50)
    for size in (4, 5):
        for members in itertools.combinations(federation.names, size):
            assert opens(federation, members, federation.holders[1:])
