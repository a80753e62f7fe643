"""A ceremony that a hospital takes part in: what it offered, and the terms that the id is made of.

The file is for the hospital's own eyes: it holds the secret half of its offer. It is there from
the first request to join until the hospital pays for, answers or opens something.
"""

from __future__ import annotations

import struct
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from crypto.ceremony import EphemeralSecret, Offer
from crypto.errors import CeremonyError

if TYPE_CHECKING:
    from clients.site.ground import Site

#: Ceremonies that may be open at once; the one that was begun longest ago is forgotten.
MOST_CEREMONIES = 1024

_MAGIC = b"ACER\x01"
_SECRET = 32
_SIZE = struct.Struct("<B")


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnOffer:
    """What a hospital holds of a ceremony.

    Attributes:
        secret: the half of the offered key that stays.
        nonce: what the training's id is made of beside its terms; ``b""`` for an id that is a word.
        offer: as it was signed.
    """

    secret: EphemeralSecret = field(repr=False)
    nonce: bytes
    offer: Offer

    def to_bytes(self) -> bytes:
        """Return what :meth:`from_bytes` reads."""
        nonce = _SIZE.pack(len(self.nonce)) + self.nonce
        return _MAGIC + self.secret.to_bytes() + nonce + self.offer.to_bytes()

    @classmethod
    def from_bytes(cls, data: bytes) -> OwnOffer:
        """Read :meth:`to_bytes`.

        Raises:
            CeremonyError: the bytes are none.
        """
        start = len(_MAGIC) + _SECRET + _SIZE.size
        if not data.startswith(_MAGIC) or len(data) < start:
            raise CeremonyError("the file of a ceremony is of another version, or ends early")
        (size,) = _SIZE.unpack_from(data, start - _SIZE.size)
        return cls(
            secret=EphemeralSecret.from_bytes(data[len(_MAGIC) :][:_SECRET]),
            nonce=data[start : start + size],
            offer=Offer.from_bytes(data[start + size :]),
        )


class OfferFile:
    """The file of one ceremony in a hospital's folder."""

    def __init__(self, site: Site, training: str) -> None:
        self._site = site
        self._name = f"ceremony-{training}.key"

    def read(self) -> OwnOffer | None:
        """Return what the hospital offered; ``None`` where it is in no such ceremony."""
        kept = self._site.read_secret(self._name)
        try:
            return None if kept is None else OwnOffer.from_bytes(kept)
        except CeremonyError as error:
            self._site.log(f"{self._name}: {error}; it is begun anew")
            return None

    def write(self, own: OwnOffer) -> None:
        """Keep an offer; joins fill no disk, so the number of open ceremonies is bounded."""
        found = []
        for path in self._site.folder.glob("ceremony-*.key"):
            with suppress(FileNotFoundError):  # another process may have ended its ceremony
                found.append((path.stat().st_mtime_ns, path))
        for _, path in sorted(found)[: max(0, len(found) - MOST_CEREMONIES + 1)]:
            path.unlink(missing_ok=True)
        self._site.write_secret(self._name, own.to_bytes())

    def forget(self) -> None:
        """Drop the offer's secret: from now on no more keys can come."""
        self._site.forget_secret(self._name)
