"""Shares of one-time keys: dealt to holders with every vector, and answered for one roster.

    envelopes = deal(secret, seeds, plan, pairs, place, nonce)  # every hospital, with its update
    given = answer(request, plan, keys)                         # every holder, one roster a place
    shares = open_answers(answers, plan, keys, bind, place)     # every hospital that opens

A share travels in an envelope that only its holder opens, and only for the header whose nonce it
was made with: no envelope passes for one of another place, attempt, dealer, holder or header. The
server keeps envelopes and hands them out with the roster; holders store none. The signed header
stands for every envelope (`crypto.parcels`), so a bad one is its dealer's fault or the server's.
t - 1 of a dealer's shares are derived by their holders instead of sent (`crypto.seats`).

An answer is wrapped under the group key: hospitals may know the sum of keys, the server must not.
Beside it go, open and not added up, the holder's shares of seeds of noise that the roster gives
away (`crypto.seeds`): they are shared with the key, and are no secret once enough holders agree.
That a holder answers one roster a place, for ever, is its caller's to see to (a hospital's book).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from crypto import seeds, sharing
from crypto.coins import KeyStream
from crypto.envelope import unwrap, wrap
from crypto.errors import EnvelopeError, KeysError, RosterError, ShareError
from crypto.keys import Keys
from crypto.one_time_plans import SEED_NUMBERS, Sharing
from crypto.pairs import PairKeys
from crypto.parcels import Parcel
from crypto.plans import SealingPlan
from crypto.roles import Place
from crypto.seats import Seats
from crypto.security import COINS
from crypto.sharing import Residues
from crypto.tags import derive_key

_SHARE, _ENVELOPE, _ANSWER = b"asclepias share 1", b"asclepias envelope 1", b"asclepias answer 1"
_DIGEST = 32
_LOW, _HIGH = np.uint64(2**32 - 1), np.uint64(32)


def seats_of(sharing: Sharing, pairs: PairKeys) -> Seats:
    """Who holds shares among the hospitals that a ceremony made pair keys for."""
    return Seats(sharing, (pairs.hospital, *pairs.others), pairs.committee)


def _derived_words(
    pairs: PairKeys, other: str, place: Place, dealer: str, nonce: bytes, count: int
) -> NDArray[np.uint64]:
    """What dealer and holder derive a share from, uint64 `[count]`."""
    key = pairs.key(other, _SHARE, place, dealer.encode(), nonce)
    return KeyStream(key).words(count)


def _residues(low: NDArray[np.uint64], high: NDArray[np.uint64]) -> Residues:
    """``low + 2**32 * high`` modulo p, for words below 2**51."""
    upper = sharing.reduce(high.astype(np.float64)) * float(2**32 % sharing.PRIME)
    return sharing.reduce(sharing.reduce(low.astype(np.float64)) + upper)


def _share_context(
    plan: SealingPlan, pairs: PairKeys, place: Place, dealer: str, holder: str, nonce: bytes
) -> bytes:
    labels = (dealer.encode(), holder.encode(), plan.parameter_id.encode(), pairs.bind, nonce)
    return place.digest(_ENVELOPE, *labels)


def _packed(residues: Residues) -> bytes:
    return residues.astype("<u2").tobytes()


def _unpacked(data: bytes, count: int, what: str) -> Residues:
    if len(data) != 2 * count:
        raise ShareError(f"{what} has {len(data)} bytes, expected {2 * count}")
    values = np.frombuffer(data, dtype="<u2")
    if int(values.max()) >= sharing.PRIME:
        raise ShareError(f"{what} has a number that is no residue modulo {sharing.PRIME}")
    return values.astype(np.float64)


def _sharing(plan: SealingPlan) -> Sharing:
    if plan.sharing is None:
        raise ShareError("this plan's keys are not shared: sums of all hospitals open alone")
    return plan.sharing


def deal(
    secret: NDArray[np.int64],
    each: Sequence[bytes],
    plan: SealingPlan,
    pairs: PairKeys,
    place: Place,
    nonce: bytes,
) -> dict[str, bytes]:
    """Envelopes with the shares of a key, by holder; holders who derive theirs get none.

    Args:
        secret: The key, int64 `[n]`.
        each: Seeds of noise that are shared with it.
        plan: Of this training.
        pairs: The dealer's.
        place: The place that the key is for.
        nonce: Of the dealer's signed header.
    """
    seats, dealer = seats_of(_sharing(plan), pairs), pairs.hospital
    holders = seats.holders
    every, shared = range(1, len(holders) + 1), np.concatenate([secret, seeds.numbers_of(each)])
    derived = {
        point: _residues(words & _LOW, words >> _HIGH)
        for point in every
        if seats.derives(dealer, point)
        for words in (_derived_words(pairs, holders[point - 1], place, dealer, nonce, shared.size),)
    }
    points = [point for point in every if point not in derived]
    envelopes = {}
    for point, share in zip(points, sharing.shares_of(shared, derived, points), strict=True):
        holder = holders[point - 1]
        key = pairs.key(holder, _ENVELOPE, place, dealer.encode())
        context = _share_context(plan, pairs, place, dealer, holder, nonce)
        envelopes[holder] = wrap(key, _packed(share), context)
    return envelopes


@dataclass(frozen=True, slots=True, kw_only=True)
class ShareRequest:
    """A roster to be answered, verified by the caller, and what came with it.

    Attributes:
        place: The roster's place.
        roster: Digest of the signed roster, 32 bytes.
        contributors: Each member's nonce by name.
        parcels: What each member that sent this holder an envelope signed; their digests are those
            of the signed headers.
        envelopes: This holder's, by dealer; as the server kept them.
    """

    place: Place
    roster: bytes
    contributors: Mapping[str, bytes]
    parcels: Mapping[str, Parcel]
    envelopes: Mapping[str, bytes]


class Given(NamedTuple):
    """What a holder gives for one roster.

    Attributes:
        answer: The sum of its shares of the members' keys, wrapped for hospitals.
        seeds: Its shares of the members' seeds that the roster gives away, in the order of
            `seeds.parts_of`; open to all.
    """

    answer: bytes
    seeds: bytes


def answer(request: ShareRequest, plan: SealingPlan, keys: Keys) -> Given:
    """Answer one roster of a place with the sum of its members' shares, wrapped for hospitals.

    Args:
        request: The roster; its signatures have been checked, and no other roster of its place was
            ever answered here.
        plan: Of this training.
        keys: The holder's, with its pair keys.

    Raises:
        RosterError: Too few are in the roster, or strangers.
        ShareError: A member's envelope is missing, is not the one it signed, or holds no share;
            says whose fault that is. The holder may answer another roster.
    """
    told = _sharing(plan)
    if keys.pairs is None:
        raise KeysError("a holder without pair keys opens no envelope")
    pairs, place = keys.pairs, request.place
    if len(request.roster) != _DIGEST:
        raise RosterError("a roster's digest has 32 bytes")
    seats, least = seats_of(told, pairs), plan.hospitals - told.dropouts
    if len(request.contributors) < least or not set(request.contributors) <= set(seats.members):
        raise RosterError(f"a roster of {len(request.contributors)}, expected {least} members")
    if pairs.hospital not in seats.holders:
        raise ShareError(f"{pairs.hospital!r} holds no shares")
    total, given = _shares_for(request, plan, pairs, seats)
    context = _answer_context(plan, pairs.bind, place, request.roster, pairs.hospital)
    wrapped = wrap(derive_key(keys.group_key, _ANSWER, place), _packed(total), context)
    return Given(answer=wrapped, seeds=given)


def _shares_for(
    request: ShareRequest, plan: SealingPlan, pairs: PairKeys, seats: Seats
) -> tuple[Residues, bytes]:
    """This holder's shares of all members' keys, added up, and of the seeds that go, one by one.

    The first is float64 `[n]` below p.
    """
    holder, place, degree = pairs.hospital, request.place, plan.degree
    point = seats.holders.index(holder) + 1
    told = _sharing(plan)
    goes = seeds.given_away(told, plan.hospitals, len(request.contributors))
    low, high = np.zeros(degree, dtype=np.uint64), np.zeros(degree, dtype=np.uint64)
    sent, given = np.zeros(degree), []
    for dealer, nonce in sorted(request.contributors.items()):
        if seats.derives(dealer, point):
            words = _derived_words(pairs, dealer, place, dealer, nonce, told.numbers(degree))
            low += words[:degree] & _LOW
            high += words[:degree] >> _HIGH
            of_seeds = _residues(words[degree:] & _LOW, words[degree:] >> _HIGH)
        else:
            share = _opened(request, plan, pairs, dealer, nonce)
            sent += share[:degree]
            of_seeds = share[degree:]
        given.append(_packed(of_seeds.reshape(len(told.seeds), SEED_NUMBERS)[goes.start - 1 :]))
    return sharing.reduce(_residues(low, high) + sharing.reduce(sent)), b"".join(given)


def _opened(
    request: ShareRequest, plan: SealingPlan, pairs: PairKeys, dealer: str, nonce: bytes
) -> Residues:
    """The share in a member's envelope."""
    holder, place = pairs.hospital, request.place
    parcel, envelope = request.parcels.get(dealer), request.envelopes.get(dealer, b"")
    if parcel is None:
        raise ShareError(f"what {dealer!r} signed did not come")
    if holder not in parcel.envelopes:
        raise ShareError(f"{dealer!r} signed no envelope for {holder!r}", culprit=dealer)
    if not parcel.holds(holder, envelope):
        raise ShareError(f"the envelope of {dealer!r} for {holder!r} is not the one it signed")
    key = pairs.key(dealer, _ENVELOPE, place, dealer.encode())
    context = _share_context(plan, pairs, place, dealer, holder, nonce)
    what = f"the envelope of {dealer!r} for {holder!r}"
    try:
        count = _sharing(plan).numbers(plan.degree)
        return _unpacked(unwrap(key, envelope, context), count, what)
    except (EnvelopeError, ShareError) as fault:
        raise ShareError(f"{what}: {fault}", culprit=dealer) from None


