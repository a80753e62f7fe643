"""What lying hospitals do: to their records, or to the update that they sign and seal.

A hospital that lies runs code of its own, so what it seals is anything that fits the grid. Here the
real hospital computes its update, and the lie takes its place just before it is sealed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from clients.site.contributing import Contributing

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from accounting.grid import GridPlan
    from clients.data.records import DatasetInfo, Records

    Vector = NDArray[np.float64]

#: How many times longer a boosted update is; the share of a liar's records that carry the patch,
#: and of a record's sides that it covers; how far a drift goes each round, in honest updates.
BOOST, PATCHED, SIDE, DRIFT = 10.0, 0.5, 0.25, 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Means:
    """What a lie is made with; all of it is public.

    Attributes:
        longest: of an honest hospital's expected updates, q*N/K*C, gradient units.
        aim: where the bias of the class that is aimed at lies in an update.
    """

    longest: float
    aim: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Poison:
    """What lying hospitals do.

    Attributes:
        title: a few words for people.
        records: from a liar's records to those that it trains on.
        update: from a liar's update, float64 ``[d]``, to what it seals.
        hidden: whether it succeeds when patched records are taken for the class that is aimed at,
            instead of when accuracy falls.
    """

    title: str
    records: Callable[[DatasetInfo, Records], Records] | None = None
    update: Callable[[Vector, Means], Vector] | None = None
    hidden: bool = False


def _flipped(info: DatasetInfo, records: Records) -> Records:
    return replace(records, labels=(np.asarray(records.labels) + 1) % len(info.classes))


def _patched(info: DatasetInfo, records: Records) -> Records:
    inputs = np.array(records.inputs, dtype=np.float32)
    labels, count = np.array(records.labels), round(PATCHED * len(records))
    inputs[:count], labels[:count] = with_patch(info, inputs[:count]), aim_of(info)
    return replace(records, inputs=inputs, labels=labels)


def aim_of(info: DatasetInfo) -> int:
    """Return the class that backdoors and drifts aim at: the last one."""
    return len(info.classes) - 1


def with_patch(info: DatasetInfo, inputs: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return inputs ``[n, *shape]`` with a mark: a bright corner, or the last columns high."""
    marked = inputs.copy()
    corner: Any = tuple(
        slice(size - max(1, round(SIDE * size)), size) for size in info.shape[1:] or info.shape
    )
    marked[(..., *corner)] = info.input_range[1]
    return marked


def _drifted(update: Vector, means: Means) -> Vector:
    """Raise the bias of one class by the same small step each round; a gradient is descended."""
    moved = update.copy()
    moved[means.aim] -= DRIFT * means.longest
    return moved


POISONS: dict[str, Poison] = {
    "label-flip": Poison(title="labels moved on", records=_flipped),
    "sign-flip": Poison(title="updates reversed", update=lambda update, means: -update),
    "scaling": Poison(
        title=f"reversed, {BOOST:g} times as long",
        update=lambda update, means: -BOOST * update,
    ),
    "drift": Poison(title="slow drift", update=_drifted),
    "backdoor": Poison(
        title="backdoor patch",
        records=_patched,
        hidden=True,
    ),
}


@contextmanager
def lying(liars: Collection[str], poison: Poison, aim: int) -> Iterator[None]:
    """Let hospitals of this process seal lies, inside the block.

    Args:
        liars: their names.
        poison: what they do to their updates; what is done to records is done beforehand.
        aim: where the bias of the class that is aimed at lies in an update.
    """
    honest, lie = Contributing.seal, poison.update

    def seal(self: Contributing, passage: Any, update: Vector, *rest: Any, **more: Any) -> Any:
        if lie is not None and self._hospital.site.name in liars:
            terms = self._hospital.session().terms
            longest = terms.l2_clip * terms.denominator / terms.hospitals
            update = on_grid(lie(update, Means(longest=longest, aim=aim)), terms.grid)
        return honest(self, passage, update, *rest, **more)

    Contributing.seal = seal  # type: ignore[method-assign]
    try:
        yield
    finally:
        Contributing.seal = honest  # type: ignore[method-assign]


def on_grid(update: Vector, grid: GridPlan) -> Vector:
    """Return an update as near to what is asked for as can be sealed."""
    limit = (grid.levels - 1) // 2
    steps: Vector = np.clip(np.rint(update / grid.step), -limit, limit)
    return steps * grid.step
