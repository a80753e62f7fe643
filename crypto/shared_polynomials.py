"""The public polynomials of one place: everybody derives the same, nobody sends them.

They come from AES-256 in counter mode under a digest of what they belong to: the place in the
training, the sealing parameters, and the terms and members that the hospitals agreed on. Hospitals
with different views of any of it cannot open anything together. (As in FrodoKEM-AES, this takes AES
for an ideal cipher.)
"""

import threading
from functools import lru_cache

import numpy as np

from crypto.coins import KeyStream
from crypto.one_time_plans import Layout
from crypto.polynomials import Multiplicand, likely_limbs
from crypto.roles import Place

_DOMAIN = b"asclepias one-time a 1"
#: Coefficients worked on at once, in some 2 MB: many more would leave the caches, which costs ten
#: times the time; fewer cost a call of every step more often.
_COEFFICIENTS = 32_768
#: Transforms of a place are kept for the next seal or opening in this process up to this size.
_MOST_KEPT_BYTES = 64 << 20

_ONE_AT_A_TIME = threading.Lock()


class SharedPolynomials:
    """The polynomials of one place, some blocks at a time, transformed once.

    Attributes:
        rows: Blocks of a chunk; the last may have fewer.
    """

    def __init__(self, layout: Layout, seed: bytes) -> None:
        self._layout, self._seed = layout, seed
        self.rows = min(layout.blocks, _COEFFICIENTS // layout.degree)
        self._kept: dict[int, Multiplicand] = {}
        self._lock = threading.Lock()

    def chunk(self, first: int, norm: float) -> Multiplicand:
        """Blocks `first .. first+rows-1`, ready for factors of Euclidean norm up to `norm`.

        Of many threads that ask for what is kept one makes it.
        """
        degree, bits = self._layout.degree, self._layout.modulus_bits
        size = 8 * self._layout.blocks * degree * likely_limbs(degree, bits, norm)
        if size > _MOST_KEPT_BYTES:
            return self._made(first, norm)
        with self._lock:
            kept = self._kept.get(first)
            if kept is None or not kept.holds(norm):
                kept = self._kept[first] = self._made(first, norm)
            return kept

    def _made(self, first: int, norm: float) -> Multiplicand:
        degree, bits = self._layout.degree, self._layout.modulus_bits
        rows = min(self.rows, self._layout.blocks - first)
        words = KeyStream(self._seed, start=8 * degree * first).words(rows * degree)
        values = words.reshape(rows, degree) & np.uint64(2**bits - 1)
        return Multiplicand(values, bits, norm)


def shared_polynomials(
    layout: Layout, place: Place, parameter_id: str, bind: bytes
) -> SharedPolynomials:
    """The polynomials of a place.

    Args:
        layout: How many, of what degree and modulus.
        place: Training, round and attempt.
        parameter_id: Digest of the sealing plan, hex.
        bind: Digest of the training's terms and members.
    """
    seed = place.digest(_DOMAIN, bytes.fromhex(parameter_id), bind)
    with _ONE_AT_A_TIME:
        return _of_seed(layout, seed)


@lru_cache(maxsize=2)
def _of_seed(layout: Layout, seed: bytes) -> SharedPolynomials:
    return SharedPolynomials(layout, seed)
