"""What travels where hospitals may be missing under one-time keys: one roster, and shares for it.

Everybody sends envelopes with the shares of its key along with its update. The server keeps them,
fixes one roster of the place, and brings each holder of shares that roster and its envelopes. The
holder answers with the sum of the shares, wrapped for hospitals; enough answers open the sum.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict

from clients.contract.messages import ARRAYS, bytes_to_array, named_bytes
from clients.contract.words import (
    CONFIG,
    NO_WORD,
    SERVER_ROUND,
    Words,
    config_of,
    read_words,
    words_of,
)
from crypto.rosters import fingerprint

_ROSTER, _PARCEL, _ENVELOPE = "roster", "parcel.", "envelope."


@dataclass(frozen=True, slots=True, kw_only=True)
class SharesRequest:
    """Asks a holder of shares to answer a place's roster.

    Attributes:
        training: id of the training.
        bind: digest of the terms, hex.
        round: of the place.
        attempt: of the place.
        roster: signed headers of those who are in the sum.
        parcels: what each dealer signed that sent this holder an envelope, by dealer.
        envelopes: this holder's, by dealer.
    """

    training: str
    bind: str
    round: int = field(metadata=SERVER_ROUND)
    attempt: int
    roster: bytes = field(metadata=NO_WORD)
    parcels: Mapping[str, bytes] = field(default_factory=dict, metadata=NO_WORD)
    envelopes: Mapping[str, bytes] = field(default_factory=dict, metadata=NO_WORD)

    @property
    def fingerprint(self) -> str:
        """Digest of the roster by itself, hex: what a holder's book remembers of its answer."""
        return fingerprint(self.roster)

    def content(self) -> RecordDict:
        """Return the request as a message content."""
        arrays: dict[str, Array] = {_ROSTER: bytes_to_array(self.roster)}
        arrays |= {f"{_PARCEL}{name}": bytes_to_array(one) for name, one in self.parcels.items()}
        arrays |= {f"{_ENVELOPE}{n}": bytes_to_array(one) for n, one in self.envelopes.items()}
        return RecordDict({ARRAYS: ArrayRecord(arrays), CONFIG: ConfigRecord(words_of(self))})

    @classmethod
    def read(cls, content: RecordDict) -> SharesRequest:
        """Read the request at the hospital."""
        arrays = content.array_records[ARRAYS]
        return cls(
            **read_words(cls, config_of(content)),
            roster=arrays[_ROSTER].data,
            parcels=named_bytes(arrays, _PARCEL),
            envelopes=named_bytes(arrays, _ENVELOPE),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class SharesReply(Words):
    """A holder's answer to a roster.

    Attributes:
        answer: the sum of its shares of the members' keys, wrapped for hospitals; the server, which
            may not know it, cannot open it. It was paid for with the members' updates.
        seeds: its shares of those seeds of the members' noise that the roster gives away, for the
            server to open.
    """

    answer: bytes
    seeds: bytes
