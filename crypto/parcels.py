"""What one hospital sends at a place: a sealed vector, and envelopes with shares of its key.

A holder gets its envelope without the vector beside it. So a signed header names the digest of a
list of digests, and by the list a holder knows whether an envelope is the one that its dealer sent:
a bad one is then its dealer's fault, and one that is not on the list the server's.
"""

import hashlib
import struct
from collections.abc import Mapping
from dataclasses import dataclass

from crypto.errors import ShareError
from crypto.roles import MAX_LABEL

_DIGEST, _SIZE = 32, struct.Struct("<H")
#: The longest list: of 20 envelopes for names of MAX_LABEL characters of four bytes.
MAX_PARCEL_BYTES = _DIGEST + 20 * (_SIZE.size + 4 * MAX_LABEL + _DIGEST)


@dataclass(frozen=True, slots=True, kw_only=True)
class Parcel:
    """The digests of what one hospital sent.

    Attributes:
        payload: SHA-256 of the sealed vector, hex.
        envelopes: SHA-256 of each envelope, hex, by holder.
    """

    payload: str
    envelopes: Mapping[str, str]

    @classmethod
    def of(cls, payload: bytes, envelopes: Mapping[str, bytes]) -> "Parcel":
        """The digests of a sealed vector and of what goes with it."""
        return cls(
            payload=_hex(payload), envelopes={name: _hex(one) for name, one in envelopes.items()}
        )

    @property
    def digest(self) -> str:
        """What a signed header names, hex: the vector's own digest where nothing goes with it."""
        if not self.envelopes:
            return self.payload
        return _hex(b"asclepias parcel 1\n" + self.to_bytes())

    def holds(self, holder: str, envelope: bytes) -> bool:
        """Whether an envelope is the one that was sent to a holder."""
        return self.envelopes.get(holder) == _hex(envelope)

    def to_bytes(self) -> bytes:
        """A canonical encoding: holders sorted, each behind its length."""
        parts = [bytes.fromhex(self.payload)]
        for name, digest in sorted(self.envelopes.items()):
            label = name.encode()
            parts += [_SIZE.pack(len(label)), label, bytes.fromhex(digest)]
        return b"".join(parts)

    @classmethod
    def from_bytes(cls, data: bytes) -> "Parcel":
        """Read `to_bytes`.

        Raises:
            ShareError: The bytes are no such list, or not its one encoding.
        """
        if not isinstance(data, bytes) or not _DIGEST <= len(data) <= MAX_PARCEL_BYTES:
            raise ShareError("the bytes are no list of envelopes")
        envelopes, at = {}, _DIGEST
        try:
            while at < len(data):
                (size,) = _SIZE.unpack_from(data, at)
                at += _SIZE.size
                name, digest = data[at : at + size], data[at + size : at + size + _DIGEST]
                at += size + _DIGEST
                envelopes[name.decode()] = digest.hex()
        except (struct.error, UnicodeDecodeError):
            raise ShareError("the bytes are no list of envelopes") from None
        read = cls(payload=data[:_DIGEST].hex(), envelopes=envelopes)
        if at != len(data) or read.to_bytes() != data:
            raise ShareError("a list of envelopes is not in its canonical form")
        return read


def _hex(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
