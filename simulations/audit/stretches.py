"""Noise by parts of a vector, noise in another order, and draws that tell of each other.

All noise of a training together can be right where a part of it is not: a hospital's, a round's, a
layer's, that of coordinates which somebody in the batch moves. Each part is held against the exact
law of its sum of squares, all parts counted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from scipy import stats

from accounting.audit_gates import Gate
from simulations.audit.gates import binomial_chance, chi2_chance, most_odd

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

#: Values of the shortest stretch of all releases together; the longest is half of a vector.
SHORTEST = 16
#: Values of the shortest stretch of each release by itself.
SHORT = 64
#: Values are counted on steps of the grid, or of this width in standard deviations if those are
#: finer; steps with fewer values than this are counted together.
FINEST, FEW = 1.0 / 16.0, 8.0
#: Counts are less round than Pearson's law has it: chances are this much larger at the most.
ROOM = 10.0
#: Draws behind each other that are looked at.
LAGS = 512


def part_gate(
    noise: Floats, names: Sequence[str], hospitals: Sequence[str], touched: NDArray[np.bool_]
) -> Gate:
    """Return whether noise is as loud as it should be in every part of it.

    Args:
        noise: in units of its stated standard deviation, ``[releases, d]``.
        names: of the releases.
        hospitals: whose they are.
        touched: where somebody in the batch moves a release, bool ``[releases, d]``.
    """
    squares = noise**2
    rows = np.array(hospitals)
    groups = {f"all of {name}": np.isin(rows, name) for name in sorted(set(hospitals))}
    parts = [(name, float(squares[own].sum()), squares[own].size) for name, own in groups.items()]
    inside = [
        (f"{name}, where its members move it", float(one[at].sum()), int(at.sum()))
        for name, one, at in zip(names, squares, touched, strict=True)
    ]
    parts.append(
        (
            "where members of a batch move it",
            sum(one for _, one, _ in inside),
            sum(one for _, _, one in inside),
        )
    )
    parts += inside
    parts += [
        (f"values {first:,} to {last:,}", found, (last - first) * len(noise))
        for first, last, found in _stretches(squares.sum(axis=0), SHORTEST)
    ]
    parts += [
        (f"{name}, values {first:,} to {last:,}", found, last - first)
        for name, one in zip(names, squares, strict=True)
        for first, last, found in _stretches(one, SHORT)
    ]
    parts = [one for one in parts if one[2] >= SHORTEST]
    found, counts = (np.array([one[at] for one in parts], dtype=np.float64) for at in (1, 2))
    chances = chi2_chance(found, counts)
    at = int(chances.argmin())
    return Gate(
        name="noise of each part",
        subject=parts[at][0],
        found=float(np.sqrt(found[at] / counts[at])),
        expected=1.0,
        chance=most_odd(chances),
    )


def _stretches(squares: Floats, least: int) -> Iterator[tuple[int, int, float]]:
    """Yield the ends of stretches of a vector, and the sum in each: of all sizes, twice as long."""
    total = np.concatenate([[0.0], np.cumsum(squares)])
    size = least
    while size < len(squares):
        for first in range(0, len(squares) - size + 1, size):
            yield first, first + size, float(total[first + size] - total[first])
        size *= 2


def order_gate(noise: Floats, names: Sequence[str], step: float) -> Gate:
    """Return whether any two releases have the same noise in another order, or of another sign.

    Two independent ones differ in how many values are on each step of the grid by as much as chance
    has it. Where one is the other's in another order, hardly any does.

    Args:
        noise: with one standard deviation or less, ``[releases, d]``.
        names: of the releases.
        step: of the grid, in the same units.
    """
    width = step * max(1.0, np.rint(FINEST / step))
    levels = np.rint(noise / width).astype(np.int64)
    most = int(np.abs(levels).max())
    each = [np.bincount(one + most, minlength=2 * most + 1) for one in levels]
    counts = np.array(each, dtype=np.float64)
    often = counts.mean(axis=0) >= FEW
    often &= often[::-1]
    kept = np.column_stack([counts[:, often], counts[:, ~often].sum(axis=1)])
    turned = np.column_stack([counts[:, ::-1][:, often], kept[:, -1]])
    first, second = np.triu_indices(len(counts), 1)
    distances = [
        ((kept[first] - other[second]) ** 2 / np.maximum(kept[first] + other[second], 1.0)).sum(1)
        for other in (kept, turned)
    ]
    freedom = int(often.sum())
    chances = np.minimum(1.0, ROOM * stats.chi2.cdf(np.array(distances), freedom))
    at = np.unravel_index(int(chances.argmin()), chances.shape) if chances.size else (0, 0)
    pair = int(at[1])
    return Gate(
        name="noise of one release is another's in another order",
        subject=f"{names[first[pair]]} with {names[second[pair]]}" if chances.size else "",
        found=float(distances[int(at[0])][pair]) if chances.size else float(freedom),
        expected=float(freedom),
        chance=most_odd(chances),
    )


def neighbours_gate(taken: Mapping[str, Floats], rate: float) -> Gate:
    """Return whether a draw tells of another at any distance, in the order of a hospital's draws.

    Patient by patient and batch by batch, pairs that have nobody in common: of n both are drawn
    Binomial(n, q^2) times.

    Args:
        taken: hospital -> 1 for who was in which batch, 0 for who was not, not a number where
            nobody can tell, ``[rounds, patients]``.
        rate: q.
    """
    subjects, found, counts = [], [], []
    for name, rows in taken.items():
        draws = rows.ravel()
        known, drawn = ~np.isnan(draws), np.nan_to_num(draws) > 0
        for lag in range(1, min(LAGS, len(draws) // 2)):
            early = np.arange(len(draws) - lag) % (2 * lag) < lag
            for half in (early, ~early):
                told = (known[:-lag] & known[lag:])[half]
                subjects.append(f"{name}, {lag} apart")
                found.append(int(((drawn[:-lag] & drawn[lag:])[half] & told).sum()))
                counts.append(int(told.sum()))
    both, pairs = np.array(found), np.array(counts)
    chances = binomial_chance(both, pairs, rate**2) if len(both) else np.ones(1)
    at = int(chances.argmin())
    return Gate(
        name="patients who are drawn together",
        subject=subjects[at] if subjects else "",
        found=float(both[at]) if subjects else 0.0,
        expected=float(pairs[at] * rate**2) if subjects else 0.0,
        chance=most_odd(chances),
    )
