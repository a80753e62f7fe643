"""Shadow models: the same training over random halves of the patients, so that each is in half.

Carlini et al. (2022), "Membership inference attacks from first principles": for every patient there
are models that learnt from it and models that did not, so a model under attack is compared with
both. Each model takes its turn as the one under attack, with all others as its shadows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional

from clients.learning.patient_gradients import written
from clients.learning.per_sample import PerSample
from clients.models import build_model
from clients.models.weights import set_parameters
from simulations.attacks.trainings import Change, ChangedCohorts, Trained, train

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from clients.contract.settings import Settings
    from clients.data.records import Records
    from simulations.attacks.ground import Ground

    Matrix = NDArray[np.float64]

_CHUNK = 128


def relabelled(records: Records, patients: NDArray[np.int64], ground: Ground) -> Records:
    """Return records with the labels of some patients moved on by one class."""
    moved = np.isin(records.patients, patients).astype(np.int64)
    return replace(records, labels=(records.labels + moved) % len(ground.cohort.info.classes))


@dataclass(frozen=True, kw_only=True)
class Pool:
    """Patients of whom each is in a training or not, by the toss of a coin.

    Attributes:
        records: of all of them, as the model wants them.
        patients: their numbers, ascending, ``[p]``.
        owner: of each record, its patient's place in `patients`, ``[n]``.
        coins: whether a patient is in a training, bool ``[models, p]``.
        wrong: those whose label is moved on by one class, ascending.
    """

    records: Records
    patients: NDArray[np.int64]
    owner: NDArray[np.int64]
    coins: NDArray[np.bool_]
    wrong: NDArray[np.int64]

    @classmethod
    def tossed(
        cls, ground: Ground, records: Records, models: int, *, most: int = 0, wrong: float = 0.0
    ) -> Pool:
        """Toss a fair coin for each patient and model.

        Args:
            ground: names the seed.
            records: of the patients.
            models: how many trainings there will be.
            most: patients at the most, chosen at random; 0: all.
            wrong: share of the patients whose label is made a wrong one, so that it can only be
                learnt by heart.
        """
        generator = np.random.default_rng([ground.seed, 0x7055])
        patients = records.patient_ids
        if most and most < len(patients):
            patients = np.sort(generator.choice(patients, most, replace=False))
            records = records.of_patients(patients)
        coins = generator.integers(0, 2, (models, len(patients))).astype(bool)
        misled = np.sort(generator.permutation(patients)[: round(wrong * len(patients))])
        return cls(
            records=ground.prepared(relabelled(records, misled, ground)),
            patients=patients,
            owner=np.searchsorted(patients, records.patients),
            coins=coins,
            wrong=misled,
        )

    def change(self, ground: Ground, model: int) -> Change:
        """Return what makes each hospital's records those of one toss of the coins."""
        chosen = self.patients[self.coins[model]]
        return lambda name, records: relabelled(records.of_patients(chosen), self.wrong, ground)

    def by_patient(self, values: Matrix) -> Matrix:
        """Return each patient's mean of their records' values, ``[n] -> [p]``."""
        counts = np.bincount(self.owner, minlength=len(self.patients))
        return np.bincount(self.owner, values, minlength=len(self.patients)) / counts

    def inputs(self) -> torch.Tensor:
        """Return what a model reads of all records, float32 ``[n, *shape]``."""
        return torch.as_tensor(np.asarray(self.records.inputs, dtype=np.float32))


def train_shadows(
    settings: Settings,
    pool: Pool,
    ground: Ground,
    folder: Path,
    report: Callable[[], None],
    watching: Callable[[int], AbstractContextManager[object]] = lambda number: nullcontext(),
) -> list[Trained]:
    """Train a model for each toss of the coins, with the app itself; each has a seed of its own.

    Args:
        settings: of each training.
        pool: whose coins decide who is in which.
        ground: where data are read.
        folder: for the runs.
        report: called after each.
        watching: what surrounds each, by its number.
    """
    expected = max(1, len(pool.patients) // 2)
    hospitals = 1 if settings.regime.pooled else settings.partition.hospitals
    held = ground.cohorts.split(settings.with_config({"run.seed": ground.seed}), hospitals)
    largest = min(max(held.patients_by_hospital.values()), expected)
    trained = []
    for number in range(len(pool.coins)):
        told = settings.with_config(
            {
                "run.seed": ground.seed + number + 1,
                "data.patients": expected,
                "data.largest-hospital": largest,
                "training.release-every": settings.training.rounds,
            }
        )
        cohorts = ChangedCohorts(ground.cohorts, ground.seed, pool.change(ground, number))
        with watching(number):
            trained.append(train(told, cohorts, folder / f"shadow-{number}"))
        report()
    return trained


def module_of(
    settings: Settings, ground: Ground, model: Mapping[str, torch.Tensor]
) -> torch.nn.Module:
    """Return a released model, ready to judge."""
    module = build_model(settings, ground.cohort.info, settings.public_seed)
    set_parameters(module, model)
    return module.eval()


@torch.no_grad()
def log_odds(module: torch.nn.Module, pool: Pool) -> Matrix:
    """Return each patient's mean log-odds of the true class, float64 ``[p]``: nearly normal.

    Carlini et al. (2022), section V; a query of the model is all that it takes.
    """
    inputs, labels = pool.inputs(), torch.as_tensor(pool.records.labels)
    pieces = [module(inputs[at : at + _CHUNK]).double() for at in range(0, len(inputs), _CHUNK)]
    logits = torch.cat(pieces)
    own = functional.one_hot(labels, logits.shape[1]).bool()
    true = logits[own]
    others = torch.logsumexp(logits.masked_fill(own, -torch.inf), dim=1)
    return pool.by_patient((true - others).numpy())


def steepness(module: torch.nn.Module, pool: Pool) -> Matrix:
    """Return the log of each patient's mean squared gradient, float64 ``[p]``: small where learnt.

    Nasr, Shokri and Houmansadr (2019): what the weights show beyond the answer.
    """
    sampled, found = PerSample(module.train()), []
    inputs, labels = pool.inputs(), torch.as_tensor(pool.records.labels)
    for at in range(0, len(inputs), _CHUNK):
        rows = sampled.gradients(inputs[at : at + _CHUNK], labels[at : at + _CHUNK])
        each = [written(one).double().square().sum(dim=1) for one in rows]
        found.append(torch.stack(each).sum(dim=0))
    squares = pool.by_patient(torch.cat(found).numpy())
    return np.log(np.maximum(squares, 1e-30))
