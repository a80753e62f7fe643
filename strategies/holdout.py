"""The server's one look at data: the public holdout, on which released models are measured."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from clients.data import Cohorts
from clients.data.public_facts import public_facts
from clients.data.records import readable
from clients.learning.device import Forward, find_device
from clients.learning.votes import decide_together
from clients.models import (
    backbone_of,
    build_model,
    imports,
    prepare,
    prepare_public,
    user_cache,
)
from clients.models.weights import set_parameters
from clients.prediction.artefact import Artefact, unplaced
from clients.prediction.doubt import UNKNOWN, measure_doubt
from clients.prediction.merit import measure_merit
from clients.prediction.predictor import Predictor
from clients.prediction.subgroups import by_subgroup
from clients.tasks.catalogue import imported, name_of, task_of, together
from clients.tasks.evaluation import calibration, confusion, probabilities

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from clients.contract.binding import PublicFacts
    from clients.contract.settings import Settings
    from clients.data import Records

#: Records evaluated at once.
CHUNK_RECORDS = 256


class Holdout:
    """Public records of patients that no hospital trains on, and a model to load releases into.

    Args:
        settings: the run's settings.
        cohorts: where data sets are read; by default this holdout's own.

    Attributes:
        split: records of each label at each hospital, as ``split.json`` has them; empty unless the
            data are declared public and the split is this process's own, not real hospitals'.
    """

    def __init__(self, settings: Settings, cohorts: Cohorts | None = None) -> None:
        self._cohorts = Cohorts() if cohorts is None else cohorts
        cohort = self._cohorts.of(settings)
        self.patients = settings.data.patients or cohort.patients
        self.largest_hospital = settings.data.largest_hospital or max(
            cohort.patients_by_hospital.values()
        )
        self._public, self._origin = cohort.holdout, cohort.origin
        self._records = prepare_public(settings, cohort.info, cohort.holdout, keep=user_cache)
        self._model = build_model(settings, cohort.info, settings.public_seed)
        self._model.eval()
        self._forward = Forward(self._model, find_device(settings.run.device))
        self._settings, self._info = settings, cohort.info
        self._task = task_of(cohort.info.question)
        self._classes = [str(name) for name in cohort.info.classes]
        self._logits: NDArray[np.floating] | None = None
        self.split: dict[str, object] = {}
        if settings.data.public and not settings.data.patients:
            counts = {
                name: self._count(np.asarray(cohort.hospital(name).labels)) for name in cohort.names
            }
            names = list(cohort.info.question.stratum_names)
            self.split = {"classes": names, "hospitals": counts}

    def _count(self, labels: NDArray[Any]) -> list[int]:
        question = self._info.question
        strata = question.strata(labels)
        return [int(n) for n in np.bincount(strata, minlength=len(question.stratum_names))]

    @property
    def headline(self) -> str:
        """Name of the figure that models are judged by first."""
        return self._task.headline

    @property
    def facts(self) -> PublicFacts:
        """What is public about the records, as the terms of a training carry it."""
        return public_facts(self._info)

    @property
    def unit(self) -> str:
        """Whom a guarantee covers: a patient, or a record where no patients are named."""
        return self._info.unit

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one record as a hospital has it."""
        return self._info.shape

    @property
    def module(self) -> torch.nn.Module:
        """The model that releases are loaded into, initially the training's initial model."""
        return self._model

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one record as the model wants it."""
        return tuple(self._records.inputs.shape[1:])

    @property
    def source(self) -> dict[str, object]:
        """Whose records models are measured on; public, so no epsilon covers these patients.

        Returns:
            `origin` ("own": taken from the patients of the data; "test": their own test part;
            "other": the data that are `named`; "server": public records at the server; "none"),
            `patients` and `records`, how many.
        """
        data = self._settings.data
        # Where patients are declared they are at real hospitals, and these records are not.
        server = data.patients and self._origin in ("own", "test")
        return {
            "origin": "server" if server else self._origin,
            "named": unplaced(data.holdout_from if self._origin == "other" else data.name),
            "patients": len(self._records.patient_ids),
            "records": len(self._records),
        }

    #: Whether a released model can be written as a file that predicts.
    predicts = True

    def measure(self, tensors: Mapping[str, torch.Tensor], rounds: int = 0) -> dict[str, float]:
        """Return the metrics of a released model; none without records.

        Args:
            tensors: by name.
            rounds: that it was trained for.
        """
        if not len(self._records):
            return {}
        self._logits = self._predict(tensors)
        return self._evaluate(self._logits, self._records)

    def measure_by_hospital(
        self, tensors: Mapping[str, torch.Tensor]
    ) -> dict[str, dict[str, float]]:
        """Return hospital -> metrics of a released model on its own test records, where public."""
        found = {}
        for name, records in self._cohorts.tests_by_hospital(self._settings).items():
            if len(records):
                prepared = prepare_public(self._settings, self._info, records, keep=user_cache)
                found[name] = self._evaluate(self._predict(tensors, prepared), records)
        return found

    def measure_alone(self, models: Mapping[str, Mapping[str, torch.Tensor]]) -> dict[str, float]:
        """Return hospital -> first figure of its own model on its own test records, where public.

        Args:
            models: of each hospital, which no other took part in.
        """
        if not self.split:
            return {}
        found = {}
        for name, records in self._cohorts.tests_by_hospital(self._settings).items():
            if name in models and len(records):
                prepared = prepare_public(self._settings, self._info, records, keep=user_cache)
                logits = self._predict(models[name], prepared)
                found[name] = self._evaluate(logits, records)[self.headline]
        return found

    def _evaluate(self, logits: NDArray[np.floating], records: Records) -> dict[str, float]:
        return self._task.measures(logits, np.asarray(records.labels))

    def measure_together(
        self, models: Sequence[Mapping[str, torch.Tensor]], vote: str
    ) -> dict[str, float]:
        """Return the metrics of an ensemble; `vote` is how its models decide together."""
        if not len(self._records):
            return {}
        each = [self._predict(tensors) for tensors in models]
        of_classes = self._info.question.of_classes
        self._logits = decide_together(each, vote) if of_classes else together(each)
        return self._evaluate(self._logits, self._records)

    def _predict(
        self, tensors: Mapping[str, torch.Tensor], records: Records | None = None
    ) -> NDArray[np.float32]:
        set_parameters(self._model, tensors)
        inputs = torch.as_tensor(np.asarray((self._records if records is None else records).inputs))
        return self._forward.logits(inputs, at_once=CHUNK_RECORDS)

    def predictor(
        self,
        members: Mapping[str, Mapping[str, torch.Tensor]],
        vote: str,
        about: Mapping[str, object],
    ) -> tuple[bytes, dict[str, Any]]:
        """Return released models as one file to predict with, and what its doubt is worth.

        The holdout is judged as new patients will be: without the input noise that a training may
        have behind it.

        Args:
            members: name -> tensors of each model that decides with the others.
            vote: how they decide together.
            about: facts about the training.
        """
        whole = self._model.state_dict()  # a release has no buffers, which are constants
        model = self._settings.model
        artefact = Artefact(
            info=replace(self._info, name=unplaced(self._info.name)),
            architecture=model.name,
            hidden=model.hidden,
            stages=model.stages,
            tuned_stages=model.tuned_stages,
            side=model.side,
            backbone=backbone_of(model),
            members={name: {**whole, **tensors} for name, tensors in members.items()},
            vote=vote,
            doubt=UNKNOWN,
            about=about,
        )
        named = (imports(model.name), imported(self._info.asked))
        predictor = Predictor(artefact, allowed=named)
        if not self._info.question.of_classes:
            # Sets and temperatures are of chances of one class of several.
            return artefact.to_bytes(), {}
        records = self._records
        if self._settings.privacy.input_laplace:
            clean = readable(self._public)
            records = prepare(self._settings, self._info, clean, keep=user_cache)
        logits = predictor.together(predictor.each_of_prepared(records.inputs))
        labels = np.asarray(records.labels)
        doubt, figures = measure_doubt(
            logits, labels, records.patients, seed=self._settings.public_seed
        )
        guesses = logits.argmax(axis=1)
        parts = by_subgroup(self._info, np.asarray(records.inputs), labels, guesses)
        return replace(artefact, doubt=doubt).to_bytes(), {**figures, "by_subgroup": parts}

    def judge(self) -> dict[str, object]:
        """Return what the model measured last is worth, if any was.

        Of classes: confusion, calibration and merit; of other tasks what the task says itself.
        """
        if self._logits is None:
            return {}
        records, labels = self._records, np.asarray(self._records.labels)
        if not self._info.question.of_classes:
            return {
                "task": name_of(self._info.question),
                "headline": self.headline,
                "judged": self._task.judged(self._logits, labels),
            }
        merit = measure_merit(
            probabilities(self._logits),
            labels,
            records.patients,
            self._classes,
            seed=self._settings.public_seed,
        )
        return {
            "merit": merit,
            "classes": self._classes,
            "confusion": confusion(self._logits, labels).tolist(),
            "calibration": calibration(self._logits, labels),
        }
