"""The lines of a chained file: how one is written, and how it is checked against those before it.

A `Reader` takes complete lines one by one and refuses what does not follow; it never sees the
file. It reads both formats: in format 1 entries are numbered, and a newline ends a torn line too.
"""

from __future__ import annotations

import json
import re
import zlib
from array import array
from hashlib import sha256
from pathlib import Path

from accounting.errors import LedgerError

Record = dict[str, object]

#: Ends a line that a crash tore: without it, a line that cannot be read was damaged later.
TORN = b"#torn"
_BEGINNING = b'{"ledger":'
_CHECK = b',"check":"'
_CHECKED = re.compile(rb',"check":"[0-9a-f]{8}"\}$')
_decoded = json.JSONDecoder().decode
_encoded = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode


def encode(record: Record) -> bytes:
    """A record's line, with its check and without its end."""
    text = _encoded(record).encode()
    return b'%s,"check":"%08x"}' % (text[:-1], zlib.crc32(text))


def parse(line: bytes) -> Record | None:
    """The line's record without its check, or None if the line is torn or altered."""
    if line[-20:-10] != _CHECK or line[-2:] != b'"}':
        return None
    text = line[:-20] + b"}"
    if line[-10:-2] != b"%08x" % zlib.crc32(text):
        return None
    try:
        record = _decoded(text.decode())
    except ValueError:
        return None
    return record if isinstance(record, dict) else None


def may_begin(start: bytes) -> bool:
    """Whether a file that starts so may be a ledger's torn first line."""
    return start[: len(_BEGINNING)] == _BEGINNING[: len(start)]


class Reader:
    """Takes a file's complete lines one by one and checks that none is damaged or missing.

    Attributes:
        site: whose it is; None before the first line.
        cohort: what it is about.
        chained: whether a line of format 2 has begun the chain.
        number: the last line's number.
        head: SHA-256 of the last line, hex; "" before the chain.
        id: the first 8 bytes of the SHA-256 of the line that begins the chain, hex.
        end: bytes taken so far.
        last_start: where the last chained line starts; `end` where there is none.
        torn: the number of the first torn line that no "repaired" line followed yet, or 0.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._count = 0
        self.site: str | None = None
        self.cohort: str | None = None
        self.chained = False
        self.number = 0
        self.head = ""
        self.id = ""
        self.end = 0
        self.torn = 0
        self._stretch: list[bytes] = []
        self._bytes = sha256()  # of the whole file, until the chain begins
        self._first = 0
        self._starts = array("Q")

    @property
    def last_start(self) -> int:
        """Where the last chained line starts; the end of what was taken where none is last."""
        return self._starts[-1] if self.chained and not self.torn else self.end

    def span(self, number: int) -> tuple[int, int]:
        """Where a line of the chain starts, and where the next one does.

        Raises:
            LedgerError: there is no such line.
        """
        at = number - self._first
        if not 0 <= at < len(self._starts):
            raise LedgerError(f"{self._path} has no line {number} of format 2")
        after = self._starts[at + 1] if at + 1 < len(self._starts) else self.end
        return self._starts[at], after

    def take(self, line: bytes) -> Record | None:
        """The line's record, or None for a first line, a torn one or the note of its repair.

        An entry of format 1 becomes a record of kind "entry".

        Raises:
            LedgerError: the line is damaged or does not follow the one before it.
        """
        self._count += 1
        record = parse(line)
        if self.chained:
            return self._take_link(line, record)
        found = self._take_old(line, record)
        self._bytes.update(line + b"\n")
        self.end += len(line) + 1
        return found

    def added(self, line: bytes, head: str) -> None:
        """Count a line that the caller has made to follow, and whose head it knows."""
        self._count += 1
        self._follow(line, head)

    def torn_stretch(self, more: list[bytes]) -> tuple[int, str]:
        """Bytes and SHA-256 of all torn lines since the last sound one, and those given."""
        stretch = b"".join([line + b"\n" for line in [*self._stretch, *more]])
        return len(stretch), sha256(stretch).hexdigest()

    def continuation(self, torn: list[bytes], salt: str) -> Record:
        """The line that chains a file of format 1, behind a torn one if there is any."""
        before = self._bytes.copy()
        for line in torn:
            before.update(line + b"\n")
        link = {"n": self.number + 1, "prev": before.hexdigest()}
        return {"chain": 2, **link, "entries": self.number, "salt": salt}

    def _take_link(self, line: bytes, record: Record | None) -> Record | None:
        if record is None:
            if not line.endswith(TORN):
                raise LedgerError(f"{self._path} is damaged at line {self._count}")
            self.torn = self.torn or self._count
            self._stretch.append(line)
            self.end += len(line) + 1
            return None
        repaired = record.get("kind") == "repaired"
        if repaired != bool(self.torn) or (
            repaired and (record.get("bytes"), record.get("digest")) != self.torn_stretch([])
        ):
            raise LedgerError(f"{self._path} is damaged at line {self.torn or self._count}")
        if record.get("prev") != self.head or record.get("n") != self.number + 1:
            raise LedgerError(
                f"{self._path} line {self._count} does not follow line {self.number} of the chain"
            )
        self.torn = 0
        self._stretch.clear()
        self._follow(line, sha256(line).hexdigest())
        return None if repaired else record

    def _follow(self, line: bytes, head: str) -> None:
        self.number += 1
        self.head = head
        self._starts.append(self.end)
        self.end += len(line) + 1

    def _take_old(self, line: bytes, record: Record | None) -> Record | None:
        """A line before the chain: of format 1, or the one that begins the chain."""
        if record is None:
            if self.site is None and not (line and may_begin(line.removesuffix(TORN))):
                raise LedgerError(f"{self._path} is no ledger")
            if _CHECKED.search(line):
                raise LedgerError(f"{self._path} is damaged at line {self._count}")
            self.torn = self.torn or self._count
            return None
        if self.site is None:
            self._take_header(line, record)
            return None
        if "chain" in record:
            self._take_continuation(line, record)
            return None
        if "repaired" in record:
            self.torn = 0
            return None
        if self.torn:
            raise LedgerError(f"{self._path} is damaged at line {self.torn}")
        if record.get("number") != self.number + 1:
            found = f"line {self._count} is entry {record.get('number')}"
            raise LedgerError(f"{self._path} {found}, expected {self.number + 1}")
        self.number += 1
        return {"n": record.pop("number"), "kind": "entry", **record}

    def _take_header(self, line: bytes, record: Record) -> None:
        if "repaired" in record:
            return
        site, cohort, version = record.get("site"), record.get("cohort"), record.get("ledger")
        if version not in (1, 2) or not isinstance(site, str) or not isinstance(cohort, str):
            raise LedgerError(f"{self._path} is no ledger of format 1 or 2")
        self.site, self.cohort = site, cohort
        self.torn = 0
        if version == 2:
            self._begin(line, 0)

    def _take_continuation(self, line: bytes, record: Record) -> None:
        expected = self.continuation([], str(record.get("salt")))
        if record != expected:
            raise LedgerError(f"{self._path} is damaged before line {self._count}")
        self.torn = 0
        self._begin(line, self.number + 1)

    def _begin(self, line: bytes, number: int) -> None:
        self.chained = True
        self.number = self._first = number
        self.head = sha256(line).hexdigest()
        self.id = self.head[:16]
        self._starts.append(self.end)
