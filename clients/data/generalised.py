"""Columns of a table that can be told less exactly, step by step, until patients are alike.

A column has levels: at the first it is as it was read, at the last it says nothing. What lies
between is fixed by the declaration, which is public, and by how common categories are: numbers
come to steps of their declared range, the rarest categories become one, and days between dates
come to weeks, months, quarters and years.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from clients.data.ranges import Range
from clients.data.records import Ints

Floats = NDArray[np.float64]
#: Of a column of numbers: steps of the declared range, level by level.
STEPS = (0, 32, 16, 8, 4, 2, 1)
#: Of dates: what days after a patient's first date are rounded down to; 0 for all to nought.
DAYS = (1, 7, 30, 91, 365, 0)
_DAYS_WORDS = ("days", "weeks", "30 days", "91 days", "years", "nothing")


class Column(Protocol):
    """A column at several levels.

    Attributes:
        last: the number of the level at which it says nothing; the first is 0.
    """

    last: int

    def at(self, level: int) -> Ints:
        """Return [rows] numbers, equal where the column says the same."""

    def words(self, level: int) -> str:
        """Say what has become of the column, without any patient's value."""


class Numbers:
    """Measurements.

    Args:
        values: [rows], no number where nothing was measured.
        range_: the declared one.
    """

    last = len(STEPS) - 1

    def __init__(self, values: Floats, range_: Range) -> None:
        self._values = values
        self._range = range_

    def at(self, level: int) -> Ints:
        """Return which value, or which step of the range."""
        if level == self.last:
            return np.zeros(len(self._values), dtype=np.int64)
        absent = np.isnan(self._values)
        values = np.where(absent, self._range.low, self._values)
        whole: Ints
        if level == 0:
            whole = np.unique(values, return_inverse=True)[1].astype(np.int64)
        else:
            share = (values - self._range.low) / (self._range.high - self._range.low)
            whole = np.minimum(share * STEPS[level], STEPS[level] - 1).astype(np.int64)
        whole[absent] = -1
        return whole

    def cells(self, level: int) -> list[str]:
        """Return what is written: the value, or the middle of its step."""
        if level == 0:
            return ["" if np.isnan(one) else f"{one:.12g}" for one in self._values]
        width = (self._range.high - self._range.low) / STEPS[level]
        middles = self._range.low + (self.at(level) + 0.5) * width
        return [
            "" if step < 0 else f"{middle:.6g}"
            for step, middle in zip(self.at(level), middles, strict=True)
        ]

    def words(self, level: int) -> str:
        """Say into how many steps the declared range is cut."""
        if level == 0:
            return "as it was"
        return "says nothing now" if level == self.last else f"{STEPS[level]} steps of its range"


class Kinds:
    """Categories.

    Args:
        cells: [rows] names, "" where none was read.
        declared: the names that there may be.
    """

    def __init__(self, cells: Sequence[str], declared: Sequence[str]) -> None:
        self._cells = list(cells)
        counts = Counter(cell for cell in cells if cell)
        # Of equally rare ones the last declared goes first.
        place = {name: at for at, name in enumerate(declared)}
        self._rarest = sorted(counts, key=lambda name: (counts[name], -place[name]))
        self.last = max(len(self._rarest) - 1, 1)
        taken = {name.casefold() for name in declared}
        #: What is written in the place of those that are joined.
        self.joined = next(
            one for one in ("other", *(f"other {n}" for n in range(2, 1000))) if one not in taken
        )

    def at(self, level: int) -> Ints:
        """Return which name."""
        numbers: dict[str, int] = {}
        return np.asarray(
            [numbers.setdefault(cell, len(numbers)) for cell in self.cells(level)], dtype=np.int64
        )

    def cells(self, level: int) -> list[str]:
        """Return what is written: the name, or one for all that are rare."""
        if level == self.last:
            return [self.joined] * len(self._cells)
        gone = set(self._rarest[: level + 1]) if level else set()
        return [self.joined if cell in gone else cell for cell in self._cells]

    def words(self, level: int) -> str:
        """Say how many categories are one now."""
        if level == 0:
            return "as it was"
        if level == self.last:
            return "says nothing now"
        return f"its {level + 1} rarest of {len(self._rarest)} are {self.joined!r}"


class Days:
    """Days since each patient's first date.

    Args:
        values: [rows], no number where no date was read.
    """

    last = len(DAYS) - 1

    def __init__(self, values: Floats) -> None:
        self._values = values

    def at(self, level: int) -> Ints:
        """Return days, rounded down; -1 where there is no date."""
        if level == self.last:
            return np.zeros(len(self._values), dtype=np.int64)
        absent = np.isnan(self._values)
        days: Ints = np.where(absent, 0.0, self._values).astype(np.int64)
        days = days // DAYS[level] * DAYS[level]
        days[absent] = -1
        return days

    def words(self, level: int) -> str:
        """Say how exactly the days between a patient's dates are told."""
        if level == self.last:
            return "shifted, all of a patient the same"
        told = "" if level == 0 else f", days between them in {_DAYS_WORDS[level]}"
        return f"shifted{told}"
