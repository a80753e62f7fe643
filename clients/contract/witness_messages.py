"""What hospitals say of their ledgers, and vouch for of each other's, by way of the server.

A witness is a hospital's signed header: its ledger, how many entries it has, where its chain ends.
Peers that vouch answer its nonce and send along what they knew of it before, in its own signature,
so they can hide something but make nothing up. Everything here is bounded, and read strictly.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum

from flwr.app import ConfigRecord, RecordDict

from clients.contract.messages import Reply
from clients.contract.words import (
    CONFIG,
    NO_WORD,
    Words,
    config_of,
    read_word,
    read_words,
    words_of,
)
from crypto.headers import MAX_HEADER_BYTES
from crypto.parameters import MAX_HOSPITALS

#: Headers of one hospital that a peer, or the server, keeps and sends.
MOST_OF_ONE = 64
#: Headers in one pack: the server sends a hospital those of all, since it finds its own itself.
MOST_PACKED = 4096

#: The record of an answer in which its hospital's head is.
_HEAD = "head"
_SIZE = struct.Struct("<H")
_KEY = 32


class Standing(StrEnum):
    """How a hospital's ledger stands, as it says itself."""

    SOUND = "sound"
    #: It needs vouches before it answers anything else.
    WAITING = "waiting"
    #: It is older than what the hospital itself has signed.
    BEHIND = "behind"


def pack(headers: Iterable[bytes]) -> bytes:
    """Return signed headers as one text, each behind its length."""
    return b"".join(_SIZE.pack(len(one)) + one for one in headers)


def unpack(data: bytes, most: int = MOST_PACKED) -> tuple[bytes, ...]:
    """Return what `pack` was given.

    Raises:
        ValueError: it is no pack, or holds more.
    """
    found: list[bytes] = []
    at = 0
    while at < len(data):
        if len(data) < at + _SIZE.size:
            raise ValueError("packed headers end early")
        (size,) = _SIZE.unpack_from(data, at)
        at += _SIZE.size
        if not 0 < size <= MAX_HEADER_BYTES or len(data) < at + size or len(found) == most:
            raise ValueError(f"packed headers end early, or are more than {most}")
        found.append(data[at : at + size])
        at += size
    return tuple(found)


def vouched(asked: bytes, known: Iterable[bytes]) -> bytes:
    """Return what a vouch signs: the witness that it answers, and what its maker knew before."""
    return b"asclepias vouch 1\n" + hashlib.sha256(asked).digest() + pack(known)


@dataclass(frozen=True, slots=True, kw_only=True)
class Witnessed:
    """An answer that added lines to its hospital's ledger, with the signed head after them.

    Attributes:
        reply: the answer.
        head: a signed header of kind ``witness``, without a nonce.
    """

    reply: Reply
    head: bytes

    def content(self) -> RecordDict:
        """Return the answer as a message content, the head beside it."""
        content = self.reply.content()
        content[_HEAD] = ConfigRecord({"header": self.head})
        return content


def head_in(content: RecordDict) -> bytes:
    """Return the signed head beside an answer; b"" where there is none.

    Raises:
        ValueError: it is no header's size.
    """
    record = content.config_records.get(_HEAD)
    data = b"" if record is None else record["header"]
    if not isinstance(data, bytes) or len(data) > MAX_HEADER_BYTES:
        raise ValueError("what stands for a head is none")
    return data


@dataclass(frozen=True, slots=True, kw_only=True)
class Vouch:
    """A peer's answer to a witness.

    Attributes:
        header: its signed header of kind ``vouch``, over the witness and what it knew.
        key: its public signing key, 32 bytes.
        known: the newest headers that it knew of the hospital before, one per training.

    Raises:
        ValueError: a field of another size.
    """

    header: bytes
    key: bytes
    known: tuple[bytes, ...] = ()

    def __post_init__(self) -> None:
        _check(self.header, self.key)


