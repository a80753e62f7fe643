"""The ways from a private value to what may leave a hospital: with noise, or openly without.

    noised(total, grid, stream, receipt.use(round=3, turn=1))
    exact(total, receipt.use(round=3, turn=1))        # only if an ExactEvent was paid
    public(figures, receipt.use(round=0, turn=1))     # only if the records are declared public

Each costs one use of a receipt, which a book gives for an event on disk. What comes out still
refuses to be written down in passing: it leaves through its `vector`, which the sealing reads.
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from accounting.errors import AccountingError
from accounting.events import ExactEvent, PublicEvent
from accounting.grid import GridPlan
from accounting.noising import noised_unpaid
from accounting.parts import Seeds
from accounting.private import Made, Maker, Private, Unreleased
from accounting.randomness import Stream
from accounting.receipts import Use, taken_out

T = TypeVar("T")
Vector = NDArray[np.float64]


class Noised(Unreleased, Made):
    """A value with its noise, on the grid.

    Attributes:
        vector: float64 [d], gradient units, every value a whole number of steps within the bound.
        stddev: standard deviation of the noise, gradient units.
        seeds: of those parts of it that may be taken out of a sum.
        use: what paid for it.
    """

    __slots__ = ("seeds", "stddev", "use", "vector")
    vector: Vector
    stddev: float
    seeds: Seeds
    use: Use


class Exact(Unreleased, Made):
    """A value that leaves as it is, paid for by an event that no finite epsilon covers.

    Attributes:
        vector: as it was, or clamped and rounded to the grid that it is to be sealed on.
        stddev: 0.
        use: what paid for it.
    """

    __slots__ = ("stddev", "use", "vector")
    vector: Vector
    stddev: float
    use: Use


_NOISED = Maker(Noised)
_EXACT = Maker(Exact)


def noised(value: Private[Vector], plan: GridPlan, stream: Stream, use: Use) -> Noised:
    """Clamp, add noise, round once: the only way to what a private regime seals or shows.

    Guarantee: that of the plan the grid was made for, with the grid's slack, at the cost of one of
    the messages that the use's event pays for.

    Args:
        value: the hospital's sum of clipped contributions, float64 [d], gradient units.
        plan: the grid; its `noise_stddev` is added.
        stream: where noise comes from; no other value may have had noise of it.
        use: of a receipt; gone after this, whatever happens.

    Raises:
        AccountingError: the plan adds no noise, the use is of an exact event, or a value is not
            finite.
        TypeError: the use was not given by a receipt, or it is gone.
    """
    if plan.noise_stddev <= 0.0 or isinstance(use.event, ExactEvent):
        raise AccountingError(
            f"noise of {plan.noise_stddev:g} for {use.event}: an exact value has to be paid as one"
        )
    seeds = Seeds.drawn(stream, plan.parts)
    vector = noised_unpaid(taken_out(value, use), plan, stream, seeds)
    return _NOISED.make(vector=vector, stddev=plan.noise_stddev, seeds=seeds, use=use)


def exact(value: Private[Vector], use: Use, plan: GridPlan | None = None) -> Exact:
    """Let a value leave without noise, where that was paid for.

    Args:
        value: any vector.
        use: of a receipt for an `ExactEvent`; gone after this, whatever happens.
        plan: the grid on which it is to be sealed, without noise; None: it stays as it is.

    Raises:
        AccountingError: the use is of another event, the plan adds noise, or a value that is to be
            put on a grid is not finite.
        TypeError: the use was not given by a receipt, or it is gone.
    """
    if not isinstance(use.event, ExactEvent) or (plan is not None and plan.noise_stddev > 0.0):
        raise AccountingError(f"{use.event} does not pay for an exact value")
    vector = taken_out(value, use)
    if plan is not None:
        vector = noised_unpaid(vector, plan, None)
    return _EXACT.make(vector=vector, stddev=0.0, use=use)


def public(value: Private[T], use: Use) -> T:
    """Let a value leave that follows from records which are declared public.

    Args:
        value: any.
        use: of a receipt for a `PublicEvent`; gone after this, whatever happens.

    Raises:
        AccountingError: the use is of another event.
        TypeError: the use was not given by a receipt, or it is gone.
    """
    if not isinstance(use.event, PublicEvent):
        raise AccountingError(f"{use.event} does not make a value public")
    return taken_out(value, use)


def is_released(value: object) -> bool:
    """Whether a value was made by `noised` or `exact`, and so paid for."""
    return _NOISED.knows(value) or _EXACT.knows(value)
