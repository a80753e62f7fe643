"""Layers with weights: convolutions and linear layers, each one product of matrices."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any, ClassVar

import numpy as np

from crypto.inference.layers import MOST_VALUES, Layer, need
from crypto.inference.parties import Party
from crypto.inference.products import deal_weighted, times_weights
from crypto.inference.sources import Source
from crypto.inference.words import (
    LIMBS,
    Reals,
    Shape,
    Words,
    check_small,
    encode,
    limbs,
    product,
    small_product,
)


@dataclass(frozen=True)
class Weights:
    """What a provider multiplies by: whole numbers [rows, terms], and biases [rows] as words.

    Attributes:
        matrix: float64, real weights times 2**FRACTION, rounded.
        bias: words with 2 * FRACTION bits after the point.
    """

    matrix: Reals
    bias: Words

    @classmethod
    def of(cls, matrix: Reals, bias: Reals, name: str) -> Weights:
        """Return real weights [rows, terms] and biases [rows] as whole numbers.

        Raises:
            PrecisionError: they are not finite, or too large to be multiplied exactly.
        """
        whole = encode(matrix).view(np.int64).astype(np.float64)
        check_small(whole, name)
        return cls(whole, encode(bias, 32))

    @property
    def words(self) -> Words:
        """The weights as words, before they are masked."""
        return self.matrix.astype(np.int64).view(np.uint64)


@dataclass(frozen=True, kw_only=True)
class Convolution(Layer):
    """A convolution over rows and columns: values of FRACTION bits -> twice as many.

    Attributes:
        out: channels that it makes.
        kernel: its height and width.
        stride: by which it moves.
        padding: zeros above and below, left and right.
    """

    kind: ClassVar[str] = "convolution"
    out: int
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]

    def result(self, *shapes: Shape) -> Shape:
        """Return [out, rows, columns]."""
        need(len(shapes) == 1 and len(shapes[0]) == 3, "a convolution takes one picture")
        need(min(self.out, *self.kernel, *self.stride) > 0, "a convolution of nothing")
        sides = [
            (side + 2 * pad - size) // step + 1
            for side, pad, size, step in zip(
                shapes[0][1:], self.padding, self.kernel, self.stride, strict=True
            )
        ]
        need(min(sides) > 0, f"a picture {shapes[0]} is smaller than a kernel {self.kernel}")
        padded = prod(side + 2 * pad for side, pad in zip(shapes[0][1:], self.padding, strict=True))
        seen = max(shapes[0][0] * padded, shapes[0][0] * prod(self.kernel) * prod(sides))
        need(seen <= MOST_VALUES, f"a convolution that makes {seen} numbers of {shapes[0]}")
        return (self.out, *sides)

    def weight_shape(self, *shapes: Shape) -> Shape:
        """Return [out, channels * kernel]."""
        return (self.out, shapes[0][0] * prod(self.kernel))

    def deal(self, source: Source, name: str, *shapes: Shape) -> Any:
        """Return the material of one product."""
        result = self.result(*shapes)

        def multiply(mask: Words) -> Words:
            weights = limbs(source.weights[name])
            return product(weights, self._columns(mask)).reshape(result)

        return deal_weighted(source, shapes[0], result, multiply)

    def run(self, party: Party, name: str, material: Any, *shares: Words) -> Words:
        """Return a share of the convolution."""

        def multiply(picture: Words) -> Words:
            weights: Weights = party.weights[name]
            out = small_product(weights.matrix, self._columns(picture))
            out += weights.bias[:, None]
            return out.reshape(material.share.shape)

        return times_weights(party, material, shares[0], multiply)

    def _columns(self, picture: Words) -> Reals:
        """Return the limbs of what the kernel sees at each place, [3, terms, places]."""
        parts = limbs(picture)
        if self.kernel == (1, 1) and self.padding == (0, 0):
            seen = parts[:, :, :: self.stride[0], :: self.stride[1]]
            return np.ascontiguousarray(seen).reshape(LIMBS, picture.shape[0], -1)
        (above, left), (down, along) = self.padding, self.stride
        padded = np.pad(parts, ((0, 0), (0, 0), (above, above), (left, left)))
        windows = np.lib.stride_tricks.sliding_window_view(padded, self.kernel, axis=(2, 3))
        windows = windows[:, :, ::down, ::along]
        terms = picture.shape[0] * prod(self.kernel)
        return windows.transpose(0, 1, 4, 5, 2, 3).reshape(LIMBS, terms, -1)


@dataclass(frozen=True, kw_only=True)
class Linear(Layer):
    """A linear layer on a row of numbers: values of FRACTION bits -> twice as many.

    Attributes:
        out: numbers that it makes.
    """

    kind: ClassVar[str] = "linear"
    out: int

    def result(self, *shapes: Shape) -> Shape:
        """Return [out]."""
        need(len(shapes) == 1 and len(shapes[0]) == 1, "a linear layer takes one row of numbers")
        need(self.out > 0, "a linear layer of nothing")
        return (self.out,)

    def weight_shape(self, *shapes: Shape) -> Shape:
        """Return [out, terms]."""
        return (self.out, shapes[0][0])

    def deal(self, source: Source, name: str, *shapes: Shape) -> Any:
        """Return the material of one product."""

        def multiply(mask: Words) -> Words:
            return product(limbs(source.weights[name]), limbs(mask)[:, :, None])[:, 0]

        return deal_weighted(source, shapes[0], (self.out,), multiply)

    def run(self, party: Party, name: str, material: Any, *shares: Words) -> Words:
        """Return a share of the product."""

        def multiply(row: Words) -> Words:
            weights: Weights = party.weights[name]
            return small_product(weights.matrix, limbs(row)[:, :, None])[:, 0] + weights.bias

        return times_weights(party, material, shares[0], multiply)
