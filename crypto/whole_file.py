"""Files that are written whole or not at all: secrets for their owner's eyes, and results.

A file is written aside, under a name that no other process picks, and then takes its place in one
step: a reader sees the old content or the new, and a process that dies leaves the old.
"""

import fcntl
import os
import re
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

#: Readable by the owner alone; and by whom the process's umask lets read.
_PRIVATE, _SHARED = 0o600, 0o666
#: A name of a file aside: the file's, the process's id, and eight random digits.
_ASIDE = re.compile(r"\..+\.[0-9]+\.[0-9a-f]{8}")
_ABANDONED_SECONDS = 3600.0


def write_private(
    path: Path, data: bytes | Iterable[bytes], *, durable: bool = True, anew: bool = False
) -> None:
    """Write a file that only its owner can read, whole or not at all.

    Args:
        path: The file; its folder must exist.
        data: All of it, or its pieces in order.
        durable: Wait until file and name have reached the disk, so that they survive a power cut;
            a killed process loses nothing either way.
        anew: Insist that there is no such file yet, even where two processes write at once.

    Raises:
        FileExistsError: There is one, and `anew` was asked for; it is left as it is.
    """
    _write(path, data, _PRIVATE, durable=durable, anew=anew)


def write_shared(path: Path, data: bytes, *, durable: bool = True) -> None:
    """Write a file that may be shown to others, whole or not at all; as :func:`write_private`."""
    _write(path, data, _SHARED, durable=durable, anew=False)


def sweep(folder: Path) -> None:
    """Remove what processes that died while they wrote have left aside, which may hold keys.

    A file that is still being written is younger than an hour.
    """
    with os.scandir(folder) as entries:
        found = [entry for entry in entries if _ASIDE.fullmatch(entry.name)]
    for entry in found:
        try:
            if entry.stat(follow_symlinks=False).st_mtime < time.time() - _ABANDONED_SECONDS:
                os.unlink(entry.path)
        except FileNotFoundError:
            continue


def _write(
    path: Path, data: bytes | Iterable[bytes], mode: int, *, durable: bool, anew: bool
) -> None:
    aside = path.with_name(f".{path.name}.{os.getpid()}.{os.urandom(4).hex()}")
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.writelines((data,) if isinstance(data, bytes) else data)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        if anew:
            os.link(aside, path)
        else:
            os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)
    if durable:
        _flush_names(path.parent)


def _flush_names(folder: Path) -> None:
    """Flush a folder's list of names, so that a new one outlives a loss of power."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def locked(path: Path, *, wait: bool = True) -> Iterator[None]:
    """Let one process of the machine on while the others wait; the empty file at `path` stays.

    The lock goes with the process that has it, however that ends.

    Args:
        path: The file; its folder must exist.
        wait: For whoever has the lock.

    Raises:
        BlockingIOError: Another has it, and nobody waits.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _PRIVATE)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)