def _answer_context(
    plan: SealingPlan, bind: bytes, place: Place, roster: bytes, holder: str
) -> bytes:
    return place.digest(_ANSWER, roster, holder.encode(), plan.parameter_id.encode(), bind)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """The holders' answers to one roster, as the server sent them.

    Attributes:
        roster: Digest of the signed roster, 32 bytes.
        by_holder: Wrapped answers by holder.
    """

    roster: bytes
    by_holder: Mapping[str, bytes] = field(repr=False)


def open_answers(
    answers: Answers, plan: SealingPlan, keys: Keys, bind: bytes, place: Place
) -> dict[str, Residues]:
    """The sums of shares that open, by holder; what does not is the server's doing, and left out.

    Returns:
        float64 `[n]` below p each, holders sorted.
    """
    key, found = derive_key(keys.group_key, _ANSWER, place), {}
    for holder, wrapped in sorted(answers.by_holder.items()):
        context = _answer_context(plan, bind, place, answers.roster, holder)
        try:
            data = unwrap(key, wrapped, context)
            found[holder] = _unpacked(data, plan.degree, f"the answer of {holder!r}")
        except (EnvelopeError, ShareError):
            continue
    return found


def candidates(
    shares: Mapping[str, Residues], holders: tuple[str, ...], threshold: int, contributions: int
) -> Iterator[tuple[NDArray[np.int64], frozenset[str]]]:
    """Sums of keys that enough answers agree on, with those who agree.

    Args:
        shares: Opened answers by holder.
        holders: All holders, sorted; holder i's point is i + 1.
        threshold: t.
        contributions: How many keys are in the sum: no coefficient exceeds 32 of each.
    """
    points = {holders.index(name) + 1: share for name, share in shares.items() if name in holders}
    most = COINS // 2 * contributions
    for key, agreeing in sharing.key_candidates(points, threshold, most):
        yield key, frozenset(holders[point - 1] for point in agreeing)
