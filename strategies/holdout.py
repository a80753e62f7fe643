"""The server's one look at data: the public holdout, on which released models are measured."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from clients.evaluation import evaluate
from clients.models import build_model, prepare
from clients.terms import cohort_of, public_seed
from clients.visits import decide_together

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from clients.settings import Settings

#: Records evaluated at once.
CHUNK_RECORDS = 256


class Holdout:
    """Public records of patients that no hospital trains on, and a model to load releases into."""

    def __init__(self, settings: Settings) -> None:
        cohort = cohort_of(settings)
        self.patients = cohort.patients
        self.largest_hospital = max(cohort.patients_by_hospital.values())
        self._records = prepare(settings, cohort.info, cohort.holdout)
        self._model = build_model(settings, cohort.info, public_seed(settings))
        self._model.eval()

    def measure(self, tensors: Mapping[str, torch.Tensor]) -> dict[str, float]:
        """Return the metrics of a released model, given by tensor name."""
        return evaluate(self._logits(tensors), self._records.labels)

    def measure_together(
        self, models: Sequence[Mapping[str, torch.Tensor]], vote: str
    ) -> dict[str, float]:
        """Return the metrics of an ensemble; `vote` is how its models decide together."""
        logits = decide_together([self._logits(tensors) for tensors in models], vote)
        return evaluate(logits, self._records.labels)

    @torch.no_grad()
    def _logits(self, tensors: Mapping[str, torch.Tensor]) -> NDArray[np.float32]:
        self._model.load_state_dict(dict(tensors))
        inputs = torch.as_tensor(np.asarray(self._records.inputs))
        logits = torch.cat([self._model(chunk) for chunk in torch.split(inputs, CHUNK_RECORDS)])
        return np.asarray(logits.numpy())
