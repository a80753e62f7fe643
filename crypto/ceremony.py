"""The key ceremony: how hospitals come to hold the same keys that the server never sees.

Pure functions; the messages travel elsewhere::

    offer, ephemeral = make_offer(training, name, identity)          # every hospital, once
    keys, bundle = make_bundle(offers, identity, name, plan, pins)   # one of them, the leader
    keys = open_bundle(bundle.public, bundle.wrapped[name], offers, ephemeral, name, pins)

Each offer is an ephemeral X25519 key signed by its hospital's identity. The leader makes the keys
and wraps them for each peer alone: X25519, HKDF-SHA256, ChaCha20-Poly1305, bound to the training,
the plan, both names and a digest of all offers. A leader that dies is replaced by whoever makes the
next bundle from the same offers; a bundle changes nothing until it has been opened whole.
"""

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from crypto.committees import commitment_to, reveal_of
from crypto.ephemeral import EphemeralSecret
from crypto.errors import CeremonyError, EnvelopeError, PinMismatchError
from crypto.identity import Identity, fingerprint, verify_signature
from crypto.keys import Keys
from crypto.offers import Bundle, BundlePublic, Offer, canonical, check_label, offers_digest
from crypto.pins import FirstUse, Pins
from crypto.plans import SealingPlan
from crypto.schemes import make_keys

__all__ = [
    "Bundle",
    "BundlePublic",
    "EphemeralSecret",
    "Offer",
    "check_offers",
    "make_bundle",
    "make_offer",
    "open_bundle",
]

_NONCE = bytes(12)  # every wrapping key is used once


def make_offer(
    training: str, name: str, identity: Identity, *, public: bool = False
) -> tuple[Offer, EphemeralSecret]:
    """A signed ephemeral key, and its secret half to be kept.

    Args:
        training: Training id.
        name: The hospital's name.
        identity: Its signing key.
        public: Whether it declares its records public.
    """
    secret = EphemeralSecret(os.urandom(32))
    unsigned = Offer(
        training=check_label(training, "a training id"),
        name=check_label(name, "a name"),
        identity=identity.public,
        ephemeral=secret.public,
        commitment=commitment_to(reveal_of(secret)),
        public=public,
        signature=bytes(64),
    )
    return replace(unsigned, signature=identity.sign(unsigned.signed())), secret


def check_offers(offers: Sequence[Offer], pins: Pins) -> str:
    """Check signatures, names and pins; returns the digest of all offers, hex.

    Args:
        offers: Offers of one training.
        pins: Expected fingerprints by name; empty: none is pinned. When any is, all must be.
            `FirstUse` pins the keys of names that it has never seen.

    Raises:
        CeremonyError: No offers, two of one name, or of different trainings.
        SignatureError: An offer not signed by the identity it names.
        PinMismatchError: An identity that is not the pinned one, or not pinned at all.
    """
    if not offers or len({offer.training for offer in offers}) != 1:
        raise CeremonyError("offers must be of one training")
    if len({offer.name for offer in offers}) != len(offers):
        raise CeremonyError("two offers have one name")
    if len({offer.identity for offer in offers}) != len(offers):
        raise CeremonyError("two offers have one identity")
    for offer in offers:
        offer.verify()
    shown = {offer.name: fingerprint(offer.identity) for offer in offers}
    pinned = pins.of(shown) if isinstance(pins, FirstUse) else pins
    for name, found in shown.items():
        if pinned and pinned.get(name) != found:
            raise PinMismatchError(
                f"{name!r} shows {found}, pinned is {pinned.get(name, 'nothing')}"
            )
    return offers_digest(offers)


def _wrapping(
    shared: bytes, public: Mapping[str, Any], recipient: str
) -> tuple[ChaCha20Poly1305, bytes]:
    """The cipher for one recipient, and the context it authenticates."""
    context = b"asclepias wrapped keys 1\n" + canonical({**public, "recipient": recipient})
    derive = HKDF(algorithm=SHA256(), length=32, salt=None, info=hashlib.sha256(context).digest())
    return ChaCha20Poly1305(derive.derive(shared)), context


