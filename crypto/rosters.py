"""Rosters: the signed headers of exactly those who are in a sum; and when a sum is confirmed.

Hospitals open one roster per round, and the next header of each carries the chain of all rosters
and sums it has opened. A server that shows two different sums of one round is found out by the next
roster (the difference of two such sums would be single hospitals' updates). Nothing made from a
chain leaves a hospital before a quorum of hospitals has signed it, and two chains cannot both find
one.
"""

import hashlib
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from crypto.errors import PreviousMismatchError, RosterError
from crypto.headers import MAX_HEADER_BYTES, HeaderKind, SignedHeader, verify_header
from crypto.parameters import MAX_HOSPITALS
from crypto.roles import Place

ROSTER_VERSION = 2

_MAGIC = b"AROS"
_COUNT = struct.Struct("<I")
_SIZE = struct.Struct("<H")
_START = len(_MAGIC) + 1 + _COUNT.size
_DIGEST = 32


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
    def nonces(self) -> dict[str, bytes]:
        """Each contributor's nonce by name, as `Opener.open` takes them."""
        return {signed.header.sender: signed.header.nonce for signed in self.headers}

    @property
    def seeds(self) -> dict[str, bytes]:
        """The digests of each contributor's seeds of noise by name."""
        return {signed.header.sender: signed.header.seeds for signed in self.headers}

    @property
    def place(self) -> Place:
        """The round it is of."""
        return self.headers[0].header.place

    def verify(
        self,
        public_keys: Mapping[str, bytes],
        place: Place,
        *,
        least: int,
        parameter_id: str,
        bind: bytes,
        previous: str | None = None,
    ) -> tuple[str, ...]:
        """Check every header; returns the contributors' names.

        Args:
            public_keys: Raw Ed25519 public keys of the members, by name.
            place: The round that is being opened.
            least: The fewest contributors that the noise plan allows, K - d.
            parameter_id: The plan sealed under.
            bind: Digest of the terms and members that all must be bound to.
            previous: The chain of what this hospital opened before; all must agree with it.
                None: they need only agree among themselves.

        Raises:
            RosterError: Too few contributors.
            PreviousMismatchError: Hospitals opened different sums before.
            IdentityError: A header by a stranger, unsigned, stale, of another kind or plan, or
                bound to other terms.
        """
        for signed in self.headers:
            verify_header(
                signed,
                public_keys,
                kind=HeaderKind.SUM,
                place=place,
                parameter_id=parameter_id,
                bind=bind,
            )
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

    @property
    def fingerprint(self) -> str:
        """`fingerprint` of its encoding."""
        return fingerprint(self.to_bytes())

    def digest(self, total_payload: bytes, removed: Iterable[tuple[str, int]] = ()) -> str:
        """What `next_chain` says was opened: roster, sealed sum and removed noise, hex.

        Args:
            total_payload: The sealed sum.
            removed: Parts of the noise that are taken out of it, as (hospital, part), in order.
        """
        digest = hashlib.sha256(b"asclepias roster 1\n")
        encoded = self.to_bytes()
        digest.update(len(encoded).to_bytes(8, "little") + encoded)
        digest.update(hashlib.sha256(total_payload).digest())
        for name, part in removed:
            label = name.encode()
            digest.update(_SIZE.pack(len(label)) + label + part.to_bytes(4, "little"))
        return digest.hexdigest()

    def to_bytes(self) -> bytes:
        """A canonical encoding."""
        parts = [_MAGIC, bytes([ROSTER_VERSION]), _COUNT.pack(len(self.headers))]
        for signed in self.headers:
            encoded = signed.to_bytes()
            parts += [_SIZE.pack(len(encoded)), encoded]
        return b"".join(parts)

    @classmethod
    def from_bytes(cls, data: bytes) -> "Roster":
        """Read `to_bytes`.

        Raises:
            RosterError: The bytes are no roster, or one of another version.
            HeaderError: One of its headers is none.
        """
        if not isinstance(data, bytes) or len(data) < _START or not data.startswith(_MAGIC):
            raise RosterError("the bytes are no roster")
        if data[len(_MAGIC)] != ROSTER_VERSION:
            version = data[len(_MAGIC)]
            raise RosterError(f"a roster of version {version}, expected {ROSTER_VERSION}")
        (count,) = _COUNT.unpack_from(data, len(_MAGIC) + 1)
        if not 1 <= count <= MAX_HOSPITALS:
            raise RosterError(f"a roster of {count}, expected 1 to {MAX_HOSPITALS}")
        headers, at = [], _START
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


def fingerprint(roster: bytes) -> str:
    """Digest of an encoded roster by itself, hex: what holders of shares answer."""
    return hashlib.sha256(b"asclepias roster alone 1\n" + roster).hexdigest()


def next_chain(chain_before: bytes, opened_digest: bytes) -> bytes:
    """The chain after one more opened sum: SHA-256 of all that decides on the next model.

    Args:
        chain_before: The chain so far, 32 bytes; b"" before the first sum.
        opened_digest: `Roster.digest`, 32 bytes.

    Raises:
        RosterError: A digest of another size.
    """
    if len(chain_before) not in (0, _DIGEST) or len(opened_digest) != _DIGEST:
        raise RosterError(f"a chain and what was opened have {_DIGEST} bytes each")
    digest = hashlib.sha256(b"asclepias chain 2\n" + bytes([len(chain_before)]) + chain_before)
    digest.update(opened_digest)
    return digest.digest()


def quorum(hospitals: int, dropouts: int, colluders: int) -> int:
    """Return Q, how many hospitals must have signed a chain before anything made from it leaves.

    ``Q = max(K - d, floor((K + c) / 2) + 1)``.

    Formal guarantee: no two chains are both signed by Q hospitals. Proof. An honest hospital signs
    one chain, since it opens one sum per round; at most c others sign both. If two chains had Q
    signers each, at least Q - c of each were honest, and these are distinct, so
    ``2 (Q - c) <= K - c``, that is ``2 Q <= K + c``. But ``Q >= floor((K + c) / 2) + 1`` exceeds
    ``(K + c) / 2``. K - d alone does not suffice: K = 4, d = 2 has two disjoint groups of 2.

    Args:
        hospitals: K.
        dropouts: d, hospitals that may be missing in a round.
        colluders: c, hospitals that may sign twice (restored folders count too).

    Raises:
        RosterError: Numbers that leave nobody.
    """
    if hospitals < 1 or not 0 <= dropouts < hospitals or not 0 <= colluders < hospitals:
        raise RosterError(
            f"no quorum of {hospitals} hospitals with {dropouts} dropouts, {colluders} colluders"
        )
    return max(hospitals - dropouts, (hospitals + colluders) // 2 + 1)


def confirmed_round(signed: Mapping[str, int], needed: int) -> int:
    """Return the last round whose chain a quorum has signed; 0 where there is none.

    Who signed the chain after a round has signed those after all rounds before it, so only each
    hospital's latest counts. All must be signatures of *this* hospital's own chain: headers with
    another chain at their round are no votes for it.

    Args:
        signed: Name -> the last round whose chain it signed, from verified headers.
        needed: `quorum`.

    Raises:
        RosterError: A quorum of nobody.
    """
    if needed < 1:
        raise RosterError(f"a quorum of {needed}, expected at least 1")
    rounds = sorted(signed.values(), reverse=True)
    return rounds[needed - 1] if len(rounds) >= needed else 0