@dataclass(frozen=True, slots=True, kw_only=True)
class WitnessRequest:
    """Asks a hospital to sign where its ledger stands.

    Attributes:
        training: id of a training; it may be over at the hospital.
        bind: digest of its terms, hex.
        evidence: signed headers that the hospital may have forgotten.
        vouches: peers' answers to the witness that it gave last.
    """

    training: str
    bind: str
    evidence: tuple[bytes, ...] = field(default=(), metadata=NO_WORD)
    vouches: tuple[Vouch, ...] = field(default=(), metadata=NO_WORD)

    def content(self) -> RecordDict:
        """Return the request as a message content."""
        words = words_of(self) | {
            "evidence": pack(self.evidence),
            "vouches": [one.header for one in self.vouches],
            "keys": [one.key for one in self.vouches],
            "known": [pack(one.known) for one in self.vouches],
        }
        return RecordDict({CONFIG: ConfigRecord(words)})

    @classmethod
    def read(cls, content: RecordDict) -> WitnessRequest:
        """Read the request at the hospital.

        Raises:
            ValueError: a field is missing, of another kind, or too large.
        """
        config = config_of(content)
        lists = [
            read_word(config, one, "tuple[bytes, ...]") for one in ("vouches", "keys", "known")
        ]
        if len(lists[0]) > MAX_HOSPITALS:
            raise ValueError(f"{len(lists[0])} vouches, expected at most {MAX_HOSPITALS}")
        return cls(
            **read_words(cls, config),
            evidence=unpack(read_word(config, "evidence", "bytes")),
            vouches=tuple(
                Vouch(header=header, key=key, known=unpack(known, MOST_OF_ONE))
                for header, key, known in zip(*lists, strict=True)
            ),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class WitnessReply:
    """Where a hospital's ledger stands.

    Attributes:
        name: the hospital's.
        standing: whether it goes on, waits for vouches, or has lost its book.
        header: its signed header of kind ``witness``; its nonce is what peers vouch for.
        key: its public signing key, 32 bytes.
    """

    name: str
    standing: Standing = field(metadata=NO_WORD)
    header: bytes
    key: bytes

    def __post_init__(self) -> None:
        _check(self.header, self.key)

    def content(self) -> RecordDict:
        """Return the reply as a message content."""
        words = words_of(self) | {"standing": self.standing.value}
        return RecordDict({CONFIG: ConfigRecord(words)})

    @classmethod
    def read(cls, content: RecordDict) -> WitnessReply:
        """Read the reply at the server.

        Raises:
            ValueError: a field is missing, of another kind, or of another size.
        """
        config = config_of(content)
        standing = Standing(read_word(config, "standing", "str"))
        return cls(**read_words(cls, config), standing=standing)


@dataclass(frozen=True, slots=True, kw_only=True)
class VouchRequest(Words):
    """Asks a hospital what it knows of a peer's ledger, and to take down where it stands now.

    Attributes:
        training: id of a training.
        bind: digest of its terms, hex.
        witness: the peer's signed header of kind ``witness``.
        key: the peer's public signing key, 32 bytes.
    """

    training: str
    bind: str
    witness: bytes
    key: bytes

    def __post_init__(self) -> None:
        _check(self.witness, self.key)


@dataclass(frozen=True, slots=True, kw_only=True)
class VouchReply:
    """A hospital's vouch for a peer."""

    vouch: Vouch

    def content(self) -> RecordDict:
        """Return the reply as a message content."""
        words = {"header": self.vouch.header, "key": self.vouch.key}
        return RecordDict({CONFIG: ConfigRecord({**words, "known": pack(self.vouch.known)})})

    @classmethod
    def read(cls, content: RecordDict) -> VouchReply:
        """Read the reply at the server.

        Raises:
            ValueError: a field is missing, of another kind, or too large.
        """
        config = config_of(content)
        header, key, known = (read_word(config, one, "bytes") for one in ("header", "key", "known"))
        return cls(vouch=Vouch(header=header, key=key, known=unpack(known, MOST_OF_ONE)))


def _check(header: bytes, key: bytes) -> None:
    if not 0 < len(header) <= MAX_HEADER_BYTES:
        raise ValueError(f"a header of {len(header)} bytes")
    if len(key) != _KEY:
        raise ValueError(f"a public key of {len(key)} bytes, expected {_KEY}")
