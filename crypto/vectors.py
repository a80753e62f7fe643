"""From a vector to tagged slots and back: shared by `modular` and `bfv`, which so agree exactly."""

import math
import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

import numpy as np

from crypto.errors import ContributionError, FrameError, SealError, TagMismatchError
from crypto.keys import Keys
from crypto.packing import Slots, pack_row, unpack_row
from crypto.plans import SealingPlan
from crypto.roles import NONCE_BYTES, Place, Vector
from crypto.tags import check_pads, pads, product, weights


def check_vector(values: Vector, count: int) -> Vector:
    """A finite float64 `[count]` vector, or a SealError."""
    if not isinstance(values, np.ndarray) or values.dtype != np.float64:
        raise SealError(f"values are {getattr(values, 'dtype', type(values))}, expected float64")
    if values.shape != (count,):
        raise SealError(f"values have shape {values.shape}, expected ({count},)")
    with np.errstate(over="ignore", invalid="ignore"):
        summed = float(values.sum())  # much faster, and finite only if every value is
    if not math.isfinite(summed) and not np.isfinite(values).all():
        raise SealError("values hold NaN or infinity, expected finite numbers")
    return values


def check_seeds(seeds: Sequence[bytes], plan: SealingPlan) -> None:
    """As many seeds of noise as the plan shares among holders, or a SealError."""
    wanted = len(plan.sharing.seeds) if plan.sharing else 0
    if len(seeds) != wanted:
        raise SealError(f"{len(seeds)} seeds of noise came with the values, expected {wanted}")


def new_nonce() -> bytes:
    """32 bytes of the operating system's, whatever seeds the run has."""
    return os.urandom(NONCE_BYTES)


def check_contributors(contributors: Collection[str], contributions: int, hospitals: int) -> None:
    """As many names as the sum says it holds."""
    if not 1 <= len(contributors) <= hospitals:
        raise ContributionError(f"{len(contributors)} contributors, expected 1 to {hospitals}")
    if len(contributors) != contributions:
        raise ContributionError(
            f"the sum says it holds {contributions} contributions, the roster {len(contributors)}"
        )


class Tagging:
    """What tags one vector at one place: all of it but the vector.

    Attributes:
        nonce: Fresh, for the signed header.
    """

    __slots__ = ("_alpha", "_pads", "_plan", "nonce")

    def __init__(
        self, plan: SealingPlan, keys: Keys, hospital: str, nonce: bytes, place: Place
    ) -> None:
        count, modulus, identifier = plan.ciphertexts, plan.plain_modulus, plan.parameter_id
        self._plan, self.nonce = plan, nonce
        self._alpha = weights(keys.group_key, place, identifier, plan.data_slots)
        self._pads = pads(keys.group_key, place, hospital, nonce, identifier, count, modulus)

    def slots(self, values: Vector) -> Iterator[Slots]:
        """Quantised, packed, tagged, a ciphertext at a time: uint64 `[n]` below t, slot 0 the tag.

        Raises:
            SealError: The vector is not finite float64 `[d]`.
        """
        plan = self._plan
        check_vector(values, plan.values)
        for row, pad in enumerate(self._pads):
            slots = np.empty(plan.slots, dtype=np.uint64)
            slots[1:] = pack_row(
                values,
                row,
                grid=plan.grid,
                radix=plan.radix,
                per_slot=plan.values_per_slot,
                slots=plan.data_slots,
                rows=plan.ciphertexts,
            )
            slots[0] = (pad + product(slots[1:], self._alpha)) % plan.plain_modulus
            yield slots

    def __repr__(self) -> str:
        return "Tagging(hidden)"


def from_slots(
    rows: Iterable[Slots],
    plan: SealingPlan,
    keys: Keys,
    contributors: Mapping[str, bytes],
    place: Place,
) -> Vector:
    """Check the tag of every row of a sum, uint64 `[n]` each; return float64 `[d]` if all hold.

    Raises:
        TagMismatchError: The sum is not of exactly these contributors at this place.
    """
    count, modulus, identifier = plan.ciphertexts, plan.plain_modulus, plan.parameter_id
    alpha = weights(keys.group_key, place, identifier, plan.data_slots)
    expected = {
        name: pads(keys.group_key, place, name, nonce, identifier, count, modulus)
        for name, nonce in contributors.items()
    }
    opened = np.empty(plan.values)
    observed, excess = [], ""
    for row, slots in enumerate(rows):
        observed.append((int(slots[0]) - product(slots[1:], alpha)) % modulus)
        try:
            unpack_row(
                slots[1:],
                row,
                opened,
                grid=plan.grid,
                radix=plan.radix,
                per_slot=plan.values_per_slot,
                rows=count,
                contributions=len(contributors),
            )
        except FrameError as fault:
            excess = str(fault)
    check_pads(observed, expected, modulus)
    if excess:
        raise TagMismatchError(excess)
    return opened
