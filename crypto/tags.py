"""Tags that prove who is in an opened sum, and that nothing else was added to it.

Each ciphertext keeps one slot for a linear authenticator (Agrawal and Boneh 2009, "Homomorphic
MACs"): hospital h puts ``pad(place, h, nonce, i) + <alpha, data_i> mod t`` into ciphertext i,
where pad is a PRF and alpha a secret vector, both under the group key that hospitals alone hold.
Tags add as data add, so a sum is accepted only if its tag is the contributors' pads plus
``<alpha, data>`` for the data opened.

Formal guarantee. Pads are fresh for every (training, round, attempt, hospital, nonce, ciphertext),
and a nonce is fresh for every vector sealed, also where a hospital seals twice for one place. So a
server learns nothing about alpha, and the difference of two such vectors cannot be added to a sum;
to change the data of a ciphertext it must hit
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
from crypto.roles import MAX_LABEL, NONCE_BYTES, Place

_LIMB = 12
_LIMBS = 4  # alpha has 48 bits
_LOW = 24


def derive_key(group_key: bytes, purpose: bytes, place: Place, *labels: bytes) -> bytes:
    """A key for one purpose at one place, 32 bytes: a PRF of the group key."""
    mac = hmac.new(group_key, b"asclepias " + purpose, hashlib.sha256)
    for label in (place.training.encode(), *labels):
        mac.update(len(label).to_bytes(4, "little") + label)
    mac.update(place.round.to_bytes(4, "little") + place.attempt.to_bytes(4, "little"))
    return mac.digest()


def pads(
    group_key: bytes,
    place: Place,
    hospital: str,
    nonce: bytes,
    parameter_id: str,
    count: int,
    modulus: int,
) -> list[int]:
    """One pad per ciphertext, pseudorandom modulo `modulus` to within 2**-64.

    Raises:
        ContributionError: A name or nonce of another size.
    """
    if not 0 < len(hospital) <= MAX_LABEL:
        raise ContributionError(f"a hospital's name has 1 to {MAX_LABEL} characters")
    if len(nonce) != NONCE_BYTES:
        raise ContributionError(f"the nonce of {hospital!r} has {len(nonce)} bytes, not 32")
    key = derive_key(group_key, b"pads", place, hospital.encode(), nonce, parameter_id.encode())
    stream = hashlib.shake_256(key).digest(16 * count)
    return [
        int.from_bytes(stream[16 * index : 16 * index + 16], "little") % modulus
        for index in range(count)
    ]


def weights(group_key: bytes, place: Place, parameter_id: str, slots: int) -> NDArray[np.float64]:
    """The secret vector alpha, as limbs of 12 bits; float64 `[slots, 4]`."""
    key = derive_key(group_key, b"weights", place, parameter_id.encode())
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
    if wrong:
        raise TagMismatchError(_difference(residual, wrong, expected, modulus))


def _difference(
    residual: Sequence[int],
    wrong: Sequence[int],
    expected: Mapping[str, Sequence[int]],
    modulus: int,
) -> str:
    """What a server may have done to leave this residual, in words."""
    if len(wrong) < len(residual):
        return f"{len(wrong)} of {len(residual)} ciphertexts were changed, the first is {wrong[0]}"
    names = {tuple(theirs): name for name, theirs in expected.items()}
    lacking = names.get(tuple(-value % modulus for value in residual))
    if lacking:
        return f"the sum lacks {lacking!r}"
    doubled = names.get(tuple(residual))
    if doubled:
        return f"the sum counts {doubled!r} twice"
    for doubled, theirs in expected.items():
        rest = ((pad - value) % modulus for value, pad in zip(residual, theirs, strict=True))
        lacking = names.get(tuple(rest))
        if lacking:
            return f"the sum lacks {lacking!r} and counts {doubled!r} twice"
    return (
        "every ciphertext differs from the roster's tags: another round, attempt, training, "
        "contributor or an addition"
    )
