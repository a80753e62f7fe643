"""Exact products modulo X**n + 1 and 2**k by floating-point transforms, their error bounded.

A product of a public polynomial ``a`` and a small secret ``s`` is a negacyclic convolution: take
the coefficients j and j + n/2 for one complex number, twist, and a complex transform of n/2 points
turns it into a pointwise product. ``a`` is cut into centred limbs so that every product's
coefficients can be rounded to the nearest integer, which is exact as long as the error is below a
half. Example, n = 4: ``(X**3) * (X) = -1``.

Polynomials are stored as those complex numbers are: coefficient j + n/2 stands beside coefficient
j, so n numbers are n/2 complex ones without being moved. The example's factors are ``[0, 0, 0, 1]``
and ``[0, 0, 1, 0]``, their product ``[-1, 0, 0, 0]``.

Formal guarantee. With u = 2**-53, a transform of n/2 points and its twist err by at most
``phi = (4.3*log2(n/2) + 3)*u`` in relative Euclidean norm: a radix-2 level costs one complex
addition (u), one complex product (sqrt(5)*u; Brent, Percival and Zimmermann 2007) and the rounding
of its twiddle (0.71*u), and passes of a higher radix round less often than the levels they stand
for. Let ``peak`` be the largest magnitude in the transform of a limb, which is *measured*. Then a
coefficient of limb times s is off by at most

    ``||s|| * ((phi + sqrt(5)*u) * peak + 2*phi*||limb||)``

(rounding of the pointwise product and of the inverse transform; errors of the two forward
transforms by Cauchy and Schwarz). `Multiplicand` takes the fewest limbs for which this is at most
0.4, and raises where none do. Which limbs are taken depends on public numbers alone.
"""

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from crypto.errors import PrecisionError

Coefficients = NDArray[np.uint64]
Spectrum = NDArray[np.complex128]

MOST_LIMBS = 4
#: Largest error of a coefficient before it is rounded; a half would do.
MOST_ERROR = 0.4
_UNIT = 2.0**-53
_LEVEL, _TWIST = 4.3, 3.0
_SECOND_ORDER = 1.001  # products of errors, and the rounding of the bound itself
#: Adding this to a float64 below 2**51 rounds it to an integer and leaves that in its low bits; so
#: does this plus an integer, which is added on the way.
_ROUNDING = 1.5 * 2.0**52
_ROUNDING_BITS = int(np.float64(_ROUNDING).view(np.uint64))
_LIKELY_PEAK = 4.5  # of a transform of uniform limbs, in standard deviations: e**-20 a value


