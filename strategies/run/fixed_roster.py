"""The one roster of a place, with its sum and all that its holders of shares are sent.

Two rosters of one place would be a fraud upon hospitals. So the one is on disk before anybody is
asked to answer it, and a server that is started again asks for no other.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from clients.contract.messages import OpenedRound
from crypto.parcels import Parcel
from crypto.roles import Place
from crypto.rosters import Roster

_SIZES = struct.Struct("<IQ")
_TOTAL, _ROSTER, _ANSWER, _SENT, _PARCEL = "total", "roster", "answer.", "sent.", "parcel"
_SEEDS = "seeds"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """What one hospital sent beside its sealed vector.

    Attributes:
        parcel: digests of vector and envelopes, as its header names them.
        envelopes: shares of its key, by holder.
    """

    parcel: Parcel
    envelopes: Mapping[str, bytes]


@dataclass(frozen=True, kw_only=True)
class FixedRoster:
    """A place's roster and sum, which wait for the holders' answers.

    Attributes:
        closed: sum and roster; no answers yet.
        sent: by dealer, what the holders are brought.
    """

    closed: OpenedRound
    sent: Mapping[str, Sent]

    @property
    def place(self) -> Place:
        """The place that it is the roster of."""
        return self.roster.place

    @cached_property
    def roster(self) -> Roster:
        """Who is in the sum."""
        return Roster.from_bytes(self.closed.roster)

    def to_bytes(self) -> bytes:
        """Return it for a file."""
        sent = {
            f"{_SENT}{dealer}": packed({_PARCEL: one.parcel.to_bytes(), **_of(one.envelopes)})
            for dealer, one in self.sent.items()
        }
        return packed(parts_of(self.closed) | sent)

    @classmethod
    def from_bytes(cls, data: bytes) -> FixedRoster:
        """Read `to_bytes`."""
        parts, sent = unpacked(data), {}
        for name, part in parts.items():
            if name.startswith(_SENT):
                inner = unpacked(part)
                parcel = Parcel.from_bytes(inner.pop(_PARCEL))
                envelopes = {key[len(_ANSWER) :]: one for key, one in inner.items()}
                sent[name[len(_SENT) :]] = Sent(parcel=parcel, envelopes=envelopes)
        return cls(closed=closed_of(parts), sent=sent)


def parts_of(closed: OpenedRound) -> dict[str, bytes]:
    """Return a closed round as named parts."""
    found = {_ROSTER: closed.roster, _TOTAL: closed.total, **_of(closed.answers)}
    return found | ({_SEEDS: closed.seeds} if closed.seeds else {})


def closed_of(parts: Mapping[str, bytes]) -> OpenedRound:
    """Return the closed round that `parts_of` took apart."""
    answers = {
        name[len(_ANSWER) :]: part for name, part in parts.items() if name.startswith(_ANSWER)
    }
    return OpenedRound(
        total=parts[_TOTAL],
        roster=parts[_ROSTER],
        answers=answers,
        seeds=parts.get(_SEEDS, b""),
    )


def packed(parts: Mapping[str, bytes]) -> bytes:
    """Return named parts one behind the other, each behind its name and the lengths of both."""
    found = []
    for name, part in parts.items():
        label = name.encode()
        found += [_SIZES.pack(len(label), len(part)), label, part]
    return b"".join(found)


def unpacked(data: bytes) -> dict[str, bytes]:
    """Read `packed`."""
    parts, at = {}, 0
    while at < len(data):
        named, size = _SIZES.unpack_from(data, at)
        at += _SIZES.size
        parts[data[at : at + named].decode()] = data[at + named : at + named + size]
        at += named + size
    return parts


def _of(by_holder: Mapping[str, bytes]) -> dict[str, bytes]:
    return {f"{_ANSWER}{name}": one for name, one in by_holder.items()}
