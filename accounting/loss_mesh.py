"""Privacy losses on a mesh: put there, added up by Fourier's transform, and read as an epsilon.

The algorithm of Gopi, Lee and Wutschitz (2021): a loss is cut off at the ends of the mesh, rounded
to its places, and moved by as much as rounding moved its mean; losses of independent events add up,
so their chances convolve, around the mesh's ends. What all this may be off by is given beforehand,
in delta and in epsilon (theorem 5.5 there), and charged.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.fft import irfft, next_fast_len, rfft

from accounting.errors import AccountingError
from accounting.privacy_losses import PrivacyLoss, Values

#: Below this no epsilon is looked for: nobody asks for one below nought.
_LEAST_EPSILON = -1.0
#: Between one and the next number of a float64.
_ROUNDING = 2.0**-52


@dataclass(frozen=True, slots=True)
class Mesh:
    """Even places around nought, and what composing on them may leave an answer off by.

    Attributes:
        step: between places.
        half: number of places on either side.
        delta_error: charged to delta.
        epsilon_error: charged to epsilon.
    """

    step: float
    half: int
    delta_error: float
    epsilon_error: float

    @classmethod
    def covering(
        cls, width: float, step: float, *, delta_error: float, epsilon_error: float
    ) -> Mesh:
        """Return the mesh of at least that half width on which transforms are fast."""
        half = next_fast_len(math.ceil(width / step) + 1, real=True)
        return cls(step, half, delta_error, epsilon_error)

    def spectrum(self, loss: PrivacyLoss) -> Spectrum:
        """Put a loss on the mesh.

        Raises:
            AccountingError: the mesh is too coarse for it.
        """
        edges = self._places(1 - self.half, self.half + 1) - self.step / 2
        chances = np.diff(loss.cdf(edges))
        chances /= chances.sum()
        # Not by BLAS, here and below, whose last bits depend on how many threads it may have.
        rounded = float((self._places(1 - self.half, self.half) * chances).sum())
        moved = loss.mean(float(edges[0]), float(edges[-1])) - rounded
        if not abs(moved) < self.step / 2:
            raise AccountingError("prv cannot account for this: its mesh is too coarse; use rdp")
        around = np.concatenate([chances[self.half - 1 :], [0.0], chances[: self.half - 1]])
        return Spectrum(rfft(around), moved, loss.roundings)

    def _places(self, first: int, end: int) -> Values:
        return np.asarray(self.step * np.arange(first, end), dtype=np.float64)

    def epsilon(
        self, parts: Iterable[tuple[Spectrum, int]], delta: float, epsilon_error: float = math.nan
    ) -> float:
        """Return an upper bound on epsilon after so many events of each kind; it may be below 0.

        Args:
            parts: a kind's spectrum on this mesh, and how often it happened, >= 1; each is let go
                before the next is taken.
            delta: of the guarantee.
            epsilon_error: where it is known to be less than what the mesh was made for.

        Raises:
            AccountingError: there is none, or rounding of float64 is all that is left of delta.
        """
        whole = np.ones(self.half + 1, dtype=np.complex128)
        moves, events, roundings = [], 0, 0
        for part, count in parts:
            whole *= _power(part.transform, int(count))
            moves.append(count * part.moved)
            events += int(count)
            roundings += int(count) * part.roundings
        moved = math.fsum(moves)
        # What rounding moved in all may be many places, by which the mesh goes with it: what is
        # read off lies around nought, where the width was chosen, and nothing comes around its end.
        turns = round(moved / self.step)
        chances = irfft(whole, 2 * self.half)
        moved -= turns * self.step
        left = delta - self.delta_error - _rounded_off(chances, roundings)
        if left < delta / 2:
            raise AccountingError(
                f"prv cannot account for delta {delta:g} in float64 after {events} events: use rdp"
            )
        first = max(0, self.half + math.ceil((_LEAST_EPSILON - moved) / self.step))
        losses = self._places(first - self.half, self.half) + moved
        above = np.roll(chances, self.half + turns - first)[: len(losses)]
        found = _epsilon(losses, above, left)
        if not math.isfinite(found):
            raise AccountingError(f"prv found epsilon {found} on its mesh: use rdp")
        return found + (self.epsilon_error if math.isnan(epsilon_error) else epsilon_error)


@dataclass(frozen=True, slots=True)
class Spectrum:
    """One loss on a mesh.

    Attributes:
        transform: of the chances of its places, complex ``[half + 1]``.
        moved: what is to be added to each place, in epsilon.
        roundings: of float64, >= 1, that the chance of a place may be off by.
    """

    transform: NDArray[np.complex128]
    moved: float
    roundings: int


def _power(base: NDArray[np.complex128], count: int) -> NDArray[np.complex128]:
    """Return whole powers by squaring, which errs less than logarithms, and is faster."""
    result, own = np.ones_like(base), np.empty_like(base)
    while True:
        if count & 1:
            result *= base
        count >>= 1
        if not count:
            return result
        base = np.square(base, out=own)


def _rounded_off(chances: Values, roundings: int) -> float:
    """Return what float64 may leave any sum of these chances off by.

    Each value of a transform is off by a rounding, or by as many as terms were added up for what it
    is of, a power by as many times its exponent (`roundings` in all), and each transform by as many
    as the halvings of its size. By Parseval's theorem chances are off, as a vector, by that share
    of their length; a sum over places by at most the root of their number times as much, had all of
    them the same sign. They have not, so this is hundreds of times what is seen, which more than
    makes up for roundings of one value that add up.
    """
    each = roundings + 2.0 * math.log2(len(chances))
    return _ROUNDING * each * math.sqrt(len(chances) * float(np.square(chances).sum()))


def _epsilon(losses: Values, chances: Values, delta: float) -> float:
    """Return the least epsilon at which delta is enough: sum of (1 - e^(epsilon - loss)) above it.

    Args:
        losses: even, rising.
        chances: of each.
        delta: > 0.
    """
    above = np.cumsum(chances[::-1])[::-1]
    weighed = np.cumsum((chances * np.exp(-losses))[::-1])[::-1]
    enough = above - np.exp(losses) * weighed <= delta
    # From the last place where delta is too little: rounding may leave dents in the tail below.
    at = len(losses) - int(np.argmin(enough[::-1])) if not enough.all() else 0
    if at == len(losses):
        raise AccountingError("prv found no epsilon on its mesh; use rdp")
    if above[at] <= delta:  # no loss above this place is needed
        return float(losses[max(at - 1, 0)])
    return float(np.log((above[at] - delta) / weighed[at]))
