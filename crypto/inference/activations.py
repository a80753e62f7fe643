"""Activations: ReLU by comparison, tanh by comparison and a series of sines.

Tanh: the input is cut to [-LIMIT, LIMIT] by two comparisons, beyond which tanh is +-1 within 1e-5.
Within, it is a sum of sines of one period. Both open the angle plus a mask (modulo the period, so
that what is opened is uniform). The sine of the angle is linear in the sine and cosine of the mask,
which the dealer shares, so that each computes its share alone. (Sines of masks: Zheng et al. 2023,
"Secure softmax/sigmoid in machine-learning computation".)
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from math import prod
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from crypto.inference.comparisons import Comparison, deal_comparison, positive_part
from crypto.inference.layers import Layer, need
from crypto.inference.parties import Party
from crypto.inference.sources import Source
from crypto.inference.truncation import MOST_BITS, Division, deal_division, divide
from crypto.inference.words import FRACTION, Reals, Shape, Words, encode, word

#: Where tanh is cut, half the period of the sines, and how many there are.
LIMIT, HALF_PERIOD, SINES = 6, 8, 20
_ANGLE_BITS = FRACTION + 4
#: Bits after the point of sines, and of coefficients times sines.
_SINE_BITS = 20


@dataclass(frozen=True, kw_only=True)
class Relu(Layer):
    """max(x, 0) / 2**shift."""

    kind: ClassVar[str] = "relu"
    shift: int

    def result(self, *shapes: Shape) -> Shape:
        """Return the shape of the input."""
        need(len(shapes) == 1, "a ReLU takes one value")
        need(0 <= self.shift <= MOST_BITS, f"a ReLU that divides by {self.shift} bits")
        return shapes[0]

    def deal(self, source: Source, name: str, *shapes: Shape) -> Any:
        """Return the material of one comparison for each number."""
        return deal_comparison(source, prod(shapes[0]), choosing=True, shift=self.shift)

    def run(self, party: Party, name: str, material: Any, *shares: Words) -> Words:
        """Return a share of the positive parts."""
        flat = shares[0].reshape(-1)
        return positive_part(party, material, flat, self.shift).reshape(shares[0].shape)


@dataclass(frozen=True)
class _Waves:
    """Masks of angles, and shares of sines and cosines [2, SINES, n] of their multiples."""

    cut: Comparison
    mask: NDArray[np.uint32]
    waves: Words
    division: Division


@cache
def coefficients() -> Reals:
    """Return the factors of sin(k pi x / HALF_PERIOD), k = 1.., that make tanh within the limit."""
    x = np.linspace(0, LIMIT, 4001)
    angles = np.outer(x, np.arange(1, SINES + 1)) * (np.pi / HALF_PERIOD)
    return np.asarray(np.linalg.lstsq(np.sin(angles), np.tanh(x), rcond=None)[0])


def _waves(angles: NDArray[np.uint32]) -> tuple[Reals, Reals]:
    """Return the sines and cosines [SINES, n] of multiples of angles, in units of the period."""
    turn = np.exp(2j * np.pi * (angles.astype(np.float64) / 2.0**_ANGLE_BITS))
    turns = np.multiply.accumulate(np.broadcast_to(turn, (SINES, len(turn))), axis=0)
    return turns.imag, turns.real


@dataclass(frozen=True, kw_only=True)
class Tanh(Layer):
    """tanh(x) with FRACTION bits after the point, of numbers that have `shift` more."""

    kind: ClassVar[str] = "tanh"
    shift: int

    def result(self, *shapes: Shape) -> Shape:
        """Return the shape of the input."""
        need(len(shapes) == 1, "tanh takes one value")
        need(0 <= self.shift <= MOST_BITS, f"tanh that divides by {self.shift} bits")
        return shapes[0]

    def deal(self, source: Source, name: str, *shapes: Shape) -> Any:
        """Return two comparisons, the waves and one division for each number."""
        n = prod(shapes[0])
        cut = deal_comparison(source, 2 * n, choosing=True, shift=self.shift)
        mask = source.mask((n,), np.uint32)

        def waves() -> Words:
            return encode(np.stack(_waves(mask & np.uint32((1 << _ANGLE_BITS) - 1))), _SINE_BITS)

        shared = source.derived(waves, (2, SINES, n))
        return _Waves(cut, mask, shared, deal_division(source, (n,), 2 * _SINE_BITS - FRACTION))

    def run(self, party: Party, name: str, material: Any, *shares: Words) -> Words:
        """Return a share of tanh."""
        flat = shares[0].reshape(-1)
        n, limit = len(flat), word(LIMIT << FRACTION + self.shift)
        both = np.concatenate([flat + party.public(limit), flat - party.public(limit)])
        above = positive_part(party, material.cut, both, self.shift)
        cut = above[:n] - above[n:] - party.public(word(LIMIT << FRACTION))
        angle = party.open(cut + material.mask, bits=_ANGLE_BITS).astype(np.uint32)
        sines, cosines = _waves(angle)
        factors = coefficients()[:, None]
        total = np.zeros(n, np.uint64)
        for k in range(SINES):
            total += encode(sines[k] * factors[k], _SINE_BITS) * material.waves[1, k]
            total -= encode(cosines[k] * factors[k], _SINE_BITS) * material.waves[0, k]
        shift = 2 * _SINE_BITS - FRACTION
        return divide(party, material.division, total, shift).reshape(shares[0].shape)
