"""What sealing a vector takes, made in a thread of its own while the vector is being computed.

    with made_ahead(lambda: sealer.prepare(place)) as prepared:
        update = exchange.contribute(replica, draws)
        sealed = prepared().seal(update)

It begins once the place is paid for, and on leaving the block nothing of it is left: it is spent,
or, where something failed before, thrown away. So a refused attempt leaves nothing that another
could be sealed with, and a process holds what one message takes, no more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from crypto.roles import OneSealing


@contextmanager
def made_ahead(make: Callable[[], OneSealing]) -> Iterator[Callable[[], OneSealing]]:
    """Begin to make it; yields what returns it as soon as it is there.

    Args:
        make: makes it; what that raises, the yielded function does.
    """
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="prepare") as thread:
        future = thread.submit(make)
        try:
            yield future.result
        finally:
            if future.exception() is None:
                future.result().discard()