def _context(public: BundlePublic) -> dict[str, str]:
    return {
        "training": public.training,
        "leader": public.leader,
        "ephemeral": public.ephemeral.hex(),
        "offers": public.offers,
        "plan": public.plan,
        "key_id": public.key_id,
    }


def make_bundle(
    offers: Sequence[Offer],
    identity: Identity,
    leader: str,
    plan: SealingPlan,
    pins: Pins,
) -> tuple[Keys, Bundle]:
    """Make the keys and wrap them for every other hospital that offered.

    Raises:
        CeremonyError: The leader made no offer, or the offers do not fit together.
        PinMismatchError: An offer's identity is not the pinned one.
    """
    digest = check_offers(offers, pins)
    own = next((offer for offer in offers if offer.name == leader), None)
    if own is None or own.identity != identity.public:
        raise CeremonyError(f"the leader {leader!r} is not among the offers with its own identity")
    keys = make_keys(plan)
    secret = EphemeralSecret(os.urandom(32))
    unsigned = BundlePublic(
        training=own.training,
        leader=leader,
        ephemeral=secret.public,
        offers=digest,
        plan=plan.to_json(),
        key_id=keys.key_id.hex(),
        wrapped={},
        signature=bytes(64),
    )
    wrapped = {}
    for offer in offers:
        if offer.name != leader:
            shared = secret.shared(offer.ephemeral)
            cipher, context = _wrapping(shared, _context(unsigned), offer.name)
            wrapped[offer.name] = cipher.encrypt(_NONCE, keys.to_bytes(), context)
    digests = {name: hashlib.sha256(data).hexdigest() for name, data in wrapped.items()}
    parts = {**unsigned.document(), "ephemeral": secret.public, "wrapped": digests}
    complete = BundlePublic(**parts, signature=bytes(64))
    public = BundlePublic(**parts, signature=identity.sign(complete.signed()))
    return keys, Bundle(public=public, wrapped=wrapped)


def open_bundle(
    public: BundlePublic,
    wrapped: bytes,
    offers: Sequence[Offer],
    secret: EphemeralSecret,
    name: str,
    pins: Pins,
    plan: SealingPlan | None = None,
) -> Keys:
    """Check a bundle and take the keys out of it.

    Args:
        public: The bundle's public part.
        wrapped: The bytes wrapped for `name`.
        offers: All offers, as relayed by the server.
        secret: What `make_offer` returned.
        name: This hospital.
        pins: Expected fingerprints by name; empty: none is pinned.
        plan: The plan this hospital expects; None: the bundle's is taken.

    Raises:
        CeremonyError: Changed offers, another plan, own offer missing or wrong leader.
        SignatureError: The leader did not sign this.
        PinMismatchError: An identity that is not the pinned one.
        EnvelopeError: The wrapped bytes do not open.
    """
    digest = check_offers(offers, pins)
    by_name = {offer.name: offer for offer in offers}
    if public.leader not in by_name or by_name[public.leader].training != public.training:
        raise CeremonyError(f"the leader {public.leader!r} made no offer for this training")
    leader_identity = by_name[public.leader].identity
    verify_signature(leader_identity, public.signature, public.signed(), public.leader)
    if public.offers != digest:
        raise CeremonyError("the leader saw other offers")
    if name not in by_name or by_name[name].ephemeral != secret.public:
        raise CeremonyError(f"the offer of {name!r} was replaced or left out")
    if plan is not None and public.plan != plan.to_json():
        raise CeremonyError("the leader sealed under another plan than this hospital's")
    if public.wrapped.get(name) != hashlib.sha256(wrapped).hexdigest():
        raise EnvelopeError("the wrapped keys are not those that the leader signed")
    cipher, context = _wrapping(secret.shared(public.ephemeral), _context(public), name)
    try:
        keys = Keys.from_bytes(cipher.decrypt(_NONCE, wrapped, context))
    except InvalidTag:
        raise EnvelopeError("the wrapped keys do not open") from None
    keys.require(SealingPlan.from_json(public.plan))
    if keys.key_id.hex() != public.key_id:
        raise CeremonyError("the wrapped keys are not those that the bundle names")
    return keys
