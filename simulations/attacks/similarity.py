"""How like two records are: SSIM for pictures, PSNR for anything with a range."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

#: Of the window, in pixels; it is cut at 3.5 of it, eleven pixels in all.
WINDOW_STDDEV, WINDOW_CUT = 1.5, 3.5
#: What keeps the quotients finite, as shares of the range.
_K1, _K2 = 0.01, 0.03
#: Where two records are equal; more decibels say nothing.
MOST_DECIBELS = 100.0

Values = NDArray[np.floating]


def ssim(first: Values, second: Values, width: float) -> float:
    """Return the structural similarity of two pictures or volumes ``[channels, *space]``.

    Wang, Bovik, Sheikh and Simoncelli (2004), equation 13, in Gaussian windows, averaged over
    places and channels.

    Args:
        first: a picture.
        second: of the same shape.
        width: of the range of its values.
    """
    found = [_ssim(a, b, width) for a, b in zip(first, second, strict=True)]
    return float(np.mean(found))


def _ssim(first: Values, second: Values, width: float) -> float:
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    mean_a, mean_b = _windowed(a), _windowed(b)
    spread_a = _windowed(a * a) - mean_a**2
    spread_b = _windowed(b * b) - mean_b**2
    shared = _windowed(a * b) - mean_a * mean_b
    c1, c2 = (_K1 * width) ** 2, (_K2 * width) ** 2
    over = (2 * mean_a * mean_b + c1) * (2 * shared + c2)
    under = (mean_a**2 + mean_b**2 + c1) * (spread_a + spread_b + c2)
    return float(np.mean(over / under))


def _windowed(values: Values) -> Values:
    found: Values = gaussian_filter(values, WINDOW_STDDEV, truncate=WINDOW_CUT)
    return found


def psnr(first: Values, second: Values, width: float) -> float:
    """Return the peak signal-to-noise ratio of two records of one shape, in decibels."""
    error = float(np.mean((np.asarray(first, dtype=np.float64) - second) ** 2))
    return min(-10 * math.log10(error / width**2), MOST_DECIBELS) if error else MOST_DECIBELS
