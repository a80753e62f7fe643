"""Trainings that an attack needs: the whole app in this process, over records that it changed."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from clients.data.cohort import Cohort
from clients.data.cohorts import Cohorts
from clients.data.records import Records

if TYPE_CHECKING:
    import torch

    from clients.contract.settings import Settings

#: From a hospital's name and records to what it really trains on.
Change = Callable[[str, Records], Records]


class ChangedCohorts(Cohorts):
    """The same hospitals and the same holdout in every training, each hospital's records changed.

    Args:
        whole: where data are read and split.
        seed: that they are split by, whatever a training's own seed is.
        change: what each hospital really trains on.
    """

    def __init__(self, whole: Cohorts, seed: int, change: Change) -> None:
        super().__init__()
        self._whole, self._seed, self._change = whole, seed, change
        self._made: dict[int, Cohort] = {}

    def split(self, settings: Settings, hospitals: int) -> Cohort:
        """Return the cohort of so many hospitals, changed."""
        if hospitals not in self._made:
            cohort = self._whole.split(settings.with_config({"run.seed": self._seed}), hospitals)
            records = {name: self._change(name, held) for name, held in cohort.records.items()}
            self._made[hospitals] = replace(cohort, records=records)
        return self._made[hospitals]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """What a training released.

    Attributes:
        model: the final one's tensors, by name.
        accuracy: on the public holdout; NaN where there is none.
    """

    model: Mapping[str, torch.Tensor]
    accuracy: float


def train(settings: Settings, cohorts: Cohorts, folder: Path) -> Trained:
    """Run a training to its end in this process and return what it released.

    Args:
        settings: of the training.
        cohorts: whose records.
        folder: made for the run, and removed after it.

    Raises:
        TrainingStopped: it ended before its last round.
    """
    from safetensors.torch import load

    from simulations.engines.direct_transport import train_here

    folder.mkdir(parents=True)
    try:
        train_here(settings.with_config({"run.out": str(folder)}), cohorts)
        summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
        model = dict(load((folder / "model.safetensors").read_bytes()))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    accuracy = summary.get("accuracy")
    return Trained(model=model, accuracy=math.nan if accuracy is None else float(accuracy))
