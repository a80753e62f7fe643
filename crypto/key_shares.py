"""Shares of one-time keys: dealt to holders with every vector, and answered for one roster.

    envelopes = deal(secret, plan, pairs, place, nonce)         # every hospital, with its update
    answered = answer(request, plan, keys, last)                # every holder, once a place
    shares = open_answers(answers, plan, keys, bind, place)     # every hospital that opens

A share travels in an envelope that only its holder opens, and only for the header whose nonce it
was made with: no envelope passes for one of another place, attempt, dealer, holder or header. The
server keeps envelopes and hands them out with the roster; holders store none. The signed header
stands for every envelope (`Parts`), so a bad one is its dealer's fault or the server's. t - 1 of a
dealer's shares, turning with its name, are derived by their holders instead of sent.

An answer is wrapped under the group key: hospitals may know the sum of keys, the server must not.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field

import numpy as np
from numpy.typing import NDArray

from crypto import sharing
from crypto.coins import KeyStream
from crypto.envelope import unwrap, wrap
from crypto.errors import EnvelopeError, HeaderError, KeysError, RosterError, ShareError
from crypto.keys import Keys
from crypto.one_time_plans import Sharing
from crypto.pairs import PairKeys
from crypto.plans import SealingPlan
from crypto.roles import Place, Sealed
from crypto.security import COINS
from crypto.sharing import Residues
from crypto.tags import derive_key

_SHARE, _ENVELOPE, _ANSWER = b"asclepias share 1", b"asclepias envelope 1", b"asclepias answer 1"
_DIGEST = 32
_LOW, _HIGH = np.uint64(2**32 - 1), np.uint64(32)


def holders_of(sharing: Sharing, pairs: PairKeys) -> tuple[str, ...]:
    """Who holds shares, sorted; holder i's point is i + 1.

    Raises:
        KeysError: The committee names somebody who is not of this training.
    """
    members = tuple(sorted((pairs.hospital, *pairs.others)))
    strangers = set(sharing.committee) - set(members)
    if strangers:
        raise KeysError(f"the committee names {sorted(strangers)}, who are not of this training")
    return sharing.committee or members


class _Seats:
    """Who holds at which point, and which dealer's shares are derived there."""

    def __init__(self, sharing: Sharing, pairs: PairKeys) -> None:
        self.holders = holders_of(sharing, pairs)
        self._derived = sharing.threshold - 1
        members = sorted((pairs.hospital, *pairs.others))
        self._place = {name: index for index, name in enumerate(members)}

    def derives(self, dealer: str, point: int) -> bool:
        """Whether the share of a dealer at a point is derived; the points turn with its name."""
        return (point - 1 - self._place[dealer]) % len(self.holders) < self._derived


def _derived_words(
    pairs: PairKeys, other: str, place: Place, dealer: str, nonce: bytes, degree: int
) -> NDArray[np.uint64]:
    """What dealer and holder derive a share from, uint64 `[n]`."""
    key = pairs.key(other, _SHARE, place, dealer.encode(), nonce)
    return KeyStream(key).words(degree)


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


def _unpacked(data: bytes, degree: int, what: str) -> Residues:
    if len(data) != 2 * degree:
        raise ShareError(f"{what} has {len(data)} bytes, expected {2 * degree}")
    values = np.frombuffer(data, dtype="<u2")
    if int(values.max()) >= sharing.PRIME:
        raise ShareError(f"{what} has a number that is no residue modulo {sharing.PRIME}")
    return values.astype(np.float64)


def _sharing(plan: SealingPlan) -> Sharing:
    if plan.sharing is None:
        raise ShareError("this plan's keys are not shared: sums of all hospitals open alone")
    return plan.sharing


def deal(
    secret: NDArray[np.int64], plan: SealingPlan, pairs: PairKeys, place: Place, nonce: bytes
) -> dict[str, bytes]:
    """Envelopes with the shares of a key, by holder; holders who derive theirs get none.

    Args:
        secret: The key, int64 `[n]`.
        plan: Of this training.
        pairs: The dealer's.
        place: The place that the key is for.
        nonce: Of the dealer's signed header.
    """
    seats, dealer = _Seats(_sharing(plan), pairs), pairs.hospital
    holders = seats.holders
    every = range(1, len(holders) + 1)
    derived = {
        point: _residues(words & _LOW, words >> _HIGH)
        for point in every
        if seats.derives(dealer, point)
        for words in (_derived_words(pairs, holders[point - 1], place, dealer, nonce, plan.degree),)
    }
    points = [point for point in every if point not in derived]
    envelopes = {}
    for point, share in zip(points, sharing.shares_of(secret, derived, points), strict=True):
        holder = holders[point - 1]
        key = pairs.key(holder, _ENVELOPE, place, dealer.encode())
        context = _share_context(plan, pairs, place, dealer, holder, nonce)
        envelopes[holder] = wrap(key, _packed(share), context)
    return envelopes


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What one hospital sent: the digests that its signed header stands for.

    A holder gets an envelope without the vector beside it; by this list, whose digest is signed, it
    knows whether the envelope is the one that its dealer sent.

    Attributes:
        payload: SHA-256 of the sealed vector, hex.
        envelopes: SHA-256 of each envelope, hex, by holder.
    """

    payload: str
    envelopes: Mapping[str, str]

    @classmethod
    def of(cls, sealed: Sealed) -> "Parts":
        """The parts of what a sealer made."""
        return cls(
            payload=hashlib.sha256(sealed.payload).hexdigest(),
            envelopes={name: _hex(one) for name, one in sealed.envelopes.items()},
        )

    @property
    def digest(self) -> str:
        """What a signed header carries as its payload's digest, hex."""
        digest = hashlib.sha256(b"asclepias parts 1" + bytes.fromhex(self.payload))
        for name, one in sorted(self.envelopes.items()):
            label = name.encode()
            digest.update(len(label).to_bytes(4, "little") + label + bytes.fromhex(one))
        return digest.hexdigest()


