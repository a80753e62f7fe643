"""What is tried against keys in shares: two rosters, other envelopes, lies, too few answers."""

import dataclasses
import math

import numpy as np
import pytest
from shared_keys import OTHER_ROSTER, PLACE, ROSTER, Federation, opens

from crypto import encrypted_blocks, key_shares, sharing
from crypto.envelope import unwrap, wrap
from crypto.errors import (
    ContributionError,
    EnvelopeError,
    RosterError,
    ShareError,
    TagMismatchError,
)
from crypto.key_shares import Answers, answer, open_answers
from crypto.parcels import Parcel
from crypto.schemes import make_keys
from crypto.tags import derive_key


@pytest.fixture(name="six", scope="module")
def make_six():
    return Federation()


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
    assert six.answer(holder, six.names[1:])
    assert six.answer(holder, six.names[:-1], roster=OTHER_ROSTER)
    assert six.plan.sharing.most_colluders(6) >= 1


# Envelopes


def test_an_envelope_opens_for_one_place_dealer_holder_and_header_alone(six):
    # A dealer and a holder who got an envelope from it.
    dealer = six.names[0]
    holder = sorted(six.sealed[dealer].envelopes)[0]
    members = [name for name in six.names if name != six.names[-1] or name == dealer]
    members = sorted({*members, dealer, holder})[:6]
    good = six.request(holder, members)
    assert answer(good, six.plan, six.of(holder))
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
            answer(dataclasses.replace(good, envelopes=handed), six.plan, six.of(holder))
            pytest.fail(what)
        assert caught.value.culprit == ""
        # By the dealer, who signs it: it does not open either, and the dealer is named.
        parcel = Parcel.of(six.sealed[dealer].payload, {holder: envelope})
        bad = dataclasses.replace(good, envelopes=handed, parcels=good.parcels | {dealer: parcel})
        with pytest.raises(ShareError, match=f"envelope of '{dealer}'") as caught:
            answer(bad, six.plan, six.of(holder))
            pytest.fail(what)
        assert caught.value.culprit == dealer
    lacking = {name: one for name, one in good.envelopes.items() if name != dealer}
    with pytest.raises(ShareError, match="not the one it signed"):
        answer(dataclasses.replace(good, envelopes=lacking), six.plan, six.of(holder))
    unsigned = Parcel.of(six.sealed[dealer].payload, {})
    with pytest.raises(ShareError, match="signed no envelope") as caught:
        answer(
            dataclasses.replace(good, parcels=good.parcels | {dealer: unsigned}),
            six.plan,
            six.of(holder),
        )
    assert caught.value.culprit == dealer


def test_the_digest_that_is_signed_stands_for_vector_and_envelopes(six):
    sealed = six.sealed[six.names[0]]
    digest = Parcel.of(sealed.payload, sealed.envelopes).digest
    holders = sorted(sealed.envelopes)
    swapped = dict(zip(holders, reversed([sealed.envelopes[h] for h in holders]), strict=True))
    for change in (
        {"payload": sealed.payload[:-1] + b"x"},
        {"envelopes": {}},
        {"envelopes": swapped},
        {"envelopes": {**sealed.envelopes, "stranger": b""}},
    ):
        other = {"payload": sealed.payload, "envelopes": sealed.envelopes} | change
        assert Parcel.of(**other).digest != digest


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


def test_envelopes_differ_in_everything_between_two_sealings(six):
    first, second = six.sealed[six.names[0]], six.seal(six.names[0])
    for holder, envelope in first.envelopes.items():
        other = second.envelopes[holder]
        same = np.frombuffer(envelope, np.uint8) == np.frombuffer(other, np.uint8)
        assert same.mean() < 0.05


def test_answers_that_give_many_wrong_keys_cost_their_first_blocks_alone(monkeypatch):
    """A hospital and the server forge all answers: every t of them agree on another small key."""
    many = Federation(values=220_000)
    total, nonces = many.total(many.names)
    answers, points = many.answers(many.names), range(1, 7)
    product, divisible = math.prod(points), math.lcm(*points)
    move = divisible * pow(product, -1, sharing.PRIME) % sharing.PRIME
    for point, holder in enumerate(many.holders, start=1):
        # The values of a polynomial whose degree is one too many: t of them miss its highest term.
        step = np.zeros(many.plan.degree)
        step[0] = move * pow(point, 5, sharing.PRIME) % sharing.PRIME
        answers = lied(many, answers, holder, lambda share, step=step: share + step)
    shares = open_answers(answers, many.plan, many.keys, many.pairs[many.names[0]].bind, PLACE)
    found = list(key_shares.candidates(shares, many.holders, many.plan.sharing.threshold, 6))
    assert len({key.tobytes() for key, _ in found}) == 6
    read, real = [], encrypted_blocks.from_planes
    monkeypatch.setattr(
        encrypted_blocks,
        "from_planes",
        lambda part, *about: (read.append(len(part)), real(part, *about)),
    )
    with pytest.raises(TagMismatchError, match="none of the keys"):
        many.opener().open(total, nonces, PLACE, answers)
    assert many.plan.ciphertexts > 2 * read[0]
    assert len(read) == 6
    # The control: one that opens is read whole.
    read.clear()
    assert many.opener().open(total, nonces, PLACE, many.answers(many.names)).size == 220_000
    assert sum(read) == many.plan.ciphertexts
