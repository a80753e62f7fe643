"""The witness that a hospital gave last, whose nonce its peers' vouches answer.

It stays the same while neither the book nor its place on the disk changes, so that vouches which
come later than the question are still good for it, and for no other copy of the book. Another start
of the machine asks anew: what was put back with a whole disk may lie beside a witness whose vouches
are older than what was lost.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from clients.site.heads import Mark
from clients.site.home import home_of, machine_start
from crypto.errors import SealingError
from crypto.headers import SignedHeader

if TYPE_CHECKING:
    from accounting.book import Book
    from clients.site.ground import Site

_FILE = "witness.json"


class PendingWitness:
    """The last witness of one hospital's book; simulated ones keep none.

    Args:
        site: its own ground.
        training: that the witness is about.
        book: its own.
    """

    def __init__(self, site: Site, training: str, book: Book) -> None:
        self._site = site
        self._training = training
        self._book = book

    def write(self, signed: SignedHeader) -> None:
        """Keep a witness that is about to be given."""
        if not self._site.simulated:
            content = {**self._where(), "header": signed.to_bytes().hex()}
            self._site.write_secret(_FILE, json.dumps(content).encode())

    def read(self) -> SignedHeader | None:
        """Return the witness that was given last, if the book and its home are as they were."""
        data = None if self._site.simulated else self._site.read_secret(_FILE)
        if data is None:
            return None
        try:
            kept = json.loads(data)
            signed = SignedHeader.from_bytes(bytes.fromhex(kept["header"]))
            same = {name: kept[name] for name in ("home", "start")} == self._where()
        except (ValueError, KeyError, TypeError, SealingError):
            return None
        stands = Mark.by(signed.header) == Mark.of(self._book)
        return signed if same and stands and signed.header.training == self._training else None

    def _where(self) -> dict[str, object]:
        return {"home": home_of(self._book.path), "start": machine_start()}

    def forget(self) -> None:
        """Take no more vouches for it."""
        self._site.forget_secret(_FILE)
