"""The passes of one hospital's sum, computed by this process and by copies of it.

The largest hospital would be what a round waits for. Where processors are free, its process forks:
a copy has the model, the batch and nothing to receive, computes passes from the last one backwards,
and leaves each one's sum in memory that it shares with its owner and nobody else. The owner
computes from the first one on, and adds all sums in the order of the passes. What a pass is does
not turn on how many processes there are, so neither do the bits of the sum.

Which pass is whose is a lock on a byte of that memory, which the kernel opens when its holder ends.
So a copy may die at any time: its pass is computed by the owner. Nothing but sums of clipped
gradients is in that memory, it has no name, and copies end with the block, or with their owner.
What they find that is more than a sum (a patient who cannot be computed) they leave to the owner.

It is for processes that compute with one thread: threads of libraries do not outlive a fork.
"""

from __future__ import annotations

import ctypes
import fcntl
import gc
import math
import mmap
import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol, TypeVar

import numpy as np
import torch

if TYPE_CHECKING:
    from types import TracebackType

    from numpy.typing import NDArray

    from clients.learning.per_sample import PerSample
    from clients.learning.processors import Processors

T = TypeVar("T", bound=np.generic)

#: Seconds of work that are worth a process: it takes some twenty milliseconds to begin.
WORTH_SECONDS = 0.08
#: Bytes of sums that wait to be added, at the most.
MOST_BYTES = 2**30
#: How long the owner waits for a copy's pass: so many seconds, and so many times what one takes.
PATIENCE_SECONDS, PATIENCE_PASSES = 2.0, 20.0
_PAUSE_SECONDS = 0.0005
#: What became of a pass that is not the owner's.
_NOTHING, _BEGUN, _SUMMED, _LEFT = range(4)
#: Linux's request for a signal when the parent ends, <sys/prctl.h>.
_PR_SET_PDEATHSIG = 1


class Sum(Protocol):
    """A sum that passes are added to, one after the other."""

    def add_here(self, number: int) -> None:
        """Compute a pass and add it."""

    def add_made(self, made: NDArray[np.float64]) -> None:
        """Add the sum ``[d]`` of a pass."""

    def make(self, number: int, out: NDArray[np.float64]) -> bool:
        """Write a pass's sum to zeros ``[d]``; False where something else is to be said of it.

        Called in copies of the process alone.
        """


def may_share(model: PerSample, passes: int) -> bool:
    """Whether passes of a model can be computed by copies of this process."""
    alone = model.device.type == "cpu" and torch.get_num_threads() == 1
    return passes > 1 and model.processors is not None and alone


def share_passes(model: PerSample, total: Sum, passes: int) -> None:
    """Add all passes to a sum, in their order, whoever computes them.

    Args:
        model: what they go through; it knows of free processors.
        total: the sum, float64 ``[d]``.
        passes: how many.
    """
    assert model.processors is not None
    with _Copies(total.make, passes, model.dimensions, model.processors) as copies:
        for number in range(passes):
            copies.consider(number, model.pass_seconds)
            made = copies.made(number, model.pass_seconds)
            if made is not None:
                total.add_made(made)
                continue
            start = time.perf_counter()
            total.add_here(number)
            model.pass_seconds = time.perf_counter() - start


class _Copies:
    """Copies of this process that compute passes from the last one backwards."""

    def __init__(
        self,
        make: Callable[[int, NDArray[np.float64]], bool],
        passes: int,
        values: int,
        processors: Processors,
    ) -> None:
        self._make, self._passes, self._values = make, passes, values
        self._processors = processors
        self._first = max(1, passes - MOST_BYTES // (8 * values))
        self._sums_at = -(-passes // mmap.PAGESIZE) * mmap.PAGESIZE
        self._file = -1
        self._refused = False
        self._memory: mmap.mmap | None = None
        self._children: list[int] = []

    def __enter__(self) -> _Copies:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end_children()
        self._memory = None
        if self._file >= 0:
            os.close(self._file)

    def consider(self, number: int, seconds: float) -> None:
        """Make copies, where the passes from a number on would take this process too long."""
        if self._refused:
            return
        left = self._passes - max(number, self._first)
        if self._memory is not None:
            left = int(np.count_nonzero(self._states()[number:] == _NOTHING))
        fair = max(WORTH_SECONDS, self._processors.fair_until - time.time())
        wanted = math.ceil(left * seconds / fair)
        for _ in range(min(wanted, left) - 1 - len(self._children)):
            processor = self._processors.take()
            if processor is None:
                return
            with processor:
                try:
                    if self._memory is None:
                        self._share(number)
                    self._fork()
                except (OSError, MemoryError):
                    # How many were drawn must not decide on an answer: what a limit of the machine
                    # refuses, this process computes by itself.
                    self._refused = True
                    return

    def made(self, number: int, seconds: float) -> NDArray[np.float64] | None:
        """Return a pass's sum ``[d]``, or None where this process is to compute it."""
        if self._memory is None or number < self._first:
            return None
        patience = max(PATIENCE_SECONDS, PATIENCE_PASSES * seconds)
        until = time.monotonic() + patience
        while not self._claim(number):
            if time.monotonic() > until:
                # One that neither ends nor computes: the kernel opens its lock with its end.
                self._end_children()
            time.sleep(_PAUSE_SECONDS)
        states = self._states()
        if states[number] == _SUMMED:
            return self._sum_of(number)
        states[number] = _LEFT
        return None

    def _share(self, number: int) -> None:
        """Make the memory for passes from a number on; those before it are done."""
        if self._file < 0:
            self._file = os.memfd_create("sums of passes")
        size = self._sums_at + 8 * self._values * (self._passes - self._first)
        os.ftruncate(self._file, size)
        self._memory = mmap.mmap(self._file, size)
        self._states()[:number] = _LEFT

    def _fork(self) -> None:
        owner = os.getpid()
        if child := os.fork():
            self._children.append(child)
            return
        try:
            _end_with(owner)
            gc.disable()
            self._compute()
        except BaseException:
            pass  # its pass is the owner's, who says what is wrong with it
        finally:
            os._exit(0)

    def _compute(self) -> None:
        """Compute what nobody has begun; in a copy."""
        states = self._states()
        for number in range(self._passes - 1, self._first - 1, -1):
            if states[number] == _NOTHING and self._claim(number):
                if states[number] == _NOTHING:
                    states[number] = _BEGUN
                    plain = self._make(number, self._sum_of(number))
                    states[number] = _SUMMED if plain else _LEFT
                fcntl.lockf(self._file, fcntl.LOCK_UN, 1, number)

    def _claim(self, number: int) -> bool:
        """Lock a pass, if nobody else has."""
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, number)
        except OSError:
            return False
        return True

    def _states(self) -> NDArray[np.uint8]:
        return self._part(np.uint8, self._passes, 0)

    def _sum_of(self, number: int) -> NDArray[np.float64]:
        place = self._sums_at + 8 * self._values * (number - self._first)
        return self._part(np.float64, self._values, place)

    def _part(self, kind: type[T], count: int, place: int) -> NDArray[T]:
        assert self._memory is not None
        return np.frombuffer(self._memory, kind, count, place)

    def _end_children(self) -> None:
        for child in self._children:
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        for child in self._children:
            with suppress(ChildProcessError):
                used = os.wait4(child, 0)[2]
                self._processors.used_seconds += used.ru_utime + used.ru_stime
        self._children.clear()


def _end_with(owner: int) -> None:
    """Have this process end with its owner, and by signals as any other does."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != owner:
        os._exit(0)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)
