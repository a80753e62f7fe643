"""Signing identities (Ed25519), and the signed headers that travel beside sealed vectors.

A header says who sends what, where in the training it belongs, and which sum the sender opened
before. It is checked before any byte of its payload is parsed, so bit flips, replays, swaps and
strangers are refused at the door. The encoding is canonical: one header has one text.

The roster of a sum is the signed headers of exactly those who are in it. Hospitals open one roster
a round, and the next header of each carries the digest of the roster and sum it opened: a server
that shows two different sums of one round is found out by the next roster. (The difference of two
such sums would be single hospitals' updates.)
"""

import base64
import contextlib
import hashlib
import hmac
import json
import os
import struct
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import NoReturn

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)

from crypto.errors import (
    HeaderError,
    IdentityError,
    PayloadMismatchError,
    PreviousMismatchError,
    RosterError,
    SignatureError,
    StaleHeaderError,
    UnknownSenderError,
)
from crypto.parameters import MAX_HOSPITALS
from crypto.roles import MAX_LABEL, Place
from crypto.whole_file import write_private

_DOMAIN = b"asclepias header 1\n"
_SIGNATURE = 64
_ROSTER_MAGIC = b"AROS\x01"
_COUNT = struct.Struct("<I")
_SIZE = struct.Struct("<H")
_HEX = set("0123456789abcdef")
MAX_HEADER_BYTES = 4096


class Identity:
    """A signing key; its repr and pickle show nothing."""

    __slots__ = ("_key", "public")

    def __init__(self, secret: bytes) -> None:
        if len(secret) != 32:
            raise IdentityError(f"an identity has 32 bytes, found {len(secret)}")
        self._key = Ed25519PrivateKey.from_private_bytes(secret)
        self.public: bytes = self._key.public_key().public_bytes_raw()

    @classmethod
    def generate(cls) -> "Identity":
        """A new identity."""
        return cls(os.urandom(32))

    @classmethod
    def load_or_create(cls, path: str | Path) -> "Identity":
        """Read the identity at `path`, or make one there with mode 0600.

        Raises:
            IdentityError: The file holds no identity or others may read it.
        """
        place = Path(path)
        if not place.exists():
            cls._create(place)
        if place.stat().st_mode & 0o077:
            raise IdentityError(f"{place} is readable by others, expected mode 0600")
        try:
            return cls(bytes.fromhex(place.read_text().strip()))
        except ValueError:
            raise IdentityError(f"{place} holds no identity") from None

    @staticmethod
    def _create(place: Path) -> None:
        """Make an identity's file whole, unless another process was first."""
        place.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):  # two processes agree on one identity
            write_private(place, os.urandom(32).hex().encode() + b"\n", anew=True)

    def sign(self, message: bytes) -> bytes:
        """A 64-byte signature."""
        return self._key.sign(message)

    def __repr__(self) -> str:
        return f"Identity({fingerprint(self.public)})"

    def __reduce__(self) -> NoReturn:
        raise IdentityError("identities are never pickled or copied")


def fingerprint(public: bytes) -> str:
    """A short name of a public key, fit to be read over a telephone and pinned."""
    digest = hashlib.sha256(b"asclepias identity\n" + public).digest()
    return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")


