"""Signed headers: who sends what, where in a training it belongs, and what the sender has seen.

A header is checked before any byte of its payload is parsed, so bit flips, replays, swaps and
strangers are refused first. Its encoding is canonical and binary: magic, version, then every field
behind its length, so one header has one text and no field can run into the next.

What is signed begins with the header's *kind*, so that no header of one kind passes for another.
A header carries digests, numbers and random bytes only, nothing that depends on a record.
"""

import hashlib
import hmac
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from crypto.errors import (
    HeaderError,
    PayloadMismatchError,
    StaleHeaderError,
    UnknownSenderError,
)
from crypto.identity import Identity, verify_signature
from crypto.roles import MAX_LABEL, NONCE_BYTES, Place

HEADER_VERSION = 4
#: The largest header: two labels of MAX_LABEL characters of four bytes, and everything else.
MAX_HEADER_BYTES = 3072

_MAGIC = b"AHDR"
_SIGNATURE = 64
_START = _SIGNATURE + len(_MAGIC) + 1
_SIZE = struct.Struct("<H")
_BEGINNING = _MAGIC + bytes([HEADER_VERSION])
_HEX = set("0123456789abcdef")
_BIND, _LEDGER, _HEAD = 32, 8, 16
#: A header shows the heads of a ledger at its last entries that are multiples of these: two copies
#: of it meet there, wherever each of them signs, and so a lost part is told from what went on.
MILESTONES = (16, 64, 256, 1024, 4096, 16384)
_MILESTONES = len(MILESTONES) * _HEAD
_MOST_ENTRIES, _MOST_ROUNDS = 2**53, 2**32
_SEED, _MOST_SEEDS = 32, 16


class HeaderKind(StrEnum):
    """What a header is for."""

    SUM = "sum"
    CONFIRM = "confirm"
    SNAPSHOT = "snapshot"
    VISIT = "visit"
    PRESENCE = "presence"
    WITNESS = "witness"
    VOUCH = "vouch"


