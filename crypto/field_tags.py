"""Tags over fields, for one-time keys: what proves who is in an opened sum, and nothing else.

A linear authenticator (Agrawal and Boneh 2009) modulo the prime P = 2**48 - 59: block i of hospital
h carries ``tau = pad(place, h, nonce, i) + <alpha, fields_i> mod P``, alpha and pads pseudorandom
under the hospitals' group key. It is over *fields*, not over packed coefficients: a field of a sum
is below P, so any change to it is a change modulo P. tau travels as digits in coefficients of its
own, small enough that sums of digits do not overflow; who opens a sum joins them again.

Formal guarantee. A sum that differs from that of its contributors in any field passes with
probability at most 2**-47 a block and try, and one failure closes the attempt. Sums of digits show
more than a sum of fields: their carries tell something of each tau. So every block holds salt,
uniform fields from the operating system: of 256 bits of their entropy that are left when the sum of
two salts is known, ``<alpha, fields>`` takes 48, and by the leftover hash lemma each tau is uniform
to 2**-104 whatever the fields are: digit sums can be simulated from the sum of fields.
"""

import hashlib
import math
from collections.abc import Mapping

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from numpy.typing import NDArray

from crypto.blocks import Fields
from crypto.errors import ContributionError
from crypto.one_time_plans import TAG_BITS, Layout
from crypto.roles import MAX_LABEL, NONCE_BYTES, Place
from crypto.tags import derive_key

Words = NDArray[np.uint64]

PRIME = 2**TAG_BITS - 59
_EXCESS = np.uint64(2**TAG_BITS - PRIME)
_MASK = np.uint64(2**TAG_BITS - 1)
_HALF_BITS, _LEAST_LIMB = 24, 8


def _reduce(words: Words) -> Words:
    """Words below 2**60 modulo P, without a division: 2**48 is 59 modulo P."""
    folded = (words & _MASK) + (words >> np.uint64(TAG_BITS)) * _EXCESS
    folded = (folded & _MASK) + (folded >> np.uint64(TAG_BITS)) * _EXCESS
    folded -= np.uint64(PRIME) * (folded >= np.uint64(PRIME)).astype(np.uint64)
    return folded


def block_pads(
    group_key: bytes, place: Place, nonces: Mapping[str, bytes], parameter_id: str, blocks: int
) -> dict[str, Words]:
    """One pad a block of each hospital, uint64 `[blocks]`, pseudorandom modulo P to within 2**-79.

    Args:
        group_key: Of the hospitals.
        place: Where in the training.
        nonces: Of the hospitals' signed headers, by name.
        parameter_id: Digest of the sealing plan, hex.
        blocks: Of a vector.

    Raises:
        ContributionError: A name or nonce of another size.
    """
    streams = []
    for hospital, nonce in nonces.items():
        if not 0 < len(hospital) <= MAX_LABEL:
            raise ContributionError(f"a hospital's name has 1 to {MAX_LABEL} characters")
        if len(nonce) != NONCE_BYTES:
            raise ContributionError(f"the nonce of {hospital!r} has {len(nonce)} bytes, not 32")
        labels = hospital.encode(), nonce, parameter_id.encode()
        key = derive_key(group_key, b"block pads", place, *labels)
        streams.append(hashlib.shake_256(key).digest(16 * blocks))
    stream = np.frombuffer(b"".join(streams), dtype="<u8").reshape(len(streams), blocks, 2)
    low, high = stream[..., 0], stream[..., 1]
    # 48, 48 and 32 bits of the 128, at weights 1, 2**48 = 59 and 2**96 = 59**2.
    middle = (low >> np.uint64(48)) | ((high & np.uint64(2**32 - 1)) << np.uint64(16))
    pads = _reduce((low & _MASK) + middle * _EXCESS + (high >> np.uint64(32)) * (_EXCESS * _EXCESS))
    return dict(zip(nonces, pads, strict=True))


class FieldWeights:
    """The secret vector alpha of one place, ready for exact products with fields."""

    __slots__ = ("_halves", "_limb_bits", "_limbs", "_sum")

    def __init__(self, group_key: bytes, place: Place, parameter_id: str, layout: Layout) -> None:
        count = layout.fields * layout.data_coefficients
        width = (layout.radix - 1).bit_length()
        # Sums of products of field and limb stay within 53 bits, so float64 adds them exactly.
        self._limb_bits = 53 - width - math.ceil(math.log2(count))
        self._halves = self._limb_bits < _LEAST_LIMB
        if self._halves:
            self._limb_bits = 53 - _HALF_BITS - math.ceil(math.log2(count))
        key = derive_key(group_key, b"field weights", place, parameter_id.encode())
        cipher = Cipher(algorithms.AES256(key), modes.CTR(bytes(16))).encryptor()
        words = np.frombuffer(cipher.update(bytes(8 * count)), dtype="<u8") & _MASK
        high, low = words >> np.uint64(_HALF_BITS), words & np.uint64(2**_HALF_BITS - 1)
        self._sum = (int(high.sum()) << _HALF_BITS) + int(low.sum())
        limbs = -(-TAG_BITS // self._limb_bits)
        mask = np.uint64(2**self._limb_bits - 1)
        self._limbs = np.empty((limbs, count))
        for limb in range(limbs):
            self._limbs[limb] = (words >> np.uint64(limb * self._limb_bits)) & mask

    def products(self, fields: Fields, middle: int = 0) -> list[int]:
        """`<alpha, fields + middle>` modulo P for every block of float64 `[rows, V, D]`."""
        flat, all_middles = fields.reshape(len(fields), -1), middle * self._sum
        if not self._halves:
            whole = self._joined(flat @ self._limbs.T, 0)
            return [(one + all_middles) % PRIME for one in whole]
        high = np.floor(flat * 2.0**-_HALF_BITS)
        low = flat - high * 2.0**_HALF_BITS
        pairs = zip(
            self._joined(low @ self._limbs.T, 0),
            self._joined(high @ self._limbs.T, _HALF_BITS),
            strict=True,
        )
        return [(one + other + all_middles) % PRIME for one, other in pairs]

    def _joined(self, sums: NDArray[np.float64], shift: int) -> list[int]:
        return [
            sum(int(part) << (limb * self._limb_bits + shift) for limb, part in enumerate(row))
            % PRIME
            for row in sums.tolist()
        ]

    def __repr__(self) -> str:
        return "FieldWeights(hidden)"


def write_digits(tags: list[int], layout: Layout, out: Words) -> None:
    """Write tags below P into the last coefficients of uint64 `[rows, n]`, as digits of g bits."""
    mask = 2**layout.digit_bits - 1
    for row, tag in zip(out, tags, strict=True):
        for digit in range(layout.tag_coefficients):
            row[layout.data_coefficients + digit] = (tag >> (digit * layout.digit_bits)) & mask


def read_digits(plain: Words, layout: Layout, contributions: int) -> list[int]:
    """Join the digits at the end of uint64 `[rows, n]`, of a sum, modulo P.

    They are centred as all coefficients of the sum are (`Layout.middle_of_sum`).
    """
    middle, mask = layout.middle_of_sum(contributions), 2**layout.plain_bits - 1
    return [
        sum(((part + middle) & mask) << (at * layout.digit_bits) for at, part in enumerate(row))
        % PRIME
        for row in plain[:, layout.data_coefficients :].tolist()
    ]
