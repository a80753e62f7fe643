"""What an account adds up: spendings gathered by training and observer, and plans made beforehand.

Nothing but the standard library is imported here, so that a ledger opens in milliseconds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import NamedTuple

from accounting.errors import AccountingError
from accounting.events import Event, check_rounds

_Views = tuple[tuple[str, float | None], ...]


class Slack(NamedTuple):
    """What the grid of one training charges beside its noise, over the whole of it.

    Attributes:
        epsilon: added to the epsilon of whatever the training is part of.
        delta: taken from the delta.
    """

    epsilon: float
    delta: float


class Spending(NamedTuple):
    """Events of one training that differ in their number only.

    Attributes:
        training: the training's id.
        purpose: the line's word for what was released.
        event: the mechanism, with the count of all lines.
        views: noise multiplier that each observer has to face, where lines say so.
        charged: whether it was charged for what was lost, rather than spent.
        slack: what the training's grid charges, where lines say so.
    """

    training: str
    purpose: str
    event: Event
    views: _Views = ()
    charged: bool = False
    slack: Slack | None = None

    def counted(self, count: int) -> Spending:
        """The same with another count."""
        return self._replace(event=replace(self.event, count=count))


@dataclass(frozen=True, slots=True, kw_only=True)
class DeclaredPlan:
    """All that a training may ever cost, fixed before it released anything.

    Attributes:
        event: what one place costs, at most.
        places: all places there may be, spare attempts included.
    """

    event: Event
    places: int

    def __post_init__(self) -> None:
        check_rounds(self.places)

    @property
    def whole(self) -> Event:
        """The event of all places together."""
        return replace(self.event, count=self.event.count * self.places)


def views_tuple(views: Mapping[str, float | None]) -> _Views:
    """The views of a line, comparable."""
    return tuple(views.items())


def check_views(views: Mapping[str, float | None]) -> None:
    """Raise unless every observer faces a noise multiplier above 0, or none."""
    _check_views(views_tuple(views))


@lru_cache(maxsize=64, typed=True)  # a training's lines have the same ones
def _check_views(views: _Views) -> None:
    for name, left in views:
        number = isinstance(left, int | float) and math.isfinite(left) and left > 0.0
        if left is not None and not number:
            raise AccountingError(f"views have {left!r} for {name}, expected a number > 0 or null")


def check_slack(slack: Slack) -> None:
    """Raise unless both numbers are finite and not negative."""
    if not all(math.isfinite(value) and value >= 0.0 for value in slack):
        raise AccountingError(f"the grid's slack is {tuple(slack)}, expected numbers >= 0")
