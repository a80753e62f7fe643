"""An app's own training loop behind sealed sums: what it made of the model, weighted by examples.

FedAvg's weighted mean without anybody's update or number of examples being shown: hospitals seal
n_k*(w_k - w) and n_k, and divide the opened sums by each other. Nothing bounds what a patient
changes of it, so no epsilon is claimed, and no noise is added that would look like one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from clients.learning.dp_sgd import GradientSum

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from clients.contract.own_task import Loop
    from clients.contract.terms import Terms
    from clients.learning.draws import Draws
    from clients.learning.replica import Replica


class UpdateTooLarge(ValueError):
    """What an app's loop made of the model does not fit the range that sums are sealed in."""


class OwnLoop:
    """Contribute what the app's loop changed; step on the weighted mean of all changes."""

    def __init__(self, terms: Terms, loop: Loop) -> None:
        self._terms = terms
        self._loop = loop

    def contribute(self, replica: Replica, draws: Draws) -> NDArray[np.float64]:
        """Return the hospital's weighted change and its number of examples, float64 ``[d + 1]``.

        Raises:
            UpdateTooLarge: a value is beyond what was planned for.
            ValueError: the loop returned other tensors than it was given, or no number of examples.
        """
        before = {name: tensor.clone() for name, tensor in replica.arrays().items()}
        with draws.phases.measure("gradient"):
            after, examples = self._loop(replica.round + 1, before)
        if not 0 <= examples < float("inf"):
            raise ValueError(f"the app's loop says it learnt from {examples} examples")
        change = _vector(after, before) - replica.vector()
        total = np.append(examples * change, examples * self._terms.l2_clip)
        most, found = self._terms.grid.clamp, float(np.abs(total).max(initial=0.0))
        if not found <= most:
            raise UpdateTooLarge(
                f"the app's loop changed a weight by {np.abs(change).max():g} over {examples:g} "
                f"examples; sums are sealed for changes up to {self._terms.l2_clip:g} over "
                f"{most / self._terms.l2_clip:g} examples: declare a larger largest_change, or "
                "more patients"
            )
        return draws.noised(GradientSum(total=total, patients=0, discarded=0), 0)

    def apply(self, replica: Replica, opened_sum: NDArray[np.float64], chain: str) -> None:
        """Step on the mean change; where nobody had an example the model stays as it is."""
        examples = round(float(opened_sum[-1]) / self._terms.l2_clip)
        mean = opened_sum[:-1] / examples if examples else np.zeros(len(opened_sum) - 1)
        replica.step(-mean, chain)


def _vector(
    after: Mapping[str, torch.Tensor], before: Mapping[str, torch.Tensor]
) -> NDArray[np.float64]:
    """Return all tensors as one vector, in the order of those before."""
    if {n: t.shape for n, t in after.items()} != {n: t.shape for n, t in before.items()}:
        wrong = sorted(set(after) ^ set(before)) or [
            name for name in before if after[name].shape != before[name].shape
        ]
        raise ValueError(f"the app's loop returned other tensors than it was given: {wrong[:4]}")
    return np.concatenate([after[name].detach().double().reshape(-1).numpy() for name in before])
