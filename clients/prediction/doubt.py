"""Doubt: what a model's probabilities are worth, measured on public records.

The holdout is public by construction: its patients are no hospital's to train on, the server reads
it, every released model is measured on it in the open. So what is fitted to it costs no epsilon and
may travel with the model: a temperature, and the scores from which sets of any level are made. A
third of its patients fit the temperature, the others the sets, so that neither spoils the other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clients.prediction.conformal import (
    CONFIDENCE,
    COVERAGE,
    one_record_each,
    prediction_sets,
    scores_of,
    threshold_at,
)
from clients.prediction.quality import brier_score, calibration_error, rejection_curve
from clients.prediction.temperature import fit_temperature
from clients.tasks.evaluation import probabilities

#: Share of the patients that fit the temperature.
FOR_TEMPERATURE = 1 / 3


@dataclass(frozen=True, kw_only=True)
class Doubt:
    """How probabilities and sets are made of a model's logits.

    Attributes:
        temperature: logits are divided by it.
        scores: sorted float64 [n], of one record of each patient; see `conformal`.
    """

    temperature: float
    scores: NDArray[np.float64]

    def chances(self, logits: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return calibrated probabilities [n, classes]."""
        return probabilities(np.asarray(logits, dtype=np.float64) / self.temperature)

    def threshold(self, coverage: float = COVERAGE, confidence: float = CONFIDENCE) -> float:
        """Return up to which score a class is in a set, for these levels."""
        return threshold_at(self.scores, coverage=coverage, confidence=confidence)


#: Of a model that nothing was measured of: its own probabilities, and sets of all classes.
UNKNOWN = Doubt(temperature=1.0, scores=np.zeros(0))


def measure_doubt(
    logits: NDArray[np.floating],
    labels: NDArray[np.int64],
    patients: NDArray[np.int64],
    *,
    seed: int,
) -> tuple[Doubt, dict[str, Any]]:
    """Fit temperature and scores to public records, and say what they are worth.

    Args:
        logits: [n, classes] of a released model, or of several that decide together.
        labels: [n], class numbers.
        patients: [n], whose records they are.
        seed: public, of the split of patients and of which of their records counts.

    Returns:
        The doubt, and JSON-ready figures on the patients that the temperature was not fitted to.
    """
    tuned = _some_patients(patients, seed)
    fitting, judging = np.isin(patients, tuned), ~np.isin(patients, tuned)
    temperature = fit_temperature(logits[fitting], labels[fitting])
    rest, truth = logits[judging], labels[judging]
    one_each = one_record_each(patients[judging], seed)
    plain, chances = probabilities(rest), probabilities(rest / temperature)
    scores = scores_of(chances[one_each], truth[one_each])
    doubt = Doubt(temperature=temperature, scores=scores)
    sets = prediction_sets(chances, doubt.threshold())
    figures = {
        "temperature": temperature,
        "patients": {"temperature": len(tuned), "sets": len(one_each)},
        "ece": {
            "before": calibration_error(plain, truth),
            "after": calibration_error(chances, truth),
        },
        "brier": {"before": brier_score(plain, truth), "after": brier_score(chances, truth)},
        "coverage": COVERAGE,
        "confidence": CONFIDENCE,
        "mean_set_size": float(sets.sum(axis=1).mean()) if len(sets) else None,
        "single_class": float((sets.sum(axis=1) == 1).mean()) if len(sets) else None,
        "rejection": rejection_curve(chances, truth),
    }
    return doubt, figures


def _some_patients(patients: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """Return the patients that fit the temperature, by a public seed."""
    everyone = np.unique(patients)
    shuffled = np.random.default_rng([seed, 0x7E4]).permutation(everyone)
    return np.asarray(shuffled[: round(FOR_TEMPERATURE * len(everyone))], dtype=np.int64)
