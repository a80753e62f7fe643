"""SIGTERM ends a command as Ctrl-C does: everything is put down in order, and what to do is said.

Schedulers, containers and service managers send it before they kill.
"""

from __future__ import annotations

import signal
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

_IMPORTING = "<frozen importlib._bootstrap>"
#: How long to wait where the exception would be lost, or break what is needed to put things down.
_AGAIN_SECONDS = 0.05


class Terminated(KeyboardInterrupt):
    """The process was asked to end by SIGTERM."""


@contextmanager
def heeding_sigterm() -> Iterator[threading.Event]:
    """Have SIGTERM raise `Terminated` in the main thread, inside the block.

    It and Ctrl-C wait for the end of an import: half a module would fail whoever imports it next,
    which is what writes down how far a run had come.

    Yields:
        Set when it came: what reads the command line makes one ending of all interrupts.
    """
    came = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield came
        return
    before = {signal.SIGTERM: signal.signal(signal.SIGTERM, _ending(Terminated, came))}
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        interrupted = _ending(KeyboardInterrupt, threading.Event())
        before[signal.SIGINT] = signal.signal(signal.SIGINT, interrupted)
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _ending(
    exception: type[KeyboardInterrupt], came: threading.Event
) -> Callable[[int, FrameType | None], None]:
    def end(number: int, frame: FrameType | None) -> None:
        came.set()
        if not _can_raise(frame):
            again = threading.Timer(_AGAIN_SECONDS, signal.raise_signal, (number,))
            again.daemon = True
            again.start()
            return
        raise exception

    return end


def _can_raise(frame: FrameType | None) -> bool:
    """Return whether an exception gets through, and breaks no module on its way.

    None gets through where objects end, nor in what is called at their ends.
    """
    while frame is not None:
        code = frame.f_code
        if code.co_name == "__del__" or code.co_filename in (_IMPORTING, weakref.__file__):
            return False
        frame = frame.f_back
    return True
