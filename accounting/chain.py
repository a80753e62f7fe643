"""An append-only file of JSON lines, each chained to the one before it by SHA-256.

    {"ledger":2,"site":"north","cohort":"lungs","salt":"...","check":"..."}
    {"n":1,"prev":"...","kind":"spend",...,"check":"..."}

A line's `prev` is the head before it, the SHA-256 of the line before; `check` is its own CRC-32. So
one head stands for everything before it. A write torn by a crash leaves a fragment without an end:
the next writer marks it as torn and sets a "repaired" line behind it. Damage anywhere else is an
error, not a guess.

A file of format 1, whose lines were numbered but not chained, is continued: one line of format 2
holds the digest of every byte before it.

Several processes may append: the lock covers reading, checking and appending. What was read or
written once is not read again while the file's size is as it was left.
"""

from __future__ import annotations

import fcntl
import os
import stat
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from hashlib import sha256
from pathlib import Path

from accounting.errors import LedgerError
from accounting.links import TORN, Reader, Record, encode, may_begin, parse

FORMAT = 2


class Flush(Enum):
    """How far a line has come when `append` returns."""

    #: On the disk: loss of power is covered too.
    DISK = "disk"
    #: With the operating system: a killed process is covered. For simulations.
    WRITE = "write"


class Chain:
    """One such file of one site and one cohort. Safe for several processes, threads and forks."""

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        site: str,
        cohort: str,
        flush: Flush,
        take: Callable[[Record], None],
    ) -> None:
        """Open the file, or begin it where there is none.

        Args:
            path: the file; its folder must exist.
            site: whose it is.
            cohort: the name of the data it is about.
            flush: how far a line must have come before `append` returns.
            take: called with each line that was not appended here, in order, under the lock.

        Raises:
            LedgerError: the file is damaged, no ledger, or another site's or cohort's.
        """
        self.path = Path(path)
        self.site = site
        self.cohort = cohort
        self._flush = flush
        self._take = take
        self._reader = Reader(self.path)
        self._folder_flushed = False
        self._held = 0
        self._threads = threading.RLock()
        self._file = -1
        self._closed = False
        self._process = os.getpid()
        self._inode: tuple[int, int] | None = None
        try:
            with self.hold():
                pass
        except BaseException:
            self.close()
            raise

    @property
    def number(self) -> int:
        """The last line's number."""
        return self._reader.number

    @property
    def head(self) -> str:
        """SHA-256 of the last line, hex: it stands for everything in the file."""
        return self._reader.head

    @property
    def id(self) -> str:
        """The ledger's own id, hex of 8 bytes: two ledgers never share one."""
        return self._reader.id

    def close(self) -> None:
        """Close the file; the chain cannot be used after."""
        self.rest()
        self._closed = True

    def rest(self) -> None:
        """Give the descriptor back; the next use opens the file again and reads what is new."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def hold(self) -> Chain:
        """Hold the file's lock, so that a check and the line that it allows are one step."""
        return self

    def __enter__(self) -> None:
        if self._process != os.getpid():
            self._after_fork()
        self._threads.acquire()
        try:
            if self._closed:
                raise LedgerError(f"{self.path} is closed")
            if not self._held:
                self._lock()
            self._held += 1
        except BaseException:
            self._threads.release()
            raise
        try:
            if self._held == 1:
                self._catch_up()
        except BaseException:
            self.__exit__()
            raise

    def __exit__(self, *_: object) -> None:
        try:
            self._held -= 1
            if not self._held:
                fcntl.flock(self._file, fcntl.LOCK_UN)
        finally:
            self._threads.release()

    def look(self) -> None:
        """Take in what is new, for whoever only reads: where nothing is, no lock is needed."""
        if self._process == os.getpid() and self._file >= 0 and not self._closed:
            try:
                there = os.stat(self.path)
            except FileNotFoundError:
                raise LedgerError(f"{self.path} is gone") from None
            if (there.st_dev, there.st_ino) == self._inode and self._is_read(there.st_size):
                return
        with self.hold():
            pass

    def _is_read(self, size: int) -> bool:
        """Whether a file of that size has been read to its sound end."""
        return size == self._reader.end and not self._reader.torn and self._reader.chained

    def append(self, records: Sequence[Record]) -> None:
        """Write lines behind the last one, all in one write; the lock is held.

        Guarantee: when it returns they are in the file (with `Flush.DISK`, on the disk); when it
        raises, or never returns, some of the first may be there, and are found by the next use;
        none of those that a flush failed on.

        Raises:
            OSError: the disk refuses, for example because it is full.
        """
        reader = self._reader
        number, head = reader.number, reader.head
        lines = []
        for record in records:
            number += 1
            line = encode({"n": number, "prev": head, **record})
            head = sha256(line).hexdigest()
            lines.append((line, head))
        self._write(b"".join([line + b"\n" for line, _ in lines]))
        for line, head in lines:
            reader.added(line, head)

    def line(self, number: int) -> tuple[Record, str]:
        """The line of a number, and the head after it.

        Raises:
            LedgerError: there is no such line of format 2.
        """
        with self.hold():
            start, end = self._reader.span(number)
            line = os.pread(self._file, end - start, start).partition(b"\n")[0]
        record = parse(line)
        if record is None:
            raise LedgerError(f"{self.path} was changed where it had been read")
        return record, sha256(line).hexdigest()

    def heads(self, numbers: Iterable[int]) -> dict[int, str]:
        """SHA-256 of the lines of these numbers, hex, without those that the chain lacks."""
        found: dict[int, str] = {}
        with self.hold():
            for number in dict.fromkeys(numbers):
                with suppress(LedgerError):
                    start, end = self._reader.span(number)
                    line = os.pread(self._file, end - start, start).partition(b"\n")[0]
                    found[number] = sha256(line).hexdigest()
        return found

    def _lock(self) -> None:
        if self._file < 0:
            self._open()
        fcntl.flock(self._file, fcntl.LOCK_EX)

    def _open(self) -> None:
        flags = os.O_RDWR | os.O_APPEND | os.O_CLOEXEC | (0 if self._inode else os.O_CREAT)
        try:
            self._file = os.open(self.path, flags, 0o600)
        except FileNotFoundError:
            if self._inode is None:
                raise
            raise LedgerError(f"{self.path} is gone") from None
        found = os.fstat(self._file)
        if not stat.S_ISREG(found.st_mode):
            raise LedgerError(f"{self.path} is no ledger but a device or a pipe")
        if found.st_mode & 0o022:
            raise LedgerError(f"{self.path} can be changed by others than its owner")
        if self._inode not in (None, (found.st_dev, found.st_ino)):
            self.rest()
            raise LedgerError(f"{self.path} was replaced by another file while it was in use")
        self._inode = (found.st_dev, found.st_ino)

    def _after_fork(self) -> None:
        """Open the file anew: a lock belongs to what was opened, which a fork shares."""
        self._threads = threading.RLock()
        self._held = 0
        self._process = os.getpid()
        self.rest()

    def _catch_up(self) -> None:
        """Take in what is new, mend a torn end, and begin what has no beginning."""
        try:
            there = os.stat(self.path)
        except FileNotFoundError:
            raise LedgerError(f"{self.path} is gone") from None
        if (there.st_dev, there.st_ino) != self._inode:
            raise LedgerError(f"{self.path} was replaced by another file while it was in use")
        if not self._is_read(there.st_size):
            self._read(there.st_size)

    def _read(self, size: int) -> None:
        reader = self._reader
        if size < reader.end:
            raise LedgerError(f"{self.path} has {size} bytes, but had {reader.end}: cut short")
        start = reader.last_start
        data = os.pread(self._file, size - start, start)
        known = reader.end - start
        if known and sha256(data[: known - 1]).hexdigest() != reader.head:
            raise LedgerError(f"{self.path} was changed where it had been read")
        *lines, tail = data[known:].split(b"\n")
        for line in lines:
            self._took(line)
        self._mend(tail)

    def _took(self, line: bytes) -> None:
        record = self._reader.take(line)
        for name, own in (("site", self.site), ("cohort", self.cohort)):
            found = getattr(self._reader, name)
            if found not in (None, own):
                raise LedgerError(f"{self.path} is the ledger of {name} {found!r}, not {own!r}")
        if record is not None:
            self._take(record)

    def _mend(self, tail: bytes) -> None:
        """Put behind the last line's end what a torn write, or a missing first line, asks for."""
        if tail and parse(tail) is not None:
            self._write(b"\n")  # whole but for its end, so it counts: more, never less
            self._took(tail)
            tail = b""
        reader = self._reader
        if reader.chained:
            if not tail and not reader.torn:
                return
            lines = [tail + TORN] if tail else []
            lines.append(self._repaired(lines))
        elif reader.site is None:
            if tail and not may_begin(tail):
                raise LedgerError(f"{self.path} is no ledger")
            header = {"ledger": FORMAT, "site": self.site, "cohort": self.cohort}
            lines = [tail + TORN] if tail else []
            lines.append(encode({**header, "salt": os.urandom(32).hex()}))
        else:
            lines = [tail] if tail else []
            lines.append(encode(reader.continuation(lines, os.urandom(32).hex())))
        # The torn line is in the file already, but for its end.
        self._write(b"".join([line + b"\n" for line in lines])[len(tail) :])
        for line in lines:
            self._took(line)

    def _repaired(self, torn: list[bytes]) -> bytes:
        reader = self._reader
        size, digest = reader.torn_stretch(torn)
        link = {"n": reader.number + 1, "prev": reader.head, "kind": "repaired"}
        return encode({**link, "bytes": size, "digest": digest, "time": time.time()})

    def _write(self, data: bytes) -> None:
        end = os.fstat(self._file).st_size
        while data:
            data = data[os.write(self._file, data) :]
        if self._flush is Flush.DISK:
            self._flush_from(end)
            if not self._folder_flushed:
                self._flush_folder()

    def _flush_from(self, end: int) -> None:
        """Bring to the disk what was written from an offset on, or take it out of the file again.

        What a failed flush leaves is seen by every reader and counts as flushed, so no later flush
        brings it to the disk: were lines put behind it, loss of power would leave a hole.
        """
        try:
            os.fsync(self._file)
        except OSError:
            try:
                os.ftruncate(self._file, end)
            except OSError:
                self._closed = True  # what the disk is is known when the file is opened anew
            raise

    def _flush_folder(self) -> None:
        folder = os.open(self.path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        self._folder_flushed = True


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainContents:
    """What a file holds: whose it is, its id, its lines in order, where it ends."""

    site: str
    cohort: str
    id: str
    records: tuple[Record, ...]
    number: int
    head: str


def read_chain(path: str | os.PathLike[str]) -> ChainContents:
    """Read a file of any site without locking or changing it; a torn end is left out.

    Raises:
        LedgerError: the file is damaged or no ledger.
    """
    reader = Reader(Path(path))
    lines = Path(path).read_bytes().split(b"\n")[:-1]
    records = tuple(record for line in lines if (record := reader.take(line)) is not None)
    if reader.site is None or reader.cohort is None:
        raise LedgerError(f"{path} is no ledger")
    return ChainContents(
        site=reader.site,
        cohort=reader.cohort,
        id=reader.id,
        records=records,
        number=reader.number,
        head=reader.head,
    )
