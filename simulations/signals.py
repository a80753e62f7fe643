"""SIGTERM ends a command as Ctrl-C does: everything is put down in order, and what to do is said.

Schedulers, containers and service managers send it before they kill.
"""

from __future__ import annotations

import signal
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_END_OF_IMPORT_LOCK = ("cb", "<frozen importlib._bootstrap>")
#: How long to wait where an exception would go nowhere.
_AGAIN_SECONDS = 0.05


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
        if _would_be_lost(frame):
            again = threading.Timer(_AGAIN_SECONDS, signal.raise_signal, (signal.SIGTERM,))
            again.daemon = True
            again.start()
            return
        raise Terminated

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield came
    finally:
        signal.signal(signal.SIGTERM, before)


def _would_be_lost(frame: FrameType | None) -> bool:
    """Return whether Python is in the middle of what ignores exceptions.

    These are the ends of objects, and what is called at them: an import, for one, ends a lock.
    """
    while frame is not None:
        code = frame.f_code
        if code.co_name == "__del__" or (code.co_name, code.co_filename) == _END_OF_IMPORT_LOCK:
            return True
        if code.co_filename == weakref.__file__:
            return True
        frame = frame.f_back
    return False
