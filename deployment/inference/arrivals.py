"""Connections whose other end has not shown yet who it is: few at once, and the oldest makes room.

Anybody who reaches a port can open connections and say nothing. To count them against the guests'
places would let a stranger keep all guests out; to refuse new ones where there are many would let
the first ones do it. So a new one ends the oldest: of its own address where that has many, else of
the address that has most. Who means it needs a few milliseconds for its handshake.
"""

from __future__ import annotations

import socket
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress

#: Connections at once: of all addresses, and of one.
MOST, MOST_OF_AN_ADDRESS = 128, 32


class Arrivals:
    """Connections under way to showing a certificate.

    Args:
        most: of all addresses.
        most_of_an_address: of one.
    """

    def __init__(self, most: int = MOST, most_of_an_address: int = MOST_OF_AN_ADDRESS) -> None:
        self._most, self._most_of_an_address = most, most_of_an_address
        self._waiting: dict[socket.socket, str] = {}  # in the order in which they came
        self._change = threading.Lock()

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, plain: socket.socket, address: str) -> None:
        """Take a connection in, and end older ones where there are too many."""
        with self._change:
            self._waiting[plain] = address
            while (crowded := self._crowded(address)) is not None:
                oldest = next(one for one, whose in self._waiting.items() if whose == crowded)
                del self._waiting[oldest]
                # Whoever waits for it in another thread is woken by this, and closes it. That of
                # TLS itself would pull the state of the handshake away from under that thread.
                with suppress(OSError):
                    socket.socket.shutdown(oldest, socket.SHUT_RDWR)

    def _crowded(self, address: str) -> str | None:
        """Return the address that has to give one up."""
        counts = Counter(self._waiting.values())
        if counts[address] > self._most_of_an_address:
            return address
        return counts.most_common(1)[0][0] if len(self._waiting) > self._most else None

    @contextmanager
    def until_known(self, plain: socket.socket) -> Iterator[None]:
        """Count a connection as long as this lasts."""
        try:
            yield
        finally:
            with self._change:
                self._waiting.pop(plain, None)
