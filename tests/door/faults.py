"""Disks that are full and processes that die, at the n-th thing that they do to a file."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock


class Killed(BaseException):
    """The process is gone: nothing that catches exceptions catches this."""


def full() -> OSError:
    return OSError(errno.ENOSPC, "no space left on /secret/path")


@contextmanager
def failing(
    number: int, error: Callable[[], BaseException], *, after: bool = False
) -> Iterator[list[str]]:
    """Fail the n-th write, flush or renaming, counted from 0, before or after it is done.

    A write that fails before it is done has written half. Every later one fails too where the error
    is an `OSError`: a full disk stays full.

    Yields:
        What was done, in order.
    """
    done: list[str] = []
    real = {name: getattr(os, name) for name in ("write", "fsync", "replace")}

    def patched(name: str) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            due = len(done) == number or (len(done) > number and isinstance(error(), OSError))
            done.append(name)
            if not due:
                return real[name](*args, **kwargs)
            if after:
                real[name](*args, **kwargs)
            elif name == "write":
                descriptor, data = args
                real["write"](descriptor, data[: len(data) // 2])
            raise error()

        return call

    with mock.patch.multiple(os, **{name: patched(name) for name in real}):
        yield done
