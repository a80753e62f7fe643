"""Standard normal values from random words: exactly, or roughly and many times faster.

A value is the inverse normal CDF of a uniform that keeps its full relative precision down to
2^-127. That function is most of what noise costs. Noise that ends on a grid needs it seldom: which
step a value comes to rest on follows from a rough value, with a proven bound on its error, unless
that lies near the middle between two steps. Those few are computed exactly, and so the result is
the same bits as if all had been::

    drawn.rough(inverse, room)       # [n], each off by at most inverse.error, or NaN
    drawn.some(unsettled).exact()    # the others

Which lines of the table are read, and how many values are computed, depends on the noise: caches
and timing on a hospital's own machine are not covered.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

Words = NDArray[np.uint64]

#: Words whose uniform has lost some of a double's precision: their magnitudes are below 2^54 when
#: they are rounded to one, so they take another 52 bits.
SMALL = np.uint64(2**55 - 2)

_CELL_BITS = 13
_CELLS = 2**_CELL_BITS
#: Cells below this are tails, which are never rough: beyond 2.66 standard deviations.
_FIRST = 64
#: No rough value is larger, in standard deviations.
ROUGH_REACH = 3.0
_CELL_WIDTH = 2.0 ** (32 - _CELL_BITS)  # in units of a word's upper half
_UNIT = 2.0**-24  # of float32


class Rough(NamedTuple):
    """The inverse normal CDF times a standard deviation, linear in each cell of a table.

    Attributes:
        stddev: that standard deviation.
        lines: where each cell's line begins, and its slope: float32 ``[cells, 2]``; NaN in tails.
        error: how far a value may be from the exact one.
    """

    stddev: float
    lines: NDArray[np.float32]
    error: float

    @classmethod
    def of(cls, stddev: float) -> Rough:
        """Return it for one standard deviation.

        In a cell, x = ndtri(p) is concave with ``|x''| = |x|/pdf(x)^2``, which falls as p grows.
        Its chord lies below it, by at most ``gap = width^2/8 * |x''|`` at the cell's lower end,
        half of which is added. What a word's lower half would add is taken for its middle. All else
        is rounding to float32.
        """
        lines, error = _unit_lines()
        scaled = (stddev * lines).astype(np.float32)
        return cls(stddev=stddev, lines=scaled, error=stddev * error)


@lru_cache(maxsize=1)
def _unit_lines() -> tuple[NDArray[np.float64], float]:
    """The lines of standard deviation 1, float64 ``[cells, 2]``, and the bound on their error."""
    low = np.arange(_CELLS, dtype=np.float64) * _CELL_WIDTH
    edges = np.arange(_FIRST, _CELLS + 1) * 2.0 ** (-1 - _CELL_BITS)
    x = ndtri(edges)
    pdf = np.exp(-0.5 * x * x) / np.sqrt(2.0 * np.pi)
    gap = np.abs(x[:-1]) / pdf[:-1] ** 2 * 2.0 ** (-2 * (1 + _CELL_BITS)) / 8.0
    slope = np.diff(x) / _CELL_WIDTH
    # An upper half is read as a signed number: conversion of those is faster.
    signed = np.where(low < 2.0**31, low, low - 2.0**32)[_FIRST:]
    start = x[:-1] + 0.5 * gap - slope * (signed - 0.5)
    lines = np.full((_CELLS, 2), np.nan)
    lines[_FIRST:, 0], lines[_FIRST:, 1] = start, slope
    lines.flags.writeable = False
    # Three factors of a product are rounded, a summand, and the sum.
    product = slope * np.maximum(np.abs(signed), np.abs(signed + _CELL_WIDTH))
    rounding = _UNIT * (3.0 * product + np.abs(start) + np.abs(x[:-1]))
    middle = 2.0**-34 / pdf[:-1]
    return lines, 1.001 * float((0.5 * gap + middle + rounding).max())


class Normals:
    """Some standard normal values, as the words that they are made of.

    Attributes:
        words: uint64 ``[n]``: the lowest bit is the sign, the others the magnitude.
        small: which magnitudes have lost precision, in order.
        late: the uniforms that these take besides, float64, in the same order.
    """

    __slots__ = ("_kept", "late", "small", "words")

    def __init__(self, words: Words, small: NDArray[np.intp], late: NDArray[np.float64]) -> None:
        self.words, self.small, self.late = words, small, late
        self._kept: tuple[float, NDArray[np.float32]] | None = None

    def __repr__(self) -> str:
        return f"Normals({len(self.words)}, hidden)"

    @classmethod
    def joined(cls, several: Sequence[Normals]) -> Normals:
        """Return the values of several, one after the other."""
        starts = np.cumsum([0, *(len(one.words) for one in several[:-1])])
        return cls(
            np.concatenate([one.words for one in several]),
            np.concatenate([one.small + at for one, at in zip(several, starts, strict=True)]),
            np.concatenate([one.late for one in several]),
        )

    def some(self, at: NDArray[np.intp]) -> Normals:
        """Return some of them.

        Args:
            at: which, rising.
        """
        words = self.words[at]
        small = np.flatnonzero(words < SMALL)
        return Normals(words, small, self.late[np.searchsorted(self.small, at[small])])

    def exact(self) -> NDArray[np.float64]:
        """Return them, float64 ``[n]``, right in the tails."""
        # The lowest bit is the sign, the other 63 the magnitude of p = (m + u) / 2^64, u in (0, 1).
        magnitude = (self.words >> np.uint64(1)).astype(np.int64)
        p = magnitude.astype(np.float64)
        p += 0.5
        p[self.small] = magnitude[self.small] + self.late
        # A zero magnitude (once in 2^63) leaves p = u, the next uniform: a new binade of tails.
        p *= 2.0**-64
        values: NDArray[np.float64] = ndtri(p, out=p)
        sign = (self.words & np.uint64(1)) << np.uint64(63)
        np.bitwise_xor(values.view(np.uint64), sign, out=values.view(np.uint64))
        return values

    def keep_rough(self, inverse: Rough, room: Room) -> None:
        """Do what `rough` does now, and keep it for then: 4 bytes a value."""
        self._kept = inverse.stddev, self.rough(inverse, room).copy()

    def rough(self, inverse: Rough, room: Room) -> NDArray[np.float32]:
        """Return all of them times a standard deviation, float32 ``[n]``; NaN in the tails.

        Args:
            inverse: for that standard deviation.
            room: memory of at least this size, overwritten; the result lies in it.
        """
        if self._kept is not None and self._kept[0] == inverse.stddev:
            return self._kept[1]
        count = len(self.words)
        halves = self.words.view("<u4")
        cells, pairs = room.cells[:count], room.pairs[:count]
        values, signs = room.values[:count], room.cells.view(np.uint32)[:count]
        np.right_shift(self.words, np.uint64(64 - _CELL_BITS), out=cells)
        lines = inverse.lines.view(np.float64).reshape(-1)
        # No index is out of range: clipping only spares a copy of the result.
        np.take(lines, cells.view(np.int64), out=pairs, mode="clip")
        line = pairs.view(np.float32).reshape(count, 2)
        np.copyto(values, halves[1::2].view("<i4"), casting="unsafe")
        np.multiply(values, line[:, 1], out=values)
        np.add(values, line[:, 0], out=values)
        np.left_shift(halves[0::2], np.uint32(31), out=signs)
        np.bitwise_xor(values.view(np.uint32), signs, out=values.view(np.uint32))
        return values


class Room:
    """Working memory for rough values, used again and again so that it stays in the caches.

    Args:
        count: the most values at a time.
    """

    __slots__ = ("cells", "pairs", "values")

    def __init__(self, count: int) -> None:
        self.cells = np.empty(count, dtype=np.uint64)
        self.pairs = np.empty(count, dtype=np.float64)
        self.values = np.empty(count, dtype=np.float32)
