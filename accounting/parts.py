"""Noise in parts, so that an opened sum carries what was planned, whoever is missing.

A hospital does not know who will be in a sum, so it adds enough for the fewest. With `dropouts` d
planned and c colluders, A = K - c, that is sigma^2*C^2/(A - d) of variance, where it would take
sigma^2*C^2/(A - m) if only m are missing. It draws its noise in parts: n_0 with variance
sigma^2*C^2/A, and n_i with what lies between levels i - 1 and i of missing hospitals. Once a roster
says how many are missing, the parts above that level are taken out of the opened sum: every
hospital keeps sigma^2*C^2/(A - m), and the A - m honest ones in it sigma^2*C^2 together (after
XNoise in Dordis, Jiang, Wang and Chen 2024).

    >>> parts = plan_parts(1.0, hospitals=10, dropouts=2, colluders=0)
    >>> parts.levels, [round(one, 4) for one in parts.stddevs]
    ((1, 2), [0.3162, 0.1054, 0.1179])
    >>> [list(parts.removed(missing)) for missing in range(3)]
    [[1, 2], [2], []]
    >>> [round(parts.kept(missing) ** 2, 4) for missing in range(3)]  # 1/10, 1/9, 1/8
    [0.1, 0.1111, 0.125]

Each part but n_0 comes from a seed of its own, which hospitals open together for a part that goes
(`crypto.seeds`); nobody ever opens that of a part which stays. Taking a part out is arithmetic on
what an observer of the sum has: the removed noise depends on no record and on nothing that stays.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from accounting.errors import AccountingError
from accounting.private import Unreleased
from accounting.randomness import Stream

Vector = NDArray[np.float64]

#: A seed: 16 uniform numbers below this prime, modulo which it is shared; 255.99 bits.
SEED_PRIME, SEED_NUMBERS = 65521, 16
SEED_BYTES = 2 * SEED_NUMBERS
#: Exact levels cost K*d vectors of noise at everybody who opens a sum with nobody missing.
_MOST_EXACT = 40
#: Where the noise of the fewest is no more than this many times what is needed, it stays.
_LEAST_GAIN = 1.05


@dataclass(frozen=True, slots=True, kw_only=True)
class NoiseParts:
    """One hospital's noise in parts.

    Attributes:
        levels: l_1 < .. < l_P = d, hospitals that may be missing. Part i stays where more than
            l_(i-1) are missing, l_0 = 0; n_0 always stays.
        stddevs: of n_0 .. n_P; in units of the clip in a noise plan, in gradient units in a grid.
    """

    levels: tuple[int, ...]
    stddevs: tuple[float, ...]

    def __post_init__(self) -> None:
        rising = list(self.levels) == sorted({*self.levels}) and self.levels[:1] > (0,)
        if not rising or len(self.stddevs) != len(self.levels) + 1:
            raise AccountingError(f"levels {self.levels} with {len(self.stddevs)} parts of noise")
        if not all(one > 0.0 and math.isfinite(one) for one in self.stddevs):
            raise AccountingError(f"parts of noise are {self.stddevs}, expected > 0 and finite")

    @property
    def opened_up_to(self) -> tuple[int, ...]:
        """For each part but n_0 the most missing hospitals at which it is taken out."""
        return (0, *self.levels[:-1])

    def removed(self, missing: int) -> range:
        """The parts that go where so many are missing.

        Raises:
            AccountingError: more are missing than was planned for.
        """
        if not 0 <= missing <= self.levels[-1]:
            raise AccountingError(f"{missing} are missing, planned for {self.levels[-1]} at most")
        stay = sum(most < missing for most in self.opened_up_to)
        return range(stay + 1, len(self.stddevs))

    def kept(self, missing: int) -> float:
        """Standard deviation of one hospital's noise that stays where so many are missing."""
        stay = self.removed(missing).start
        return math.sqrt(math.fsum(one**2 for one in self.stddevs[:stay]))

    def scaled(self, factor: float) -> NoiseParts:
        """The same in other units."""
        return NoiseParts(levels=self.levels, stddevs=tuple(factor * one for one in self.stddevs))


def plan_parts(
    noise_multiplier: float, *, hospitals: int, dropouts: int, colluders: int
) -> NoiseParts | None:
    """The parts of a hospital's noise, in units of the clip; None where they gain too little.

    Guarantee: with m <= d missing, the K - c - m honest hospitals of a sum keep sigma*C of noise
    together, exactly where m is a level, and more between two levels.

    Args:
        noise_multiplier: sigma, of the sum.
        hospitals: K.
        dropouts: d.
        colluders: c, planned; c + d < K.
    """
    honest = hospitals - colluders
    if math.sqrt(honest / (honest - dropouts)) <= _LEAST_GAIN:
        return None
    levels = _levels(dropouts, exact=hospitals * dropouts <= _MOST_EXACT)
    shares = [1.0 / (honest - level) for level in (0, *levels)]
    variances = [
        shares[0],
        *(one - before for before, one in itertools.pairwise(shares)),
    ]
    return NoiseParts(
        levels=levels, stddevs=tuple(noise_multiplier * math.sqrt(one) for one in variances)
    )


def _levels(dropouts: int, *, exact: bool) -> tuple[int, ...]:
    """All numbers of missing hospitals, or 1, 3, 7, .. and the largest."""
    if exact:
        return tuple(range(1, dropouts + 1))
    powers = range(1, dropouts.bit_length() + 1)
    return (*(level for power in powers if (level := 2**power - 1) < dropouts), dropouts)


class Seeds(Unreleased):
    """The seeds of one hospital's parts, secret until they are opened; they show nothing.

    Attributes:
        each: of parts 1 .. P, `SEED_BYTES` bytes each: numbers of two bytes, little-endian.
    """

    __slots__ = ("each",)

    def __init__(self, each: tuple[bytes, ...]) -> None:
        self.each = each

    @classmethod
    def drawn(cls, stream: Stream, parts: NoiseParts | None) -> Seeds:
        """Fresh ones of a stream, as many as there are parts that may be taken out."""
        count = len(parts.levels) if parts else 0
        drawn = stream.integers(count * SEED_NUMBERS, SEED_PRIME) if count else np.zeros(0)
        data = drawn.astype("<u2").tobytes()
        return cls(tuple(data[at : at + SEED_BYTES] for at in range(0, len(data), SEED_BYTES)))


def part_stream(seed: bytes) -> Stream:
    """The randomness of one part: the same wherever it is drawn.

    Raises:
        AccountingError: a seed of another size.
    """
    if len(seed) != SEED_BYTES:
        raise AccountingError(f"a seed of {len(seed)} bytes, expected {SEED_BYTES}")
    return Stream.from_key(seed, "part of the noise")


def part_noise(seed: bytes, count: int, stddev: float) -> Vector:
    """The noise of one part, float64 [count]: the same bits wherever it is drawn.

    Raises:
        AccountingError: a seed of another size.
    """
    noise = part_stream(seed).normal(count)
    noise *= stddev
    return noise


#: Opened seeds by (hospital, part).
Opened = Mapping[tuple[str, int], bytes]
