"""From a vector to tagged slots and back: shared by `modular` and `bfv`, which so agree exactly."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from crypto.errors import ContributionError, SealError, TagMismatchError
from crypto.keys import Keys
from crypto.packing import Slots, pack, quantise, unpack
from crypto.plans import SealingPlan
from crypto.roles import Place, Vector
from crypto.tags import check_pads, pads, products, weights


def check_vector(values: Vector, count: int) -> Vector:
    """A finite float64 `[count]` vector, or a SealError."""
    if not isinstance(values, np.ndarray) or values.dtype != np.float64:
        raise SealError(f"values are {getattr(values, 'dtype', type(values))}, expected float64")
    if values.shape != (count,):
        raise SealError(f"values have shape {values.shape}, expected ({count},)")
    if not np.isfinite(values).all():
        raise SealError("values hold NaN or infinity, expected finite numbers")
    return values


def check_contributors(contributors: Sequence[str], contributions: int, hospitals: int) -> None:
    """Distinct names, as many as the sum says it holds."""
    if len(set(contributors)) != len(contributors):
        raise ContributionError("a contributor is named twice")
    if not 1 <= len(contributors) <= hospitals:
        raise ContributionError(f"{len(contributors)} contributors, expected 1 to {hospitals}")
    if len(contributors) != contributions:
        raise ContributionError(
            f"the sum says it holds {contributions} contributions, the roster {len(contributors)}"
        )


def to_slots(values: Vector, plan: SealingPlan, keys: Keys, hospital: str, place: Place) -> Slots:
    """Quantised, packed, tagged; uint64 `[ciphertexts, n]` below t, slot 0 is the tag."""
    fields = quantise(check_vector(values, plan.values), plan.grid)
    count, modulus = plan.ciphertexts, plan.plain_modulus
    slots = np.empty((count, plan.degree), dtype=np.uint64)
    slots[:, 1:] = pack(
        fields,
        radix=plan.radix,
        per_slot=plan.values_per_slot,
        slots=count * plan.data_slots,
    ).reshape(count, plan.data_slots)
    identifier = plan.parameter_id
    alpha = weights(keys.group_key, place, identifier, plan.data_slots)
    own = pads(keys.group_key, place, hospital, identifier, count, modulus)
    data = products(slots[:, 1:], alpha, modulus)
    slots[:, 0] = [(pad + product) % modulus for pad, product in zip(own, data, strict=True)]
    return slots


def from_slots(
    slots: NDArray[np.uint64],
    plan: SealingPlan,
    keys: Keys,
    contributors: Sequence[str],
    place: Place,
) -> Vector:
    """Check every tag of a sum's slots, uint64 `[ciphertexts, n]`, then unpack float64 `[d]`.

    Raises:
        TagMismatchError: The sum is not of exactly these contributors at this place.
    """
    count, modulus, identifier = plan.ciphertexts, plan.plain_modulus, plan.parameter_id
    alpha = weights(keys.group_key, place, identifier, plan.data_slots)
    data = products(slots[:, 1:], alpha, modulus)
    observed = [
        (tag - product) % modulus for tag, product in zip(slots[:, 0].tolist(), data, strict=True)
    ]
    expected = {
        name: pads(keys.group_key, place, name, identifier, count, modulus) for name in contributors
    }
    check_pads(observed, expected, modulus)
    fields = unpack(
        slots[:, 1:].reshape(-1),
        radix=plan.radix,
        per_slot=plan.values_per_slot,
        values=plan.values,
    )
    present = len(contributors)
    if int(fields.max()) > present * (plan.grid.levels - 1):
        raise TagMismatchError("a field exceeds what the contributors can sum to")
    # The exact integer sum, undone of the offset that made fields non-negative.
    centred: Vector = (fields - present * plan.grid.half).astype(np.float64)
    return centred * plan.grid.step
