"""Turns: numbers modulo another, which must be uniform, and independent of each other.

What hides a value is added to it modulo some number, and everything is then uniform there: each row
of numbers, every difference of two rows, every sum. Where what hides is missing, or is the same in
two rows, the values show: small errors around multiples of their scale are turns close to nought.

A row of n turns is as many unit vectors; R is the length of their sum, some sqrt(n) where they are
uniform, and nearly n where they are close together. Formal guarantee: independent turns that are
uniform on M points, the whole circle for large M, have, with modified Bessel functions I and every
t > 0 (Markov's inequality on I0(t*R), over a common rotation),

    P(R >= r) <= (I_0(t) + 2*I_M(t) + 2*I_2M(t) + ..)**n / I_0(t*r).

For large M that is sqrt(4*pi*r**2/n)*exp(-r**2/n) or so, at t = 2*r/n.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from scipy.special import i0e, ive

from accounting.audit_gates import Gate

Floats = NDArray[np.float64]

SHOWN = "what is sealed shows nothing without its key"
UNIFORM = "what is sealed is uniform (chi-squared)"
#: Bins of a row's histogram; counts in them are less round than Pearson's law has it, so chances
#: are this much larger at the most.
_BINS, _ROOM = 8, 10.0
#: With more points than this no term of the bound but the first is above the precision.
_FEW_POINTS = 64


@dataclass(frozen=True, kw_only=True)
class Turns:
    """Rows of turns that are made in one way.

    Attributes:
        what: they are of.
        names: of the rows.
        rows: in [0, 1), float64 ``[rows, n]``.
        points: on which they may lie.
        sums: of each row, the sum that it is in; None: in none.
        whole: whether the sum of all rows of one must be uniform too, not only of all but one.
    """

    what: str
    names: Sequence[str]
    rows: Floats
    points: int
    sums: Sequence[Hashable] = ()
    whole: bool = True

    def lengths(self) -> tuple[list[str], Floats]:
        """Return the lengths of rows, of differences of two, and of sums, with names for each."""
        angles = (2.0 * np.pi * self.rows).astype(np.float32)  # lengths are right to 1e-5 or so
        units = np.empty(angles.shape, dtype=np.complex64)
        units.real, units.imag = np.cos(angles), np.sin(angles)
        names, lengths = list(self.names), [np.abs(units.sum(axis=1))]
        if len(units) > 1:
            first, second = np.triu_indices(len(units), 1)
            names += [
                f"{self.names[one]} less {self.names[other]}"
                for one, other in zip(first.tolist(), second.tolist(), strict=True)
            ]
            lengths.append(np.abs((units @ units.conj().T)[first, second]))
        for name, length in self._added(units):
            names.append(name)
            lengths.append(np.array([length]))
        return names, np.concatenate(lengths).astype(np.float64)

    def _added(self, units: NDArray[np.complex64]) -> Iterator[tuple[str, float]]:
        """Add up the rows of each sum, all and all but one; yield a name and a length for each."""
        order = [row for row, one in enumerate(self.sums) if one is not None]
        order.sort(key=lambda row: repr(self.sums[row]))
        for _, group in groupby(order, key=lambda row: self.sums[row]):
            rows = list(group)
            whole = units[rows].prod(axis=0)
            if len(rows) > 1 and self.whole:
                yield f"the sum with {self.names[rows[0]]}", float(abs(whole.sum()))
            if len(rows) > 2:
                for row, rest in zip(rows, np.abs(units[rows].conj() @ whole), strict=True):
                    yield f"the sum of all but {self.names[row]}", float(rest)


def length_chance(lengths: Floats, count: int, points: int) -> Floats:
    """Bound the chances that sums of so many uniform unit vectors are at least so long.

    Args:
        lengths: R of each.
        count: n.
        points: M, on which they lie.
    """
    exponent = np.zeros(np.shape(lengths))
    for share in (1.0, 2.0):  # the first is near the best on two points, the other on more
        t = np.maximum(share * lengths / count, 1e-12)
        growth = i0e(t)
        if points <= _FEW_POINTS:
            growth = growth + 2.0 * sum(ive(float(turn * points), t) for turn in range(1, 4))
        reached = t * lengths
        bound = count * (np.log(growth) + t) - np.log(i0e(reached)) - reached
        exponent = np.minimum(exponent, bound)
    return np.asarray(np.exp(exponent))


def turn_gates(parts: Sequence[Turns]) -> list[Gate]:
    """Return whether rows show anything, alone, beside each other and added up; and are uniform."""
    return [_shown_gate(parts), _uniform_gate(parts)]


def _shown_gate(parts: Sequence[Turns]) -> Gate:
    looks, odd = 0, (1.0, "", 0.0, 1)
    for part in parts:
        names, lengths = part.lengths()
        count = part.rows.shape[1]
        chances = length_chance(lengths, count, part.points)
        at = int(chances.argmin())
        looks += len(names)
        longer = (float(chances[at]), -float(lengths[at]) / count) < (odd[0], -odd[2])
        if not odd[1] or longer:
            subject = f"{part.what}: {names[at]}"
            odd = float(chances[at]), subject, float(lengths[at]) / count, count
    chance, subject, found, count = odd
    return Gate(
        name=SHOWN,
        subject=subject,
        found=found,
        expected=float(np.sqrt(np.pi / (4.0 * count))),
        chance=min(1.0, chance * max(looks, 1)),
    )


def _uniform_gate(parts: Sequence[Turns]) -> Gate:
    """Return whether turns fill the bins of a circle evenly, row by row and all together."""
    subjects, found, freedom = [], [], []
    for part in parts:
        bins = min(_BINS, part.points)
        each = [np.histogram(row, bins=bins, range=(0.0, 1.0))[0] for row in part.rows]
        expected = part.rows.shape[1] / bins
        squares = ((np.array(each) - expected) ** 2).sum(axis=1) / expected
        subjects += [*(f"{part.what}: {name}" for name in part.names), f"{part.what}: all"]
        found += [*squares.tolist(), float(squares.sum())]
        freedom += [*[bins - 1] * len(squares), (bins - 1) * len(squares)]
    chances = _ROOM * stats.chi2.sf(np.array(found), np.array(freedom))
    at = int(chances.argmin())
    return Gate(
        name=UNIFORM,
        subject=subjects[at],
        found=found[at],
        expected=float(freedom[at]),
        chance=float(min(1.0, chances[at] * len(chances))),
    )
