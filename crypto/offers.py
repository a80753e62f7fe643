"""What hospitals say to each other in a key ceremony: offers and bundles, in canonical JSON.

One message has one text: whatever is not written exactly as `to_bytes` would is refused.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from crypto.errors import CeremonyError
from crypto.identity import verify_signature
from crypto.roles import MAX_LABEL

_OFFER_DOMAIN = b"asclepias offer 3\n"
_BUNDLE_DOMAIN = b"asclepias bundle 1\n"
_MOST_PUBLIC_BYTES = 1 << 24


def canonical(document: Mapping[str, Any]) -> bytes:
    """The one JSON text of a document."""
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()


def _parse(data: bytes, names: set[str], what: str) -> dict[str, Any]:
    """Canonical JSON with exactly these names, or a CeremonyError."""
    if not isinstance(data, bytes) or len(data) > _MOST_PUBLIC_BYTES:
        raise CeremonyError(f"{what}: too long")
    try:
        document = json.loads(data.decode("ascii"))
        if not isinstance(document, dict) or set(document) != names or canonical(document) != data:
            raise CeremonyError(f"{what}: not in its canonical form")
    except (ValueError, RecursionError):
        raise CeremonyError(f"{what}: no JSON") from None
    return document


def _unhex(value: object, size: int, what: str) -> bytes:
    try:
        data = bytes.fromhex(value) if isinstance(value, str) else b""
    except ValueError:
        data = b""
    # Capital digits and spaces would give one message several texts.
    if len(data) != size or data.hex() != value:
        raise CeremonyError(f"{what} has not {size} bytes in lower-case hex")
    return data


def check_label(value: object, what: str) -> str:
    """A name or id of 1 to 256 characters, or a CeremonyError."""
    if not isinstance(value, str) or not 0 < len(value) <= MAX_LABEL:
        raise CeremonyError(f"{what} has 1 to {MAX_LABEL} characters")
    return value


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """One hospital's signed wish to take part; public.

    Attributes:
        training: Training id.
        name: The hospital's name.
        identity: Its Ed25519 public key, 32 bytes.
        ephemeral: Its X25519 public key, 32 bytes.
        commitment: To a number that it shows if a committee is drawn (`crypto.committees`).
        public: Whether it declares its records public; what leaves of shared state depends on it.
        signature: By `identity` over all of it.
    """

    training: str
    name: str
    identity: bytes
    ephemeral: bytes
    commitment: bytes
    public: bool
    signature: bytes

    def signed(self) -> bytes:
        """What the hospital signs."""
        return _OFFER_DOMAIN + canonical(self._document())

    def verify(self) -> None:
        """Check the offer's own signature.

        Raises:
            SignatureError: It is not by the identity that the offer names.
        """
        verify_signature(self.identity, self.signature, self.signed(), self.name)

    def to_bytes(self) -> bytes:
        """Canonical JSON."""
        return canonical({**self._document(), "signature": self.signature.hex()})

    def _document(self) -> dict[str, Any]:
        """Everything but the signature, as plain values."""
        return {
            "training": self.training,
            "name": self.name,
            "identity": self.identity.hex(),
            "ephemeral": self.ephemeral.hex(),
            "commitment": self.commitment.hex(),
            "public": self.public,
        }

    @classmethod
    def from_bytes(cls, data: bytes) -> "Offer":
        """Read `to_bytes`.

        Raises:
            CeremonyError: The bytes are no offer.
        """
        names = {"training", "name", "identity", "ephemeral", "commitment", "public", "signature"}
        document = _parse(data, names, "an offer")
        if type(document["public"]) is not bool:
            raise CeremonyError("an offer says neither that its records are public nor that not")
        return cls(
            training=check_label(document["training"], "an offer's training id"),
            name=check_label(document["name"], "an offer's name"),
            identity=_unhex(document["identity"], 32, "an offer's identity"),
            ephemeral=_unhex(document["ephemeral"], 32, "an offer's ephemeral key"),
            commitment=_unhex(document["commitment"], 32, "an offer's commitment"),
            public=document["public"],
            signature=_unhex(document["signature"], 64, "an offer's signature"),
        )


def offers_digest(offers: Iterable[Offer]) -> str:
    """The digest of all offers of a ceremony, hex; their order does not matter."""
    digest = hashlib.sha256(b"asclepias offers 1\n")
    for offer in sorted(offers, key=lambda offer: offer.name):
        encoded = offer.to_bytes()
        digest.update(len(encoded).to_bytes(4, "little") + encoded)
    return digest.hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class BundlePublic:
    """What a bundle shows to everybody, the server included; signed by the leader.

    Attributes:
        training: Training id.
        leader: The name of who made the keys.
        ephemeral: The leader's X25519 public key for this bundle alone.
        offers: Digest of all offers, hex.
        plan: The sealing plan's JSON.
        key_id: Public name of the keys, hex; `make_adder` takes it.
        wrapped: SHA-256 of each peer's wrapped bytes, by name.
        signature: By the leader's identity.
    """

    training: str
    leader: str
    ephemeral: bytes
    offers: str
    plan: str
    key_id: str
    wrapped: Mapping[str, str]
    signature: bytes

    def document(self) -> dict[str, Any]:
        """Everything but the signature, as plain values."""
        return {
            "training": self.training,
            "leader": self.leader,
            "ephemeral": self.ephemeral.hex(),
            "offers": self.offers,
            "plan": self.plan,
            "key_id": self.key_id,
            "wrapped": dict(self.wrapped),
        }

    def signed(self) -> bytes:
        """What the leader signs."""
        return _BUNDLE_DOMAIN + canonical(self.document())

    def to_bytes(self) -> bytes:
        """Canonical JSON."""
        return canonical({**self.document(), "signature": self.signature.hex()})

    @classmethod
    def from_bytes(cls, data: bytes) -> "BundlePublic":
        """Read `to_bytes`.

        Raises:
            CeremonyError: The bytes are no bundle.
        """
        names = {"training", "leader", "ephemeral", "offers", "plan", "key_id", "wrapped"}
        document = _parse(data, names | {"signature"}, "a bundle")
        if not isinstance(document["wrapped"], dict) or not isinstance(document["plan"], str):
            raise CeremonyError("a bundle: not in its canonical form")
        return cls(
            training=check_label(document["training"], "a bundle's training id"),
            leader=check_label(document["leader"], "a bundle's leader"),
            ephemeral=_unhex(document["ephemeral"], 32, "a bundle's ephemeral key"),
            offers=_unhex(document["offers"], 32, "a bundle's digest of offers").hex(),
            plan=document["plan"],
            key_id=_unhex(document["key_id"], 16, "a bundle's key id").hex(),
            wrapped={
                check_label(name, "a name"): _unhex(digest, 32, "a digest").hex()
                for name, digest in document["wrapped"].items()
            },
            signature=_unhex(document["signature"], 64, "a bundle's signature"),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """The public part, and the keys wrapped for each peer alone."""

    public: BundlePublic
    wrapped: Mapping[str, bytes] = field(repr=False)
