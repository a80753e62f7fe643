"""Group normalisation: each group of channels centred, divided by its deviation, scaled.

The sum of squares costs one opened number a value and one dealt number a group. How large it is, is
found by comparing it with a public ladder of levels, 32 to a doubling; the signs pick a shared
factor that brings it to a little above 1, and the inverse root of the level. What is left of the
root is a straight line: off by less than 4e-5 of itself. The last product reuses the opened values.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from math import prod
from typing import Any, ClassVar

import numpy as np

from crypto.inference.comparisons import Comparison, deal_comparison, not_negative
from crypto.inference.layers import MOST_VALUES, Layer, need
from crypto.inference.parties import Party
from crypto.inference.pooling import mean_factor
from crypto.inference.products import (
    Multiplication,
    Weighted,
    deal_multiplication,
    deal_weighted,
    multiply,
    times_weights,
)
from crypto.inference.sources import Source
from crypto.inference.truncation import Division, deal_division, divide
from crypto.inference.words import FRACTION, Reals, Shape, Words, encode, word

#: Variances that have a level: 2**LEAST to 2**MOST, and levels to a doubling.
LEAST, MOST, STEPS = -18, 11, 32
#: Bits after the point of: the ratio to the level, the line over it, the inverse root, the scale.
_RATIO, _LINE, _ROOT, SCALE = 20, 24, 22, 20
#: A variance times the factor of its level is 2**_BROUGHT times the ratio.
_BROUGHT = 58


@dataclass(frozen=True)
class Scaling:
    """A provider's own factors and offsets of channels, as words.

    Attributes:
        factor: [channels], FRACTION bits after the point.
        offset: [channels], as many bits as the result has.
    """

    factor: Words
    offset: Words

    @classmethod
    def of(cls, factor: Reals, offset: Reals) -> Scaling:
        """Return real factors and offsets as words."""
        return cls(encode(factor), encode(offset, FRACTION + SCALE))

    @property
    def words(self) -> Words:
        """The factors, before they are masked."""
        return self.factor


@cache
def _ladder() -> tuple[Reals, Reals, Reals]:
    """Return levels of the variance, and start and slope of the line above each.

    The inverse root of a variance v at a level h <= v is near start + slope * (v / h).
    """
    levels = 2.0 ** (LEAST + np.arange((MOST - LEAST) * STEPS) / STEPS)
    ratios = np.linspace(1.0, 2.0 ** (1 / STEPS), 1001)
    slope, start = np.polyfit(ratios, ratios**-0.5, 1)
    return levels, start * levels**-0.5, slope * levels**-0.5


def _picked(signs: Words, table: Words) -> Words:
    """Return a share of a table's entry at the highest level that is passed, for each group."""
    steps = table - np.concatenate([np.zeros(1, np.uint64), table[:-1]])
    return np.asarray((signs * steps).sum(axis=1))


@dataclass(frozen=True)
class _Material:
    mean: Division
    mask: Words
    squares: Words
    variance: Division | None
    levels: Comparison
    brought: Multiplication
    ratio: Division
    found: Multiplication
    root: Division
    scaled: Weighted
    scale: Division
    scale_mask: Words
    products: Words


