"""Other noise than a stream's: put in where vectors are noised, and wherever else it is drawn."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import pytest

from accounting import noising
from accounting.normals import Normals
from accounting.randomness import CHUNK, Stream
from tests.audit.faults import swap

Normal = Callable[[Stream, int], Any]


class Given:
    """Values in the place of normal ones: never rough, so each is put on as it is."""

    def __init__(self, values: Any) -> None:
        self._values = np.asarray(values, dtype=np.float64)

    def rough(self, *_: object) -> Any:
        return np.full(len(self._values), np.nan, dtype=np.float32)

    def keep_rough(self, *_: object) -> None:
        pass

    def some(self, at: Any) -> Given:
        return Given(self._values[at])

    def exact(self) -> Any:
        return self._values

    @staticmethod
    def joined(several: Sequence[Any]) -> Any:
        if not isinstance(several[0], Given):
            return Normals.joined(several)
        return Given(np.concatenate([one.exact() for one in several]))


class GivenStream(Stream):
    """A stream whose `normal` is another."""

    def normals(self, count: int) -> Any:
        return pieces(self.normal(count))


def pieces(values: Any) -> Iterator[Given]:
    """Values, as many at a time as a stream gives."""
    for start in range(0, len(values), CHUNK):
        yield Given(values[start : start + CHUNK])


@contextmanager
def noise_is(normal: Normal) -> Iterator[None]:
    """Have all streams give other values than normal ones while the block runs."""
    with ExitStack() as stack:
        swap_noise(stack, normal)
        yield


def swap_noise(stack: ExitStack, normal: Normal) -> None:
    """Have them do so for as long as the stack lasts."""
    for where, name, value in _replaced(normal):
        swap(stack, where, name, value)


def set_noise(monkeypatch: pytest.MonkeyPatch, normal: Normal) -> None:
    """Have them do so for the length of a test."""
    for where, name, value in _replaced(normal):
        monkeypatch.setattr(where, name, value)


def joinable(stack: ExitStack) -> None:
    """Have noise put together that streams of a fault's own give as `pieces`."""
    swap(stack, noising, "Normals", Given)


def _replaced(normal: Normal) -> list[tuple[Any, str, Any]]:
    return [
        (Stream, "normal", normal),
        (Stream, "normals", lambda self, count: pieces(normal(self, count))),
        (noising, "Normals", Given),
    ]
