"""The same integers, packing, tags and frames as bfv, without encryption: its oracle and double.

It opens to bit-identical vectors and refuses the same tampering, at a fraction of the time. It
hides nothing from whoever carries it.
"""

from collections.abc import Sequence

import numpy as np

from crypto.errors import ContributionError, FrameError
from crypto.frames import Content, read_frame, slot_width, write_frame
from crypto.keys import Keys
from crypto.packing import Slots, from_planes, to_planes
from crypto.plans import SealingPlan
from crypto.roles import Place, Sealed, Vector
from crypto.vectors import check_contributors, from_slots, to_slots


class ModularSealer:
    """Quantises, packs and tags."""

    def __init__(self, plan: SealingPlan, keys: Keys, hospital: str) -> None:
        keys.require(plan)
        self._plan, self._keys, self._hospital = plan, keys, hospital

    def seal(self, values: Vector, place: Place) -> Sealed:
        """Frame the tagged integers of float64 `[d]`."""
        slots = to_slots(values, self._plan, self._keys, self._hospital, place)
        return write_frame(
            self._plan,
            content=Content.SINGLE,
            key_id=self._keys.key_id,
            contributions=1,
            body=[to_planes(slots.reshape(-1), slot_width(self._plan))],
        )


class ModularAdder:
    """Adds slots modulo t."""

    def __init__(self, plan: SealingPlan, key_id: bytes | None) -> None:
        self._plan, self._key_id = plan, key_id
        self._sum = np.zeros(plan.ciphertexts * plan.degree, dtype=np.uint64)
        self._contributions = 0

    @property
    def contributions(self) -> int:
        """Vectors in the sum."""
        return self._contributions

    def add(self, sealed: Sealed) -> None:
        """Fold in one vector; on an error the sum is as before."""
        frame = read_frame(sealed, self._plan, content=Content.SINGLE, key_id=self._key_id)
        if self._contributions >= self._plan.hospitals:
            raise ContributionError(f"more than the planned {self._plan.hospitals} contributions")
        self._sum += read_slots(frame.body, self._plan)
        self._sum %= np.uint64(self._plan.plain_modulus)
        self._key_id = frame.key_id
        self._contributions += 1

    def total(self) -> Sealed:
        """The sum so far."""
        if not self._contributions or self._key_id is None:
            raise ContributionError("a sum of no contributions")
        return write_frame(
            self._plan,
            content=Content.TOTAL,
            key_id=self._key_id,
            contributions=self._contributions,
            body=[to_planes(self._sum, slot_width(self._plan))],
        )


class ModularOpener:
    """Checks tags and unpacks."""

    def __init__(self, plan: SealingPlan, keys: Keys) -> None:
        keys.require(plan)
        self._plan, self._keys = plan, keys

    def open(self, total: Sealed, contributors: Sequence[str], place: Place) -> Vector:
        """Return the exact integer sum times the step, float64 `[d]`."""
        frame = read_frame(total, self._plan, content=Content.TOTAL, key_id=self._keys.key_id)
        check_contributors(contributors, frame.contributions, self._plan.hospitals)
        slots = read_slots(frame.body, self._plan).reshape(self._plan.ciphertexts, -1)
        return from_slots(slots, self._plan, self._keys, contributors, place)


def read_slots(body: memoryview, plan: SealingPlan) -> Slots:
    """Slots of a modular frame, uint64, every one below t."""
    slots = from_planes(body, plan.ciphertexts * plan.degree, slot_width(plan))
    if int(slots.max()) >= plan.plain_modulus:
        raise FrameError("a slot is not below the plain modulus")
    return slots
