"""What is to be seen of a training while it runs: each hospital's update, each opened sum."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from clients.learning.batch import Batch
from clients.learning.dp_sgd import clipped_gradient_sums
from clients.learning.gradients import Gradients
from clients.site.contributing import Contributing

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from clients.contract.terms import Terms
    from clients.data.records import Records
    from clients.learning.replica import Replica

    Vector = NDArray[np.float64]
    Matrix = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """A round, just before hospitals step on its sum.

    Attributes:
        terms: of the training.
        replica: as it was when gradients were taken.
        updates: by hospital, float64 ``[d]``, as they were sealed.
        total: the opened sum, float64 ``[d]``.
    """

    terms: Terms
    replica: Replica
    updates: Mapping[str, Vector]
    total: Vector

    def gradients(self, patients: Sequence[Batch]) -> Matrix:
        """Return what each patient adds to the sum if sampled, ``[p, d]``.

        Computed by the hospitals' own function at the hospitals' own replica.

        Args:
            patients: records of each.
        """
        l2_clip = self.terms.l2_clip
        sums = clipped_gradient_sums(self.replica.per_sample, patients, l2_clip=l2_clip)
        return np.stack([one.total for one in sums])


def by_patient(records: Records) -> list[Batch]:
    """Return the records of each patient, by their numbers, as the model wants them."""
    return [
        Batch(
            inputs=torch.as_tensor(np.asarray(one.inputs, dtype=np.float32)),
            labels=torch.as_tensor(one.labels),
            patients=torch.as_tensor(one.patients),
        )
        for one in (records.of_patients(np.array([number])) for number in records.patient_ids)
    ]


@contextmanager
def watched(tell: Callable[[Round], None]) -> Iterator[None]:
    """Be told of each round of a training by shared gradients in this process, inside the block.

    Args:
        tell: called before each step; it must leave the replica as it is.
    """
    seal, apply = Contributing.seal, Gradients.apply
    updates: dict[str, Vector] = {}

    def sealing(self: Contributing, passage: Any, update: Vector, *rest: Any, **more: Any) -> Any:
        updates[self._hospital.site.name] = update.copy()
        return seal(self, passage, update, *rest, **more)

    def applying(self: Gradients, replica: Replica, opened_sum: Vector, chain: str) -> None:
        tell(Round(terms=self._terms, replica=replica, updates=dict(updates), total=opened_sum))
        updates.clear()
        apply(self, replica, opened_sum, chain)

    Contributing.seal = sealing  # type: ignore[method-assign]
    Gradients.apply = applying  # type: ignore[method-assign]
    try:
        yield
    finally:
        Contributing.seal = seal  # type: ignore[method-assign]
        Gradients.apply = apply  # type: ignore[method-assign]
