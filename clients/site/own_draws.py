"""A hospital's own records and chances: who is sampled at a place, and with what noise.

A value leaves these hands with its noise and the use that paid for it, or, in a regime without
noise, as the exact value that an exact event paid for.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from accounting.private import Private
from clients.contract.faults import Code, Fault
from clients.contract.terms import hospitals_expected
from clients.data.identities import identities
from clients.data.noisy_inputs import training_records
from clients.data.records import LazyInputs, LazyTargets
from clients.learning.augmentation import augmented
from clients.learning.batch import Batch
from clients.learning.draws import Draws
from clients.learning.late_rows import LateRows
from clients.models import forget_others, prepare, prepare_public, user_cache
from clients.site.chances import Chances
from clients.tasks.catalogue import MEASURES, task_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from accounting.grid import GridPlan
    from accounting.lines import Place
    from accounting.parts import Seeds
    from accounting.randomness import Stream
    from accounting.receipts import Receipt, Use
    from clients.contract.phases import Phases
    from clients.contract.settings import Settings
    from clients.data import Cohort, Records
    from clients.learning.dp_sgd import GradientSum
    from clients.site.ground import Site
    from clients.site.shared_state import SharedState


#: How many times fewer patients than an even part of all are told of.
_FAR = 10


@dataclass(frozen=True, slots=True)
class Taken:
    """What the noised sums of a place took, in order.

    Attributes:
        uses: of the receipt.
        seeds: of the noise that may be taken out of a sum of all.
    """

    uses: list[Use] = field(default_factory=list)
    seeds: list[Seeds] = field(default_factory=list)


#: Measures of a model on test records, before they may leave.
Measures = Private[Mapping[str, float]]


class OwnDraws:
    """What chance and records decide at one hospital in one training.

    Attributes:
        chances: the hospital's own randomness.
    """

    def __init__(
        self, site: Site, settings: Settings, training: str, cohort: Cohort, state: SharedState
    ) -> None:
        self._site = site
        self._settings = settings
        self._training = training
        self._cohort = cohort
        self._state = state
        self.chances = Chances(site.name, settings)

    def of(
        self,
        receipt: Receipt,
        grid: GridPlan,
        phases: Phases,
        drawn: Callable[[], Stream] | None = None,
    ) -> tuple[Draws, Taken]:
        """Return the draws of a paid place, and where what they take is gathered.

        Args:
            receipt: of the place; each noised sum takes one of its uses.
            grid: on which sums are noised.
            phases: where the seconds are counted.
            drawn: returns where the noise of the first step was drawn ahead; None: it was not.
        """
        place, taken = receipt.place, Taken()

        def batch(step: int) -> Batch:
            with phases.measure("sample"):
                return self._sample(place, step)

        def release(gradient: GradientSum, step: int) -> NDArray[np.float64]:
            if gradient.discarded:
                self._site.log(
                    f"round {place.round}: {gradient.discarded} of {gradient.patients} patients "
                    "had no gradient, or none that is finite; each counts as zero"
                )
                for reason in gradient.reasons:
                    self._site.log(reason)
            with phases.measure("noise"):
                ahead = drawn() if drawn is not None and step == 0 else None
                made = self.chances.noised_sum(gradient.total, grid, place, receipt, step, ahead)
                taken.uses.append(made.use)
                taken.seeds.append(made.seeds)
                return made.vector

        draws = Draws(batch=batch, noised=release, patients=self.patients(), phases=phases)
        return draws, taken

    def patients(self) -> float:
        """Return N_k: as the hospital declares it, else N/K as the run does, else the cohort's."""
        if self._site.patients:
            return float(self._site.patients)
        if self._settings.data.patients:
            return self._settings.data.patients / hospitals_expected(self._settings)
        return float(self._cohort.patients_by_hospital[self._site.name])

    def most_patients(self) -> float:
        """Return a public bound on this hospital's patients: declared, or the cohort's own N_k."""
        return float(self._settings.data.largest_hospital or self.patients())

    def records(self) -> Records:
        """Return what this hospital trains on, as the model wants it."""
        records = self._cohort.hospital(self._site.name)
        prepared = training_records(
            self._settings,
            self._cohort.info,
            records,
            prepare=partial(prepare, self._settings, self._cohort.info, keep=self._keep),
            folder=self._site.folder,
            kept=self._state.noisy_records,
            streams=lambda noise: self._site.input_noise(
                noise, self._cohort.info, self._settings, self._training
            ),
        )
        self._forget_others(prepared)
        return prepared

    def compare_counts(self) -> None:
        """Say in the hospital's own log where its patients are not as many as the run is told."""
        data = self._settings.data
        if not data.patients:
            return
        own = self._cohort.patients_by_hospital[self._site.name]
        part = data.patients / hospitals_expected(self._settings)
        text = f"{own} patients are here; the run is told of {data.patients} at all hospitals, "
        text += f"{data.largest_hospital} at the largest: "
        if own > (data.largest_hospital or data.patients):
            text += "a sum may be cut, since its range was planned for so many"
        elif own * _FAR < part:
            text += "each step is divided by what so many would say, and hardly moves the model"
        else:
            return
        with suppress(OSError):  # whether a disk is full must not hang on how many they are
            self._site.log(text)

    def look_ahead(self) -> None:
        """Compute the features that the model learns from, where they are kept, and no value more.

        Ten thousand pictures take minutes. Whoever does it before the first place is paid for loses
        no paid round when that takes longer than the server waits.
        """
        if self._settings.privacy.input_laplace:
            return  # what is noised is the pictures: they are paid for first
        records = self._cohort.hospital(self._site.name)
        if isinstance(records.inputs, LazyInputs):
            # Nothing was paid, so who begins one training after the other must not fill a disk.
            info = self._cohort.info
            self._forget_others(prepare(self._settings, info, records, keep=self._keep))

    def _forget_others(self, prepared: Records) -> None:
        """Remove what a hospital's own folder holds of other pictures, or of these in many ways."""
        if not self._is_public():
            forget_others(self._site.folder, prepared)

    def identities(self) -> Mapping[int, bytes]:
        """Return who each patient is, by number: the same however often records are read.

        A published data set does not change, so its numbers will do.
        """
        records = self._cohort.hospital(self._site.name)
        if self._site.simulated or self._site.partition is not None:
            return {number: str(number).encode() for number in records.patient_ids.tolist()}
        return identities(records, self._cohort.patient_names)

    def require_public(self) -> None:
        """Insist that the hospital itself declares its data public.

        Raises:
            Fault: it does not, so a figure of theirs would be a release.
        """
        if not self._settings.data.public:
            raise Fault(Code.NOT_PUBLIC)

    def figures(self, logits_of: Callable[[torch.Tensor], NDArray[np.floating]]) -> Measures:
        """Return measures of a model on the hospital's own test records; none where it has none.

        Args:
            logits_of: inputs ``[n, *shape]`` -> the model's outputs ``[n, outputs, ...]``.
        """
        records = self._cohort.hospital_test(self._site.name)
        if records is None or not len(records):
            return Private({})
        records = prepare_public(self._settings, self._cohort.info, records, keep=self._keep)
        logits = logits_of(torch.as_tensor(np.asarray(records.inputs)))
        measures = task_of(self._cohort.info.question).measures(logits, np.asarray(records.labels))
        known = {name: value for name, value in measures.items() if name in MEASURES}
        return Private({name: value for name, value in known.items() if math.isfinite(value)})

    def _keep(self) -> Path | None:
        """Return where features of the records lie: a real hospital's own stay in its folder."""
        return user_cache() if self._is_public() else self._site.folder

    def _is_public(self) -> bool:
        """Whether the records are of a published data set, in a simulation or a part of one."""
        return self._site.simulated or self._site.partition is not None

    def _sample(self, place: Place, step: int = 0) -> Batch:
        """Draw each of the hospital's patients with probability q, all records of each."""
        records = self.records()
        drawn = records.of_patients(self.chances.sampled(records.patient_ids, place, step))
        inputs, labels = drawn.inputs, drawn.labels
        batch = Batch(
            inputs=torch.as_tensor(inputs)
            if isinstance(inputs, np.ndarray)
            else LateRows(inputs, torch.arange(len(drawn))),
            labels=LateRows(labels, torch.arange(len(drawn)))
            if isinstance(labels, LazyTargets)
            else torch.as_tensor(labels),
            patients=torch.as_tensor(drawn.patients),
        )
        copies = self._settings.training.augmentations
        altered = self.chances.stream(place, "augmentation", step)
        return augmented(batch, copies=copies, stream=altered) if copies else batch
