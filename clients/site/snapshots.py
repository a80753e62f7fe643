"""A hospital's state after a round, sealed and signed for hospitals that missed rounds.

The server keeps it and can neither read nor change it. Its header names its maker, its round and
the chain of sums that it stands for, so a hospital takes over nothing that does not go on from what
it opened itself.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass

from crypto.envelope import unwrap, wrap
from crypto.errors import HeaderError
from crypto.headers import (
    Header,
    HeaderKind,
    SignedHeader,
    payload_digest,
    sign_header,
    verify_header,
)
from crypto.identity import Identity
from crypto.roles import NONCE_BYTES

_SIZE = struct.Struct("<H")


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedSnapshot:
    """A verified snapshot.

    Attributes:
        training: id of the training.
        round: the last sum that is in it.
        chain: of all sums that are in it, hex.
        sealed: the state under the group key.
    """

    training: str
    round: int
    chain: str
    sealed: bytes

    @classmethod
    def read(
        cls,
        data: bytes,
        public_keys: Mapping[str, bytes],
        *,
        training: str,
        parameter_id: str,
        bind: bytes,
    ) -> SignedSnapshot:
        """Check who made it and what it is bound to, before any of it is opened.

        Raises:
            SealingError: it is no snapshot of this training by one of its hospitals.
        """
        if len(data) < _SIZE.size:
            raise HeaderError("a snapshot ends early")
        (size,) = _SIZE.unpack_from(data)
        header_bytes, sealed = data[_SIZE.size : _SIZE.size + size], data[_SIZE.size + size :]
        header = verify_header(
            SignedHeader.from_bytes(header_bytes),
            public_keys,
            kind=HeaderKind.SNAPSHOT,
            parameter_id=parameter_id,
            payload=sealed,
            bind=bind,
        )
        if header.training != training:
            raise HeaderError(f"a snapshot of {header.training!r}, expected {training!r}")
        return cls(training=training, round=header.round, chain=header.previous, sealed=sealed)

    def open(self, group_key: bytes) -> bytes:
        """Return the state.

        Raises:
            SealingError: it was not sealed under this key for this place.
        """
        return unwrap(group_key, self.sealed, _context(self.training, self.round))


def make_snapshot(
    state: bytes,
    *,
    training: str,
    round: int,
    chain: str,
    parameter_id: str,
    bind: bytes,
    group_key: bytes,
    sender: str,
    identity: Identity,
) -> bytes:
    """Seal and sign the state after a round."""
    sealed = wrap(group_key, state, _context(training, round))
    header = Header(
        kind=HeaderKind.SNAPSHOT,
        training=training,
        round=round,
        attempt=0,
        sender=sender,
        parameter_id=parameter_id,
        previous=chain,
        payload=payload_digest(sealed),
        bind=bind,
        nonce=os.urandom(NONCE_BYTES),
    )
    signed = sign_header(header, identity).to_bytes()
    return _SIZE.pack(len(signed)) + signed + sealed


def _context(training: str, round: int) -> bytes:
    return f"snapshot {training} {round}".encode()