@lru_cache(maxsize=8)
def _twist(degree: int) -> Spectrum:
    """``exp(i*pi*j/n)`` for j below n/2."""
    twist: Spectrum = np.exp(1j * np.pi * np.arange(degree // 2) / degree)
    twist.flags.writeable = False
    return twist


@lru_cache(maxsize=8)
def _untwist(degree: int) -> Spectrum:
    """What undoes `_twist`."""
    untwist: Spectrum = _twist(degree).conj()
    untwist.flags.writeable = False
    return untwist


def _transform_error(degree: int) -> float:
    """Phi: the relative error of a twisted transform, in Euclidean norm."""
    return (_LEVEL * math.log2(degree // 2) + _TWIST) * _UNIT


def _forward(real: NDArray[np.float64], out: Spectrum) -> None:
    """The twisted transform of float64 `[.., n]` into complex128 `[.., n/2]`."""
    np.multiply(real.view(np.complex128), _twist(real.shape[-1]), out=out)
    np.fft.fft(out, axis=-1, out=out)


class Small:
    """A polynomial of small integer coefficients, transformed: one factor of many products.

    Attributes:
        degree: n.
        norm: The Euclidean norm of its coefficients.
        spectrum: Its twisted transform over n/2, complex128 `[n/2]`; that division is exact.
    """

    __slots__ = ("degree", "norm", "spectrum")

    def __init__(self, coefficients: NDArray[np.int64]) -> None:
        self.degree = coefficients.size
        self.spectrum = np.empty(self.degree // 2, dtype=np.complex128)
        real = coefficients.astype(np.float64)
        self.norm = math.sqrt(float(real @ real))
        _forward(real, self.spectrum)
        self.spectrum *= 2.0 / self.degree

    def __repr__(self) -> str:
        return f"Small(degree={self.degree}, hidden)"


class Multiplicand:
    """Public polynomials modulo 2**bits, cut into limbs and transformed once for many products.

    Attributes:
        limb_bits: Width of a limb; the last may be narrower.
        spectra: Transforms of the limbs, complex128 `[limbs, rows, n/2]`.
    """

    __slots__ = ("_bits", "_error", "limb_bits", "spectra")

    def __init__(self, values: Coefficients, bits: int, norm: float) -> None:
        """Prepare uint64 `[rows, n]` below 2**bits for factors of Euclidean norm up to `norm`.

        Raises:
            PrecisionError: No number of limbs keeps the error of a product small enough.
        """
        self._bits, norm = bits, max(norm, 1.0)  # of any factor but nought; limbs are below 2**41
        for limbs in range(likely_limbs(values.shape[-1], bits, norm), MOST_LIMBS + 1):
            self.limb_bits = -(-bits // limbs)
            self.spectra = _spectra(values, bits, self.limb_bits)
            self._error = self._error_per_norm(values.shape[-1])
            if self.holds(norm):
                return
        raise PrecisionError(
            f"products modulo 2**{bits} by a factor of norm {norm:.4g} are not exact in "
            f"{MOST_LIMBS} limbs at n = {values.shape[-1]}"
        )

    def _error_per_norm(self, degree: int) -> float:
        """The bound of the module's text for a factor of norm 1."""
        peak = 0.0
        for spectrum in self.spectra:
            squares = np.square(spectrum.view(np.float64))
            squares[:, 0::2] += squares[:, 1::2]
            peak = max(peak, math.sqrt(float(squares[:, 0::2].max())))
        limb_norm = math.sqrt(degree) * 2.0 ** (self.limb_bits - 1)
        phi = _transform_error(degree)
        inverse = (phi + math.sqrt(5.0) * _UNIT) * peak
        return _SECOND_ORDER * (inverse + 2 * phi * limb_norm)

    def error_bound(self, norm: float) -> float:
        """How far a coefficient of a limb's product may be off before it is rounded."""
        return self._error * norm

    def holds(self, norm: float) -> bool:
        """Whether products by factors of this norm are exact."""
        return self.error_bound(norm) <= MOST_ERROR

    def times(self, small: Small, out: Coefficients, scratch: Spectrum, *, plus: int = 0) -> None:
        """Write the products modulo 2**64 into uint64 `[rows, n]`; their low `bits` bits count.

        Args:
            small: The other factor.
            out: Overwritten.
            scratch: complex128 `[rows, n/2]`, overwritten; small enough for the caches, or time is
                lost ten times over.
            plus: Added to every coefficient on the way, modulo 2**bits.

        Raises:
            PrecisionError: The factor is larger than what this was made for.
        """
        if not self.holds(small.norm):
            raise PrecisionError(
                f"a product may be off by {self.error_bound(small.norm):.2g}, at most "
                f"{MOST_ERROR} can be rounded away"
            )
        untwist, top = _untwist(small.degree), len(self.spectra) - 1
        # Every limb leaves the bits of the number that it is rounded with.
        excess = sum(_ROUNDING_BITS << (self.limb_bits * limb) for limb in range(top + 1))
        added = (plus - excess) % 2**self._bits
        for limb in range(top, -1, -1):
            # The first product is made in place, the others are added to it.
            spectrum = out.view(np.complex128) if limb == top else scratch
            np.multiply(self.spectra[limb], small.spectrum, out=spectrum)
            np.fft.ifft(spectrum, axis=-1, norm="forward", out=spectrum)
            spectrum *= untwist
            digit = (added >> (self.limb_bits * limb)) & (2**self.limb_bits - 1)
            spectrum.view(np.float64)[...] += _ROUNDING + digit
            if limb != top:
                out <<= np.uint64(self.limb_bits)
                out += scratch.view(np.uint64)


def likely_limbs(degree: int, bits: int, norm: float) -> int:
    """The fewest limbs that uniform polynomials very likely need, from public numbers alone."""
    phi = _transform_error(degree)
    for limbs in range(1, MOST_LIMBS):
        peak = _LIKELY_PEAK * math.sqrt(degree / 12.0) * 2.0 ** (-(-bits // limbs))
        if norm * phi * peak <= MOST_ERROR:
            return limbs
    return MOST_LIMBS


def _spectra(values: Coefficients, bits: int, width: int) -> Spectrum:
    """Transforms of the centred limbs, the lowest first."""
    rows, degree = values.shape
    starts = range(0, bits, width)
    middle = [1 << (min(width, bits - start) - 1) for start in starts]
    offset = sum(half << start for half, start in zip(middle, starts, strict=True))
    # Plain digits of a + offset, each less its middle, are centred digits of a.
    moved = values + np.uint64(offset & (2**64 - 1))
    moved &= np.uint64(2**bits - 1)
    spectra = np.empty((len(middle), rows, degree // 2), dtype=np.complex128)
    for limb, start in enumerate(starts):
        digit = (moved >> np.uint64(start)) & np.uint64(2**width - 1)
        real = digit.view(np.int64).astype(np.float64)
        real -= middle[limb]
        _forward(real, spectra[limb])
    return spectra