def verify_signature(public: bytes, signature: bytes, message: bytes, who: str) -> None:
    """Check one signature.

    Raises:
        SignatureError: It is not by this key over this message.
    """
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
    except (InvalidSignature, ValueError):
        raise SignatureError(f"the signature of {who!r} does not verify") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """What a sender signs about a payload.

    Attributes:
        training: Training id.
        round: Round, from 1.
        attempt: Attempt of the round, from 1.
        sender: Name of the sender.
        parameter_id: Digest of the sealing plan, hex.
        previous: Digest of the roster and sum opened before, hex; "" where there is none.
        payload: SHA-256 of the sealed payload, hex.
    """

    training: str
    round: int
    attempt: int
    sender: str
    parameter_id: str
    previous: str
    payload: str

    def __post_init__(self) -> None:
        _ = self.place
        if not isinstance(self.sender, str) or not 0 < len(self.sender) <= MAX_LABEL:
            raise HeaderError(f"a sender's name has 1 to {MAX_LABEL} characters")
        for name in ("parameter_id", "previous", "payload"):
            value = getattr(self, name)
            if name == "previous" and value == "":
                continue
            if not isinstance(value, str) or len(value) != 64 or set(value) - _HEX:
                raise HeaderError(f"{name} is no SHA-256 digest in hex")

    @property
    def place(self) -> Place:
        """Where in the training the payload belongs."""
        return Place(training=self.training, round=self.round, attempt=self.attempt)

    def to_bytes(self) -> bytes:
        """Canonical JSON."""
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":")).encode()


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedHeader:
    """A header and its sender's signature."""

    header: Header
    signature: bytes

    def __post_init__(self) -> None:
        if not isinstance(self.signature, bytes) or len(self.signature) != _SIGNATURE:
            raise HeaderError(f"a signature has {_SIGNATURE} bytes")

    def to_bytes(self) -> bytes:
        """Signature, then the header's canonical text."""
        return self.signature + self.header.to_bytes()

    @classmethod
    def from_bytes(cls, data: bytes) -> "SignedHeader":
        """Read `to_bytes`.

        Raises:
            HeaderError: The bytes are no header, or not its canonical text.
        """
        if not isinstance(data, bytes) or not _SIGNATURE < len(data) <= MAX_HEADER_BYTES:
            raise HeaderError(f"a signed header has {_SIGNATURE + 1} to {MAX_HEADER_BYTES} bytes")
        try:
            document = json.loads(data[_SIGNATURE:].decode("ascii"))
        except (ValueError, RecursionError):
            raise HeaderError("a header is no JSON") from None
        names = {part.name for part in fields(Header)}
        if not isinstance(document, dict) or set(document) != names:
            raise HeaderError("a header has other fields than expected")
        signed = cls(header=Header(**document), signature=data[:_SIGNATURE])
        if signed.to_bytes() != data:
            raise HeaderError("a header is not in its canonical form")
        return signed


def payload_digest(payload: bytes) -> str:
    """The digest of a sealed payload that its header carries."""
    return hashlib.sha256(payload).hexdigest()


def sign_header(header: Header, identity: Identity) -> SignedHeader:
    """Sign a header."""
    return SignedHeader(header=header, signature=identity.sign(_DOMAIN + header.to_bytes()))


def verify_header(
    signed: SignedHeader,
    public_keys: Mapping[str, bytes],
    *,
    place: Place | None = None,
    parameter_id: str | None = None,
    payload: bytes | None = None,
) -> Header:
    """Check a header's sender and signature, and what else is expected of it.

    Args:
        signed: The header.
        public_keys: Raw Ed25519 public keys by name.
        place: The training, round and attempt it must be of.
        parameter_id: The plan it must be sealed under.
        payload: The payload it must sign.

    Raises:
        UnknownSenderError: The sender is not among the names.
        SignatureError: The signature does not verify.
        StaleHeaderError: Another training, round or attempt.
        HeaderError: Another plan.
        PayloadMismatchError: Another payload.
    """
    header = signed.header
    if header.sender not in public_keys:
        raise UnknownSenderError(f"{header.sender!r} is not of this training")
    message = _DOMAIN + header.to_bytes()
    verify_signature(public_keys[header.sender], signed.signature, message, header.sender)
    if place is not None and header.place != place:
        raise StaleHeaderError(
            f"{header.sender!r} signed {header.training!r} round {header.round} attempt "
            f"{header.attempt}, expected {place.training!r} round {place.round} attempt "
            f"{place.attempt}"
        )
    if parameter_id is not None and header.parameter_id != parameter_id:
        raise HeaderError(
            f"{header.sender!r} sealed under parameters {header.parameter_id[:16]}, expected "
            f"{parameter_id[:16]}"
        )
    if payload is not None and not hmac.compare_digest(header.payload, payload_digest(payload)):
        raise PayloadMismatchError(f"the payload of {header.sender!r} is not the one it signed")
    return header


