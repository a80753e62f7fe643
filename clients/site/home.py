"""Where a ledger's file is at home: a copy, or what was restored from one, is another file.

A file's home is its inode, with the inode's generation where the file system keeps one: an inode's
number is given away again once its file is deleted, its generation never.
"""

from __future__ import annotations

import array
import fcntl
import os
from pathlib import Path

#: Linux's request for an inode's generation, on a machine of 64 bits.
_GENERATION_OF = 0x80087601
_INODE_BITS = 64
_MACHINE_START = Path("/proc/sys/kernel/random/boot_id")


def home_of(path: Path) -> int:
    """Return a file's home: its inode's generation, 0 where none is kept, above its inode."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return (_generation(descriptor) << _INODE_BITS) | os.fstat(descriptor).st_ino
    finally:
        os.close(descriptor)


def same_home(one: int, other: int) -> bool:
    """Whether two homes are one; a generation counts where both have it."""
    mask = (1 << _INODE_BITS) - 1
    generations = one >> _INODE_BITS, other >> _INODE_BITS
    return one & mask == other & mask and (0 in generations or generations[0] == generations[1])


def _generation(descriptor: int) -> int:
    found = array.array("L", [0])
    try:
        fcntl.ioctl(descriptor, _GENERATION_OF, found)
    except OSError:
        return 0
    return found[0] & 0xFFFFFFFF


def machine_start() -> str:
    """Return what tells one start of this machine from another, "" where nothing does."""
    try:
        return _MACHINE_START.read_text(encoding="ascii").strip()
    except OSError:
        return ""
