"""The same integers, packing, tags and frames as bfv, without encryption, to test bfv against.

It opens to bit-identical vectors and refuses the same tampering, at a fraction of the time. It
hides nothing from whoever carries it.
"""

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np

from crypto.errors import ContributionError, FrameError
from crypto.frames import Content, Frame, read_frame, write_frame
from crypto.keys import Keys
from crypto.packing import Slots, from_planes, to_planes
from crypto.plans import SealingPlan
from crypto.prepared import Prepared
from crypto.roles import Place, Sealed, Vector
from crypto.vectors import Tagging, check_contributors, check_seeds, from_slots, new_nonce


class ModularSealer:
    """Quantises, packs and tags."""

    def __init__(self, plan: SealingPlan, keys: Keys, hospital: str) -> None:
        keys.require(plan)
        self._plan, self._keys, self._hospital = plan, keys, hospital

    def prepare(self, place: Place, *, ahead: bool = False) -> Prepared:
        """Draw the nonce and what of the tags depends on no vector."""
        tagging = Tagging(self._plan, self._keys, self._hospital, new_nonce(), place)
        return Prepared(self._hospital, place, partial(self._finish, tagging))

    def seal(self, values: Vector, place: Place, seeds: Sequence[bytes] = ()) -> Sealed:
        """Frame the tagged integers of float64 `[d]`."""
        return self.prepare(place).seal(values, seeds)

    def _finish(self, tagging: Tagging, values: Vector, seeds: Sequence[bytes]) -> Sealed:
        check_seeds(seeds, self._plan)
        rows = tagging.slots(values)
        return write_frame(
            self._plan,
            content=Content.SINGLE,
            key_id=self._keys.key_id,
            contributions=1,
            body=[to_planes(row, self._plan.slot_bits) for row in rows],
            nonce=tagging.nonce,
        )


class ModularAdder:
    """Adds slots modulo t."""

    def __init__(self, plan: SealingPlan, key_id: bytes | None) -> None:
        self._plan, self._key_id = plan, key_id
        self._sum = np.zeros((plan.ciphertexts, plan.slots), dtype=np.uint64)
        self._incoming = np.empty_like(self._sum)
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
        read_slots(frame, self._plan, self._incoming)
        self._sum += self._incoming
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
            body=[to_planes(row, self._plan.slot_bits) for row in self._sum],
        )


class ModularOpener:
    """Checks tags and unpacks."""

    def __init__(self, plan: SealingPlan, keys: Keys) -> None:
        keys.require(plan)
        self._plan, self._keys = plan, keys

    def open(self, total: Sealed, contributors: Mapping[str, bytes], place: Place) -> Vector:
        """Return the exact integer sum times the step, float64 `[d]`."""
        frame = read_frame(total, self._plan, content=Content.TOTAL, key_id=self._keys.key_id)
        check_contributors(contributors, frame.contributions, self._plan.hospitals)
        slots = np.empty((self._plan.ciphertexts, self._plan.slots), dtype=np.uint64)
        read_slots(frame, self._plan, slots)
        return from_slots(slots, self._plan, self._keys, contributors, place)


def read_slots(frame: Frame, plan: SealingPlan, out: Slots) -> None:
    """Read the slots of a modular frame, uint64 `[ciphertexts, n]`, every one below t."""
    from_planes(frame.blocks(plan.ciphertexts), plan.slot_bits, out)
    if int(out.max()) >= plan.plain_modulus:
        raise FrameError("a slot is not below the plain modulus")
