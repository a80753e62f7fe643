"""The newest signed headers of each hospital: what was last seen of its ledger, by training.

Hospitals keep them of their peers, and the server of all. Whose a header is says its signature, so
what is kept here is proof: two headers of one ledger and entry with different heads show that two
copies of the ledger are in use. Everything is bounded.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from clients.contract.witness_messages import MOST_OF_ONE
from crypto.errors import SealingError
from crypto.headers import SignedHeader
from crypto.identity import verify_signature

#: Places in a ledger that are remembered besides the newest, to find out that it is copied.
_MOST_SEEN = 64
_NONE = bytes(8)


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
    newest: OrderedDict[tuple[bytes, str], SignedHeader] = field(default_factory=OrderedDict)
    seen: OrderedDict[tuple[bytes, int], bytes] = field(default_factory=OrderedDict)


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
        head = mine.seen.setdefault((header.ledger, header.entry), header.head)
        while len(mine.seen) > _MOST_SEEN:
            mine.seen.popitem(last=False)
        if head != header.head:
            return Copied(header.sender, header.entry)
        place = (header.ledger, header.training)
        before = mine.newest.get(place)
        if before is None or before.header.entry < header.entry:
            mine.newest[place] = signed
            mine.newest.move_to_end(place)
        while len(mine.newest) > MOST_OF_ONE:
            mine.newest.popitem(last=False)
        return None

    def of(self, key: bytes) -> tuple[bytes, ...]:
        """Return a hospital's headers, the newest of each ledger and training."""
        found = self._of.get(key)
        return tuple(one.to_bytes() for one in found.newest.values()) if found else ()

    def all(self) -> Iterator[tuple[bytes, bytes]]:
        """Yield every (public key, signed header)."""
        for key in self._of:
            for header in self.of(key):
                yield key, header

    def to_json(self) -> list[dict[str, str]]:
        """Return all of it, JSON-ready."""
        return [{"key": key.hex(), "header": header.hex()} for key, header in self.all()]

    @classmethod
    def from_json(cls, kept: object) -> HeaderMemory:
        """Return what `to_json` was made of.

        Raises:
            ValueError: it is something else.
        """
        memory = cls()
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


def _read(kept: object) -> Iterator[tuple[bytes, SignedHeader]]:
    if not isinstance(kept, list):
        raise ValueError("headers are no list")
    for one in kept:
        if not isinstance(one, dict) or not {"key", "header"} <= one.keys():
            raise ValueError("a header is kept with its key")
        try:
            yield (
                bytes.fromhex(str(one["key"])),
                SignedHeader.from_bytes(bytes.fromhex(str(one["header"]))),
            )
        except SealingError as error:
            raise ValueError(str(error)) from error
