"""What each observer saw of the canaries, added up over the rounds: scores, and sums of values."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from accounting.audit_gates import Gate, moved_gate, spread_gate
from accounting.audit_scores import log_likelihood_ratio
from clients.audit.tallies import inner

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from accounting.audit_sights import Sight
    from clients.audit.canaries import Group

    Vector = NDArray[np.float64]


class Seen:
    """One sight of one group of canaries.

    Args:
        sight: what is seen.
        group: whose.
        name: of the observers, for people.
        l2_clip: C, by which values are measured.
        rounding: variance that rounding to the grid adds to one draw, in units of C squared.
    """

    def __init__(
        self, sight: Sight, group: Group, *, name: str, l2_clip: float, rounding: float
    ) -> None:
        self.sight = sight
        self.group = group
        self._name = name
        self._clip = l2_clip
        #: In what is seen, in units of C.
        self.noise = math.sqrt(sight.event.noise_multiplier**2 + sight.draws * rounding)
        self.scores = np.zeros(len(group.coins))
        self._sums = np.zeros(len(group.coins))
        self._squares = 0.0
        self._count = 0

    def add(self, total: Vector, updates: Sequence[Vector], singles: Sequence[Vector]) -> None:
        """Take what there is to see of a round, each float64 [d] in gradient units.

        Args:
            total: the opened sum.
            updates: each hospital's own, which it knows.
            singles: the updates of the patients' own hospitals, as whoever sees them opens them.
        """
        sight, place = self.sight, self.group.place
        if not sight.single:
            known = updates[len(updates) - sight.knows :] if sight.knows else ()
            self._take(total[place] - sum(one[place] for one in known))
        elif sight.apart:
            for one in singles[: sight.hospitals]:
                self._take(one[place])
        else:
            self._take(singles[0][place])

    def _take(self, values: Vector) -> None:
        values = values / self._clip
        self.scores += log_likelihood_ratio(values, self.sight.event)
        self._sums += values
        away = values[~self.group.coins]
        self._squares += inner(away, away)
        self._count += 1

    def gates(self) -> list[Gate]:
        """How loud the noise is, and by how much canaries who take part move what is seen."""
        coins, event = self.group.coins, self.sight.event
        here, away = int(coins.sum()), int((~coins).sum())
        if not self._count or min(here, away) < 2:
            return []
        moved = float(self._sums[coins].mean() - self._sums[~coins].mean()) / self._count
        return [
            spread_gate(
                "noise in what is seen: standard deviation, in units of the clip",
                self._name,
                squares=self._squares,
                count=away * self._count,
                stddev=self.noise,
            ),
            moved_gate(
                "what one patient moves on average, in units of the clip",
                self._name,
                found=moved,
                sides=(here, away),
                looks=self._count,
                event=replace(event, noise_multiplier=self.noise),
            ),
        ]
