"""A budget that holds when parameters are chosen after seeing earlier results.

A second training's noise or length may depend on what the first one released. Ordinary
composition theorems fix all parameters beforehand; a *privacy filter* does not need to: at an order
fixed beforehand, spending while the sum of RDP stays within a bound is private at that order,
however the events were chosen (Feldman and Zrnic 2021, Individual privacy accounting via a
Renyi filter, Theorem 4.3; Lecuyer 2021, Practical privacy filters and odometers with Renyi
differential privacy).

Several orders are watched, each with its own share of delta: the order that is within its bound
at the end depends on what happened, so the outcomes are split by it and the shares add up.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from accounting.errors import AccountingError
from accounting.events import Event, check_delta, merge
from accounting.rdp import conversion, rdp_curve

# Most of delta goes to the order that suits the planned epsilon; its neighbours hedge.
_FACTORS = (0.67, 0.5, 0.33, 1.0)
_SHARES = (0.65, 0.15, 0.1, 0.1)
_BROAD = (1.5, 2.0, 3.0, 5.0, 9.0, 17.0, 33.0, 65.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class RenyiFilter:
    """Orders fixed beforehand, and the share of delta each may use (summing to at most delta)."""

    orders: tuple[float, ...]
    deltas: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.orders) != len(self.deltas) or not self.orders:
            raise AccountingError("a filter needs as many shares of delta as orders, at least one")
        if min(self.orders) <= 1.0:
            raise AccountingError(f"the smallest order is {min(self.orders)}, expected > 1")
        for delta in self.deltas:
            check_delta(delta)

    @classmethod
    def planned(cls, delta: float, planned_epsilon: float | None = None) -> RenyiFilter:
        """The filter for a delta and the epsilon to be kept, both fixed beforehand.

        Without an epsilon the orders are spread widely, and the result is a little larger.
        """
        check_delta(delta)
        if planned_epsilon is None:
            return cls(orders=_BROAD, deltas=(delta / len(_BROAD),) * len(_BROAD))
        if not (planned_epsilon > 0.0 and math.isfinite(planned_epsilon)):
            raise AccountingError(f"planned epsilon is {planned_epsilon}, expected > 0 and finite")
        # Gaussian noise: rho*a + log(1/delta)/(a - 1) = epsilon leaves the most rho at this order.
        log = -math.log(delta)
        best = (log + math.sqrt(log * log + planned_epsilon * log)) / planned_epsilon
        orders = tuple(_round_order(1.0 + best * factor) for factor in _FACTORS)
        return cls(orders=orders, deltas=tuple(delta * share for share in _SHARES))

    def epsilon(self, events: Sequence[Event]) -> float:
        """The bound that these events are still within.

        Guarantee: a site that goes on only while this is at most a fixed number stays (that
        number, delta)-private, for neighbours that differ by one patient at one hospital, even if
        each event's parameters were chosen after seeing all earlier releases.
        """
        total = np.zeros(len(self.orders))
        for event in merge(events):
            total = total + rdp_curve(event, self.orders)
        if not total.any():
            return 0.0
        added = [
            conversion(delta, orders=(order,))[0]
            for order, delta in zip(self.orders, self.deltas, strict=True)
        ]
        return max(0.0, float(np.min(total + np.array(added))))


def _round_order(order: float) -> float:
    """Whole orders from 11 to 1024, as Opacus' own; fractional ones below."""
    return float(min(1024, round(order))) if order >= 11.0 else max(1.05, round(order, 2))
