"""Whether a ledger lies where it can be one: a plain file, on a file system that keeps locks.

Two processes of a hospital check a limit and spend under the ledger's lock. On a file system that
grants a lock twice, both would find room for what only one may spend.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import subprocess
import sys
import tempfile
from functools import lru_cache
from pathlib import Path

#: Exit codes of the child: the lock was refused as it should be, or was granted a second time.
_REFUSED, _GRANTED = 0, 7
_CHILD = f"""
import fcntl, os, sys
file = os.open(sys.argv[1], os.O_RDWR)
try:
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
except BlockingIOError:
    sys.exit({_REFUSED})
sys.exit({_GRANTED})
"""
_CHILD_SECONDS = 30.0


def ledger_faults(path: Path) -> list[str]:
    """Return why no ledger can be at a path, one sentence or none.

    Raises:
        OSError: the disk is full.
    """
    try:
        found = path.stat()
    except FileNotFoundError:
        found = None
    except OSError as error:
        return [f"[ledger] path = {path} cannot be used ({error.strerror})"]
    if found is not None and not stat.S_ISREG(found.st_mode):
        return [f"[ledger] path = {path} is {_kind(found.st_mode)}; expected a plain file"]
    if not path.parent.is_dir():
        return [f"[ledger] path = {path}: the folder {path.parent} does not exist; make it first"]
    return _lock_faults(path.parent, path.parent.stat().st_dev)


@lru_cache(maxsize=16)
def _lock_faults(folder: Path, device: int) -> list[str]:
    """Say whether a lock held here is refused to another process; asked once of a folder."""
    try:
        if locks_hold(folder):
            return []
        reason = "grants a second process the lock that this one holds"
    except (OSError, subprocess.SubprocessError) as error:
        if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
            raise
        reason = f"keeps no locks ({error})"
    return [
        f"the file system of {folder} {reason}, and a ledger needs them; set [ledger] path to a "
        "local disk"
    ]


def locks_hold(folder: Path) -> bool:
    """Whether a lock that is held on a file of a folder is refused to another process.

    Raises:
        OSError: no file can be made or locked there.
        subprocess.SubprocessError: the other process could not say.
    """
    descriptor, name = tempfile.mkstemp(prefix=".lock-", dir=folder)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        done = subprocess.run(
            [sys.executable, "-I", "-S", "-c", _CHILD, name],
            capture_output=True,
            timeout=_CHILD_SECONDS,
            check=False,
        )
    finally:
        os.close(descriptor)
        os.unlink(name)
    if done.returncode not in (_REFUSED, _GRANTED):
        raise subprocess.SubprocessError(done.stderr.decode(errors="replace").strip()[-200:])
    return done.returncode == _REFUSED


def _kind(mode: int) -> str:
    kinds = {
        stat.S_IFDIR: "a folder",
        stat.S_IFCHR: "a device",
        stat.S_IFBLK: "a device",
        stat.S_IFIFO: "a pipe",
        stat.S_IFSOCK: "a socket",
    }
    return kinds.get(stat.S_IFMT(mode), "no plain file")
