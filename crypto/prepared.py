"""A sealing that is prepared before its vector is there: one vector, one place, one process.

    prepared = sealer.prepare(place)          # while the gradient is being computed
    sealed = prepared.seal(update, seeds)     # what is left to do
    prepared.seal(other)                      # SpentError, whatever became of the first

What a sealing takes beside the vector (a key, errors, nonce, masks) would give two vectors away if
both were sealed under it. So it is taken out of here before anything is done with it, and nothing
else can be: not copied, not written down, not used by a process that was forked off meanwhile.
"""

import os
from collections.abc import Callable, Sequence
from typing import NoReturn

from crypto.errors import SpentError
from crypto.roles import Place, Sealed, Vector

#: Seals a vector, and shares the seeds of its noise.
Finish = Callable[[Vector, Sequence[bytes]], Sealed]


class Prepared:
    """All that sealing one vector takes, but the vector; it shows nothing.

    Guarantee: no two vectors are sealed with it, also by two threads at once, after a failure, or
    after a fork.

    Attributes:
        hospital: Whose vector it is for.
        place: The only place that it is for.
    """

    __slots__ = ("_left", "_process", "hospital", "place")

    def __init__(self, hospital: str, place: Place, finish: Finish) -> None:
        self.hospital, self.place = hospital, place
        self._left = [finish]
        self._process = os.getpid()

    def seal(self, values: Vector, seeds: Sequence[bytes] = ()) -> Sealed:
        """Seal float64 `[d]`; seeds of its noise are shared with its key where keys are shared.

        Raises:
            SpentError: It has been used before, thrown away, or made in another process.
            SealError: The vector cannot be sealed; this is spent all the same.
        """
        try:
            finish = self._left.pop()  # of two threads one finds it
        except IndexError:
            raise SpentError(f"what was prepared for {self.place} seals one vector") from None
        if self._process != os.getpid():
            raise SpentError(f"what was prepared for {self.place} belongs to another process")
        return finish(values, seeds)

    def discard(self) -> None:
        """Throw it away."""
        self._left.clear()

    @property
    def spent(self) -> bool:
        """Whether it can seal no vector any more."""
        return not self._left

    def __repr__(self) -> str:
        return f"Prepared(hospital={self.hospital!r}, spent={self.spent})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("what seals one vector cannot be pickled or copied")
