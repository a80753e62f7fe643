"""Predictions: for each record that was asked about its probabilities, its set, and its doubt."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accounting.private import Unreleased
from clients.prediction.asked import UNTOLD, Asked
from clients.prediction.conformal import prediction_sets
from clients.prediction.predictor import Predictor, spread
from clients.prediction.quality import brier_score, calibration_error, rejection_curve
from clients.tasks.evaluation import evaluate, probabilities

#: Between the classes of a set.
JOIN = " | "


@dataclass(frozen=True, kw_only=True)
class Predictions(Unreleased):
    """What a model says of the records that it was asked about.

    Attributes:
        asked: the records.
        classes: their names, in label order.
        raw: logits float [m, classes], of the records that can be read.
        chances: calibrated probabilities, float64 [m, classes].
        sets: which classes the truth is among, bool [m, classes].
        spread: how far members are apart, [m]; None for a single one.
        coverage: share of patients whose set is to hold the truth.
        ordinal: whether the classes are grades.
    """

    asked: Asked
    classes: tuple[str, ...]
    raw: NDArray[np.floating]
    chances: NDArray[np.float64]
    sets: NDArray[np.bool_]
    spread: NDArray[np.float64] | None
    coverage: float
    ordinal: bool

    def columns(self) -> dict[str, list[Any]]:
        """Return the table of predictions: column -> a value for each record, None for none."""
        count, rows = len(self.asked), self.asked.rows
        table: dict[str, list[Any]] = {name: list(v) for name, v in self.asked.keys.items()}

        def put(name: str, values: list[Any], absent: Any = None) -> None:
            column = [absent] * count
            for row, value in zip(rows.tolist(), values, strict=True):
                column[row] = value
            table[name] = column

        put("prediction", [self.classes[k] for k in self.chances.argmax(axis=1)])
        for number, name in enumerate(self.classes):
            put(f"probability: {name}", [round(float(p), 6) for p in self.chances[:, number]])
        put("set", [JOIN.join(self._named(one)) for one in self.sets])
        put("abstain", ["yes" if one.sum() > 1 else "no" for one in self.sets], "yes")
        if self.spread is not None:
            put("spread", [round(float(one), 6) for one in self.spread])
        if (labels := self.asked.labels) is not None:
            table["label"] = [None if k == UNTOLD else self.classes[k] for k in labels]
        table["note"] = list(self.asked.notes)
        return table

    def _named(self, chosen: NDArray[np.bool_]) -> list[str]:
        return [name for name, one in zip(self.classes, chosen, strict=True) if one]

    def evaluation(self) -> dict[str, Any]:
        """Return how good the predictions are where the truth is told; JSON-ready.

        Raises:
            ValueError: it is told of no record that can be read.
        """
        labels = self.asked.labels
        truth = np.zeros(0, dtype=np.int64) if labels is None else labels[self.asked.rows]
        told = truth != UNTOLD
        if not told.any():
            raise ValueError("no record has a label of the model's classes")
        truth, chances, sets = truth[told], self.chances[told], self.sets[told]
        single = sets.sum(axis=1) == 1
        guesses = chances.argmax(axis=1)
        right = guesses == truth
        held = sets[np.arange(len(truth)), truth]
        plain = probabilities(self.raw[told])
        same = len(np.unique(truth)) > 1 and len(np.unique(guesses)) == 1
        return {
            "records": len(truth),
            "one_guess": self.classes[int(guesses[0])] if same else None,
            **evaluate(np.log(np.clip(chances, 1e-300, None)), truth, ordinal=self.ordinal),
            "ece": _before_after(calibration_error, plain, chances, truth),
            "brier": _before_after(brier_score, plain, chances, truth),
            "asked_coverage": self.coverage,
            "coverage": float(held.mean()),
            "coverage_by_class": {
                name: float(held[truth == number].mean())
                for number, name in enumerate(self.classes)
                if (truth == number).any()
            },
            "mean_set_size": float(sets.sum(axis=1).mean()),
            "abstained": float(1 - single.mean()),
            "accuracy_where_not": float(right[single].mean()) if single.any() else math.nan,
            "rejection": rejection_curve(chances, truth),
        }


def _before_after(
    measure: Any, plain: NDArray[np.float64], chances: NDArray[np.float64], truth: NDArray[np.int64]
) -> dict[str, float]:
    return {"before": measure(plain, truth), "after": measure(chances, truth)}


def predict(
    predictor: Predictor,
    asked: Asked,
    *,
    coverage: float,
    threshold: float,
    temperature: float = 0.0,
) -> Predictions:
    """Return what a model says of records.

    Args:
        predictor: the model.
        asked: the records.
        coverage: which the threshold is for.
        threshold: score up to which a class is in a set.
        temperature: of the probabilities that are shown; 0 for the model's own. Sets are always of
            the model's own, which the threshold is for.
    """
    artefact = predictor.artefact
    each = predictor.each(asked.inputs)
    raw = predictor.together(each)
    scored = artefact.doubt.chances(raw)
    return Predictions(
        asked=asked,
        classes=artefact.info.classes,
        raw=raw,
        chances=probabilities(raw / temperature) if temperature else scored,
        sets=prediction_sets(scored, threshold),
        spread=spread(each) if len(each) > 1 else None,
        coverage=coverage,
        ordinal=artefact.info.task == "ordinal",
    )
