"""SIGTERM ends a command as Ctrl-C does: everything is put down in order, and what to do is said.

Schedulers, containers and service managers send it before they kill.
"""

from __future__ import annotations

import logging
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

#: Python's own code that has a lock which everybody needs, and may keep it for good where an
#: exception comes between taking it and what gives it back: that of imports, and that of loggers.
_LOCKED = frozenset({"<frozen importlib._bootstrap>", logging.__file__})
#: How long to wait where the exception would break, or did not reach, what puts things down.
_AGAIN_SECONDS = 0.05


class Terminated(KeyboardInterrupt):
    """The process was asked to end by SIGTERM."""


@contextmanager
def heeding_sigterm() -> Iterator[threading.Event]:
    """Have SIGTERM raise `Terminated` in the main thread, inside the block.

    It and Ctrl-C wait for the end of an import: half a module would fail whoever imports it next,
    which is what writes down how far a run had come. They wait for a logger too, whose lock other
    threads would wait for; not for what the block is itself a part of, as where a run is led from a
    module that is being imported. Where Python ignores what is raised (at the end of an object, in
    a weak reference's callback, around a fork), they come once more.

    Yields:
        Set when it came: what reads the command line makes one ending of all interrupts.
    """
    came = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield came
        return
    outside = _locks(sys._getframe())
    before = {signal.SIGTERM: signal.signal(signal.SIGTERM, _ending(Terminated, came, outside))}
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        interrupted = _ending(KeyboardInterrupt, threading.Event(), outside)
        before[signal.SIGINT] = signal.signal(signal.SIGINT, interrupted)
    try:
        with _ignored_ones_again():
            yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _ending(
    exception: type[KeyboardInterrupt], came: threading.Event, outside: int
) -> Callable[[int, FrameType | None], None]:
    def end(number: int, frame: FrameType | None) -> None:
        came.set()
        if _locks(frame) > outside:
            _again(number)
            return
        raise exception

    return end


def _locks(frame: FrameType | None) -> int:
    """Return how many calls of code that may have such a lock have led to here."""
    found = 0
    while frame is not None:
        found += frame.f_code.co_filename in _LOCKED
        frame = frame.f_back
    return found


@contextmanager
def _ignored_ones_again() -> Iterator[None]:
    """Send a signal again whose exception was ignored, whosever handler raised it."""
    before = sys.unraisablehook

    def ignored(unraisable: sys.UnraisableHookArgs) -> None:
        number = _signal_of(unraisable.exc_value)
        if number is None:
            before(unraisable)
        else:
            _again(number)

    sys.unraisablehook = ignored
    try:
        yield
    finally:
        sys.unraisablehook = before


def _signal_of(error: BaseException | None) -> int | None:
    if isinstance(error, Terminated):
        return signal.SIGTERM
    if isinstance(error, KeyboardInterrupt):
        return signal.SIGINT
    # What libraries' own handlers of SIGTERM raise, such as that of Ray while it starts.
    if isinstance(error, SystemExit) and error.code == signal.SIGTERM:
        return signal.SIGTERM
    return None


def _again(number: int) -> None:
    main = threading.main_thread().ident
    timer = threading.Timer(_AGAIN_SECONDS, signal.pthread_kill, (main, number))
    timer.daemon = True
    timer.start()
