"""Noise put on a vector at a hospital, and parts of it taken out of an opened sum.

    update = noised_unpaid(values, grid, stream, seeds)                # before it is sealed
    total = without_parts(total, grid, opened, missing=K - len(roster))  # after it was opened

Both draw a part by the same function from the same seed, so a part that is taken out leaves nothing
of itself behind but what rounding made of the whole.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from accounting.errors import AccountingError
from accounting.grid import GridPlan
from accounting.normals import ROUGH_REACH, Normals, Room, Rough
from accounting.parts import Opened, Seeds, part_noise, part_stream
from accounting.randomness import CHUNK, Stream

Vector = NDArray[np.float64]

#: Values of a vector so short that rough noise would cost more than it spares.
_FEW = 1024
# Dividing by the step rounds, so sensitivity grows by parts in 1e11 at most: cover it with noise.
_NOISE_MARGIN = 1.0 + 1e-9


def noised_unpaid(
    values: NDArray[np.float64],
    grid: GridPlan,
    stream: Stream | None,
    seeds: Seeds | None = None,
) -> NDArray[np.float64]:
    """Clamp, add noise, round once: as `accounting.release.noised`, without a use.

    Guarantee: that of the plan the grid was made for, with the grid's slack.

    Args:
        values: the hospital's sum of clipped contributions, float64 [d], gradient units.
        grid: the plan; its `noise_stddev` is added.
        stream: where noise comes from; may be None where the plan adds none.
        seeds: of the parts that may be taken out of a sum, where the plan has such parts.

    Returns:
        float64 [d], every value a whole number of steps within +-bound (sealing it rounds to
        the same whole number again).

    Raises:
        AccountingError: a value is not finite, or noise is due and no stream, or not its seeds, are
            given.
    """
    limit = (grid.levels - 1) // 2
    noise: _Noise | None = None
    if grid.noise_stddev > 0.0:
        if stream is None:
            raise AccountingError("noise is due, but no stream of randomness was given")
        parts = [(_in_steps(grid, 0), stream)]
        for part, seed in _seeds_by_part(grid, seeds):
            parts.append((_in_steps(grid, part), part_stream(seed)))
        noise = _Noise(grid, parts, values.size)
    flat, whole = values.reshape(-1), np.empty(values.size)
    for start in range(0, flat.size, CHUNK):
        piece, end = flat[start : start + CHUNK], start + CHUNK
        if not _finite(piece):
            raise AccountingError("a value to be noised is not finite")
        if noise is None:
            np.rint(_scaled(piece, grid), out=whole[start:end])
        else:
            noise.add(piece, start, whole)
        if noise is None or noise.most > limit:
            np.clip(whole[start:end], -limit, limit, out=whole[start:end])
        whole[start:end] *= grid.step
    if noise is not None:
        noise.settle(whole)
    return whole.reshape(values.shape)


def draw_ahead(grid: GridPlan, stream: Stream, count: int) -> None:
    """Draw a vector's noise before the vector is there; `noised_unpaid` is to be the next use.

    Where the noise is in parts, their seeds come from the stream first, and nothing is drawn.

    Args:
        grid: the plan.
        stream: where noise comes from.
        count: values of the vector; 12 bytes are held for each.
    """
    if grid.noise_stddev <= 0.0 or grid.parts is not None:
        return
    rough, room = Rough.of(_in_steps(grid, 0)), Room(min(count, CHUNK))
    for drawn in stream.draw_ahead(count):
        drawn.keep_rough(rough, room)


def _finite(values: Vector) -> bool:
    with np.errstate(over="ignore", invalid="ignore"):
        summed = float(values.sum())  # much faster, and finite only if every value is
    return math.isfinite(summed) or bool(np.isfinite(values).all())


def _scaled(values: Vector, grid: GridPlan) -> Vector:
    """Values within the clamp, in steps."""
    scaled: Vector = np.clip(values, -grid.clamp, grid.clamp) / grid.step
    return scaled


class _Open(NamedTuple):
    """What rough noise has not settled: where, the values, and each part of their noise."""

    at: NDArray[np.intp]
    values: Vector
    parts: list[Normals]


class _Noise:
    """Noise of one vector, `CHUNK` values at a time, rounded with what it is put on.

    Rough noise settles nearly all: the nearest step is the same for all that it may stand for. What
    lies too near the middle between two is computed exactly, as are all tails, and short vectors.

    Args:
        grid: the plan.
        parts: of the noise: the standard deviation in steps and the stream of each.
        count: values of the vector.

    Attributes:
        most: a bound on what rough noise settles, in steps.
    """

    def __init__(self, grid: GridPlan, parts: Sequence[tuple[float, Stream]], count: int) -> None:
        self._grid = grid
        self._stddevs = [stddev for stddev, _ in parts]
        self._drawn = zip(*(stream.normals(count) for _, stream in parts), strict=True)
        self._few, self.most = count <= _FEW, 0.0
        self._open: list[_Open] = []
        if self._few:
            return
        self._rough = [Rough.of(stddev) for stddev in self._stddevs]
        self.most = grid.clamp / grid.step + ROUGH_REACH * sum(self._stddevs) + 1.0
        # Beside the noise's own error there are some roundings to float64, in both ways together.
        doubt = sum(one.error for one in self._rough) + (len(parts) + 4) * 2.0**-50 * self.most
        self._settled = 0.5 - doubt
        size = min(count, CHUNK)
        self._room, self._sums = Room(size), np.empty(size)

    def add(self, values: Vector, start: int, whole: Vector) -> None:
        """Write the next values with their noise, rounded once, into `whole`, in steps.

        What stays open holds any number there until `settle`.
        """
        if sum(one.at.size for one in self._open) > CHUNK:
            self.settle(whole)
        grid, drawn = self._grid, next(self._drawn)
        nearest = whole[start : start + values.size]
        if self._few:
            nearest.fill(0.0)
            self._open.append(_Open(np.arange(start, start + values.size), values, [*drawn]))
            return
        sums = self._sums[: values.size]
        np.clip(values, -grid.clamp, grid.clamp, out=sums)
        sums *= 1.0 / grid.step
        for one, rough in zip(drawn, self._rough, strict=True):
            sums += one.rough(rough, self._room)
        np.rint(sums, out=nearest)
        sums -= nearest
        np.abs(sums, out=sums)
        at = np.flatnonzero(~(sums <= self._settled))  # NaN settles nothing
        self._open.append(_Open(start + at, values[at], [one.some(at) for one in drawn]))

    def settle(self, whole: Vector) -> None:
        """Compute exactly what is still open, and write it, in gradient units."""
        if not self._open:
            return
        at = np.concatenate([one.at for one in self._open])
        scaled = _scaled(np.concatenate([one.values for one in self._open]), self._grid)
        nearest, draws = np.rint(scaled), np.zeros(at.size)
        for part, stddev in enumerate(self._stddevs):
            draws += Normals.joined([one.parts[part] for one in self._open]).exact() * stddev
        # The fraction alone meets the noise, so that no digit of it is lost to a large sum.
        draws += scaled - nearest
        nearest += np.rint(draws)
        limit = (self._grid.levels - 1) // 2
        whole[at] = np.clip(nearest, -limit, limit) * self._grid.step
        self._open.clear()


def _in_steps(grid: GridPlan, part: int) -> float:
    """The standard deviation of one part of the noise in grid steps."""
    stddev = grid.parts.stddevs[part] if grid.parts else grid.noise_stddev
    return stddev / grid.step * _NOISE_MARGIN


def _seeds_by_part(grid: GridPlan, seeds: Seeds | None) -> list[tuple[int, bytes]]:
    each = seeds.each if seeds is not None else ()
    wanted = len(grid.parts.levels) if grid.parts else 0
    if len(each) != wanted:
        raise AccountingError(f"{len(each)} seeds of noise, the plan has {wanted} parts to remove")
    return list(enumerate(each, start=1))


def without_parts(
    total: NDArray[np.float64], grid: GridPlan, opened: Opened, *, missing: int
) -> NDArray[np.float64]:
    """Take opened parts of the noise out of an opened sum.

    Guarantee: what stays is that of the plan with so many missing, or more where a part that may go
    was not opened. Where nothing is opened the sum comes back as it is.

    Args:
        total: float64 [d], whole numbers of steps.
        grid: the plan that they were noised by.
        opened: seeds of parts by (hospital, part); those of hospitals in the sum.
        missing: hospitals that are not in the sum.

    Returns:
        float64 [d], (whole number - removed noise) * step: the same bits for all who open the sum,
        as members go by name and parts by number.

    Raises:
        AccountingError: a part that stays was opened, or there are none.
    """
    if not opened:
        return total
    allowed = grid.parts.removed(missing) if grid.parts else range(0)
    wrong = sorted(part for _, part in opened if part not in allowed)
    if wrong:
        raise AccountingError(f"parts {wrong} of the noise stay where {missing} are missing")
    left = np.rint(total / grid.step)
    for (_, part), seed in sorted(opened.items()):
        left -= part_noise(seed, total.size, _in_steps(grid, part))
    left *= grid.step
    return left
