"""The privacy loss of a sampled Gaussian: how much one answer speaks for a patient being there.

P is what is seen with the patient, a mixture of Gaussians; Q, without, is the one at 0. All is in
units of the noise. The loss is log(P/Q)(x) where x is drawn from P, or log(Q/P)(x) where it is
drawn from Q.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, xlog1py, xlogy

Values = NDArray[np.float64]

#: e^loss must stay a float64.
MAX_LOSS = 650.0
#: Standard deviations, beyond which there is no mass.
_DEEP = 40.0
#: Panels, and places in each, by which a mean is integrated.
_PANELS, _PLACES = 512, 16


class PrivacyLoss:
    """The loss of one answer about a patient of one hospital or of several.

    Of `hospitals` that know the patient each draws them by itself, so P is at 0, 1, ... with the
    chances of a binomial law. log(P/Q) grows with x, so its distribution follows from the x at
    which it has a value.

    Args:
        sampling_rate: q, 0 < q <= 1.
        noise_multiplier: sigma, > 0.
        hospitals: that know the patient.
        reverse: log(Q/P) under Q, what a patient's leaving costs, instead of log(P/Q) under P.
    """

    def __init__(
        self, sampling_rate: float, noise_multiplier: float, hospitals: int = 1, *, reverse: bool
    ) -> None:
        q, drawn = sampling_rate, np.arange(hospitals + 1)
        with np.errstate(divide="ignore"):
            ways = [math.log(math.comb(hospitals, int(i))) for i in drawn]
            chances = np.exp(ways + xlogy(drawn, q) + xlog1py(hospitals - drawn, -q))
        self._weights = chances[chances > 0.0]
        self._means = drawn[chances > 0.0] / noise_multiplier
        self._reverse = reverse
        self._rate = q
        self._table = self._tabled() if hospitals > 1 else None

    @property
    def roundings(self) -> int:
        """How many roundings of float64 a chance may be off by: one for each term after the first.

        At the least one, that of what is not added up.
        """
        return max(1, len(self._weights) - 1)

    def cdf(self, values: Values) -> Values:
        """Return the chance that the loss is at most each value, float64 ``[n]``."""
        x = self._where(-values if self._reverse else values)
        chances = np.full(x.shape, float(self._reverse))
        met = x > -np.inf  # half of a mesh is not
        chances[met] = ndtr(-x[met]) if self._reverse else self._reached(x[met])
        return chances

    def _reached(self, x: Values) -> Values:
        """Return the chance of what is drawn from P to be at most each x."""
        total = np.zeros_like(x)
        for weight, mean in zip(self._weights, self._means, strict=True):
            total += weight * ndtr(x - mean)
        return total

    def mean(self, low: float, high: float) -> float:
        """Return the mean of a loss that is between two values."""
        ends = self._where(np.array([-high, -low] if self._reverse else [low, high]))
        first, last = np.clip(ends, -_DEEP, _DEEP + self._means[-1])
        places, sizes = np.polynomial.legendre.leggauss(_PLACES)
        half = (last - first) / _PANELS / 2
        middles = first + half * (2 * np.arange(_PANELS) + 1)
        x = (middles[:, None] + half * places).ravel()
        chances = self._density(x) * np.tile(sizes, _PANELS)
        mean = float((chances * self._loss(x)).sum() / chances.sum())
        return -mean if self._reverse else mean

    def _density(self, x: Values) -> Values:
        """Return the density of what is drawn, but for a factor."""
        if self._reverse:
            return np.exp(-(x**2) / 2)
        density = np.zeros_like(x)
        for weight, mean in zip(self._weights, self._means, strict=True):
            density += weight * np.exp(-((x - mean) ** 2) / 2)
        return density

    def _loss(self, x: Values) -> Values:
        """Return log(P/Q) at x."""
        total = np.full(x.shape, -math.inf)
        for weight, mean in zip(self._weights, self._means, strict=True):
            np.logaddexp(total, math.log(weight) + mean * x - mean**2 / 2, out=total)
        return total

    def _where(self, losses: Values) -> Values:
        """Return the x at which log(P/Q) is each loss; -inf where it is never as small."""
        return (
            self._solved(losses) if self._table is None else self._looked_up(*self._table, losses)
        )

    def _solved(self, losses: Values) -> Values:
        mean, x = self._means[-1], np.full(losses.shape, -np.inf)
        # Below log(1 - q) there is no loss: half of a mesh.
        inside = losses > (math.log1p(-self._rate) if self._rate < 1.0 else -math.inf)
        with np.errstate(divide="ignore"):
            log_ratio = np.log1p(np.maximum(np.expm1(losses[inside]) / self._rate, -1.0))
        x[inside] = log_ratio / mean + mean / 2
        return x

    def _tabled(self) -> tuple[Values, Values]:
        """Return many x and the loss at each; beyond the last it is above `MAX_LOSS`."""
        top = self._means[-1]  # far out the top term alone is
        highest = max((MAX_LOSS - math.log(self._weights[-1])) / top + top / 2, 1.0)
        below = np.linspace(-_DEEP, _DEEP, 1 << 17)
        above = np.linspace(_DEEP, max(highest, _DEEP + 1.0), 1 << 16)[1:]
        x = np.concatenate([below, above])
        return x, self._loss(x)

    def _looked_up(self, places: Values, table: Values, losses: Values) -> Values:
        """Return the x of losses from a table, then by Newton's steps (the loss is convex)."""
        x: Values = np.interp(losses, table, places)
        inside = (losses > table[0]) & (losses < table[-1])
        near, wanted = x[inside], losses[inside]
        for _ in range(2):
            excess, slope = np.full_like(near, -1.0), np.zeros_like(near)
            for weight, mean in zip(self._weights, self._means, strict=True):
                term = weight * np.exp(mean * near - mean**2 / 2 - wanted)
                excess += term
                slope += mean * term
            near = near - excess / np.maximum(slope, 1e-300)
        gap = places[1] - places[0]
        x[inside] = np.clip(near, x[inside] - gap, x[inside] + gap)
        x[losses <= table[0]] = -np.inf
        return x
