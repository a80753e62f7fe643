"""Pooling: the largest of a window by comparisons, and the mean by one division."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from crypto.inference.comparisons import Comparison, deal_comparison, positive_part
from crypto.inference.layers import Layer, need
from crypto.inference.parties import Party
from crypto.inference.sources import Source
from crypto.inference.truncation import deal_division, divide
from crypto.inference.words import Shape, Words

#: Bits after the point of a mean's factor, beyond those of how many are added.
PRECISION = 20


@dataclass(frozen=True)
class _Take:
    """One place of the windows along an axis: outputs [first, last) compare it, from `start` on."""

    first: int
    last: int
    start: int


def mean_factor(most: int) -> int:
    """Return the bits of a factor by which sums of up to so many become means."""
    return PRECISION + most.bit_length() - 1


@dataclass(frozen=True, kw_only=True)
class Maximum(Layer):
    """The largest of each window, along rows and then along columns.

    Attributes:
        kernel: side of the square windows.
        stride: by which they move.
        padding: by how much they begin outside; what is outside is never the largest.
        ceil: whether a last window may end outside.
    """

    kind: ClassVar[str] = "maximum"
    kernel: int
    stride: int
    padding: int
    ceil: int

    def result(self, *shapes: Shape) -> Shape:
        """Return [channels, rows, columns]."""
        need(len(shapes) == 1 and len(shapes[0]) == 3, "a maximum takes one picture")
        need(min(self.kernel, self.stride) > 0, "a maximum over nothing")
        need(2 * self.padding <= self.kernel, "a maximum padded by more than half a window")
        channels, rows, columns = shapes[0]
        return (channels, self._size(rows), self._size(columns))

    def _size(self, side: int) -> int:
        room = side + 2 * self.padding - self.kernel
        size = (-(-room // self.stride) if self.ceil else room // self.stride) + 1
        if self.ceil and (size - 1) * self.stride >= side + self.padding:
            size -= 1
        need(room >= 0 and size > 0, f"a window of {self.kernel} on a side of {side}")
        return size

    def _takes(self, side: int) -> list[_Take]:
        """Return which places are compared, beginning with one that every window has."""
        size, takes = self._size(side), []
        for offset in range(self.kernel):
            places = [window * self.stride - self.padding + offset for window in range(size)]
            inside = [window for window, place in enumerate(places) if 0 <= place < side]
            if inside:
                takes.append(_Take(inside[0], inside[-1] + 1, places[inside[0]]))
        takes.sort(key=lambda take: take.first - take.last)
        need(takes[0].last - takes[0].first == size, f"windows without a place on a side of {side}")
        return takes

    def _comparisons(self, shape: Shape) -> list[int]:
        """Return how many numbers each comparison compares, in order."""
        channels, rows, columns = shape
        along = [(take, rows) for take in self._takes(columns)[1:]]
        down = [(take, self._size(columns)) for take in self._takes(rows)[1:]]
        return [channels * other * (take.last - take.first) for take, other in along + down]

    def deal(self, source: Source, name: str, *shapes: Shape) -> Any:
        """Return the material of each comparison."""
        return [deal_comparison(source, n, choosing=True) for n in self._comparisons(shapes[0])]

    def run(self, party: Party, name: str, material: Any, *shares: Words) -> Words:
        """Return a share of the largest."""
        left = iter(material)
        along = self._along_last(party, left, shares[0])
        turned = self._along_last(party, left, along.transpose(0, 2, 1))
        return np.ascontiguousarray(turned.transpose(0, 2, 1))

    def _along_last(self, party: Party, material: Any, share: Words) -> Words:
        side = share.shape[2]
        first, *others = self._takes(side)

        def taken(take: _Take) -> Words:
            end = take.start + (take.last - take.first - 1) * self.stride + 1
            return share[:, :, take.start : end : self.stride]

        largest = np.array(taken(first))
        for take in others:
            rest = largest[:, :, take.first : take.last]
            more = taken(take) - rest
            comparison: Comparison = next(material)
            rest += positive_part(party, comparison, more.reshape(-1)).reshape(more.shape)
        return largest


@dataclass(frozen=True, kw_only=True)
class Mean(Layer):
    """The mean of each window.

    Attributes:
        rows: where the windows begin and end along rows.
        columns: likewise along columns.
    """

    kind: ClassVar[str] = "mean"
    rows: tuple[tuple[int, int], ...]
    columns: tuple[tuple[int, int], ...]

    def result(self, *shapes: Shape) -> Shape:
        """Return [channels, windows down, windows across]."""
        need(len(shapes) == 1 and len(shapes[0]) == 3, "a mean takes one picture")
        for windows, side in ((self.rows, shapes[0][1]), (self.columns, shapes[0][2])):
            need(bool(windows), "a mean without windows")
            for window in windows:
                need(
                    len(window) == 2 and 0 <= window[0] < window[1] <= side,
                    f"a window {window} on a side of {side}",
                )
        need(self._shift() <= 36, "a mean over more than 131,071 places")
        return (shapes[0][0], len(self.rows), len(self.columns))

    def _sizes(self) -> Any:
        down, across = ([end - begin for begin, end in w] for w in (self.rows, self.columns))
        return np.outer(down, across)

    def _shift(self) -> int:
        return mean_factor(int(self._sizes().max()))

    def deal(self, source: Source, name: str, *shapes: Shape) -> Any:
        """Return the material of one division for each window."""
        return deal_division(source, self.result(*shapes), self._shift())

    def run(self, party: Party, name: str, material: Any, *shares: Words) -> Words:
        """Return a share of the means."""
        down = [shares[0][:, begin:end].sum(axis=1) for begin, end in self.rows]
        joined = np.stack(down, axis=1)
        sums = np.stack([joined[:, :, begin:end].sum(axis=2) for begin, end in self.columns], 2)
        factors = np.rint(2.0 ** self._shift() / self._sizes()).astype(np.uint64)
        return divide(party, material, sums * factors, self._shift())


def windows_of(side: int, *, kernel: int = 0, stride: int = 0, out: int = 0) -> Any:
    """Return the windows along a side: of a kernel that moves, or adaptive ones, `out` of them."""
    if out:
        return tuple((i * side // out, -(-(i + 1) * side // out)) for i in range(out))
    return tuple((i, i + kernel) for i in range(0, side - kernel + 1, stride))