@dataclass(frozen=True, slots=True, kw_only=True)
class Roster:
    """Signed headers sorted by sender, of distinct senders, of one place."""

    headers: tuple[SignedHeader, ...]

    def __post_init__(self) -> None:
        names = self.names
        if not names:
            raise RosterError("a roster of nobody")
        if len(names) > MAX_HOSPITALS:
            raise RosterError(f"a roster of {len(names)}, expected at most {MAX_HOSPITALS}")
        if list(names) != sorted(set(names)):
            raise RosterError("a roster's senders must be distinct and sorted")
        if len({signed.header.place for signed in self.headers}) > 1:
            raise RosterError("a roster's headers are of different rounds")

    @classmethod
    def of(cls, headers: Iterable[SignedHeader]) -> "Roster":
        """A roster of headers in any order."""
        return cls(headers=tuple(sorted(headers, key=lambda signed: signed.header.sender)))

    @property
    def names(self) -> tuple[str, ...]:
        """Who contributed."""
        return tuple(signed.header.sender for signed in self.headers)

    @property
    def place(self) -> Place:
        """The round it is of."""
        return self.headers[0].header.place

    def verify(
        self,
        public_keys: Mapping[str, bytes],
        place: Place,
        least: int,
        parameter_id: str,
        previous: str | None = None,
    ) -> tuple[str, ...]:
        """Check every header; returns the contributors' names.

        Args:
            public_keys: Raw Ed25519 public keys by name.
            place: The round that is being opened.
            least: The fewest contributors that the noise plan allows.
            parameter_id: The plan sealed under.
            previous: The digest of what this hospital opened before; all must agree with it.
                None: they need only agree among themselves.

        Raises:
            RosterError: Too few contributors.
            PreviousMismatchError: Hospitals opened different sums before.
            IdentityError: A header by a stranger, unsigned, stale or of another plan.
        """
        for signed in self.headers:
            verify_header(signed, public_keys, place=place, parameter_id=parameter_id)
        if len(self.headers) < least:
            raise RosterError(f"{len(self.headers)} contributors, expected at least {least}")
        seen: dict[str, list[str]] = {}
        for signed in self.headers:
            seen.setdefault(signed.header.previous, []).append(signed.header.sender)
        expected = previous if previous is not None else max(seen, key=lambda key: len(seen[key]))
        others = sorted(name for key, names in seen.items() if key != expected for name in names)
        if others:
            raise PreviousMismatchError(
                f"{', '.join(others)} opened another sum before round {place.round}: the server "
                "sent different rosters or sums"
            )
        return self.names

    def digest(self, total_payload: bytes) -> str:
        """What the next header says was opened: roster and sealed sum, hex."""
        digest = hashlib.sha256(b"asclepias roster 1\n")
        encoded = self.to_bytes()
        digest.update(len(encoded).to_bytes(8, "little") + encoded)
        digest.update(hashlib.sha256(total_payload).digest())
        return digest.hexdigest()

    def to_bytes(self) -> bytes:
        """A canonical encoding."""
        parts = [_ROSTER_MAGIC, _COUNT.pack(len(self.headers))]
        for signed in self.headers:
            encoded = signed.to_bytes()
            parts += [_SIZE.pack(len(encoded)), encoded]
        return b"".join(parts)

    @classmethod
    def from_bytes(cls, data: bytes) -> "Roster":
        """Read `to_bytes`.

        Raises:
            RosterError: The bytes are no roster.
            HeaderError: One of its headers is none.
        """
        start = len(_ROSTER_MAGIC) + _COUNT.size
        if not isinstance(data, bytes) or len(data) < start or not data.startswith(_ROSTER_MAGIC):
            raise RosterError("the bytes are no roster")
        (count,) = _COUNT.unpack_from(data, len(_ROSTER_MAGIC))
        if not 1 <= count <= MAX_HOSPITALS:
            raise RosterError(f"a roster of {count}, expected 1 to {MAX_HOSPITALS}")
        headers, at = [], start
        for _ in range(count):
            if len(data) < at + _SIZE.size:
                raise RosterError("a roster ends early")
            (size,) = _SIZE.unpack_from(data, at)
            at += _SIZE.size
            if size > MAX_HEADER_BYTES or len(data) < at + size:
                raise RosterError("a roster ends early")
            headers.append(SignedHeader.from_bytes(data[at : at + size]))
            at += size
        if at != len(data):
            raise RosterError("a roster has bytes after its end")
        return cls(headers=tuple(headers))
