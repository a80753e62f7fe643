"""Packets: the randomness of one prediction each, on disk until it is used, and used once.

A packet is the patient's seed and the tape for it. In a dealer's stock both lie together; a patient
keeps the tape alone, and gets the seed when it is used, as the provider gets its own: each once, so
that a patient's machine that is set back to an earlier state has nothing to use again.

Whatever is taken is taken out of its folder before anything is made of it: a process that dies then
has lost it, and nobody uses it again. A folder that comes back from a copy would bring it back: so
its file's name says when the file was made, and one whose inode was changed later, which no copy
can hide, is removed and not used.
"""

from __future__ import annotations

import mmap
import os
import re
import secrets
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

from crypto.errors import SealingError
from crypto.inference.programs import Program
from crypto.inference.sources import SEED, DealerSource
from crypto.inference.words import Words, as_bytes
from crypto.whole_file import sweep, write_private

_SUFFIX, _SEEDS = ".packet", ".seed"
ID = re.compile(r"[0-9a-f]{32}")
#: Bytes of a packet that travel in one frame.
FRAME = 1 << 20
#: Days for which a dealer keeps the seeds of a packet that went out; then its tape is of no use.
KEEP_DAYS = 7
#: Nanoseconds within which a file that was written gets its name.
NAMED_WITHIN = 10 * 10**9


class PacketError(SealingError):
    """A packet that is no longer there, or not whole."""

    code = "packet"


def new_id() -> str:
    """Return an id that tells nothing."""
    return secrets.token_hex(16)


class Packet:
    """One packet, which is nowhere else any more.

    Args:
        name: its id.
        content: in a stock the seed, then the tape; at a patient the tape.

    Attributes:
        rest: what was not read yet.
    """

    def __init__(self, name: str, content: memoryview) -> None:
        self.name, self.rest = name, content

    def read(self, size: int) -> memoryview:
        """Return the next bytes.

        Raises:
            PacketError: there are fewer.
        """
        if size > len(self.rest):
            raise PacketError(f"packet {self.name} ends before its program does")
        piece, self.rest = self.rest[:size], self.rest[size:]
        return piece

    def __repr__(self) -> str:
        return f"Packet({self.name}, hidden)"


class Packets:
    """A folder of packets for one model."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        sweep(folder)
        self._folder = folder

    def __len__(self) -> int:
        return sum(1 for _ in self._folder.glob(f"*.*{_SUFFIX}"))

    def forget_old(self) -> None:
        """Remove packets that lie here for longer than their seeds are kept."""
        for path in self._folder.glob(f"*.*{_SUFFIX}"):
            if _age(path) < time.time() - KEEP_DAYS * 86400:
                removed(path)

    def put(self, name: str, pieces: Iterable[Any]) -> None:
        """Keep a packet, whole or not at all."""
        path = _aside(self._folder, name)
        write_private(path, cast(Iterable[bytes], pieces), durable=False)
        _dated(path, name, _SUFFIX)

    def take(self) -> Packet | None:
        """Take a packet out, the oldest first; None where there is none."""
        for path in sorted(self._folder.glob(f"*.*{_SUFFIX}"), key=_age):
            try:
                descriptor = os.open(path, os.O_RDONLY)
            except FileNotFoundError:
                continue
            with os.fdopen(descriptor, "rb") as file:
                first = _is_first(path, os.fstat(file.fileno()))
                if not removed(path) or not first:
                    continue
                content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            return Packet(path.name.partition(".")[0], memoryview(content))
        return None


def _aside(folder: Path, name: str) -> Path:
    """Return a name under which a file lies until it is dated; `sweep` knows it."""
    return folder / f".{name}.{os.getpid()}.{os.urandom(4).hex()}"


def _dated(path: Path, name: str, suffix: str) -> None:
    """Give a file that was just written a name that says when."""
    os.rename(path, path.with_name(f"{name}.{os.stat(path).st_ctime_ns}{suffix}"))


def _is_first(path: Path, found: os.stat_result) -> bool:
    """Whether a file is the one that was written, and no copy of it."""
    made = path.stem.partition(".")[2]
    return made.isdecimal() and 0 <= found.st_ctime_ns - int(made) <= NAMED_WITHIN


def _age(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def removed(path: Path) -> bool:
    """Remove a file for good, and say whether it was this call that did: one of several is."""
    mine = path.with_name(f".{path.name}.{os.getpid()}.{os.urandom(4).hex()}")
    try:
        os.rename(path, mine)
    except FileNotFoundError:
        return False
    os.unlink(mine)
    descriptor = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    return True


class PacketSeeds:
    """Seeds of packets that a dealer has made, of providers or of patients, each given out once."""

    def __init__(self, folder: Path, *, keep_seconds: float) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._folder, self._keep_seconds = folder, keep_seconds
        sweep(folder)

    def put(self, name: str, seed: bytes, whose: str = "") -> None:
        """Keep a seed until it is asked for, by nobody else than `whose`."""
        path = _aside(self._folder, name)
        write_private(path, seed + whose.encode())
        _dated(path, name, _SEEDS)

    def take(self, name: str, whose: str = "") -> bytes:
        """Return a packet's seed, which is then here no more.

        Raises:
            PacketError: there is none of this name for this peer, or it was taken before.
        """
        path = self._found(name)
        if path is not None:
            try:
                kept = path.read_bytes()
            except FileNotFoundError:
                kept = b""
            seed, owner = kept[:SEED], kept[SEED:]
            if seed and owner == whose.encode() and removed(path):
                return seed
        raise PacketError("no such packet, or it was used before")

    def renew(self, name: str) -> bool:
        """Keep a packet's seed for as long again, and say whether it is still here."""
        path = self._found(name)
        if path is None:
            return False
        try:
            os.utime(path)
            _dated(path, name, _SEEDS)
        except FileNotFoundError:
            return False
        return True

    def _found(self, name: str) -> Path | None:
        """Return the file of a seed; one that a copy has brought back is removed."""
        if not ID.fullmatch(name):
            return None
        for path in self._folder.glob(f"{name}.*{_SEEDS}"):
            with suppress(FileNotFoundError):
                if _is_first(path, path.stat()):
                    return path
                removed(path)
        return None

    def forget_old(self) -> None:
        """Remove seeds that nobody has asked for in time."""
        for path in self._folder.glob(f"*{_SEEDS}"):
            if _age(path) < time.time() - self._keep_seconds:
                removed(path)


def packet_pieces(
    program: Program, masks: dict[str, Words], provider: bytes, patient: bytes
) -> Iterator[Any]:
    """Yield a packet's bytes: the patient's seed, then what the dealer computes for it."""
    yield patient
    made: list[Any] = []
    for _ in program.deal(DealerSource(provider, patient, masks, made.append)):
        for piece in made:
            yield as_bytes(piece)
        made.clear()
