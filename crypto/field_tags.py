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
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from crypto.blocks import Digits, Fields
from crypto.coins import KeyStream
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

    __slots__ = ("_halves", "_limb_bits", "_limbs", "_scales", "_sum")

    def __init__(self, group_key: bytes, place: Place, parameter_id: str, layout: Layout) -> None:
        count = layout.fields * layout.data_coefficients
        # Of a vector's fields, and of a sum's, which are centred.
        largest = max(layout.grid.levels - 1, layout.hospitals * layout.grid.half)
        # Sums of products of field and limb stay within 53 bits, so float64 adds them exactly.
        most = 54 - (largest * count).bit_length()
        self._halves = most < _LEAST_LIMB
        if self._halves:
            most = 54 - (count << _HALF_BITS).bit_length()
        limbs = -(-TAG_BITS // most)
        self._limb_bits = -(-TAG_BITS // limbs)
        key = derive_key(group_key, b"field weights", place, parameter_id.encode())
        words = KeyStream(key).words(count)
        words &= _MASK
        self._scales = [1 << (limb * self._limb_bits) for limb in range(limbs)]
        self._limbs = self._centred_limbs(words)
        columns = zip(self._limbs, self._scales, strict=True)
        self._sum = sum(int(limb.sum()) * scale for limb, scale in columns)
        if self._halves:
            self._scales += [scale << _HALF_BITS for scale in self._scales]

    def _centred_limbs(self, words: Words) -> NDArray[np.float64]:
        """Float64 `[limbs, V*D]` of at most half of 2**limb_bits, modulo P worth the words.

        The words are overwritten.
        """
        middle = 1 << (self._limb_bits - 1)
        limbs = np.empty((len(self._scales), words.size))
        words -= np.uint64(PRIME) * (words >> np.uint64(TAG_BITS - 1))
        words += np.uint64(middle * sum(self._scales))
        for limb in limbs[:-1]:
            limb[...] = words & np.uint64(2 * middle - 1)
            words >>= np.uint64(self._limb_bits)
        limbs[-1] = words
        limbs -= middle
        return limbs

    @property
    def columns(self) -> int:
        """How many sums `sums` returns a row."""
        return len(self._scales)

    def sums(self, digits: Digits, first: int = 0) -> NDArray[np.float64]:
        """What some fields of some blocks add to the blocks' products; exact, and so are its sums.

        Args:
            digits: Float64 `[rows, m]`.
            first: The first of them, of V*D fields of a block.

        Returns:
            Float64 `[rows, columns]`, which `joined` takes once all fields are in it.
        """
        limbs = self._limbs[:, first : first + digits.shape[1]].T
        if not self._halves:
            return digits @ limbs
        high = np.floor(digits * 2.0**-_HALF_BITS)
        low = digits - high * 2.0**_HALF_BITS
        return np.concatenate([low @ limbs, high @ limbs], axis=1)

    def joined(self, sums: NDArray[np.float64], middle: int = 0) -> list[int]:
        """`<alpha, fields + middle>` modulo P for every block of summed `sums`."""
        scales, all_middles = np.array(self._scales, dtype=object), middle * self._sum
        whole: list[int] = ((sums.astype(np.int64) @ scales + all_middles) % PRIME).tolist()
        return whole

    def products(self, fields: Fields) -> list[int]:
        """`<alpha, fields>` modulo P for every block of float64 `[rows, V, D]`."""
        return self.joined(self.sums(fields.reshape(len(fields), -1)))

    def __repr__(self) -> str:
        return "FieldWeights(hidden)"


def write_digits(tags: list[int], layout: Layout, out: Words) -> None:
    """Write tags below P into the last coefficients of uint64 `[rows, n]`, as digits of g bits."""
    mask = 2**layout.digit_bits - 1
    for row, tag in zip(out, tags, strict=True):
        for digit in range(layout.tag_coefficients):
            row[layout.data_coefficients + digit] = (tag >> (digit * layout.digit_bits)) & mask


def join_digits(digits: Words, layout: Layout, contributions: int) -> list[int]:
    """Join the last coefficients of a sum's blocks, uint64 `[rows, digits]`, modulo P.

    They are centred as all coefficients of the sum are (`Layout.middle_of_sum`).
    """
    middle = np.uint64(layout.middle_of_sum(contributions))
    whole = (digits + middle) & np.uint64(2**layout.plain_bits - 1)
    scales = [1 << (at * layout.digit_bits) for at in range(layout.tag_coefficients)]
    joined: list[int] = ((whole @ np.array(scales, dtype=object)) % PRIME).tolist()
    return joined
