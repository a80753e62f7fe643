"""Noise put on a vector at a hospital, and parts of it taken out of an opened sum.

    update = noised_unpaid(values, grid, stream, seeds)                # before it is sealed
    total = without_parts(total, grid, opened, missing=K - len(roster))  # after it was opened

Both draw a part by the same function from the same seed, so a part that is taken out leaves nothing
of itself behind but what rounding made of the whole.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from accounting.errors import AccountingError
from accounting.grid import GridPlan
from accounting.parts import Opened, Seeds, part_noise
from accounting.randomness import Stream

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
    if not np.all(np.isfinite(values)):
        raise AccountingError("a value to be noised is not finite")
    scaled = np.clip(values, -grid.clamp, grid.clamp) / grid.step
    whole = np.rint(scaled)
    if grid.noise_stddev > 0.0:
        if stream is None:
            raise AccountingError("noise is due, but no stream of randomness was given")
        # The fraction alone meets the noise, so that no digit of it is lost to a large sum.
        draws = stream.normal(values.size).reshape(values.shape)
        draws *= _in_steps(grid, 0)
        for part, seed in _seeds_by_part(grid, seeds):
            draws += part_noise(seed, values.size, _in_steps(grid, part))
        draws += scaled - whole
        whole += np.rint(draws)
    limit = (grid.levels - 1) // 2
    result: NDArray[np.float64] = np.clip(whole, -limit, limit) * grid.step
    return result


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
