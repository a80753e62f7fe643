"""What an answer takes beside its gradient, made in a thread while that is being computed.

    with ahead_of(site, device) as ahead:
        prepared = ahead.begin(lambda: sealer.prepare(place), size=2 * plan.bytes_up)
        update = exchange.contribute(replica, draws)
        sealed = prepared().seal(update)

It begins once the place is paid for, and on leaving the block nothing of it is left: it is spent,
or, where something failed before, thrown away. So a refused attempt leaves nothing that another
could be sealed with. All threads of a process have so much room together, however many hospitals
it answers for at a time; what finds none is made when it is asked for. So is everything where no
processor is free for a thread: one that waits for its turn with the interpreter's lock in its hands
would hold up the gradient.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import torch

    from clients.site.ground import Site

T = TypeVar("T")

#: Bytes that a process may hold ahead of their use.
MOST_BYTES = 256 << 20


def is_spare(site: Site, device: torch.device) -> bool:
    """Whether that thread has a processor to itself.

    Simulated hospitals whose gradients are computed on processors keep all of them busy.

    Args:
        site: the hospital's.
        device: where its gradients are computed.
    """
    if device.type != "cpu":
        return True
    return not site.simulated and (os.cpu_count() or 1) > site.machine.taken


class Room:
    """How much a process may hold ahead.

    Args:
        most: bytes.
    """

    def __init__(self, most: int = MOST_BYTES) -> None:
        self._free, self._lock = most, threading.Lock()

    def take(self, size: int) -> bool:
        """Take so many bytes, if there are as many."""
        with self._lock:
            found = size <= self._free
            self._free -= size if found else 0
            return found

    def give_back(self, size: int) -> None:
        """Give back what was taken."""
        with self._lock:
            self._free += size


#: Of this process; tests have others.
ROOM = Room()
NO_ROOM = Room(0)


class Ahead:
    """A thread that makes what is needed later in a block, one thing after the other.

    Guarantee: at the end of the block it makes nothing any more, and what it made is discarded.

    Args:
        room: for what it makes.

    Attributes:
        beside: whether there is a thread.
    """

    def __init__(self, room: Room = ROOM) -> None:
        self._room, self._taken = room, 0
        self.beside = room is not NO_ROOM
        self._thread: ThreadPoolExecutor | None = None
        self._discards: list[Callable[[], None]] = []

    def begin(
        self, make: Callable[[], T], *, size: int, discard: Callable[[T], None] = lambda _: None
    ) -> Callable[[], T]:
        """Begin to make something; returns what waits for it, or makes it where there is no room.

        Args:
            make: makes it; what that raises, the returned function does.
            size: bytes of it, about.
            discard: is called with it at the end of the block, where it was made.
        """
        made: list[T] = []

        def keep() -> T:
            made.append(make())
            return made[0]

        def forget() -> None:
            for one in made:
                discard(one)

        self._discards.append(forget)
        if not self._room.take(size):
            return lambda: made[0] if made else keep()
        self._taken += size
        if self._thread is None:
            self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="ahead")
        return self._thread.submit(keep).result

    def __enter__(self) -> Ahead:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._thread is not None:
            self._thread.shutdown(cancel_futures=True)
        for discard in self._discards:
            discard()
        self._discards.clear()
        self._room.give_back(self._taken)


def ahead_of(site: Site, device: torch.device) -> Ahead:
    """Return a block's thread where a processor is free for it, else what makes things on demand.

    Args:
        site: the hospital's.
        device: where its gradients are computed.
    """
    return Ahead() if is_spare(site, device) else Ahead(NO_ROOM)
