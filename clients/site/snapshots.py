"""A hospital's state after a round, sealed and signed for hospitals that missed rounds.

The server keeps it and can neither read nor change it. Its header names its maker, its round, the
chain of sums that it stands for and a tag of the state, so a hospital takes over nothing that does
not go on from what it opened itself, or that others do not hold: of the K - d hospitals whose next
headers name a state, one at least is none of the colluders that were planned for.
"""

from __future__ import annotations

import hashlib
import hmac
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
        sender: who made it.
        state: tag of the state that it says it holds, as in the headers of all who hold it.
        sealed: the state under the group key.
    """

    training: str
    round: int
    chain: str
    sender: str
    state: str
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
        return cls(
            training=training,
            round=header.round,
            chain=header.previous,
            sender=header.sender,
            state=header.state,
            sealed=sealed,
        )

    def open(self, group_key: bytes, named: Mapping[str, str], least: int) -> bytes:
        """Return the state, once enough hospitals have said that it is theirs.

        Args:
            group_key: that hospitals share.
            named: tag of the state after this round by hospital, from verified headers.
            least: hospitals that must have named it; more than may deviate together.

        Raises:
            SealingError: it was not sealed under this key for this place.
            SnapshotRefused: too few hospitals hold this state, or it is another than it says.
        """
        found = sorted(name for name, state in named.items() if self.state and state == self.state)
        if len(found) < least:
            raise SnapshotRefused(
                f"the snapshot after round {self.round} by {self.sender!r} is the state of "
                f"{', '.join(found) or 'nobody'}, expected that of {least} hospitals or more"
            )
        data = unwrap(group_key, self.sealed, _context(self.training, self.round))
        if not hmac.compare_digest(state_tag(group_key, hashlib.sha256(data).digest()), self.state):
            raise SnapshotRefused(
                f"{self.sender!r} signed a snapshot after round {self.round} as {self.state[:16]} "
                "and left another state"
            )
        return data


class SnapshotRefused(HeaderError):
    """A snapshot that is not taken over: the hospital stays where it is."""


def state_tag(group_key: bytes, digest: bytes) -> str:
    """Return the tag of a state, hex: equal for equal states, and only hospitals can make it.

    Args:
        group_key: that hospitals share, 32 bytes.
        digest: SHA-256 of the state.
    """
    return hmac.new(group_key, b"asclepias state 1\n" + digest, hashlib.sha256).hexdigest()


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
        state=state_tag(group_key, hashlib.sha256(state).digest()),
    )
    signed = sign_header(header, identity).to_bytes()
    return _SIZE.pack(len(signed)) + signed + sealed


def _context(training: str, round: int) -> bytes:
    return f"snapshot {training} {round}".encode()
