"""What hospitals and server exchange, and which exchanges are sound with which noise and scheme.

An exchange of *sums* answers two questions: what does a hospital contribute to a round, in gradient
units, and what does an opened sum do to its replica. The table below is the only place that says
what may be combined; whatever it does not list is refused with its reason.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from clients.dp_sgd import Batch, GradientSum
    from clients.replica import Replica
    from clients.settings import Settings
    from clients.terms import Terms


class SumExchange(Protocol):
    """A hospital's part in an exchange of sums."""

    def contribute(self, replica: Replica, batch: Batch) -> GradientSum:
        """Return this hospital's contribution to the round, without noise, in gradient units.

        Formal guarantee: adding or removing one patient changes it by at most ``l2_clip``.
        """
        ...

    def apply(self, replica: Replica, opened_sum: NDArray[np.float64], digest: str) -> None:
        """Step the replica on an opened sum, float64 ``[d]``, in gradient units."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Soundness:
    """One row of the table: an exchange with a kind of noise.

    Attributes:
        schemes: sealing schemes under which the row's claim holds.
        accounting: how a patient's cost is counted.
    """

    schemes: tuple[str, ...]
    accounting: str


_SUMS = ("plain", "modular", "bfv", "ckks")
_EXACT = ("modular", "bfv")

#: (exchange, noise) -> under which schemes it is sound, and how it is accounted.
SOUND: Mapping[tuple[str, str], Soundness] = {
    ("gradients", "none"): Soundness(schemes=_SUMS, accounting="no guarantee is claimed"),
    ("gradients", "central"): Soundness(
        schemes=("plain", *_EXACT), accounting="a subsampled Gaussian event a round"
    ),
    ("gradients", "local"): Soundness(
        schemes=("plain", *_EXACT), accounting="a subsampled Gaussian event a round, each alone"
    ),
    ("gradients", "semi-central"): Soundness(
        schemes=_EXACT, accounting="a subsampled Gaussian event a round, on the sum"
    ),
}

EXCHANGES = tuple(sorted({exchange for exchange, _ in SOUND}))


def check_sound(settings: Settings) -> list[str]:
    """Return what makes the settings' combination unsound; empty when it is sound."""
    exchange, noise = settings.exchange.name, settings.regime.noise
    row = SOUND.get((exchange, noise))
    if row is None:
        if exchange not in EXCHANGES:
            return [
                f"exchange.name = {exchange!r} is not available; available: {', '.join(EXCHANGES)}."
            ]
        return [
            f"exchange.name = {exchange!r} is not sound with {noise} noise (privacy.regime "
            f"{settings.privacy.regime})."
        ]
    if settings.sealing.scheme not in row.schemes:
        return [
            f"exchange.name = {exchange!r} with {noise} noise is not sound with sealing.scheme "
            f"{settings.sealing.scheme!r}; sound: {', '.join(row.schemes)}."
        ]
    return []


def make_exchange(settings: Settings, terms: Terms) -> SumExchange:
    """Return the hospital's part of the exchange that the settings name."""
    from clients.gradients import Gradients

    return Gradients(terms)
