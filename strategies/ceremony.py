"""Round 0: the server carries offers and wrapped keys between hospitals and can open none.

Hospitals sign ephemeral keys, one of them makes the training's keys, each gets its copy wrapped for
it alone. The server checks all that can be checked without a key: whoever sends something else, or
nothing, is named, and if it was to make the keys, another takes its place.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from flwr.app import Message

from clients.contract.binding import bind_digest, members_digest
from clients.contract.ceremony_messages import JoinRequest, KeysRequest, LeadReply, LeadRequest
from clients.contract.faults import Code
from clients.contract.kinds import Kind
from crypto.ceremony import BundlePublic, EphemeralSecret, Offer
from crypto.errors import HeaderError
from crypto.headers import HeaderKind, SignedHeader, verify_header
from crypto.identity import verify_signature
from crypto.offers import offers_digest
from crypto.plans import SealingPlan
from strategies.absent import listed, too_few
from strategies.claims import Claim, held_by
from strategies.conversation import UNREACHABLE, Conversation, fault_code
from strategies.drawing import check_committee, committee_of, gather_reveals
from strategies.errors import TrainingStopped
from strategies.nodes import Nodes
from strategies.replies import (
    MALFORMED,
    BadReply,
    one_bad_reply,
    read_join,
    read_lead,
    read_named,
    read_pins,
)

if TYPE_CHECKING:
    from collections.abc import Collection

    from strategies.agreement import Agreement
    from strategies.heads import Heads
    from strategies.run.journal import Kept

#: Bytes of the challenge that a hospital signs to show that it is there.
_CHALLENGE_BYTES = 32
#: Hospitals that are asked in turn for keys that all others take.
_MOST_LEADERS = 3


@dataclass(frozen=True, kw_only=True)
class Ceremony:
    """What the server knows after the ceremony: who takes part, and public parameters.

    Attributes:
        nodes: the hospitals.
        plan: public sealing parameters.
        key_id: public name of the keys.
        bind: digest of terms and members, 32 bytes; hospitals' headers are bound to it.
        faults: code by node or hospital, of those that answered otherwise than they were asked to.
        committee: who holds shares of keys, where that was drawn; else empty.
    """

    nodes: Nodes
    plan: SealingPlan
    key_id: bytes
    bind: bytes
    faults: Mapping[str, str] = field(default_factory=dict)
    committee: tuple[str, ...] = ()


@dataclass
class _Joined:
    """Who answered a request to join, by name; and what was wrong with the other answers."""

    nodes: dict[str, int] = field(default_factory=dict)
    offers: dict[str, Offer] = field(default_factory=dict)
    faults: dict[str, str] = field(default_factory=dict)

    def settle(self, claims: Mapping[int, Claim]) -> set[str]:
        """Take up whoever a name belongs to; returns names of which nobody can tell."""
        unclear = set()
        for name in sorted({claim.offer.name for claim in claims.values()}):
            held = list(held_by(claims, name))
            for node, claim in claims.items():
                if claim.offer.name == name and node not in held:
                    self.faults[f"node {node}"] = f"takes the name of {name}"
            if len(held) > 1:
                unclear.add(name)
            elif held:
                offer = claims[held[0]].offer
                if offer.identity in {other.identity for other in self.offers.values()}:
                    self.faults[f"node {held[0]}"] = MALFORMED
                    continue
                self.offers[name], self.nodes[name] = offer, held[0]
        return unclear


def hold_ceremony(
    conversation: Conversation,
    agreement: Agreement,
    heads: Heads,
    *,
    invited: Collection[str] = (),
) -> Ceremony:
    """Bring the hospitals of a training together and have them agree on keys.

    Where hospitals are invited by name, no others take part.

    Raises:
        TrainingStopped: too few hospitals joined, or nobody could make the keys.
    """
    joined = _gather(conversation, agreement, heads, keyed=None)
    wanted = agreement.terms.hospitals
    found = [name for name in sorted(joined.offers) if not invited or name in invited]
    if len(found) < wanted:
        missing = set(invited) - set(found)
        raise TrainingStopped(too_few(joined.faults, len(found), wanted, missing))
    offers = [joined.offers[name] for name in found[:wanted]]
    nodes = Nodes(
        ids={offer.name: joined.nodes[offer.name] for offer in offers},
        public_keys={offer.name: offer.identity for offer in offers},
    )
    heads.know(nodes)
    check_committee(agreement, offers)
    reveals = gather_reveals(conversation, agreement, nodes, offers)
    keys = _KeyMaking(conversation, agreement, nodes, offers, reveals)
    public = keys.lead()
    return Ceremony(
        nodes=nodes,
        plan=agreement.terms.sealing,
        key_id=bytes.fromhex(public.key_id),
        bind=bind_digest(agreement.digest, members_digest(offers)),
        faults={**joined.faults, **keys.faults},
        committee=committee_of(agreement, offers, reveals),
    )


def find_members(
    conversation: Conversation, agreement: Agreement, heads: Heads, kept: Kept
) -> Ceremony:
    """Find the nodes behind the hospitals of a training that has begun; node ids are new.

    A hospital proves that it is there by a signature over a fresh challenge. Hospitals that are not
    there are left out: the round's floor decides whether it can go on.

    Raises:
        TrainingStopped: none is there.
    """
    joined = _gather(conversation, agreement, heads, keyed=kept)
    if not joined.nodes:
        raise TrainingStopped(
            f"no hospital of this training is connected ({listed(joined.faults) or 'no node'})"
        )
    nodes = Nodes(ids=joined.nodes, public_keys=dict(kept.public_keys))
    heads.know(nodes)
    return Ceremony(
        nodes=nodes,
        plan=kept.plan,
        key_id=kept.key_id,
        bind=kept.bind,
        faults=joined.faults,
        committee=kept.committee,
    )


def _gather(
    conversation: Conversation, agreement: Agreement, heads: Heads, *, keyed: Kept | None
) -> _Joined:
    """Ask every connected node whether it takes part, or still does, once there are keys."""
    challenge = os.urandom(_CHALLENGE_BYTES)
    content = JoinRequest(
        training=agreement.training,
        bind=agreement.bind,
        noise_multiplier=agreement.noise_multiplier,
        nonce=agreement.nonce,
        challenge=challenge,
        witness=heads.packed(),
        terms=agreement.text.encode(),
    ).content()
    ids = list(conversation.grid.get_node_ids())
    joined, twice, claims = _Joined(), set(), dict[int, Claim]()
    asked = [Message(content, node, Kind.JOIN) for node in ids]
    for reply in heads.settled(asked, conversation.ask(asked)):
        node = reply.metadata.src_node_id
        if reply.has_error():
            if (code := fault_code(reply)) != Code.NOT_INVITED:
                joined.faults[f"node {node}"] = code
            continue
        try:
            with one_bad_reply():
                answer = read_join(reply.content)
                if keyed is None:
                    offer = _offered(answer.offer, answer.name, agreement.training)
                    claims[node] = Claim(offer=offer, pins=read_pins(answer.pins))
                    continue
                name = _present(answer.presence, challenge, agreement.training, keyed)
        except BadReply as bad:
            joined.faults[f"node {node}"] = bad.code
            continue
        if name in joined.nodes:
            twice.add(name)
            joined.faults[f"node {node}"] = f"{name} too"
            continue
        joined.nodes[name] = node
    twice |= joined.settle(claims)
    if twice:
        raise TrainingStopped(
            f"two nodes say that they are {', '.join(sorted(twice))}; end one of them"
        )
    return joined


def _offered(data: bytes, name: str, training: str) -> Offer:
    """Return a sound offer of the hospital that an answer names.

    Raises:
        SealingError: it is none.
        BadReply: it is another hospital's, or for another training; or there is none, as from a
            hospital that has keys for this id already.
    """
    if not data:
        raise BadReply(Code.TRAINING_BOUND.value)
    offer = Offer.from_bytes(data)
    offer.verify()
    # With a key of low order nobody could wrap anything, and every leader would seem to fail.
    EphemeralSecret(os.urandom(32)).shared(offer.ephemeral)
    if (offer.name, offer.training) != (name, training):
        raise BadReply
    return offer


def _present(data: bytes, challenge: bytes, training: str, kept: Kept) -> str:
    """Return who signed that it is there, now and with this training's keys.

    Raises:
        SealingError: the signature is not by a hospital of the training, or over something else.
        BadReply: there is none, as from a hospital that has no keys any more.
    """
    if not data:
        raise BadReply(Code.KEYS_MISSING.value)
    header = verify_header(
        SignedHeader.from_bytes(data),
        kept.public_keys,
        kind=HeaderKind.PRESENCE,
        bind=kept.bind,
    )
    if header.training != training or header.nonce != challenge:
        raise HeaderError(f"{header.sender!r} signed another challenge")
    return header.sender


class _KeyMaking:
    """How offers become keys: hospitals are asked to make them in turn, until all have them.

    Until anything was spent keys may come again, so a leader whose answer was lost costs nothing.
    """

    def __init__(
        self,
        talk: Conversation,
        agreement: Agreement,
        nodes: Nodes,
        offers: list[Offer],
        reveals: Mapping[str, bytes],
    ) -> None:
        self._talk = talk
        self._agreement = agreement
        self._nodes = nodes
        self._offers = offers
        self.faults: dict[str, str] = {}
        self._request = LeadRequest(
            training=agreement.training,
            bind=agreement.bind,
            noise_multiplier=agreement.noise_multiplier,
            offers=tuple(offer.to_bytes() for offer in offers),
            reveals=tuple(reveals[offer.name] for offer in offers if reveals),
        )

    def lead(self) -> BundlePublic:
        """Return the public part of keys that every hospital has taken.

        Raises:
            TrainingStopped: nobody could make such keys.
        """
        faults, refused = self.faults, dict[str, str]()
        led = 0
        content = self._request.content()
        for name in self._nodes.names:
            [reply] = self._talk.ask([Message(content, self._nodes.ids[name], Kind.LEAD)])
            if reply.has_error():
                faults[name] = fault_code(reply)
                continue
            try:
                with one_bad_reply():
                    made, public = self._checked(reply, name)
            except BadReply as bad:
                faults[name] = bad.code
                continue
            refused = self._hand_out(made, leader=name)
            led += 1
            if not refused:
                return public
            if led == _MOST_LEADERS:
                break
        if refused:
            raise TrainingStopped(
                f"keys were refused ({_listed(refused)}); read those hospitals' own logs"
            )
        raise TrainingStopped(f"no hospital could make the keys ({_listed(faults)})")

    def _checked(self, reply: Message, leader: str) -> tuple[LeadReply, BundlePublic]:
        """Check all that can be checked of a bundle without a key.

        Raises:
            SealingError: it is none, or not by the leader.
            BadReply: it is for other hospitals, or under another plan.
        """
        others = set(self._nodes.names) - {leader}
        made = read_lead(reply.content, others)
        public = BundlePublic.from_bytes(made.public)
        verify_signature(self._nodes.public_keys[leader], public.signature, public.signed(), leader)
        digests = {name: hashlib.sha256(data).hexdigest() for name, data in made.wrapped.items()}
        expected = (
            self._agreement.training,
            leader,
            offers_digest(self._offers),
            self._agreement.terms.sealing.to_json(),
            digests,
        )
        found = (public.training, public.leader, public.offers, public.plan, dict(public.wrapped))
        if found != expected:
            raise BadReply
        return made, public

    def _hand_out(self, made: LeadReply, *, leader: str) -> dict[str, str]:
        """Bring each hospital but the leader its keys; returns the codes of those without any.

        The silent ones are asked once more: their answer may be what was lost.
        """
        faults = self._bring(made, [name for name in self._nodes.names if name != leader])
        silent = [name for name, code in faults.items() if code == UNREACHABLE]
        if silent:
            faults = {n: code for n, code in faults.items() if n not in silent}
            faults |= self._bring(made, silent)
        return faults

    def _bring(self, made: LeadReply, names: list[str]) -> dict[str, str]:
        request = self._request
        asked = [
            Message(
                KeysRequest(
                    training=request.training,
                    bind=request.bind,
                    noise_multiplier=request.noise_multiplier,
                    offers=request.offers,
                    reveals=request.reveals,
                    public=made.public,
                    wrapped=made.wrapped[name],
                ).content(),
                self._nodes.ids[name],
                Kind.KEYS,
            )
            for name in names
        ]
        faults = {}
        for reply in self._talk.ask(asked):
            name = self._nodes.name_of(reply.metadata.src_node_id)
            if reply.has_error():
                faults[name] = fault_code(reply)
                continue
            try:
                with one_bad_reply():
                    read_named(reply.content, name)
            except BadReply as bad:
                faults[name] = bad.code
        return faults


def _listed(faults: Mapping[str, str]) -> str:
    return "; ".join(f"{name}: {code}" for name, code in sorted(faults.items()))
