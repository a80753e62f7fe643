"""Layers that each party computes alone or in one round: joining, flattening, dividing."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any, ClassVar

import numpy as np

from crypto.inference.layers import Layer, need
from crypto.inference.parties import Party
from crypto.inference.sources import Source
from crypto.inference.truncation import MOST_BITS, deal_division, divide
from crypto.inference.words import Shape, Words


@dataclass(frozen=True, kw_only=True)
class Truncation(Layer):
    """Divide by 2**shift: fewer bits after the point."""

    kind: ClassVar[str] = "truncation"
    shift: int

    def result(self, *shapes: Shape) -> Shape:
        """Return the shape of the input."""
        need(len(shapes) == 1, "a truncation takes one value")
        need(0 < self.shift <= MOST_BITS, f"a truncation by {self.shift} bits")
        return shapes[0]

    def deal(self, source: Source, name: str, *shapes: Shape) -> Any:
        """Return the material of one division."""
        return deal_division(source, shapes[0], self.shift)

    def run(self, party: Party, name: str, material: Any, *shares: Words) -> Words:
        """Return a share of the quotients."""
        return divide(party, material, shares[0], self.shift)


@dataclass(frozen=True, kw_only=True)
class Addition(Layer):
    """Add values of one shape, each with more bits after the point first where it has fewer.

    Attributes:
        shifts: bits to add to each input.
    """

    kind: ClassVar[str] = "addition"
    shifts: tuple[int, ...]

    def result(self, *shapes: Shape) -> Shape:
        """Return the shape of each input."""
        need(bool(shapes) and len(set(shapes)) == 1, f"an addition of shapes {shapes}")
        need(len(self.shifts) == len(shapes), "an addition needs a shift for each input")
        need(max(self.shifts) <= MOST_BITS, f"an addition with shifts {self.shifts}")
        return shapes[0]

    def run(self, party: Party, name: str, material: Any, *shares: Words) -> Words:
        """Return a share of the sum."""
        total = shares[0] << np.uint64(self.shifts[0])
        for share, shift in zip(shares[1:], self.shifts[1:], strict=True):
            total += share << np.uint64(shift)
        return total


@dataclass(frozen=True, kw_only=True)
class Concatenation(Layer):
    """Put values beside each other, channel after channel."""

    kind: ClassVar[str] = "concatenation"

    def result(self, *shapes: Shape) -> Shape:
        """Return [all channels, ...]."""
        need(bool(shapes) and len({shape[1:] for shape in shapes}) == 1, f"joining {shapes}")
        return (sum(shape[0] for shape in shapes), *shapes[0][1:])

    def run(self, party: Party, name: str, material: Any, *shares: Words) -> Words:
        """Return both shares."""
        return np.concatenate(shares)


@dataclass(frozen=True, kw_only=True)
class Flattening(Layer):
    """Read values as one row of numbers."""

    kind: ClassVar[str] = "flattening"

    def result(self, *shapes: Shape) -> Shape:
        """Return [n]."""
        need(len(shapes) == 1, "flattening takes one value")
        return (prod(shapes[0]),)

    def run(self, party: Party, name: str, material: Any, *shares: Words) -> Words:
        """Return the share."""
        return shares[0].reshape(-1)
