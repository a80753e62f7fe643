"""The packets that a party has used, so that it uses none again whatever others hand it.

A dealer whose machine is set back whole to an earlier state hands out packets, and their halves, a
second time. Whoever used one before knows it here by its id, and has nothing to do with it. A
dealer that deviates may give the same seed under another id, so seeds are known as well, by their
digests.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from pathlib import Path


class Used:
    """Ids of packets and digests of seeds, in a file: 66 bytes for each prediction ever made.

    Args:
        file: of one model's packets.
    """

    def __init__(self, file: Path) -> None:
        self._file = file

    def first_seed(self, seed: bytes) -> bool:
        """Write down that a seed is used, by a digest that tells nothing of it, likewise."""
        return self.first(hashlib.sha256(b"asclepias seed|" + seed).hexdigest()[:32])

    def first(self, name: str) -> bool:
        """Write down that a packet is used, for good, and say whether it is for the first time.

        Args:
            name: its id, 32 hex digits.
        """
        with os.fdopen(
            os.open(self._file, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600), "r+b"
        ) as file:
            # Several processes of a party, a page and a command, say, share it.
            fcntl.flock(file, fcntl.LOCK_EX)
            known = file.read()
            if name.encode() in known.split():
                return False
            # What a machine that lost its power left of a line ends there.
            torn = b"\n" if known[-1:] not in (b"", b"\n") else b""
            file.write(torn + name.encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        return True
