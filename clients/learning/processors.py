"""A machine's free processors, which whoever has much to compute may take for a while.

All processes of a simulation count the processors of their machine together. Each is a name that
one process at a time can have: an address among Linux's abstract sockets, which lie on no disk and
which the kernel gives free with whoever holds them, however that process ends.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager


class Processors:
    """Those that processes with the same name for them share.

    Args:
        name: theirs alone. Whoever is on the machine can see and take it: sums are slower then, and
            the same.
        count: how many there are.

    Attributes:
        count: how many there are; none where they cannot be counted together.
        fair_until: when all would be done, were all work shared out evenly, in seconds since 1970;
            0 where nobody knows. Who is done by then need not take more.
        used_seconds: of processors that were taken and have been given back.
    """

    fair_until = 0.0
    used_seconds = 0.0

    def __init__(self, name: str, count: int) -> None:
        self._name = name
        self.count = count if sys.platform.startswith("linux") else 0

    def take(self) -> socket.socket | None:
        """Take one that is free, until what is returned is closed; None where none is."""
        for number in range(self.count):
            one = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            try:
                one.bind(f"\0asclepias/{self._name}/{number}")
            except OSError:
                one.close()
                continue
            return one
        return None

    @contextmanager
    def working(self) -> Iterator[None]:
        """Have one inside the block, if one is free; whoever has work of its own never waits."""
        mine = self.take()
        try:
            yield
        finally:
            if mine is not None:
                mine.close()
