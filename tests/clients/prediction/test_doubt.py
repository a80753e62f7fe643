"""Probabilities are as sure as they are right, and sets hold the truth as often as promised."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import beta, binom

from clients.prediction.conformal import (
    least_count,
    one_record_each,
    prediction_sets,
    rank_for,
    scores_of,
    threshold_at,
)
from clients.prediction.doubt import UNKNOWN, measure_doubt
from clients.prediction.quality import brier_score, calibration_error, rejection_curve
from clients.prediction.temperature import fit_temperature
from clients.tasks.evaluation import probabilities


def drawn(generator: np.random.Generator, n: int, classes: int = 3, scale: float = 2.0):
    """Logits whose softmax is the true chance of each class, and labels drawn by it."""
    logits = scale * generator.standard_normal((n, classes))
    chances = probabilities(logits)
    labels = (chances.cumsum(axis=1) > generator.random((n, 1))).argmax(axis=1)
    return logits, labels


@pytest.mark.parametrize("temperature", [0.25, 1.0, 4.0])
def test_the_temperature_that_was_put_in_is_found(temperature: float) -> None:
    logits, labels = drawn(np.random.default_rng(1), 20_000)
    assert fit_temperature(logits * temperature, labels) == pytest.approx(temperature, rel=0.05)


def test_without_records_nothing_is_fitted() -> None:
    assert fit_temperature(np.zeros((0, 2)), np.zeros(0, dtype=int)) == 1.0
    assert math.isinf(UNKNOWN.threshold())


def test_calibration_error_is_none_of_true_chances_and_much_of_exaggerated_ones() -> None:
    logits, labels = drawn(np.random.default_rng(2), 50_000)
    assert calibration_error(probabilities(logits), labels) < 0.01
    assert calibration_error(probabilities(5 * logits), labels) > 0.1


def test_figures_of_a_small_case_by_hand() -> None:
    chances = np.array([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8], [0.45, 0.55]])
    labels = np.array([0, 1, 1, 1])
    assert brier_score(chances, labels) == pytest.approx((0.02 + 0.72 + 0.08 + 0.405) / 4)
    # Each record has a bin of its own.
    assert calibration_error(chances, labels) == pytest.approx((0.1 + 0.6 + 0.2 + 0.45) / 4)
    curve = {row["rejected"]: row["accuracy"] for row in rejection_curve(chances, labels)}
    assert curve[0.0] == 0.75 and curve[0.5] == 1.0


@pytest.mark.parametrize("count", [44, 57, 100, 1000])
def test_the_rank_is_the_smallest_that_beta_allows(count: int) -> None:
    rank = rank_for(count, coverage=0.9, confidence=0.99)
    assert beta(rank, count + 1 - rank).sf(0.9) >= 0.99
    assert rank == 1 or beta(rank - 1, count + 2 - rank).sf(0.9) < 0.99


def test_too_few_records_promise_sets_of_all_classes() -> None:
    assert least_count(coverage=0.9, confidence=0.99) == 44
    assert rank_for(44, coverage=0.9, confidence=0.99) == 44
    assert rank_for(43, coverage=0.9, confidence=0.99) == 0
    threshold = threshold_at(np.zeros(43))
    assert prediction_sets(np.array([[1.0, 0.0]]), threshold).all()


def fails(generator: np.random.Generator, hospitals: int, *, confidence: float) -> int:
    """Hospitals below 90 %, by the true coverage of each one's threshold: scores are uniform."""
    thresholds = [
        threshold_at(generator.random(200), confidence=confidence) for _ in range(hospitals)
    ]
    return int(np.sum(np.asarray(thresholds) < 0.9))


def test_hospitals_fail_as_seldom_as_the_confidence_says() -> None:
    failed = fails(np.random.default_rng(3), 2000, confidence=0.95)
    assert failed <= binom(2000, 0.05).ppf(0.9999)


def test_the_usual_threshold_fails_at_nearly_every_other_hospital() -> None:
    # Confidence 1/2 is about the rank ceil((n + 1) * coverage) of the marginal guarantee.
    assert fails(np.random.default_rng(3), 2000, confidence=0.5) > 800


def test_no_set_is_empty_and_sets_grow_with_coverage() -> None:
    logits, labels = drawn(np.random.default_rng(4), 2000)
    chances = probabilities(logits)
    scores = scores_of(chances, labels)
    sizes = []
    for coverage in (0.5, 0.8, 0.95):
        sets = prediction_sets(chances, threshold_at(scores, coverage=coverage))
        assert sets.any(axis=1).all()
        assert sets[np.arange(2000), labels].mean() >= coverage
        sizes.append(sets.sum())
    assert sizes == sorted(sizes)
    assert prediction_sets(np.array([[0.6, 0.4]]), threshold=0.0).tolist() == [[True, False]]


def test_one_record_of_each_patient_counts() -> None:
    patients = np.array([4, 4, 7, 4, 9, 7])
    rows = one_record_each(patients, seed=1)
    assert sorted(patients[rows]) == [4, 7, 9]
    chosen = {tuple(one_record_each(patients, seed=seed)) for seed in range(40)}
    assert len(chosen) > 3  # whichever comes first has no advantage


def test_patients_that_fit_the_temperature_judge_nothing() -> None:
    logits, labels = drawn(np.random.default_rng(5), 900)
    patients = np.repeat(np.arange(300), 3)
    doubt, figures = measure_doubt(4 * logits, labels, patients, seed=0)
    assert figures["patients"] == {"temperature": 100, "sets": 200}
    assert len(doubt.scores) == 200
    assert doubt.temperature == pytest.approx(4, rel=0.3)
    assert figures["ece"]["after"] < figures["ece"]["before"]
    assert figures["brier"]["after"] < figures["brier"]["before"]


@pytest.mark.parametrize("level", [0.0, 1.0, 90.0])
def test_a_level_that_is_no_share_is_refused(level: float) -> None:
    with pytest.raises(ValueError, match="coverage is"):
        threshold_at(np.zeros(100), coverage=level)