@dataclass(frozen=True, kw_only=True)
class GroupNorm(Layer):
    """Normalise groups of channels: FRACTION bits after the point -> SCALE more.

    Attributes:
        groups: of how many.
        epsilon: what is added to the variance.
    """

    kind: ClassVar[str] = "group-norm"
    groups: int
    epsilon: float

    def result(self, *shapes: Shape) -> Shape:
        """Return the shape of the input."""
        need(len(shapes) == 1 and bool(shapes[0]), "a group norm takes one value")
        need(self.groups > 0 and shapes[0][0] % self.groups == 0, "channels in equal groups")
        need(2**LEAST <= self.epsilon < 1, f"a group norm's epsilon of {self.epsilon}")
        many = prod(shapes[0]) // self.groups
        need(1 < many < 2**17, f"a group norm over {many} values")
        compared = self.groups * (MOST - LEAST) * STEPS
        need(compared <= MOST_VALUES, f"a group norm that makes {compared} comparisons")
        return shapes[0]

    def weight_shape(self, *shapes: Shape) -> Shape:
        """Return [channels]."""
        return (shapes[0][0],)

    def deal(self, source: Source, name: str, *shapes: Shape) -> Any:
        """Return the material of all its steps."""
        channels, groups = shapes[0][0], (self.groups,)
        many = prod(shapes[0]) // self.groups
        mean = deal_division(source, groups, mean_factor(many))
        mask = source.mask((self.groups, many))
        squares = source.derived(lambda: (mask * mask).sum(axis=1), groups)
        less = many.bit_length() - 2
        variance = deal_division(source, groups, less) if less else None
        levels = deal_comparison(source, self.groups * len(_ladder()[0]), choosing=False)
        brought = deal_multiplication(source, groups, groups)
        ratio = deal_division(source, groups, _BROUGHT - _RATIO)
        found = deal_multiplication(source, groups, groups)
        root = deal_division(source, groups, _LINE + _RATIO - _ROOT)

        def scaling(row: Words) -> Words:
            masked: Words = source.weights[name]
            return row * masked

        scaled = deal_weighted(source, (channels,), (channels,), scaling)
        scale = deal_division(source, (channels,), _ROOT + FRACTION - SCALE)
        scale_mask = source.mask((channels, 1))
        by_channel = (channels, prod(shapes[0][1:]))
        products = source.derived(lambda: mask.reshape(by_channel) * scale_mask, by_channel)
        return _Material(
            mean, mask, squares, variance, levels, brought, ratio, found, root, scaled, scale,
            scale_mask, products,
        )  # fmt: skip

    def run(self, party: Party, name: str, material: Any, *shares: Words) -> Words:
        """Return a share of the normalised values."""
        shape = shares[0].shape
        by_group = shares[0].reshape(self.groups, -1)
        many = by_group.shape[1]
        shift = mean_factor(many)
        sums = by_group.sum(axis=1) * word(round(2.0**shift / many))
        centred = by_group - divide(party, material.mean, sums, shift)[:, None]
        opened = party.open(centred - material.mask)
        root = self._inverse_root(party, material, opened)
        by_channel = np.repeat(root, shape[0] // self.groups)

        def scaling(row: Words) -> Words:
            factor: Words = party.weights[name].factor
            return row * factor

        scale = times_weights(party, material.scaled, by_channel, scaling)
        scale = divide(party, material.scale, scale, _ROOT + FRACTION - SCALE)[:, None]
        known = party.open(scale - material.scale_mask)
        values, masks = opened.reshape(shape[0], -1), material.mask.reshape(shape[0], -1)
        out: Words = material.products + values * material.scale_mask
        out += masks * known
        if party.provider:
            out += values * known
            out += party.weights[name].offset[:, None]
        return out.reshape(shape)

    def _inverse_root(self, party: Party, material: _Material, opened: Words) -> Words:
        """Return a share of 1 / sqrt(variance + epsilon), _ROOT bits after the point."""
        many = opened.shape[1]
        total = material.squares + np.uint64(2) * (opened * material.mask).sum(axis=1)
        if party.provider:
            total += (opened * opened).sum(axis=1)
            total += word(round(self.epsilon * many * 2.0 ** (2 * FRACTION)))
        less = many.bit_length() - 2
        variance = total
        if material.variance is not None:
            variance = divide(party, material.variance, total, less)
        levels, starts, slopes = _ladder()
        heights = np.rint(levels * many * 2.0 ** (2 * FRACTION - less))
        above = variance[:, None] - party.public(encode(heights, 0))
        signs = not_negative(party, material.levels, above.reshape(-1)).reshape(above.shape)
        factor = _picked(signs, encode(2.0**_BROUGHT / heights, 0))
        ratio = multiply(party, material.brought, variance, factor)
        ratio = divide(party, material.ratio, ratio, _BROUGHT - _RATIO)
        line = multiply(party, material.found, _picked(signs, encode(slopes, _LINE)), ratio)
        line += _picked(signs, encode(starts, _LINE)) << np.uint64(_RATIO)
        return divide(party, material.root, line, _LINE + _RATIO - _ROOT)
