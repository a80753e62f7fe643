"""Hospitals of one process whose records go through the model in one pass.

In a simulation the hospitals of a process hold one replica, and where each contributes one sum at
its weights, their records can share passes: a large device is filled, and weights are read once.
Each hospital answers in a thread of its own, up to its gradient, where it waits for the others;
then one pass computes what all of them wait for, and each goes on. *One thread runs at a time*, and
they change places nowhere else, so nothing that hospitals share is ever in two hands.

What a hospital gets is its own sum, by the same clip: nothing about what it pays or sends changes.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextvars import ContextVar, copy_context
from functools import partial
from typing import TYPE_CHECKING, Generic, TypeVar

from clients.learning.dp_sgd import GradientSum, clipped_gradient_sum, clipped_gradient_sums

if TYPE_CHECKING:
    from clients.contract.phases import Phases
    from clients.learning.batch import Batch
    from clients.learning.per_sample import PerSample

T = TypeVar("T")

_MEMBER: ContextVar[_Member[object] | None] = ContextVar("joint member", default=None)


def sum_with_others(
    model: PerSample, batch: Batch, *, l2_clip: float, phases: Phases
) -> GradientSum:
    """Return a batch's clipped sum: with what other hospitals wait for, or alone where none does.

    Arguments, guarantee and errors as for `clipped_gradient_sum`; its seconds are counted as the
    phase ``gradient``, of a pass of several hospitals an even part.
    """
    member = _MEMBER.get()
    if member is None:
        with phases.measure("gradient"):
            return clipped_gradient_sum(model, batch, l2_clip=l2_clip)
    found, seconds = member.wait_for(_Wanted(model, batch, l2_clip))
    phases.add("gradient", seconds)
    return found


def answer_together(
    works: Sequence[Callable[[], T]], resumed: Callable[[int], None] = lambda number: None
) -> list[T]:
    """Do works, each as if it were alone; gradients that they ask for are computed together.

    Args:
        works: what each hospital does.
        resumed: called in a work's thread whenever it begins or goes on, with its number.

    Returns:
        What each returned, in order.

    Raises:
        BaseException: what the first of them raised, after all have ended.
    """
    members = [_Member(work, partial(resumed, number)) for number, work in enumerate(works)]
    going = list(members)
    while going:
        for member in going:
            member.go_on()
        going = [member for member in going if member.wanted is not None]
        _compute(going)
    return [member.result() for member in members]


class _Wanted:
    """A sum that is waited for, and what came of it."""

    def __init__(self, model: PerSample, batch: Batch, l2_clip: float) -> None:
        self.model, self.batch, self.l2_clip = model, batch, l2_clip
        self.found: GradientSum | None = None
        self.error: Exception | None = None
        self.seconds = 0.0

    def compute_alone(self) -> None:
        """Compute it by itself."""
        start = time.perf_counter()
        try:
            self.found = clipped_gradient_sum(self.model, self.batch, l2_clip=self.l2_clip)
        except Exception as error:
            self.error = error
        self.seconds += time.perf_counter() - start


class _Member(Generic[T]):
    """A work in a thread of its own, which runs while whoever called it waits."""

    def __init__(self, work: Callable[[], T], resumed: Callable[[], None]) -> None:
        self.wanted: _Wanted | None = None
        self._work, self._resumed = work, resumed
        self._turn, self._back = threading.Semaphore(0), threading.Semaphore(0)
        self._done: T | None = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(
            target=copy_context().run, args=(self._run,), name="hospital", daemon=True
        )

    def go_on(self) -> None:
        """Let it run until it wants a sum or has ended."""
        if self._thread.ident is None:
            self._thread.start()
        self._turn.release()
        self._back.acquire()
        if self.wanted is None:
            self._thread.join()

    def wait_for(self, wanted: _Wanted) -> tuple[GradientSum, float]:
        """Give way until somebody has computed a sum; called in the work's own thread."""
        self.wanted = wanted
        self._back.release()
        self._turn.acquire()
        self.wanted = None
        self._resumed()
        if wanted.found is None:
            raise wanted.error or RuntimeError("a sum that was waited for was not computed")
        return wanted.found, wanted.seconds

    def result(self) -> T:
        """Return what the work returned, or raise what it raised."""
        if self._error is not None:
            raise self._error
        return self._done  # type: ignore[return-value]

    def _run(self) -> None:
        _MEMBER.set(self)  # type: ignore[arg-type]
        self._turn.acquire()
        try:
            self._resumed()
            self._done = self._work()
        except BaseException as error:
            self._error = error
        finally:
            self._back.release()


def _compute(members: Sequence[_Member[T]]) -> None:
    """Compute what members wait for, in one pass for all that are of one model and one clip."""
    groups: dict[tuple[int, float], list[_Wanted]] = {}
    for member in members:
        if member.wanted is not None:
            key = (id(member.wanted.model), member.wanted.l2_clip)
            groups.setdefault(key, []).append(member.wanted)
    for (_, l2_clip), group in groups.items():
        start = time.perf_counter()
        try:
            batches = [one.batch for one in group]
            sums = clipped_gradient_sums(group[0].model, batches, l2_clip=l2_clip)
        except Exception:
            # Whose it was shows where each is computed by itself.
            for one in group:
                one.compute_alone()
            continue
        for one, found in zip(group, sums, strict=True):
            one.found, one.seconds = found, (time.perf_counter() - start) / len(group)
