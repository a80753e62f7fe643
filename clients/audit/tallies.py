"""What is counted of an audit's noise while its rounds go by, and the gates that follow from it.

Only coordinates of canaries who do not take part are looked at: nothing is there but noise.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from accounting.audit_gates import (
    Gate,
    NoiseTally,
    RepeatTally,
    spread_gate,
)
from accounting.audit_repeats import repeat_gate, stretch_gate
from accounting.audit_tails import lag_chance, pairs_chance
from accounting.audit_values import values_gate

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Vector = NDArray[np.float64]


def inner(first: Vector, second: Vector) -> float:
    """The inner product of float64 [n] and [n], in this thread alone: BLAS would start others."""
    return float(np.einsum("i,i", first, second))


class NoiseTallies:
    """Noise of all hospitals over all rounds.

    Args:
        drawn: of one draw's noise, before it was rounded, in gradient units.
        kept: the same of what stays of it in an opened sum.
        step: of the grid, in gradient units.
        steps: draws that add up to one update.
    """

    def __init__(self, *, drawn: float, kept: float, step: float, steps: int) -> None:
        self._stddev = _of_updates(kept, step, steps)
        self._shape = NoiseTally(stddev=drawn, step=step, subject="hospitals' own updates")
        self._shaped = steps == 1
        self._repeats = RepeatTally(step=step, stddev=_of_updates(drawn, step, steps))
        self._drawn = _of_updates(drawn, step, 1)
        self._long: list[Gate] = []
        self._before: list[Vector] = []
        self._before_total: Vector | None = None
        self._whole: Vector | None = None
        self._count = 0
        self._hospitals = 0
        self._rounds = 0
        self._lagged = self._lagged_totals = self._crossed = 0.0

    def add(
        self, round: int, sent: Sequence[Vector], updates: Sequence[Vector], total: Vector
    ) -> None:
        """Take one round.

        Args:
            round: its number.
            sent: each hospital's update, as it was sealed, float64 [n].
            updates: the same without noise that was taken out of the sum.
            total: their sum, as it was opened.
        """
        self._hospitals = len(updates)
        self._count = len(total)
        self._rounds += 1
        for number, update in enumerate(sent):
            self._repeats.add(update, f"hospital {number + 1}, round {round}")
        if self._before_total is not None:
            pairs = zip(updates, self._before, strict=True)
            self._lagged += sum(inner(now, before) for now, before in pairs)
            self._lagged_totals += inner(total, self._before_total)
        self._crossed += inner(total, total) - sum(inner(one, one) for one in updates)
        if self._shaped:
            # The first hospital has the canaries; of the others, one in turn.
            for number in {0, round % len(updates)}:
                self._shape.add(sent[number])
        self._whole = total.copy() if self._whole is None else self._whole + total
        self._before, self._before_total = list(updates), total

    def add_other_training(self, hospital: int, round: int, update: Vector) -> None:
        """Take the noise of a round of another training, which must not come again."""
        self._repeats.add(update, f"hospital {hospital + 1}, round {round} of another training")

    def add_long(self, values: Vector, update: Vector) -> None:
        """Take values in a vector that may be as long as a model's, and what left of them."""
        noise, whose = (update - values) / self._drawn, "a long vector"
        self._long = [
            repeat_gate(noise, name="noise that repeats within a vector", subject=f"{whose}, "),
            stretch_gate(noise, name="noise of each stretch of a vector", subject=whose),
            values_gate(values, noise, name="values before their noise", subject=whose),
        ]

    def gates(self) -> list[Gate]:
        """All that follow."""
        if not self._rounds or not self._count:
            return []
        gates = [*self._shape.gates(), self._repeats.gate(), *self._long]
        variance, hospitals = self._stddev**2, self._hospitals
        lags = self._count * (self._rounds - 1)
        if lags:
            lagged = self._lagged / variance
            gates.append(_lag_gate("each hospital's own", lagged, lags * hospitals))
            if hospitals > 1:
                together = self._lagged_totals / (variance * hospitals)
                gates.append(_lag_gate("sums", together, lags))
            assert self._whole is not None
            gates.append(
                spread_gate(
                    "noise of all rounds together: standard deviation",
                    "sums",
                    squares=inner(self._whole, self._whole),
                    count=self._count,
                    stddev=self._stddev * math.sqrt(hospitals * self._rounds),
                )
            )
        if hospitals > 1:
            count = self._count * self._rounds
            crossed = self._crossed / (2.0 * variance)
            gates.append(
                Gate(
                    name="noise of two hospitals: correlation",
                    subject="all pairs",
                    found=crossed / (count * hospitals * (hospitals - 1) / 2.0),
                    expected=0.0,
                    chance=pairs_chance(crossed, parties=hospitals, count=count),
                )
            )
        return gates


def _of_updates(drawn: float, step: float, steps: int) -> float:
    """Standard deviation of an update's noise, rounding to the grid included."""
    return math.sqrt(steps * (drawn**2 + step**2 / 12.0))


def _lag_gate(subject: str, found: float, count: int) -> Gate:
    """Of a sum of so many products of standardised values, each with the one a round later."""
    return Gate(
        name="noise of one round and the next: correlation",
        subject=subject,
        found=found / count,
        expected=0.0,
        chance=float(lag_chance(found, count)),
    )
