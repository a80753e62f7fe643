"""Figures of merit are right by hand, and a threshold is never judged on what it was chosen on."""

from __future__ import annotations

import math

import numpy as np
import pytest

from clients.prediction.merit import best_threshold, halves_of, measure_merit

NAMES = ("no", "yes")


def measured(scores: list[float] | np.ndarray, labels: list[int] | np.ndarray, **more: object):
    up = np.asarray(scores, dtype=float)
    truth = np.asarray(labels, dtype=np.int64)
    chances = np.stack([1 - up, up], axis=1)
    given = {"patients": np.arange(len(truth)), "classes": NAMES, "seed": 0, **more}
    return measure_merit(chances, truth, **given)


def test_a_small_case_by_hand() -> None:
    found = measured([0.9, 0.8, 0.4, 0.7, 0.3, 0.2, 0.1, 0.05], [1, 1, 1, 0, 0, 0, 0, 0])
    no, yes = found["by_class"]
    assert (yes["records"], yes["guessed"], no["guessed"]) == (3, 3, 5)
    assert (yes["precision"], yes["recall"]) == (pytest.approx(2 / 3), pytest.approx(2 / 3))
    assert (no["precision"], no["recall"]) == (pytest.approx(4 / 5), pytest.approx(4 / 5))
    # One of the fifteen pairs is the wrong way round.
    assert yes["auc"] == no["auc"] == pytest.approx(14 / 15)
    # Precision at each record found: 1, 1, 3/4.
    assert found["figures"]["average_precision"] == pytest.approx((1 + 1 + 3 / 4) / 3)
    assert found["majority"] == {"class": "no", "share": pytest.approx(5 / 8)}
    assert not found["uneven"] and found["one_guess"] is None and found["looked_for"] == ["yes"]
    squares = [0.1, 0.2, 0.6, 0.7, 0.3, 0.2, 0.1, 0.05]
    assert found["figures"]["brier"] == pytest.approx(2 * np.mean(np.square(squares)))


def test_the_best_threshold_is_youdens_and_lies_between_records() -> None:
    scores = np.array([0.9, 0.8, 0.4, 0.7, 0.3, 0.2])
    truth = np.array([True, True, True, False, False, False])
    # At 0.4: all found, one of three wrongly called; at 0.8: two found, none: as good, and higher.
    assert best_threshold(scores, truth) == pytest.approx((0.8 + 0.7) / 2)
    assert best_threshold(-scores, truth) > (-scores).max()  # worse than chance: call nothing
    assert math.isnan(best_threshold(scores, np.ones(6, dtype=bool)))
    assert best_threshold(np.full(4, 0.5), np.array([True, False, True, False])) > 0.5


def test_who_says_the_commonest_class_of_all_is_found_out() -> None:
    generator = np.random.default_rng(1)
    labels = (generator.random(400) < 0.15).astype(int)
    found = measured(generator.uniform(0.05, 0.2, 400), labels)
    assert found["one_guess"] == "no" and found["uneven"]
    assert found["figures"]["majority"] == pytest.approx(1 - labels.mean())
    assert math.isnan(found["by_class"][1]["precision"])
    assert found["by_class"][1]["recall"] == 0.0


def test_a_threshold_does_not_flatter_scores_that_know_nothing() -> None:
    """Chosen and judged on the same records it would: that is the control."""
    fair, flattering = [], []
    for seed in range(60):
        generator = np.random.default_rng(seed)
        labels, scores = (generator.random(60) < 0.2).astype(int), generator.random(60)
        figures = measured(scores, labels, seed=seed)["figures"]
        if not math.isnan(figures["balanced_at_threshold"]):
            fair.append(figures["balanced_at_threshold"])
        positive = scores >= best_threshold(scores, labels == 1)
        flattering.append((positive[labels == 1].mean() + (~positive[labels == 0]).mean()) / 2)
    assert len(fair) > 50
    assert abs(np.mean(fair) - 0.5) < 0.04
    assert np.mean(flattering) > 0.58


def test_a_threshold_finds_what_even_chances_miss() -> None:
    """All chances are below a half, and yet they know a lot."""
    generator = np.random.default_rng(3)
    labels = (generator.random(2000) < 0.15).astype(int)
    scores = np.clip(0.1 + 0.15 * labels + generator.normal(0, 0.05, 2000), 0.01, 0.45)
    found = measured(scores, labels)
    assert found["one_guess"] == "no"
    assert found["figures"]["sensitivity"] > 0.85 and found["figures"]["specificity"] > 0.85


def test_all_records_of_a_patient_are_in_one_half_and_classes_are_in_both() -> None:
    patients = np.repeat(np.arange(101), 3)
    labels = np.repeat(np.arange(101) % 5 == 0, 3).astype(np.int64)
    halves = halves_of(labels, patients, seed=4)
    for one in range(101):
        assert len(set(halves[patients == one])) == 1
    for one in (0, 1):
        inside = halves[labels == one]
        assert abs(inside.mean() - 0.5) < 0.05
    assert not np.array_equal(halves, halves_of(labels, patients, seed=5))
    assert np.array_equal(halves, halves_of(labels, patients, seed=4))


def test_what_is_not_defined_is_no_number() -> None:
    alone = measured([0.2, 0.3, 0.1], [0, 0, 0])
    figures = alone["figures"]
    assert all(math.isnan(figures[name]) for name in ("average_precision", "sensitivity"))
    assert alone["curves"] == [] and figures["majority"] == 1.0 and not alone["uneven"]
    single = measured([0.2, 0.9, 0.1], [0, 1, 0])
    assert single["figures"]["average_precision"] == 1.0
    assert math.isnan(single["figures"]["sensitivity"])  # one positive is in one half only


def test_of_several_classes_each_is_held_against_the_others() -> None:
    from sklearn.metrics import average_precision_score, roc_auc_score

    generator = np.random.default_rng(0)
    labels = generator.integers(0, 4, 200)
    chances = generator.dirichlet(np.ones(4), 200) + 0.3 * np.eye(4)[labels]
    chances /= chances.sum(axis=1, keepdims=True)
    found = measure_merit(chances, labels, np.arange(200), ("a", "b", "c", "d"), seed=0)
    assert found["looked_for"] == ["a", "b", "c", "d"] and len(found["curves"]) == 4
    areas = [average_precision_score(labels == k, chances[:, k]) for k in range(4)]
    assert found["figures"]["average_precision"] == pytest.approx(np.mean(areas))
    for k, row in enumerate(found["by_class"]):
        assert row["auc"] == pytest.approx(roc_auc_score(labels == k, chances[:, k]))


def test_curves_run_from_end_to_end() -> None:
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 2, 3000)
    found = measured(np.clip(generator.random(3000) * 0.5 + 0.4 * labels, 0, 1), labels)
    [curve] = found["curves"]
    assert curve["class"] == "yes"
    assert curve["roc"][0] == [0.0, 0.0] and curve["roc"][-1] == [1.0, 1.0]
    assert curve["precision_recall"][-1][0] == 1.0
    assert max(len(curve[name]) for name in ("roc", "precision_recall")) <= 101
    across, up = (np.array(curve["roc"])[:, k] for k in (0, 1))
    area = float(np.sum(np.diff(across) * (up[1:] + up[:-1]) / 2))
    assert area == pytest.approx(found["by_class"][1]["auc"], abs=0.01)
