"""SIGTERM ends a command wherever it comes, even where Python ignores exceptions."""

from __future__ import annotations

import signal
import time
import weakref

import pytest

from simulations.signals import Terminated, heeding_sigterm


class Ending:
    """Gets the signal while it ends, where an exception is ignored."""

    def __del__(self) -> None:
        signal.raise_signal(signal.SIGTERM)


def wait() -> None:
    end = time.monotonic() + 10
    while time.monotonic() < end:
        time.sleep(0.01)


def test_it_is_raised_at_once() -> None:
    with heeding_sigterm() as came, pytest.raises(Terminated):
        signal.raise_signal(signal.SIGTERM)
    assert came.is_set()


def test_at_the_end_of_an_object_it_is_raised_a_moment_later() -> None:
    with heeding_sigterm() as came:
        one = Ending()
        del one
        assert came.is_set()
        with pytest.raises(Terminated):
            wait()


def test_in_what_is_called_at_an_end_it_is_raised_a_moment_later() -> None:
    class Thing:
        pass

    with heeding_sigterm(), pytest.raises(Terminated):
        kept: weakref.WeakValueDictionary[str, Thing] = weakref.WeakValueDictionary()
        one = Thing()
        kept["thing"] = one
        weakref.finalize(one, signal.raise_signal, signal.SIGTERM)
        del one
        wait()
