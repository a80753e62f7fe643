"""An answer that is held leaves at a moment that the work does not choose."""

from __future__ import annotations

import pytest

from clients.site.answer_times import hold_answer


class _Clock:
    """A clock that only sleeping moves."""

    def __init__(self, now: float) -> None:
        self.now = now
        self.slept: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds

    def hold(self, every: float) -> float:
        return hold_answer(every, clock=lambda: self.now, sleep=self.sleep)


@pytest.mark.parametrize("ready", [1_800_000_000.001, 1_800_000_002.5, 1_800_000_004.999])
def test_answers_that_are_ready_at_different_moments_leave_at_the_same(ready: float) -> None:
    clock = _Clock(ready)
    waited = clock.hold(5.0)
    assert clock.now == pytest.approx(1_800_000_005.0, abs=1e-6)
    assert waited == clock.slept[0]


def test_an_answer_that_is_ready_at_such_a_moment_leaves_at_once() -> None:
    clock = _Clock(1_800_000_005.0)
    assert clock.hold(5.0) == 0.0
    assert clock.slept == []


def test_nothing_is_held_unless_it_is_asked_for() -> None:
    clock = _Clock(1_800_000_001.0)
    assert clock.hold(0.0) == 0.0
    assert clock.slept == []


@pytest.mark.parametrize("every", [0.1, 0.3, 7.7, 300.0])
def test_no_answer_is_held_longer_than_a_step(every: float) -> None:
    for number in range(200):
        assert 0.0 <= _Clock(1_800_000_000.0 + 0.37 * number).hold(every) <= every
