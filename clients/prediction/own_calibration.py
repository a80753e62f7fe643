"""A hospital's own calibration: what a model's probabilities are worth on its own patients.

Sets made on public records promise nothing of patients unlike those. A hospital that has labelled
patients of its own, *whom the model did not learn from*, calibrates on them for its own use. What
comes of it stays in its folder, so it costs no epsilon; whoever publishes it publishes something
about these patients.

Sets go by the model's own scores, so that the guarantee of `conformal` holds exactly: the threshold
alone is the hospital's. The temperature of the probabilities that are shown is fitted to all of its
records; nothing is promised of it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accounting.private import Unreleased
from clients.prediction.asked import UNTOLD, Asked
from clients.prediction.conformal import one_record_each, scores_of, threshold_at
from clients.prediction.predictor import Predictor
from clients.prediction.quality import brier_score, calibration_error
from clients.prediction.temperature import fit_temperature
from clients.tasks.evaluation import probabilities


@dataclass(frozen=True, kw_only=True)
class OwnCalibration(Unreleased):
    """What one hospital found out about one model.

    Attributes:
        model: digest of the model; for another it means nothing.
        temperature: of the probabilities that the hospital is shown.
        scores: sorted float64 [n], one record of each patient, of the model's own probabilities.
    """

    model: str
    temperature: float
    scores: NDArray[np.float64]

    def threshold(self, coverage: float, confidence: float) -> float:
        """Return up to which score a class is in a set, for these levels."""
        return threshold_at(self.scores, coverage=coverage, confidence=confidence)

    def to_bytes(self) -> bytes:
        """Return the file."""
        kept = {
            "model": self.model,
            "temperature": self.temperature,
            "scores": self.scores.tolist(),
        }
        return json.dumps(kept).encode()

    @classmethod
    def of_bytes(cls, content: bytes) -> OwnCalibration:
        """Read a file.

        Raises:
            ValueError: it is none.
        """
        try:
            kept: dict[str, Any] = json.loads(content)
            scores = np.sort(np.asarray(kept["scores"], dtype=np.float64))
            found = cls(
                model=str(kept["model"]), temperature=float(kept["temperature"]), scores=scores
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"not a calibration: {error}") from None
        if scores.ndim != 1 or not np.isfinite(scores).all() or not found.temperature > 0:
            raise ValueError("not a calibration: its scores or temperature are no numbers")
        return found


def calibrate(
    predictor: Predictor, asked: Asked, *, seed: int
) -> tuple[OwnCalibration, dict[str, Any]]:
    """Return a hospital's own calibration, and figures of it for the hospital's own eyes.

    Args:
        predictor: the model.
        asked: labelled records of patients that it did not learn from.
        seed: of which record of a patient counts.

    Raises:
        ValueError: no record has a label of the model's classes.
    """
    labels = asked.labels
    truth = np.zeros(0, dtype=np.int64) if labels is None else labels[asked.rows]
    told = truth != UNTOLD
    if not told.any():
        raise ValueError("no record has a label of the model's classes")
    logits = predictor.logits(asked.inputs)[told]
    truth, patients = truth[told], asked.patients[asked.rows][told]
    public = predictor.artefact.doubt
    scored = public.chances(logits)
    one_each = one_record_each(patients, seed)
    temperature = fit_temperature(logits, truth)
    found = OwnCalibration(
        model=predictor.artefact.digest,
        temperature=temperature,
        scores=scores_of(scored[one_each], truth[one_each]),
    )
    shown = probabilities(logits / temperature)
    return found, {
        "records": len(truth),
        "patients": len(one_each),
        "temperature": {"public": public.temperature, "own": temperature},
        "ece": {"public": calibration_error(scored, truth), "own": calibration_error(shown, truth)},
        "brier": {"public": brier_score(scored, truth), "own": brier_score(shown, truth)},
    }
