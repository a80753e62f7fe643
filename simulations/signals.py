"""SIGTERM ends a command as Ctrl-C does: everything is put down in order, and what to do is said.

Schedulers, containers and service managers send it before they kill.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Terminated(KeyboardInterrupt):
    """The process was asked to end by SIGTERM."""


@contextmanager
def heeding_sigterm() -> Iterator[threading.Event]:
    """Have SIGTERM raise `Terminated` in the main thread, inside the block.

    Yields:
        Set when it came: what reads the command line makes one ending of all interrupts.
    """
    came = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield came
        return

    def end(number: int, frame: FrameType | None) -> None:
        came.set()
        raise Terminated

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield came
    finally:
        signal.signal(signal.SIGTERM, before)
