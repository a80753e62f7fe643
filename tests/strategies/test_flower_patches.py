"""Flower's pause before bytes that are on their way: it is there, and it is shortened."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Iterator

import pytest
from flwr.supercore.inflatable import inflatable_utils
from flwr.supercore.inflatable.inflatable_utils import ObjectUnavailableError

from strategies.flower_patches import FETCH_PAUSE_SECONDS, shorten_fetch_pause

PATCHED = (inflatable_utils.pull_objects, inflatable_utils.pull_and_inflate_object_from_tree)
FLOWERS_PAUSE_SECONDS = 1.0


@pytest.fixture(autouse=True)
def flower_as_it_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    for function in PATCHED:
        assert "initial_backoff" in function.__kwdefaults__, "Flower has another way now"
        defaults = {**function.__kwdefaults__, "initial_backoff": FLOWERS_PAUSE_SECONDS}
        monkeypatch.setattr(function, "__kwdefaults__", defaults)


def late_by_one() -> Callable[[str], bytes]:
    """Bytes that have not arrived when they are first asked for."""
    answers: Iterator[bytes | None] = iter([None, b"bytes"])

    def pull(_: str) -> bytes:
        if (answer := next(answers)) is None:
            raise ObjectUnavailableError("o")
        return answer

    return pull


def seconds_to_fetch() -> float:
    start = time.monotonic()
    assert inflatable_utils.pull_objects(["o"], late_by_one()) == {"o": b"bytes"}
    return time.monotonic() - start


@pytest.mark.parametrize("function", PATCHED, ids=lambda function: function.__name__)
def test_flower_has_the_default_that_is_shortened(function: Callable[..., object]) -> None:
    shorten_fetch_pause()
    default = inspect.signature(function).parameters["initial_backoff"].default
    assert default == FETCH_PAUSE_SECONDS


def test_bytes_that_arrive_late_are_fetched_soon() -> None:
    shorten_fetch_pause()
    assert seconds_to_fetch() < FLOWERS_PAUSE_SECONDS / 2


def test_flower_by_itself_waits_a_second_for_them() -> None:
    assert seconds_to_fetch() > FLOWERS_PAUSE_SECONDS / 2
