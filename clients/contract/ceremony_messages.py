"""What travels before the first round and after all: who takes part, the keys, and the end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from flwr.app import ConfigRecord, RecordDict

from clients.contract.words import CONFIG, Words, config_of


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinRequest(Words):
    """Asks a hospital to take part, or whether it still does.

    Attributes:
        training: id of the training, made of its terms and the nonce.
        bind: digest of the terms as the server derives them, hex; every request carries it.
        noise_multiplier: sigma.
        nonce: 16 random bytes of the server, a part of the id; ``b""`` for an id that is a word.
        challenge: 32 fresh bytes that a hospital which has its keys signs instead of an offer.
        witness: the newest signed headers of all hospitals that the server has seen, packed: each
            finds its own signature itself.
        terms: the text whose digest ``bind`` is, for a hospital whose terms differ to say in what.
    """

    training: str
    bind: str
    noise_multiplier: float
    nonce: bytes
    challenge: bytes
    witness: bytes = b""
    terms: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinReply(Words):
    """A hospital's offer, or its signature over the challenge where it has the keys already.

    Attributes:
        name: the hospital's.
        offer: its signed offer, or ``b""``.
        presence: its signed header of kind ``presence``, or ``b""``.
        pins: the fingerprints that it knows hospitals by, a JSON object by name, or ``b""``; they
            are public, and tell the server whom a name belongs to.
    """

    name: str
    offer: bytes = b""
    presence: bytes = b""
    pins: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class Named(Words):
    """A hospital's answer that says no more than who it is.

    Attributes:
        name: the hospital's.
    """

    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RevealRequest(Words):
    """Asks a hospital for the number that its offer committed to, now that the offers are fixed."""

    training: str
    bind: str
    noise_multiplier: float
    offers: tuple[bytes, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Revealed(Words):
    """A hospital's part in the draw of a committee.

    Attributes:
        name: the hospital's.
        reveal: the number that its offer committed to, 32 random bytes.
    """

    name: str
    reveal: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class LeadRequest(Words):
    """Asks one hospital to make the training's keys for all that offered.

    Attributes:
        training: id of the training.
        bind: digest of the terms, hex.
        noise_multiplier: sigma.
        offers: of all hospitals, by name.
        reveals: what each of them committed to, in the same order; empty where nothing is drawn.
    """

    training: str
    bind: str
    noise_multiplier: float
    offers: tuple[bytes, ...]
    reveals: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class LeadReply:
    """The public part of the keys, and the secret part wrapped for each hospital alone."""

    public: bytes
    wrapped: Mapping[str, bytes]

    def content(self) -> RecordDict:
        """Return the reply as a message content."""
        return RecordDict({CONFIG: ConfigRecord({"public": self.public, **self.wrapped})})

    @classmethod
    def read(cls, content: RecordDict) -> LeadReply:
        """Read the reply at the server, which can read the public part only."""
        wrapped = {str(k): bytes(v) for k, v in config_of(content).items()}  # type: ignore[arg-type]
        return cls(public=wrapped.pop("public"), wrapped=wrapped)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeysRequest(Words):
    """Brings one hospital the training's keys, wrapped for it alone."""

    training: str
    bind: str
    noise_multiplier: float
    offers: tuple[bytes, ...]
    public: bytes
    wrapped: bytes
    reveals: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class EndRequest(Words):
    """Says that the training is over and that nothing will be asked of it any more."""

    training: str
    bind: str
