"""What sealing a vector takes, made in a thread of its own while the vector is being computed.

    with made_ahead(lambda: sealer.prepare(place)) as prepared:
        update = exchange.contribute(replica, draws)
        sealed = prepared().seal(update)

It begins once the place is paid for, and on leaving the block nothing of it is left: it is spent,
or, where something failed before, thrown away. So a refused attempt leaves nothing that another
could be sealed with, and a process holds what one message takes, no more.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from clients.site.ground import Site
    from crypto.roles import OneSealing


def is_spare(site: Site, device: torch.device) -> bool:
    """Whether that thread has a processor to itself: then it may do more than has to be done.

    Simulated hospitals whose gradients are computed on processors keep all of them busy.

    Args:
        site: the hospital's.
        device: where its gradients are computed.
    """
    if device.type != "cpu":
        return True
    return not site.simulated and (os.cpu_count() or 1) > site.machine.threads


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