#: Kinds that sign a payload; of the others only a vouch may name one, which is what it answers.
_WITH_PAYLOAD = frozenset({HeaderKind.SUM, HeaderKind.SNAPSHOT, HeaderKind.VISIT})
_WITHOUT_PAYLOAD = frozenset({HeaderKind.CONFIRM, HeaderKind.PRESENCE, HeaderKind.WITNESS})
#: Kinds that belong to the sealing plan of a training.
_UNDER_A_PLAN = _WITH_PAYLOAD | {HeaderKind.CONFIRM}


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """What a sender signs.

    Attributes:
        kind: What the header is for.
        training: Training id.
        round: Round, from 1; 0 where the header is about no round.
        attempt: Attempt of the round, from 1; 0 where the header is about no round.
        sender: Name of the sender.
        parameter_id: Digest of the sealing plan, hex; "" only where no plan is needed.
        previous: Digest of what was opened before (the chain), hex; "" where there is none.
        payload: SHA-256 of the payload, hex; "" where the kind has none.
        bind: Digest of the training's terms and members, 32 bytes.
        nonce: 32 random bytes, which the tags of a sum are made with; b"" only without a payload.
        ledger: Which ledger the sender keeps, 8 bytes; zeros where it shows none.
        entry: How many entries that ledger has.
        head: The end of that ledger's chain, 16 bytes; zeros where it shows none.
        spent: Noised messages about one patient that it holds for this training.
        state: Tag of the state after `previous` under a key that hospitals share, hex; "" where
            there is none. Who holds the same state shows the same tag, and nobody else can tell
            what it is of.
        adopted: The last round of this training that the sender took over from a snapshot: it saw
            no roster up to it. 0 where it opened every sum itself.
        milestones: Heads of that ledger at the last multiples of `MILESTONES`, 16 bytes each;
            zeros where it shows none.
        seeds: Digests of the seeds of its noise that are shared with the sum, 32 bytes each
            (`crypto.seeds`); b"" where there are none.

    Raises:
        HeaderError: A field of another type, size or range.
    """

    kind: HeaderKind
    training: str
    round: int
    attempt: int
    sender: str
    parameter_id: str
    previous: str
    payload: str
    bind: bytes
    nonce: bytes
    ledger: bytes = bytes(_LEDGER)
    entry: int = 0
    head: bytes = bytes(_HEAD)
    spent: int = 0
    state: str = ""
    adopted: int = 0
    milestones: bytes = bytes(_MILESTONES)
    seeds: bytes = b""
    _encoding: bytes = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not isinstance(self.kind, HeaderKind):
            raise HeaderError(f"a header's kind is {self.kind!r}, expected a HeaderKind")
        _ = self.place
        if not isinstance(self.sender, str) or not 0 < len(self.sender) <= MAX_LABEL:
            raise HeaderError(f"a sender's name has 1 to {MAX_LABEL} characters")
        _check_digest("parameter_id", self.parameter_id, needed=self.kind in _UNDER_A_PLAN)
        _check_digest("previous", self.previous, needed=False)
        _check_digest("state", self.state, needed=False)
        _check_digest("payload", self.payload, needed=self.kind in _WITH_PAYLOAD)
        if self.payload and self.kind in _WITHOUT_PAYLOAD:
            raise HeaderError(f"a header of kind {self.kind} has no payload")
        _check_bytes("bind", self.bind, _BIND)
        if self.payload or self.nonce != b"":
            _check_bytes("nonce", self.nonce, NONCE_BYTES)
        _check_bytes("ledger", self.ledger, _LEDGER)
        _check_bytes("head", self.head, _HEAD)
        _check_bytes("milestones", self.milestones, _MILESTONES)
        self._check_seeds()
        if type(self.adopted) is not int or not 0 <= self.adopted < _MOST_ROUNDS:
            raise HeaderError("adopted is no integer in [0, 2**32)")
        for name in ("entry", "spent"):
            value = getattr(self, name)
            if type(value) is not int or not 0 <= value < _MOST_ENTRIES:
                raise HeaderError(f"{name} is no integer in [0, 2**53)")
        object.__setattr__(self, "_encoding", self._encoded())

    def _check_seeds(self) -> None:
        if not isinstance(self.seeds, bytes) or len(self.seeds) % _SEED:
            raise HeaderError(f"seeds are no digests of {_SEED} bytes")
        if len(self.seeds) > (_MOST_SEEDS * _SEED if self.kind is HeaderKind.SUM else 0):
            raise HeaderError(f"a header of kind {self.kind} has {len(self.seeds) // _SEED} seeds")

    @property
    def heads(self) -> dict[int, bytes]:
        """Every entry of the ledger whose head is shown, with it; none where no ledger is."""
        found = {}
        for number, spacing in enumerate(MILESTONES):
            head = self.milestones[number * _HEAD : (number + 1) * _HEAD]
            if any(head):
                found[self.entry // spacing * spacing] = head
        return {**found, self.entry: self.head} if any(self.ledger) else {}

    @property
    def place(self) -> Place:
        """Where in the training it belongs."""
        return Place(training=self.training, round=self.round, attempt=self.attempt)

    def to_bytes(self) -> bytes:
        """The one encoding of this header, without a signature; made once."""
        return self._encoding

    def _encoded(self) -> bytes:
        fields = (
            self.kind.encode(),
            _encoded(self.training),
            self.round.to_bytes(4, "little"),
            self.attempt.to_bytes(4, "little"),
            _encoded(self.sender),
            bytes.fromhex(self.parameter_id),
            bytes.fromhex(self.previous),
            bytes.fromhex(self.payload),
            self.bind,
            self.nonce,
            self.ledger,
            self.entry.to_bytes(8, "little"),
            self.head,
            self.spent.to_bytes(8, "little"),
            bytes.fromhex(self.state),
            self.adopted.to_bytes(4, "little"),
            self.milestones,
            self.seeds,
        )
        return _BEGINNING + b"".join([_SIZE.pack(len(one)) + one for one in fields])

    def signed_text(self) -> bytes:
        """What the sender signs: a prefix that names the kind, then the encoding."""
        return f"asclepias header {HEADER_VERSION} {self.kind}\n".encode() + self.to_bytes()


def _check_digest(name: str, value: object, *, needed: bool) -> None:
    if value == "" and not needed:
        return
    if not isinstance(value, str) or len(value) != 64 or set(value) - _HEX:
        raise HeaderError(f"{name} is no SHA-256 digest in hex")


def _check_bytes(name: str, value: object, size: int) -> None:
    if not isinstance(value, bytes) or len(value) != size:
        raise HeaderError(f"{name} has not {size} bytes")


def _encoded(label: str) -> bytes:
    try:
        return label.encode()
    except UnicodeEncodeError:
        raise HeaderError("a label of a header is no text") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedHeader:
    """A header and its sender's signature."""

    header: Header
    signature: bytes

    def __post_init__(self) -> None:
        if not isinstance(self.signature, bytes) or len(self.signature) != _SIGNATURE:
            raise HeaderError(f"a signature has {_SIGNATURE} bytes")

    def to_bytes(self) -> bytes:
        """Signature, then the header's encoding."""
        return self.signature + self.header.to_bytes()

    @classmethod
    def from_bytes(cls, data: bytes) -> "SignedHeader":
        """Read `to_bytes`.

        Raises:
            HeaderError: The bytes are no header, of another version, or not its one encoding.
        """
        if not isinstance(data, bytes) or not _START < len(data) <= MAX_HEADER_BYTES:
            raise HeaderError(f"a signed header has {_START + 1} to {MAX_HEADER_BYTES} bytes")
        if data[_SIGNATURE : _START - 1] != _MAGIC:
            raise HeaderError("the bytes are no header")
        if data[_START - 1] != HEADER_VERSION:
            raise HeaderError(f"a header of version {data[_START - 1]}, expected {HEADER_VERSION}")
        signed = cls(header=_header_of(_split(data)), signature=data[:_SIGNATURE])
        if signed.to_bytes() != data:
            raise HeaderError("a header is not in its canonical form")
        return signed


def _split(data: bytes) -> list[bytes]:
    """The fields of a header, each behind its length, up to the very end."""
    parts, at = [], _START
    while at < len(data):
        if len(data) < at + _SIZE.size:
            raise HeaderError("a header ends early")
        (size,) = _SIZE.unpack_from(data, at)
        at += _SIZE.size
        if len(data) < at + size:
            raise HeaderError("a header ends early")
        parts.append(data[at : at + size])
        at += size
    return parts


def _header_of(parts: list[bytes]) -> Header:
    """A header of its encoded fields; every check of `Header` holds."""
    try:
        kind, training, number, attempt, sender, *digests = parts
        parameter_id, previous, payload, bind, nonce, ledger, *numbers = digests
        entry, head, spent, state, adopted, milestones, seeds = numbers
        known = HeaderKind(kind.decode("ascii"))
        names = training.decode(), sender.decode()
    except ValueError:
        raise HeaderError("a header has other fields than expected") from None
    if [len(one) for one in (number, attempt, entry, spent, adopted)] != [4, 4, 8, 8, 4]:
        raise HeaderError("a header has a number of another size")
    return Header(
        kind=known,
        training=names[0],
        round=int.from_bytes(number, "little"),
        attempt=int.from_bytes(attempt, "little"),
        sender=names[1],
        parameter_id=parameter_id.hex(),
        previous=previous.hex(),
        payload=payload.hex(),
        bind=bind,
        nonce=nonce,
        ledger=ledger,
        entry=int.from_bytes(entry, "little"),
        head=head,
        spent=int.from_bytes(spent, "little"),
        state=state.hex(),
        adopted=int.from_bytes(adopted, "little"),
        milestones=milestones,
        seeds=seeds,
    )


def payload_digest(payload: bytes) -> str:
    """The digest of a payload that its header carries, hex."""
    return hashlib.sha256(payload).hexdigest()


def sign_header(header: Header, identity: Identity) -> SignedHeader:
    """Sign a header."""
    return SignedHeader(header=header, signature=identity.sign(header.signed_text()))


def verify_header(
    signed: SignedHeader,
    public_keys: Mapping[str, bytes],
    *,
    kind: HeaderKind,
    place: Place | None = None,
    parameter_id: str | None = None,
    payload: bytes | None = None,
    digest: str | None = None,
    bind: bytes | None = None,
) -> Header:
    """Check a header's sender and signature, and what else is expected of it.

    Args:
        signed: The header.
        public_keys: Raw Ed25519 public keys by name.
        kind: What it must be for.
        place: The training, round and attempt it must be of.
        parameter_id: The plan it must be sealed under.
        payload: The payload it must sign.
        digest: The digest it must name, hex, where more than one payload goes with it.
        bind: The digest of terms and members it must be bound to.

    Raises:
        UnknownSenderError: The sender is not among the names.
        SignatureError: The signature does not verify.
        StaleHeaderError: Another training, round or attempt.
        HeaderError: Another kind, plan, or other terms or members.
        PayloadMismatchError: Another payload.
    """
    header = signed.header
    if header.sender not in public_keys:
        raise UnknownSenderError(f"{header.sender!r} is not of this training")
    key = public_keys[header.sender]
    verify_signature(key, signed.signature, header.signed_text(), header.sender)
    if header.kind is not kind:
        raise HeaderError(f"{header.sender!r} signed a header of kind {header.kind}, not {kind}")
    if place is not None and header.place != place:
        raise StaleHeaderError(f"{header.sender!r} signed {header.place}, expected {place}")
    if parameter_id is not None and header.parameter_id != parameter_id:
        raise HeaderError(
            f"{header.sender!r} sealed under parameters {header.parameter_id[:16]}, expected "
            f"{parameter_id[:16]}"
        )
    if bind is not None and header.bind != bind:
        raise HeaderError(f"{header.sender!r} is bound to other terms or members")
    digest = digest if payload is None else payload_digest(payload)
    if digest is not None and not hmac.compare_digest(header.payload, digest):
        raise PayloadMismatchError(f"the payload of {header.sender!r} is not the one it signed")
    return header
