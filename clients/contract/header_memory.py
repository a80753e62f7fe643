"""The newest signed headers of each hospital: what was last seen of its ledger, by training.

Hospitals keep them of their peers, and the server of all. Whose a header is says its signature, so
what is kept here is proof: two headers of one ledger and entry with different heads show that two
copies of the ledger are in use.

Everything is bounded, and nobody can flush it. The highest entry of a ledger is never forgotten for
another training's; a training counts by itself only once it has spent; and what is forgotten where
there are too many is the lowest entry, so a ledger that went back pushes nothing newer out.
"""

from __future__ import annotations

import json
from collections import Counter, OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from clients.contract.witness_messages import MOST_OF_ONE
from crypto.errors import SealingError
from crypto.headers import MILESTONES, SignedHeader
from crypto.identity import verify_signature

#: Places in a hospital's ledgers whose heads are remembered, to find out that one is copied: these
#: many of the last ones, and of all others those at the widest milestones.
_MOST_SEEN, _MOST_LAST = 32, 4
_NONE = bytes(8)

#: A ledger, a training, and whether it is the copy's part of both.
_Place = tuple[bytes, str, bool]


@dataclass(frozen=True, slots=True)
class Copied:
    """Two heads of one entry: a ledger of this hospital is in use in two places.

    Attributes:
        sender: the hospital's name.
        entry: of the ledger, which has two heads.
    """

    sender: str
    entry: int


@dataclass
class _OfOne:
    """What is kept of one hospital: of each place the newest header, and the dearest if another."""

    kept: dict[_Place, tuple[SignedHeader, ...]] = field(default_factory=dict)
    seen: OrderedDict[tuple[bytes, int], bytes] = field(default_factory=OrderedDict)

    def see(self, ledger: bytes, heads: Mapping[int, bytes]) -> int | None:
        """Remember heads by entry; returns an entry that is known with another one."""
        wrong = None
        for entry, head in heads.items():
            if self.seen.setdefault((ledger, entry), head) != head:
                wrong = entry
        while len(self.seen) > _MOST_SEEN:
            older = list(self.seen)[:-_MOST_LAST]
            del self.seen[min(older, key=lambda place: _width(place[1]))]
        return wrong

    def keep(self, signed: SignedHeader, *, copy: bool) -> None:
        header = signed.header
        place = (header.ledger, header.training, copy)
        every = (*self.kept.get(place, ()), signed)
        newest = max(every, key=lambda one: one.header.entry)
        dearest = max(every, key=lambda one: one.header.spent)
        gained = dearest.header.spent > newest.header.spent
        self.kept[place] = (newest, dearest) if gained else (newest,)
        highest = self._highest()
        for other in [one for one in self.kept if one[0] == header.ledger]:
            if other not in highest and not any(h.header.spent for h in self.kept[other]):
                del self.kept[other]
        while sum(map(len, self.kept.values())) > MOST_OF_ONE:
            self._forget(highest)

    def _highest(self) -> set[_Place]:
        """Return the place of each ledger, and of its copy, whose entry is the highest."""
        found: dict[tuple[bytes, bool], _Place] = {}
        for place in self.kept:
            before = found.setdefault((place[0], place[2]), place)
            if self._entry(before) < self._entry(place):
                found[place[0], place[2]] = place
        return set(found.values())

    def _forget(self, highest: set[_Place]) -> None:
        """Forget the lowest place of the ledger that has most; a whole ledger only at last."""
        ledgers = Counter(place[0] for place in self.kept if place not in highest)
        if not ledgers:
            del self.kept[next(iter(self.kept))]
            return
        [(most, _)] = ledgers.most_common(1)
        others = [place for place in self.kept if place[0] == most and place not in highest]
        del self.kept[min(others, key=self._entry)]

    def _entry(self, place: _Place) -> int:
        return self.kept[place][0].header.entry


