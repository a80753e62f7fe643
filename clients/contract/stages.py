"""How far long preparations have come: whoever does them reports, whoever shows them listens.

Features of ten thousand pictures take minutes before the first round. What is reported depends on
public sizes only: how many pictures there are, never what is in them::

    with listening(lambda stage, done, total: print(stage, done, total)):
        extract(info, records)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

#: Called with the name of a stage, how many things are done, and of how many; 0 of 0 at its start.
Listener = Callable[[str, int, int], None]

_LISTENERS: ContextVar[tuple[Listener, ...]] = ContextVar("listeners", default=())


def report(stage: str, done: int = 0, total: int = 0) -> None:
    """Tell whoever listens how far a stage has come."""
    for listener in _LISTENERS.get():
        listener(stage, done, total)


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Call `listener` with every report that is made inside the block, in the block's thread."""
    token = _LISTENERS.set((*_LISTENERS.get(), listener))
    try:
        yield
    finally:
        _LISTENERS.reset(token)
