"""One round of a training by sums, made by the hospitals' own functions at a model that is known.

What an observer has of it is a vector: a single hospital's update, or the sum of all.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from accounting.noising import noised_unpaid
from accounting.parts import Seeds
from accounting.randomness import Stream
from clients.contract.phases import Phases
from clients.learning.batch import Batch
from clients.learning.dp_sgd import clipped_gradient_sum
from clients.learning.draws import Draws
from clients.models.weights import set_parameters
from clients.site.session import make_session

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from clients.contract.settings import Settings
    from clients.contract.terms import Terms
    from clients.data.cohort import Cohort
    from clients.data.records import Records
    from clients.learning.dp_sgd import GradientSum

    Vector = NDArray[np.float64]


class OneRound:
    """A round at a model.

    Args:
        settings: of the training; an exchange of sums.
        cohort: as the training has it.
        noise_multiplier: sigma; 0 without noise.
        model: to start from; None for the initial one.
        seed: of the noise.

    Attributes:
        terms: of the training.
        summed: hospitals of one sum: all of them, or a group.
        module: the model that gradients are taken at, for whoever attacks.
    """

    def __init__(
        self,
        settings: Settings,
        cohort: Cohort,
        noise_multiplier: float,
        *,
        model: Mapping[str, torch.Tensor] | None,
        seed: int,
    ) -> None:
        session = make_session(settings, cohort, "attack", noise_multiplier)
        if model is not None:
            set_parameters(session.replica.module, model)
        self.terms: Terms = session.terms
        groups = self.terms.groups
        self.summed = groups.size if groups else self.terms.hospitals
        # Before hooks of per-patient gradients are put on the hospitals' own.
        self.module = copy.deepcopy(session.replica.module)
        self._exchange, self._replica = session.exchange, session.replica
        self._size = len(session.replica.vector())
        self._seed, self._drawn = seed, 0

    def exact(self, batch: Records) -> Vector:
        """Return a batch's clipped gradient sum, float64 ``[d]``, as whoever has it can compute."""
        made = clipped_gradient_sum(
            self._replica.per_sample, _batch(batch), l2_clip=self.terms.l2_clip
        )
        return made.total[: self._size]

    def update(self, batch: Records | None) -> Vector:
        """Return one hospital's update, float64 ``[d]``, with that hospital's noise, on the grid.

        Args:
            batch: records of whoever was sampled, as the model wants them; None: nobody was.
        """
        self._drawn += 1
        number = self._drawn

        def noised(gradient: GradientSum, step: int) -> Vector:
            grid = self.terms.grid
            stream = Stream.from_seed(self._seed, "attack", number, step)
            seeds = Seeds.drawn(stream, grid.parts)
            return noised_unpaid(gradient.total, grid, stream, seeds)

        # Local steps are as long as those of a hospital with its share of the patients.
        patients = self.terms.patients / self.terms.hospitals
        draws = Draws(
            batch=lambda step: _batch(batch), noised=noised, patients=patients, phases=Phases()
        )
        return self._exchange.contribute(self._replica, draws)[: self._size]

    def sum_of(self, batches: Sequence[Records | None]) -> Vector:
        """Return the sum of all, or of a group; hospitals that are not named sampled nobody."""
        given = [*batches, *[None] * (self.summed - len(batches))]
        total: Vector = np.sum([self.update(batch) for batch in given], axis=0)
        return total


def _batch(records: Records | None) -> Batch:
    if records is None:
        nobody = torch.zeros(0, dtype=torch.long)
        return Batch(inputs=torch.zeros((0, 1)), labels=nobody, patients=nobody)
    return Batch(
        inputs=torch.as_tensor(np.asarray(records.inputs, dtype=np.float32)),
        labels=torch.as_tensor(records.labels),
        patients=torch.as_tensor(records.patients),
    )
