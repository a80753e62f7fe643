"""Who witnesses a hospital's book: the peers that its own file pins, whoever asks for whatever run.

Let c hospitals lie. A place counts as *witnessed* once c + 1 peers know of it, so that an honest
one does. Which one that was nobody knows any more once the book has gone back, so then all must
vouch: the one who knows is among them, whatever run it was, with whatever numbers. A submitter's
settings come into it only by raising c.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

from accounting.charges import open_trainings
from clients.site.membership import colluders_of
from crypto.identity import fingerprint
from crypto.pins import known_pins

if TYPE_CHECKING:
    from accounting.book import Book
    from clients.site.ground import Site


def witnesses_needed(peers: int, colluders: int) -> int:
    """Return how many peers must know of a place: min(peers, c + 1).

    Formal guarantee: with c < peers, of any so many peers one is honest, and it is among all peers,
    who vouch. Where all peers may lie nobody can be asked, and all is what is left to ask for.
    """
    return min(peers, colluders + 1)


class Witnesses:
    """The peers of one hospital.

    Args:
        site: its own ground.
    """

    def __init__(self, site: Site) -> None:
        self._site = site

    def names(self) -> Mapping[str, str]:
        """Return fingerprints of all peers by name."""
        pins = known_pins(self._site.pins)
        return {name: pin for name, pin in pins.items() if name != self._site.name}

    def trusts(self, name: str, key: bytes) -> bool:
        """Whether a public key is a peer's."""
        return self.names().get(name) == fingerprint(key)

    def missing(self, found: Collection[str]) -> list[str]:
        """Return the peers who have not vouched."""
        return sorted(self.names().keys() - set(found))

    def needed(self, book: Book) -> int:
        """Return how many must know of a place; 0 where the hospital has no peers at all."""
        against = self._site.limits.against
        reckoned = against.hospitals if against.kind in ("colluders", "server+hospitals") else 0
        planned = (colluders_of(self._site, name) for name in open_trainings(book))
        return witnesses_needed(len(self.names()), max(reckoned, *planned, 0))
