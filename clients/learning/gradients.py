"""Shared gradients: a hospital contributes its clipped gradient sum, the optimizer takes the total.

One gradient per round, taken at the same weights everywhere: what a pooled data set would have
given, had it been clipped and sampled the same way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from clients.learning.joint import sum_with_others

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from clients.contract.terms import Terms
    from clients.learning.draws import Draws
    from clients.learning.replica import Replica


class Gradients:
    """Contribute clipped gradients; step on their mean over the public denominator q*N."""

    def __init__(self, terms: Terms) -> None:
        self._terms = terms

    def contribute(self, replica: Replica, draws: Draws) -> NDArray[np.float64]:
        """Return the noised sum of one batch's clipped per-patient gradients."""
        batch = draws.batch(0)
        gradient = sum_with_others(
            replica.per_sample, batch, l2_clip=self._terms.l2_clip, phases=draws.phases
        )
        return draws.noised(gradient, 0)

    def apply(self, replica: Replica, opened_sum: NDArray[np.float64], chain: str) -> None:
        """Step on ``opened_sum / (q*N)``."""
        replica.step(opened_sum / self._terms.denominator, chain)
