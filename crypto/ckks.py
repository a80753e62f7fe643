"""CKKS, for comparison and for federations without privacy noise: approximate sums of reals.

Sums open to within `plan.error_bound_of_mean`, not exactly, and the error depends on the secret key
(Li and Micciancio 2021, IND-CPA-D). So an opening stays at hospitals, which hold the key anyway;
`crypto.schemes.require_returnable` refuses to hand one to a server. Tags are plain 20-bit
pads: they prove who is in a sum, but not, as the tags of bfv do, that nothing was added to it.
"""

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np

from crypto.bfv import decrypt_rows, encrypt_rows, encryptor_of, lattice_of
from crypto.errors import TagMismatchError
from crypto.frames import Content, read_frame
from crypto.keys import Keys
from crypto.parameters import CKKS_UNIT_BITS
from crypto.plans import SealingPlan
from crypto.prepared import Prepared
from crypto.roles import Place, Sealed, Vector
from crypto.tags import check_pads, pads
from crypto.vectors import check_contributors, check_seeds, check_vector, new_nonce

_UNIT = 2.0**CKKS_UNIT_BITS
# Sums of pads are compared as integers, so their modulus is above any sum of 1,024.
_PAD_MODULUS = 1 << 40


class CkksSealer:
    """Clamps, tags and encrypts."""

    def __init__(self, plan: SealingPlan, keys: Keys, hospital: str) -> None:
        keys.require(plan)
        self._plan, self._keys, self._hospital = plan, keys, hospital
        self._encryptor = encryptor_of(plan, keys)

    def prepare(self, place: Place, *, ahead: bool = False) -> Prepared:
        """Draw the nonce."""
        return Prepared(self._hospital, place, partial(self._finish, new_nonce(), place))

    def seal(self, values: Vector, place: Place, seeds: Sequence[bytes] = ()) -> Sealed:
        """Seal float64 `[d]`, clamped to the grid's bound but not rounded to its step."""
        return self.prepare(place).seal(values, seeds)

    def _finish(self, nonce: bytes, place: Place, values: Vector, seeds: Sequence[bytes]) -> Sealed:
        check_seeds(seeds, self._plan)
        plan = self._plan
        check_vector(values, plan.values)
        slots = np.zeros((plan.ciphertexts, plan.slots))
        data = np.zeros(plan.ciphertexts * plan.data_slots)
        np.clip(values / plan.grid.bound, -1, 1, out=data[: plan.values])
        slots[:, 1:] = data.reshape(plan.ciphertexts, -1) * _UNIT
        slots[:, 0] = _pads(plan, self._keys, self._hospital, nonce, place)
        return encrypt_rows(slots, plan, self._encryptor, self._keys.key_id, nonce)


class CkksOpener:
    """Decrypts sums, at hospitals only."""

    def __init__(self, plan: SealingPlan, keys: Keys) -> None:
        keys.require(plan)
        self._plan, self._keys = plan, keys
        self._decryptor = lattice_of(plan).decryptor(keys.secret)

    def open(self, total: Sealed, contributors: Mapping[str, bytes], place: Place) -> Vector:
        """Return the approximate sum, float64 `[d]`; never send it to a server."""
        plan = self._plan
        frame = read_frame(total, plan, content=Content.TOTAL, key_id=self._keys.key_id)
        check_contributors(contributors, frame.contributions, plan.hospitals)
        slots = np.stack(list(decrypt_rows(frame, plan, self._decryptor)))
        tags = np.rint(slots[:, 0])
        if not np.isfinite(slots).all() or np.abs(slots).max() > 2 * len(contributors) * _UNIT:
            raise TagMismatchError("an opened slot exceeds what the contributors can sum to")
        expected = {
            name: _pads(plan, self._keys, name, nonce, place)
            for name, nonce in contributors.items()
        }
        check_pads([int(tag) for tag in tags], expected, _PAD_MODULUS)
        data = slots[:, 1:].reshape(-1)[: plan.values]
        return np.asarray(data * (plan.grid.bound / _UNIT), dtype=np.float64)


def _pads(plan: SealingPlan, keys: Keys, hospital: str, nonce: bytes, place: Place) -> list[int]:
    return pads(
        keys.group_key,
        place,
        hospital,
        nonce,
        plan.parameter_id,
        plan.ciphertexts,
        1 << CKKS_UNIT_BITS,
    )
