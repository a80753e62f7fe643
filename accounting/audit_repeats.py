"""Whether noise is the same all along a vector: nowhere less of it, and none that comes again.

A vector as long as a model's may be drawn in pieces. What is wrong with pieces that follow the
first shows in long vectors alone, and in no statistic of single values.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from accounting.audit_gates import Gate
from accounting.audit_tails import lag_chance

Values = NDArray[np.float64]

#: Values that are looked at together for how loud they are.
STRETCH = 4096


def repeat_gate(values: Values, *, name: str, subject: str = "") -> Gate:
    """Whether values that should be standard normal and independent repeat at any distance.

    Args:
        values: float64 [n], in the order in which they were drawn.
        name: of the gate.
        subject: whose they are.
    """
    size = values.size
    spectrum = np.fft.rfft(values, 2 * size)
    products = np.fft.irfft(spectrum * spectrum.conj(), 2 * size)[1:size]
    pairs = size - np.arange(1.0, size)
    chances = lag_chance(products, pairs)
    at = int(chances.argmin())
    return Gate(
        name=name,
        subject=f"{subject}at distance {at + 1:,}",
        found=float(products[at] / np.sqrt(pairs[at])),
        expected=0.0,
        chance=min(1.0, float(chances[at]) * chances.size),
    )


def stretch_gate(values: Values, *, name: str, subject: str) -> Gate:
    """Whether standard normal values are as loud in each stretch of a vector as they should be.

    Args:
        values: float64 [n], at least one stretch of them.
        name: of the gate.
        subject: whose they are.
    """
    stretches = np.array_split(values, max(1, values.size // STRETCH))
    squares = np.array([float(np.einsum("i,i", one, one)) for one in stretches])
    counts = np.array([one.size for one in stretches])
    tails = np.minimum(stats.chi2.cdf(squares, counts), stats.chi2.sf(squares, counts))
    at = int(tails.argmin())
    return Gate(
        name=name,
        subject=f"{subject}, from value {int(counts[:at].sum()):,} on",
        found=float(np.sqrt(squares[at] / counts[at])),
        expected=1.0,
        chance=min(1.0, 2.0 * float(tails[at]) * tails.size),
    )