def _hex(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """What a holder answered last; to be on disk before the answer leaves.

    Attributes:
        place: The place.
        roster: Digest of the signed roster that it answered, 32 bytes.
        answer: The wrapped sum of shares.
    """

    place: Place
    roster: bytes
    answer: bytes = field(repr=False)

    def to_bytes(self) -> bytes:
        """For the hospital's own file; it holds nothing that the server may not see."""
        fields = asdict(self.place) | {"roster": self.roster.hex(), "answer": self.answer.hex()}
        return json.dumps(fields, sort_keys=True).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> "Answered":
        """Read `to_bytes`.

        Raises:
            ShareError: The bytes are no answer.
        """
        try:
            fields = json.loads(data)
            roster, wrapped = (bytes.fromhex(fields.pop(name)) for name in ("roster", "answer"))
            return cls(place=Place(**fields), roster=roster, answer=wrapped)
        except (ValueError, TypeError, KeyError, AttributeError, HeaderError):
            raise ShareError(f"{len(data)} bytes are no answer of a holder") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class ShareRequest:
    """A roster to be answered, verified by the caller, and what came with it.

    Attributes:
        place: The roster's place.
        roster: Digest of the signed roster, 32 bytes.
        contributors: Each member's nonce by name.
        parts: Each member's parts by name; their digests are those of the signed headers.
        envelopes: This holder's, by dealer; as the server kept them.
    """

    place: Place
    roster: bytes
    contributors: Mapping[str, bytes]
    parts: Mapping[str, Parts]
    envelopes: Mapping[str, bytes]


def answer(request: ShareRequest, plan: SealingPlan, keys: Keys, last: Answered | None) -> Answered:
    """Answer one roster of a place with the sum of its members' shares, wrapped for hospitals.

    Args:
        request: The roster; its signatures have been checked.
        plan: Of this training.
        keys: The holder's, with its pair keys.
        last: What this holder answered last in this training. The same roster gets the same bytes;
            another roster of that place, or of any before it, gets nothing for ever.

    Raises:
        RosterError: Another roster was answered, or a later place; or too few are in it.
        ShareError: A member's envelope is missing, is not the one it signed, or holds no share;
            says whose fault that is. The holder may answer another roster.
    """
    told = _sharing(plan)
    if keys.pairs is None:
        raise KeysError("a holder without pair keys opens no envelope")
    pairs, place = keys.pairs, request.place
    if len(request.roster) != _DIGEST:
        raise RosterError("a roster's digest has 32 bytes")
    if last is not None:
        before = (last.place.round, last.place.attempt)
        if last.place.training != place.training or (place.round, place.attempt) < before:
            raise RosterError(f"this holder answered round {before[0]} attempt {before[1]} already")
        if last.place == place:
            if last.roster == request.roster:
                return last
            raise RosterError("this holder answered another roster of this place")
    least = plan.hospitals - told.dropouts
    members = {pairs.hospital, *pairs.others}
    if not least <= len(request.contributors) or not set(request.contributors) <= members:
        raise RosterError(f"a roster of {len(request.contributors)}, expected {least} members")
    if pairs.hospital not in holders_of(told, pairs):
        raise ShareError(f"{pairs.hospital!r} holds no shares")
    total = _sum_of_shares(request, plan, pairs)
    context = _answer_context(plan, pairs.bind, place, request.roster, pairs.hospital)
    key = derive_key(keys.group_key, _ANSWER, place)
    wrapped = wrap(key, _packed(total), context)
    return Answered(place=place, roster=request.roster, answer=wrapped)


def _sum_of_shares(request: ShareRequest, plan: SealingPlan, pairs: PairKeys) -> Residues:
    """This holder's shares of all members' keys, added up; float64 `[n]` below p."""
    holder, seats, place = pairs.hospital, _Seats(_sharing(plan), pairs), request.place
    point = seats.holders.index(holder) + 1
    low, high = np.zeros(plan.degree, dtype=np.uint64), np.zeros(plan.degree, dtype=np.uint64)
    sent = np.zeros(plan.degree)
    for dealer, nonce in sorted(request.contributors.items()):
        if seats.derives(dealer, point):
            words = _derived_words(pairs, dealer, place, dealer, nonce, plan.degree)
            low += words & _LOW
            high += words >> _HIGH
        else:
            sent += _opened(request, plan, pairs, dealer, nonce)
    return sharing.reduce(_residues(low, high) + sharing.reduce(sent))


def _opened(
    request: ShareRequest, plan: SealingPlan, pairs: PairKeys, dealer: str, nonce: bytes
) -> Residues:
    """The share in a member's envelope."""
    holder, place = pairs.hospital, request.place
    parts, envelope = request.parts.get(dealer), request.envelopes.get(dealer, b"")
    signed = parts.envelopes.get(holder) if parts else None
    if signed is None:
        raise ShareError(f"{dealer!r} signed no envelope for {holder!r}", culprit=dealer)
    if _hex(envelope) != signed:
        raise ShareError(f"the envelope of {dealer!r} for {holder!r} is not the one it signed")
    key = pairs.key(dealer, _ENVELOPE, place, dealer.encode())
    context = _share_context(plan, pairs, place, dealer, holder, nonce)
    what = f"the envelope of {dealer!r} for {holder!r}"
    try:
        return _unpacked(unwrap(key, envelope, context), plan.degree, what)
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
