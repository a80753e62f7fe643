import math

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from clients.tasks.evaluation import (
    area_under_curve,
    calibration,
    confusion,
    evaluate,
    probabilities,
)


def test_known_answers():
    logits = np.array([[2.0, 0.0], [0.0, 1.0], [0.0, 3.0], [1.0, 0.0]])
    results = evaluate(logits, np.array([0, 0, 1, 1]))
    assert results["accuracy"] == 0.5
    assert results["balanced_accuracy"] == 0.5
    assert results["auc"] == 0.75
    expected = np.mean([math.log1p(math.exp(d)) for d in (-2.0, 1.0, -3.0, 1.0)])
    assert results["loss"] == pytest.approx(expected)


def test_balanced_accuracy_does_not_reward_the_majority():
    logits = np.tile([1.0, 0.0], (10, 1))
    results = evaluate(logits, np.array([0] * 9 + [1]))
    assert (results["accuracy"], results["balanced_accuracy"]) == (0.9, 0.5)


def test_auc_of_many_classes_is_the_mean_against_the_rest():
    generator = np.random.default_rng(0)
    logits, labels = generator.normal(size=(60, 4)), generator.integers(0, 4, 60)
    expected = roc_auc_score(labels, probabilities(logits), multi_class="ovr", average="macro")
    assert evaluate(logits, labels)["auc"] == pytest.approx(expected)


def test_absent_classes_do_no_harm():
    logits = np.random.default_rng(0).normal(size=(20, 5))
    results = evaluate(logits, np.array([1, 3] * 10), ordinal=True)
    assert all(math.isfinite(value) for value in results.values())
    alone = evaluate(logits, np.full(20, 2))
    assert math.isnan(alone["auc"]) and math.isfinite(alone["accuracy"])


def test_no_rows_give_no_numbers():
    results = evaluate(np.zeros((0, 3)), np.zeros(0, dtype=np.int64), ordinal=True)
    assert set(results) == {"accuracy", "balanced_accuracy", "auc", "loss", "kappa"}
    assert all(math.isnan(value) for value in results.values())


def test_kappa_punishes_far_grades_more():
    truth = np.array([0, 1, 2, 3, 4] * 4)
    near, far = np.roll(np.eye(5)[truth], 1, axis=1), np.eye(5)[4 - truth]
    kappas = [evaluate(9 * guess, truth, ordinal=True)["kappa"] for guess in (near, far)]
    assert kappas[0] > kappas[1]
    assert evaluate(9 * np.eye(5)[truth], truth, ordinal=True)["kappa"] == 1
    assert evaluate(np.eye(5)[[0, 0]], np.array([0, 0]), ordinal=True)["kappa"] == 1


def test_wild_logits_still_give_numbers():
    logits = np.array([[np.inf, 0.0], [0.0, 1e300], [-np.inf, 0.0]])
    results = evaluate(logits, np.array([0, 1, 0]))
    assert all(math.isfinite(value) for value in results.values())


def test_confusion_counts_every_row_once():
    logits = np.eye(3)[[0, 1, 1, 2]]
    counts = confusion(logits, np.array([0, 0, 1, 1]))
    assert counts.tolist() == [[1, 1, 0], [0, 1, 1], [0, 0, 0]]


def test_calibration_of_a_calibrated_model_lies_on_the_diagonal():
    generator = np.random.default_rng(0)
    chance = generator.uniform(0.02, 0.98, 20_000)
    labels = (generator.uniform(size=20_000) < chance).astype(int)
    rows = calibration(np.stack([np.log(1 - chance), np.log(chance)], axis=1), labels)
    assert sum(row["count"] for row in rows) == 20_000
    assert max(abs(row["confidence"] - row["accuracy"]) for row in rows) < 0.03
    # Negative control: the same model made too sure of itself leaves the diagonal.
    sure = calibration(3 * np.stack([np.log(1 - chance), np.log(chance)], axis=1), labels)
    assert max(abs(row["confidence"] - row["accuracy"]) for row in sure) > 0.1


@pytest.mark.parametrize("levels", [3, 1000, 10**9], ids=["ties", "some ties", "none"])
def test_the_area_under_the_curve_is_scikit_learns(levels):
    generator = np.random.default_rng(levels)
    for _ in range(20):
        rows = int(generator.integers(2, 200))
        scores = generator.integers(0, levels, rows) / levels
        positive = generator.random(rows) < 0.3
        positive[:2] = True, False
        expected = roc_auc_score(positive, scores)
        assert area_under_curve(positive, scores) == pytest.approx(expected, abs=1e-13)
