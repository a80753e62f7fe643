"""Memory that one process of a machine lends another, which reads what lies there.

Ray carries a megabyte from process to process in most of a millisecond, through a socket or through
its object store. Where both are on one machine it need only carry where the bytes lie: in a file of
the lender that has no name in any folder and is gone when the lender ends, however it ends.

A lender writes over a place when it is told to, so whoever tells it waits until what lies there has
been read::

    lent = lender.lend(0, b"replies")
    borrower.read("theirs", lent, bytes)  # b"replies"; 0 may be written over from here on
"""

from __future__ import annotations

import errno
import mmap
import os
import secrets
import weakref
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

#: What takes fewer bytes is carried as fast as word of it.
LEAST_BYTES = 64 * 2**10

T = TypeVar("T")


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
    """Reads what other processes lend, at as many places; keeps the last file of each open.

    So what was lent there by a process that has ended since can still be read.
    """

    def __init__(self) -> None:
        self._names: dict[Hashable, str] = {}
        self._files: dict[Hashable, int] = {}
        weakref.finalize(self, _close, self._files)

    def read(self, place: Hashable, lent: Lent, reader: Callable[[mmap.mmap], T]) -> T:
        """Return what a reader makes of lent bytes, of which it keeps none.

        Raises:
            OSError: they cannot be read here, or their process has ended.
        """
        if self._names.get(place) != lent.name:
            file = _opened(lent)
            if place in self._files:
                os.close(self._files[place])
            self._names[place], self._files[place] = lent.name, file
        with mmap.mmap(self._files[place], lent.size, prot=mmap.PROT_READ) as seen:
            return reader(seen)


def _opened(lent: Lent) -> int:
    """Return a file of another process, opened for reading."""
    path = f"/proc/{lent.process}/fd/{lent.file}"
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    if not os.readlink(f"/proc/self/fd/{file}").startswith(f"/memfd:{lent.name} "):
        os.close(file)
        raise FileNotFoundError(errno.ENOENT, "another file has its numbers", path)
    return file


def _close(files: Mapping[Any, int]) -> None:
    for file in files.values():
        os.close(file)