class HeaderMemory:
    """The newest headers by public key, ledger and training."""

    def __init__(self) -> None:
        self._of: dict[bytes, _OfOne] = {}

    def take(self, key: bytes, signed: SignedHeader) -> Copied | None:
        """Remember a header whose signature by `key` was verified; older ones change nothing.

        Returns:
            What it proves together with one that was seen before, if it does.
        """
        header = signed.header
        if header.ledger == _NONE:
            return None
        mine = self._of.setdefault(key, _OfOne())
        wrong = mine.see(header.ledger, header.heads)
        mine.keep(signed, copy=wrong is not None)
        return None if wrong is None else Copied(header.sender, wrong)

    def merge(self, other: HeaderMemory) -> None:
        """Remember what another memory does."""
        for key, of_one in other._of.items():
            mine = self._of.setdefault(key, _OfOne())
            for (ledger, entry), head in of_one.seen.items():
                mine.see(ledger, {entry: head})
            for headers in of_one.kept.values():
                for signed in headers:
                    self.take(key, signed)

    def of(self, key: bytes) -> tuple[bytes, ...]:
        """Return a hospital's headers: of each ledger and training the newest, all that count."""
        found = self._of.get(key)
        kept = found.kept.values() if found else ()
        return tuple(one.to_bytes() for headers in kept for one in headers)

    def all(self) -> Iterator[tuple[bytes, bytes]]:
        """Yield every (public key, signed header)."""
        for key in self._of:
            for header in self.of(key):
                yield key, header

    def to_json(self) -> list[dict[str, object]]:
        """Return all of it, JSON-ready: headers, and the heads seen with a hospital's first."""
        found: list[dict[str, object]] = []
        for key, of_one in self._of.items():
            seen = [[led.hex(), entry, head.hex()] for (led, entry), head in of_one.seen.items()]
            for header in self.of(key):
                found.append({"key": key.hex(), "header": header.hex(), "seen": seen})
                seen = []
        return found

    @classmethod
    def from_json(cls, kept: object) -> HeaderMemory:
        """Return what `to_json` was made of.

        Raises:
            ValueError: it is something else.
        """
        memory = cls()
        for key, places in _read_seen(kept):
            of_one = memory._of.setdefault(key, _OfOne())
            for ledger, entry, head in places:
                of_one.see(ledger, {entry: head})
        for key, signed in _read(kept):
            memory.take(key, signed)
        return memory


def headers_in(text: str) -> tuple[bytes, ...]:
    """Return every signed header in a file of evidence: a hospital's, a peer's or the server's.

    Raises:
        ValueError: it is no such file.
    """
    found = json.loads(text)
    if not isinstance(found, dict) or "headers" not in found:
        raise ValueError("it holds no headers")
    return tuple(signed.to_bytes() for _, signed in _read(found["headers"]))


def signed_by(key: bytes, headers: Iterable[bytes]) -> list[SignedHeader]:
    """Return those headers whose signature by a key verifies; all else is passed over."""
    found = []
    for data in headers:
        try:
            signed = SignedHeader.from_bytes(data)
            verify_signature(key, signed.signature, signed.header.signed_text(), "")
        except SealingError:
            continue
        found.append(signed)
    return found


def _width(entry: int) -> int:
    """Return how many milestones meet at an entry."""
    return sum(entry % spacing == 0 for spacing in MILESTONES)


def _read(kept: object) -> Iterator[tuple[bytes, SignedHeader]]:
    for one in _listed(kept):
        try:
            yield (
                bytes.fromhex(str(one["key"])),
                SignedHeader.from_bytes(bytes.fromhex(str(one["header"]))),
            )
        except SealingError as error:
            raise ValueError(str(error)) from error


def _read_seen(kept: object) -> Iterator[tuple[bytes, list[tuple[bytes, int, bytes]]]]:
    for one in _listed(kept):
        try:
            places = [
                (bytes.fromhex(ledger), int(entry), bytes.fromhex(head))
                for ledger, entry, head in one.get("seen", ())
            ]
        except TypeError as error:
            raise ValueError(f"heads that were seen: {error}") from error
        yield bytes.fromhex(str(one["key"])), places


def _listed(kept: object) -> list[dict[str, Any]]:
    if not isinstance(kept, list):
        raise ValueError("headers are no list")
    for one in kept:
        if not isinstance(one, dict) or not {"key", "header"} <= one.keys():
            raise ValueError("a header is kept with its key")
    return kept
