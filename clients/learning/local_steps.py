"""Shared weights: local steps first, then the *update* travels, in gradient units.

McMahan et al. (2017), Algorithm 1 (FedAvg). From the shared weights w0 a hospital takes L steps

    w <- w - rate * (g / (q*N_k) + proximal * (w - w0))

each on a fresh Poisson batch; the pull to w0 is FedProx's (Li et al. 2020, equation 2). What it
contributes is q*N_k*(w0 - w)/rate: with one step the clipped gradient sum itself, with more their
sum. The opened total over q*N is the mean update weighted by N_k, so plain SGD without momentum
moves the replica to FedAvg's mean of weights, and any other optimizer is the server's side of
FedOpt (Reddi et al. 2021). Under semi-central noise there is exactly one step: Malekzadeh et al.
(2021), Algorithm 1, with the public constant q*N in place of its private denominator.

Formal guarantee: each step clips by C and takes the hospital's full noise sigma*C *before* it moves
the local weights, so each is a subsampled Gaussian event, and whatever is computed from the noised
sums (later batches' weights, the pull, the update) is post-processing. No weights leave a hospital.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from clients.learning.dp_sgd import GradientSum, clipped_gradient_sum
from clients.learning.joint import sum_with_others

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from clients.contract.settings import Settings
    from clients.contract.terms import Terms
    from clients.learning.batch import Batch
    from clients.learning.draws import Draws
    from clients.learning.replica import Replica


class LocalSteps:
    """Contribute the update of some local steps; step on its mean over q*N."""

    def __init__(self, settings: Settings, terms: Terms) -> None:
        self._terms = terms
        self._steps = settings.exchange.local_steps
        self._rate = settings.training.learning_rate
        self._proximal = settings.exchange.proximal

    def contribute(self, replica: Replica, draws: Draws) -> NDArray[np.float64]:
        """Return the noised update, in gradient units; the replica is left as it was."""
        denominator = self._terms.sampling_rate * max(draws.patients, 1.0)
        start = replica.vector()
        # Counts of classes follow the gradient in a sum; local weights have none.
        weights, update = start.copy(), np.zeros(replica.dimensions)
        try:
            for step in range(self._steps):
                batch = draws.batch(step)
                gradient = self._gradient(replica, batch, draws)
                moved = draws.noised(gradient, step)
                if self._proximal:
                    moved = moved.copy()
                    moved[: len(start)] += denominator * self._proximal * (weights - start)
                update += moved
                weights -= self._rate / denominator * moved[: len(start)]
                if step + 1 < self._steps:
                    replica.load_vector(weights)
        finally:
            replica.load_vector(start)
        return update

    def _gradient(self, replica: Replica, batch: Batch, draws: Draws) -> GradientSum:
        """Return a clipped sum; only where one step is all are other hospitals at these weights."""
        l2_clip = self._terms.l2_clip
        if self._steps == 1:
            return sum_with_others(replica.per_sample, batch, l2_clip=l2_clip, phases=draws.phases)
        with draws.phases.measure("gradient"):
            return clipped_gradient_sum(replica.per_sample, batch, l2_clip=l2_clip)

    def apply(self, replica: Replica, opened_sum: NDArray[np.float64], chain: str) -> None:
        """Step on ``opened_sum / (q*N)``, the mean update."""
        replica.step(opened_sum / self._terms.denominator, chain)
