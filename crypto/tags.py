"""Tags that prove who is in an opened sum, and that nothing else was added to it.

Each ciphertext keeps one slot for a linear authenticator (Agrawal and Boneh 2009, "Homomorphic
MACs"): hospital h puts ``pad(place, h, i) + <alpha, data_i> mod t`` into ciphertext i, where pad
is a PRF and alpha a secret vector, both under the group key that hospitals alone hold. Tags add as
data add, so a sum is accepted only if its tag is the contributors' pads plus ``<alpha, data>`` for
the data opened.

Formal guarantee. Pads are fresh for every (training, round, attempt, hospital, ciphertext), so a
server learns nothing about alpha; to change the data of a ciphertext it must hit
``<alpha, change>`` mod the prime t: probability at most 2**-40 a try, and a failed try ends the
round. Dropping, doubling, replaying or exchanging contributions, or the ciphertexts within one,
changes the pads.
"""

import hashlib
import hmac
from collections.abc import Mapping, Sequence

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from numpy.typing import NDArray

from crypto.errors import ContributionError, TagMismatchError
from crypto.roles import MAX_LABEL, Place

_LIMB = 12
_LIMBS = 4  # alpha has 48 bits
_LOW = 24


def _derive(group_key: bytes, purpose: bytes, place: Place, *labels: str) -> bytes:
    mac = hmac.new(group_key, b"asclepias " + purpose, hashlib.sha256)
    for label in (place.training, *labels):
        encoded = label.encode()
        mac.update(len(encoded).to_bytes(4, "little") + encoded)
    mac.update(place.round.to_bytes(4, "little") + place.attempt.to_bytes(4, "little"))
    return mac.digest()


def pads(
    group_key: bytes, place: Place, hospital: str, parameter_id: str, count: int, modulus: int
) -> list[int]:
    """One pad a ciphertext, pseudorandom modulo `modulus` to within 2**-64."""
    if not 0 < len(hospital) <= MAX_LABEL:
        raise ContributionError(f"a hospital's name has 1 to {MAX_LABEL} characters")
    key = _derive(group_key, b"pads", place, hospital, parameter_id)
    stream = hashlib.shake_256(key).digest(16 * count)
    return [
        int.from_bytes(stream[16 * index : 16 * index + 16], "little") % modulus
        for index in range(count)
    ]


def weights(group_key: bytes, place: Place, parameter_id: str, slots: int) -> NDArray[np.float64]:
    """The secret vector alpha, as limbs of 12 bits; float64 `[slots, 4]`."""
    key = _derive(group_key, b"weights", place, parameter_id)
    stream = Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor().update(bytes(8 * slots))
    words = np.frombuffer(stream, dtype="<u8")
    limbs = [(words >> np.uint64(_LIMB * i)) & np.uint64(2**_LIMB - 1) for i in range(_LIMBS)]
    return np.stack(limbs, axis=1).astype(np.float64)


def product(data: NDArray[np.uint64], alpha: NDArray[np.float64]) -> int:
    """`<alpha, data>` over the integers, for uint64 `[slots]`.

    Exact in float64: data has at most 52 bits, cut into 24 + 28; 28 + 12 bits and 2**13 slots stay
    within 53.
    """
    low = (data & np.uint64(2**_LOW - 1)).astype(np.float64) @ alpha
    high = (data >> np.uint64(_LOW)).astype(np.float64) @ alpha
    return sum(
        (int(low[limb]) + (int(high[limb]) << _LOW)) << (_LIMB * limb) for limb in range(_LIMBS)
    )


def check_pads(
    observed: Sequence[int], expected: Mapping[str, Sequence[int]], modulus: int
) -> None:
    """Compare the pads found in a sum with those of its contributors, and say what differs.

    Raises:
        TagMismatchError: The sum is not of exactly these contributors at this place.
    """
    residual = [
        (found - sum(column)) % modulus
        for found, column in zip(observed, zip(*expected.values(), strict=True), strict=True)
    ]
    wrong = [index for index, value in enumerate(residual) if value]
    if not wrong:
        return
    if len(wrong) < len(residual):
        raise TagMismatchError(
            f"{len(wrong)} of {len(residual)} ciphertexts were changed, the first is {wrong[0]}"
        )
    lacking = _matches(residual, expected, modulus, -1)
    doubled = _matches(residual, expected, modulus, 1)
    if lacking or doubled:
        raise TagMismatchError(
            f"the sum lacks {lacking!r}" if lacking else f"the sum counts {doubled!r} twice"
        )
    for name, theirs in expected.items():
        rest = [(value - pad) % modulus for value, pad in zip(residual, theirs, strict=True)]
        lacking = _matches(rest, expected, modulus, -1)
        if lacking:
            raise TagMismatchError(f"the sum lacks {lacking!r} and counts {name!r} twice")
    raise TagMismatchError(
        "every ciphertext differs from the roster's tags: another round, attempt, training, "
        "contributor or an addition"
    )


def _matches(
    residual: Sequence[int], expected: Mapping[str, Sequence[int]], modulus: int, sign: int
) -> str | None:
    for name, theirs in expected.items():
        if all(
            (value - sign * pad) % modulus == 0 for value, pad in zip(residual, theirs, strict=True)
        ):
            return name
    return None
