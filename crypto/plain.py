"""No sealing at all: float64 vectors and their float64 sum, for oracles and noise-free comparisons.

It shows every vector to whoever carries it, and proves no more than the number of contributors.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from crypto.errors import ContributionError
from crypto.frames import KEY_ID_BYTES, Content, read_frame, write_frame
from crypto.keys import Keys
from crypto.plans import SealingPlan
from crypto.prepared import Prepared
from crypto.roles import Place, Sealed, Vector
from crypto.vectors import check_contributors, check_seeds, check_vector, new_nonce

_NO_KEY = bytes(KEY_ID_BYTES)


class PlainSealer:
    """Writes the vector as it is, unclamped."""

    def __init__(self, plan: SealingPlan, keys: Keys, hospital: str) -> None:
        self._plan, self._hospital = plan, hospital

    def prepare(self, place: Place, *, ahead: bool = False) -> Prepared:
        """Nothing is left to do before the vector is there."""
        return Prepared(self._hospital, place, self._finish)

    def seal(self, values: Vector, place: Place, seeds: Sequence[bytes] = ()) -> Sealed:
        """Frame float64 `[d]`."""
        return self.prepare(place).seal(values, seeds)

    def _finish(self, values: Vector, seeds: Sequence[bytes]) -> Sealed:
        check_seeds(seeds, self._plan)
        vector = check_vector(values, self._plan.values)
        return write_frame(
            self._plan,
            content=Content.SINGLE,
            key_id=_NO_KEY,
            contributions=1,
            body=[vector.astype("<f8").tobytes()],
            nonce=new_nonce(),
        )


class PlainAdder:
    """Adds float64 vectors in the order of arrival."""

    def __init__(self, plan: SealingPlan, key_id: bytes | None) -> None:
        self._plan = plan
        self._sum = np.zeros(plan.values)
        self._contributions = 0

    @property
    def contributions(self) -> int:
        """Vectors in the sum."""
        return self._contributions

    def add(self, sealed: Sealed) -> None:
        """Fold in one vector."""
        frame = read_frame(sealed, self._plan, content=Content.SINGLE, key_id=None)
        if self._contributions >= self._plan.hospitals:
            raise ContributionError(f"more than the planned {self._plan.hospitals} contributions")
        self._sum += check_vector(frame.body.view("<f8"), self._plan.values)
        self._contributions += 1

    def total(self) -> Sealed:
        """The sum so far."""
        if not self._contributions:
            raise ContributionError("a sum of no contributions")
        return write_frame(
            self._plan,
            content=Content.TOTAL,
            key_id=_NO_KEY,
            contributions=self._contributions,
            body=[self._sum.astype("<f8").tobytes()],
        )


class PlainOpener:
    """Reads the sum."""

    def __init__(self, plan: SealingPlan, keys: Keys) -> None:
        self._plan = plan

    def open(self, total: Sealed, contributors: Mapping[str, bytes], place: Place) -> Vector:
        """Return the float64 sum after comparing the number of contributors."""
        frame = read_frame(total, self._plan, content=Content.TOTAL, key_id=None)
        check_contributors(contributors, frame.contributions, self._plan.hospitals)
        return check_vector(frame.body.view("<f8"), self._plan.values).astype(np.float64)
