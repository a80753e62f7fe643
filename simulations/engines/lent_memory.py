"""Memory that one process of a machine lends another, which reads what lies there.

Ray carries a megabyte from process to process in most of a millisecond, through a socket or through
its object store. Where both are on one machine it need only carry where the bytes lie: in a file of
the lender that has no name in any folder and is gone when the lender ends, however it ends.

A lender writes over a place when it is told to, so whoever tells it waits until what lies there has
been read::

    lent = lender.lend(0, b"replies")
    borrower.read(lent, bytes)  # b"replies"; 0 may be written over from here on
"""

from __future__ import annotations

import mmap
import os
import secrets
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

#: What takes fewer bytes is carried as fast as word of it.
LEAST_BYTES = 64 * 2**10

T = TypeVar("T")


class Gone(ConnectionError):
    """What was lent is not there any more: its process has ended."""


class OutOfReach(ConnectionError):
    """What was lent is there, but this process may not read it."""


@dataclass(frozen=True, slots=True)
class Lent:
    """Where bytes lie.

    Attributes:
        process: number of the process that lends them.
        file: number of the file in that process.
        name: of the file, that no other has: numbers are given again when processes end.
        size: bytes to read.
    """

    process: int
    file: int
    name: str
    size: int


@cache
def home() -> str:
    """Return what processes have in common that can lend each other memory; "": none can here.

    It is the running system, its numbering of processes, and the user.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        numbering = os.stat("/proc/self/ns/pid").st_ino
        if os.readlink("/proc/self") != str(os.getpid()):
            return ""  # processes have other numbers there
    except OSError:
        return ""
    return f"{boot} {numbering} {os.getuid()}" if hasattr(os, "memfd_create") else ""


class Lender:
    """What this process lends, by numbered places, for as long as this object lives."""

    def __init__(self) -> None:
        self._names: dict[int, str] = {}
        self._files: dict[int, int] = {}
        weakref.finalize(self, _close, self._files)

    def lend(self, place: int, data: bytes) -> Lent:
        """Write bytes over what lay at a place; return where they lie.

        Raises:
            OSError: the machine has no memory left for them.
        """
        if place not in self._files:
            self._names[place] = secrets.token_hex(16)
            self._files[place] = os.memfd_create(self._names[place])
        file, rest, at = self._files[place], memoryview(data), 0
        while rest:
            written = os.pwrite(file, rest, at)
            rest, at = rest[written:], at + written
        return Lent(os.getpid(), file, self._names[place], len(data))

    def lent(self, lent: Lent) -> bytes:
        """Return bytes that this process has lent, for who cannot read them there."""
        with mmap.mmap(lent.file, lent.size, prot=mmap.PROT_READ) as seen:
            return bytes(seen)


class Borrower:
    """Reads what other processes lend; keeps their files open, as they are lent again and again."""

    def __init__(self) -> None:
        self._files: dict[str, int] = {}
        weakref.finalize(self, _close, self._files)

    def read(self, lent: Lent, reader: Callable[[mmap.mmap], T]) -> T:
        """Return what a reader makes of lent bytes, of which it keeps none.

        Raises:
            Gone: their process has ended.
            OutOfReach: this process may not read them.
        """
        if lent.name not in self._files:
            self._files[lent.name] = self._opened(lent)
        with mmap.mmap(self._files[lent.name], lent.size, prot=mmap.PROT_READ) as seen:
            return reader(seen)

    def _opened(self, lent: Lent) -> int:
        """Return a file of another process, opened for reading."""
        path = f"/proc/{lent.process}/fd/{lent.file}"
        try:
            file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except FileNotFoundError as error:
            raise Gone(path) from error
        except OSError as error:
            raise OutOfReach(path) from error
        if not os.readlink(f"/proc/self/fd/{file}").startswith(f"/memfd:{lent.name} "):
            os.close(file)
            raise Gone(path)
        return file

    def forget(self) -> None:
        """Close all files: what processes lent that have ended is held by nobody then."""
        _close(self._files)
        self._files.clear()


def _close(files: Mapping[Any, int]) -> None:
    for file in files.values():
        os.close(file)
