"""A hospital's ledger: what was spent on its patients, written before the data is touched.

One JSON object a line, appended and flushed to disk before `spend` returns, so that whatever kills
the process, no access to data goes unrecorded. The file outlives a training: a second one continues
the account. A retry is a new entry, always; nothing is refunded, merged or rewritten.

    ledger = Ledger(path, site="hospital-3", cohort="kermany-2018")
    ledger.spend(event, training="a1b2", round=1, attempt=1, purpose="gradient")

A write torn by a crash leaves a fragment whose `spend` never returned. It stays in the file, and
the next writer sets a "repaired" line behind it; damage anywhere else is an error, not a guess.
Only the standard library is imported here, until an epsilon is asked for.
"""

from __future__ import annotations

import fcntl
import json
import os
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from accounting.errors import AccountingError, LedgerError
from accounting.events import Event, from_json, to_json

FORMAT = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One line of a ledger: an event, and what it was spent on.

    Attributes:
        number: 1, 2, 3, ... in the file.
        time: unix seconds.
        training: the training's id, which outlives Flower's run id.
        round: 1, 2, 3, ...
        attempt: of that round, 1, 2, 3, ...
        purpose: a word for what was released, for example "gradient".
        event: what it costs.
    """

    number: int
    time: float
    training: str
    round: int
    attempt: int
    purpose: str
    event: Event

    def to_json(self) -> dict[str, object]:
        """The entry as a JSON-ready dict."""
        fields = {name: getattr(self, name) for name in self.__slots__}
        return {**fields, "event": to_json(self.event)}


class Ledger:
    """An append-only ledger file of one site and one cohort. Safe for several processes."""

    def __init__(
        self, path: str | os.PathLike[str], *, site: str, cohort: str, durable: bool = True
    ) -> None:
        """Open the ledger, or begin it where there is no file.

        Args:
            path: the file; its folder must exist.
            site: the hospital's name.
            cohort: the name of the data it spends.
            durable: flush to the disk itself (fsync), so that power loss is covered as well as a
                killed process. False is for simulations.

        Raises:
            LedgerError: the file is damaged, no ledger, or another site's or cohort's.
        """
        self.path = Path(path)
        self.site = site
        self.cohort = cohort
        self._durable = durable
        self._counts: dict[Event, int] = {}
        self._reader = _Reader(self.path)
        self._offset = 0
        self._held = 0
        self._threads = threading.RLock()
        self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            with self.hold():
                if self._reader.site is None:
                    self._append({"ledger": FORMAT, "site": site, "cohort": cohort})
                    self._sync_folder()
                    self._read()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the file; the ledger cannot be used after."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Ledger({str(self.path)!r}, site={self.site!r}, cohort={self.cohort!r})"

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Hold the file's lock, so that a check and the spending it allows are one step."""
        with self._threads:
            if self._file < 0:
                raise LedgerError(f"{self.path} is closed")
            if not self._held:
                fcntl.flock(self._file, fcntl.LOCK_EX)
            self._held += 1
            try:
                if self._held == 1:
                    self._read()
                    self._repair()
                yield
            finally:
                self._held -= 1
                if not self._held:
                    fcntl.flock(self._file, fcntl.LOCK_UN)

    def spend(
        self, event: Event, *, training: str, round: int, attempt: int, purpose: str
    ) -> Entry:
        """Record an event. Touch the data only after this has returned.

        Guarantee: when it returns the entry is in the file (and, if durable, on the disk);
        when it raises, or never returns, the entry may or may not be there: the ledger never
        under-counts.

        Raises:
            LedgerError: the file was damaged meanwhile.
            OSError: the disk refuses, for example because it is full.
        """
        with self.hold():
            entry = Entry(
                number=self._reader.last + 1,
                time=time.time(),
                training=training,
                round=round,
                attempt=attempt,
                purpose=purpose,
                event=event,
            )
            self._append(entry.to_json())
            self._read()
        return entry

    def entries(self) -> tuple[Entry, ...]:
        """Every entry in the file, in order."""
        return read_ledger(self.path).entries

    def events(self) -> tuple[Event, ...]:
        """What was spent so far, equal mechanisms merged."""
        with self.hold():
            return tuple(replace(event, count=n) for event, n in self._counts.items() if n)

    def epsilon(self, delta: float, accountant: str = "rdp") -> float:
        """Epsilon of everything spent so far, all trainings together.

        Guarantee: for neighbours that differ by one patient of this site, if the parameters of
        later trainings did not depend on what earlier ones released; else see `would_be`.
        """
        from accounting.accountants import epsilon

        return epsilon(self.events(), delta, accountant)

    def would_be(
        self, event: Event | None, delta: float, *, planned_epsilon: float | None = None
    ) -> float:
        """Epsilon after `event` as well, valid even if parameters were chosen adaptively.

        Guarantee: a site that spends only while this is at most a fixed bound stays (bound,
        delta)-private, whatever the later trainings' parameters depended on, for neighbours that
        differ by one patient of this site. A little more than `epsilon`: the price of adaptivity.

        Args:
            event: what is about to be spent; None: nothing.
            delta: fixed beforehand, once for the ledger.
            planned_epsilon: the bound, fixed beforehand; picks the filter's orders.

        Source: `accounting.renyi_filter`.
        """
        from accounting.renyi_filter import RenyiFilter

        events = (*self.events(), *(() if event is None else (event,)))
        return RenyiFilter.planned(delta, planned_epsilon).epsilon(events)

    def _append(self, data: dict[str, object]) -> None:
        """Write one line in full and flush it; the lock is held."""
        text = json.dumps(data, separators=(",", ":"), allow_nan=False)
        line = f'{text[:-1]},"check":"{zlib.crc32(text.encode()):08x}"}}\n'.encode()
        self._write(line)

    def _write(self, data: bytes) -> None:
        while data:
            data = data[os.write(self._file, data) :]
        if self._durable:
            os.fsync(self._file)

    def _read(self) -> None:
        """Take in the complete lines that are new since the last read."""
        size = os.fstat(self._file).st_size
        if size < self._offset:
            raise LedgerError(f"{self.path} has {size} bytes, but had {self._offset}: cut short")
        data = os.pread(self._file, size - self._offset, self._offset)
        end = data.rfind(b"\n") + 1
        for line in data[:end].split(b"\n")[:-1]:
            self._take(line)
        self._offset += end

    def _take(self, line: bytes) -> None:
        entry = self._reader.take(line)
        for name, own in (("site", self.site), ("cohort", self.cohort)):
            found = getattr(self._reader, name)
            if found not in (None, own):
                raise LedgerError(f"{self.path} is the ledger of {name} {found!r}, not {own!r}")
        if entry is not None:
            mechanism = replace(entry.event, count=1)
            self._counts[mechanism] = self._counts.get(mechanism, 0) + entry.event.count

    def _repair(self) -> None:
        """End a torn last line and say so behind it; the fragment stays."""
        torn = os.fstat(self._file).st_size - self._offset
        if not torn and self._reader.fragment is None:
            return
        if self._reader.site is None and not _may_be_ledger(os.pread(self._file, 64, 0)):
            raise LedgerError(f"{self.path} is no ledger")
        if torn:
            self._write(b"\n")
        self._append({"repaired": torn, "time": time.time()})
        self._read()

    def _sync_folder(self) -> None:
        if not self._durable:
            return
        folder = os.open(self.path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerContents:
    """What a ledger file holds."""

    site: str
    cohort: str
    entries: tuple[Entry, ...]


def read_ledger(path: str | os.PathLike[str]) -> LedgerContents:
    """Read a ledger of any site without locking or changing it; a torn last line is left out.

    Raises:
        LedgerError: the file is damaged or no ledger.
    """
    reader = _Reader(Path(path))
    data = Path(path).read_bytes()
    entries = [entry for line in data.split(b"\n")[:-1] if (entry := reader.take(line))]
    if reader.site is None or reader.cohort is None:
        raise LedgerError(f"{path} is no ledger")
    return LedgerContents(site=reader.site, cohort=reader.cohort, entries=tuple(entries))


class _Reader:
    """Takes a ledger's complete lines one by one and checks that none is damaged or missing."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._line = 0
        self.site: str | None = None
        self.cohort: str | None = None
        self.last = 0
        self.fragment: int | None = None

    def take(self, line: bytes) -> Entry | None:
        """The line's entry, or None for a header, a fragment or the note of its repair."""
        self._line += 1
        data = _parse(line)
        if data is None:
            self.fragment = self.fragment or self._line
            return None
        if "repaired" in data:
            self.fragment = None
            return None
        if self.fragment is not None:
            raise LedgerError(f"{self._path} is damaged at line {self.fragment}")
        if self.site is None:
            self._take_header(data)
            return None
        entry = _entry(data)
        if entry.number != self.last + 1:
            found = f"line {self._line} is entry {entry.number}"
            raise LedgerError(f"{self._path} {found}, expected {self.last + 1}")
        self.last = entry.number
        return entry

    def _take_header(self, data: dict[str, object]) -> None:
        site, cohort = data.get("site"), data.get("cohort")
        if data.get("ledger") != FORMAT or not isinstance(site, str) or not isinstance(cohort, str):
            raise LedgerError(f"{self._path} is no ledger of format {FORMAT}")
        self.site, self.cohort = site, cohort


def _may_be_ledger(start: bytes) -> bool:
    expected = b'{"ledger":'
    return start[: len(expected)] == expected[: len(start)]


def _parse(line: bytes) -> dict[str, object] | None:
    """The line's object without its check, or None if the line is torn or altered."""
    try:
        data = json.loads(line)
    except ValueError:
        return None
    if not isinstance(data, dict):
        return None
    check = data.pop("check", None)
    text = json.dumps(data, separators=(",", ":"))
    return data if check == f"{zlib.crc32(text.encode()):08x}" else None


def _entry(data: dict[str, object]) -> Entry:
    fields = dict(data)
    event = fields.pop("event", None)
    if not isinstance(event, dict):
        raise LedgerError(f"a ledger entry has no event: {sorted(data)}")
    try:
        return Entry(event=from_json(event), **fields)  # type: ignore[arg-type]
    except (AccountingError, TypeError) as error:
        raise LedgerError(f"a ledger entry cannot be read: {error}") from error
