"""Words: numbers modulo 2**64, what real numbers are as words, and exact products of matrices.

A real number v is the word ``round(v * 2**FRACTION)``, negative ones in two's complement. Products
go through float64 matrices, whose sums are exact below 2**53: a word is three signed limbs of 22,
21 and 21 bits, and what of their products does not fit into 64 bits is not computed.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from crypto.errors import PrecisionError

Words = NDArray[np.uint64]
Reals = NDArray[np.float64]
Shape = tuple[int, ...]

#: Bits after the point.
FRACTION = 16
_LOW, _MIDDLE = 22, 21
_HALF_LOW, _HALF_MIDDLE = np.uint64(1 << _LOW - 1), np.uint64(1 << _MIDDLE - 1)
_MASK_LOW, _MASK_MIDDLE = np.uint64((1 << _LOW) - 1), np.uint64((1 << _MIDDLE) - 1)
#: Largest number that is shared as an input.
MOST_SHARED = 2.0**28
#: Limbs of one word.
LIMBS = 3
#: Terms of a sum of products of limbs that stay below 2**53: each is at most 1.5 * 2**42.
_TERMS = 1024
#: Sum of a row's absolute values up to which `small_product` is exact: limbs are up to 2**21.
MOST_OF_A_ROW = 2.0**32


def shareable(values: Reals, most: float = MOST_SHARED) -> Reals:
    """Return numbers that can be shared: what is too large cut off, what is none as 0.

    To refuse a record for what it holds would tell the other party of it.
    """
    return np.clip(np.nan_to_num(values, nan=0.0), -most, most)


def encode(values: ArrayLike, fraction: int = FRACTION) -> Words:
    """Return real numbers as words.

    Raises:
        PrecisionError: one of them is not finite, or beyond 2**45 units of its last place.
    """
    scaled = np.rint(np.asarray(values, dtype=np.float64) * 2.0**fraction)
    if not np.all(np.abs(scaled) < 2.0**45):
        raise PrecisionError("a number is not finite or too large to be shared")
    return scaled.astype(np.int64).view(np.uint64)


def decode(words: Words, fraction: int = FRACTION) -> Reals:
    """Return the real numbers that words stand for."""
    return np.asarray(words.view(np.int64) / 2.0**fraction)


def word(value: int) -> np.uint64:
    """Return one whole number as a word."""
    return np.uint64(value % 2**64)


def as_bytes(array: NDArray[Any]) -> memoryview:
    """Return the bytes of an array, in its order."""
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data


def limbs(words: Words) -> Reals:
    """Return the three signed limbs of words, float64 [3, *shape].

    A word is limb 0 + 2**22 limb 1 + 2**43 limb 2 modulo 2**64; |limb 0| <= 2**21, the others
    at most 2**20.
    """
    out = np.empty((LIMBS, *words.shape), dtype=np.float64)
    rest = words + _HALF_LOW
    np.subtract((rest & _MASK_LOW).view(np.int64), 1 << _LOW - 1, out=out[0])
    rest >>= np.uint64(_LOW)
    # What a negative low limb borrowed may have wrapped: the upper limbs are of 42 bits.
    rest += _HALF_MIDDLE
    np.subtract((rest & _MASK_MIDDLE).view(np.int64), 1 << _MIDDLE - 1, out=out[1])
    rest >>= np.uint64(_MIDDLE)
    rest += _HALF_MIDDLE
    np.subtract((rest & _MASK_MIDDLE).view(np.int64), 1 << _MIDDLE - 1, out=out[2])
    return out


def product(left: Reals, right: Reals) -> Words:
    """Return the exact product modulo 2**64 of matrices of any words, given as limbs.

    Args:
        left: limbs [3, rows, terms].
        right: limbs [3, terms, columns].
    """
    out = np.zeros((left.shape[1], right.shape[2]), dtype=np.uint64)
    for start in range(0, left.shape[2], _TERMS):
        a, b = left[:, :, start : start + _TERMS], right[:, start : start + _TERMS]
        out += _wrapped(a[0] @ b[0])
        out += _wrapped(a[0] @ b[1] + a[1] @ b[0]) << np.uint64(_LOW)
        out += _wrapped(a[0] @ b[2] + a[2] @ b[0] + 2.0 * (a[1] @ b[1])) << np.uint64(
            _LOW + _MIDDLE
        )
    return out


def small_product(left: Reals, right: Reals) -> Words:
    """Return the exact product modulo 2**64 of small whole numbers with any words.

    Args:
        left: whole numbers, float64 [rows, terms]; the absolute values of a row add up to at most
            `MOST_OF_A_ROW`, which `check_small` sees to once.
        right: limbs [3, terms, columns].
    """
    terms, columns = right.shape[1:]
    side_by_side = right.transpose(1, 0, 2).reshape(terms, LIMBS * columns)
    sums = _wrapped(left @ side_by_side).reshape(-1, LIMBS, columns)
    total: Words = (
        sums[:, 0] + (sums[:, 1] << np.uint64(_LOW)) + (sums[:, 2] << np.uint64(_LOW + _MIDDLE))
    )
    return total


def check_small(matrix: Reals, name: str) -> None:
    """Insist that a matrix may be the left one of `small_product`.

    Raises:
        PrecisionError: a row's absolute values add up to too much.
    """
    most = float(np.abs(matrix).sum(axis=1).max(initial=0.0))
    if not most <= MOST_OF_A_ROW:
        raise PrecisionError(
            f"weights of {name} add up to {most * 2.0**-FRACTION:.3g} in a row; expected at most "
            f"{MOST_OF_A_ROW * 2.0**-FRACTION:.3g}"
        )


def _wrapped(sums: Reals) -> Words:
    return sums.astype(np.int64).view(np.uint64)
