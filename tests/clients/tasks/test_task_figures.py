"""What a task makes of outputs, held against what can be counted by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from clients.tasks.catalogue import TaskError, task_of, together
from clients.tasks.cumulative_link import CumulativeLink
from clients.tasks.multi_label import sigmoid
from clients.tasks.question import Question
from clients.tasks.survival import KaplanMeier, brier_at, concordance
from tests.clients.tasks.some_tasks import QUESTIONS, made_targets


def test_grades_chances_are_differences_of_cumulative_ones_and_add_up() -> None:
    steps = torch.tensor([[0.3, -1.0, 2.0], [-40.0, 5.0, -3.0], [0.0, 0.0, 0.0]]).double()
    logs = CumulativeLink()(steps)
    reached = [steps[:, 0]]
    for column in (1, 2):
        reached.append(reached[-1] - torch.nn.functional.softplus(steps[:, column]))
    above = torch.stack([torch.ones(3).double(), *map(torch.sigmoid, reached), torch.zeros(3)], 1)
    torch.testing.assert_close(logs.exp(), above[:, :-1] - above[:, 1:], rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(logs.exp().sum(1), torch.ones(3).double())
    assert bool(torch.isfinite(logs).all())


def test_label_that_nobody_knows_adds_nothing_to_a_loss() -> None:
    task = task_of(QUESTIONS["multi-label"])
    outputs = torch.tensor([[1.0, -2.0, 0.5]])
    known = task.losses(outputs, torch.tensor([[1, 0, 1]]))
    without = task.losses(outputs, torch.tensor([[1, 0, -1]]))
    left = torch.nn.functional.softplus(torch.tensor(-0.5))
    torch.testing.assert_close(known - without, left[None])


def test_macro_auc_is_the_mean_of_labels_that_hold_of_some_and_not_of_all() -> None:
    task = task_of(QUESTIONS["multi-label"])
    outputs = np.array([[2.0, 0.0, 1.0], [1.0, 1.0, 2.0], [-1.0, 2.0, 0.0], [-2.0, 3.0, 1.0]])
    targets = np.array([[1, 0, 1], [1, 1, 1], [0, 0, 1], [0, 1, -1]])
    found = task.measures(outputs, targets)
    assert found["macro_auc"] == pytest.approx((1.0 + 0.75) / 2)
    rows = task.judged(outputs, targets)["rows"]
    assert [row["records"] for row in rows] == [4, 4, 3]
    assert math.isnan(rows[2]["auc"])
    assert len(task.judged(outputs, targets)["curves"]) == 2
    assert task.answers(outputs)["prediction"][0] == "effusion | mass | nodule"


def test_regression_speaks_the_targets_unit_and_stays_in_its_range() -> None:
    task = task_of(QUESTIONS["regression"])  # from -10 to 30
    outputs = np.array([[0.0], [0.5], [-3.0]])
    assert task.answers(outputs)["prediction"] == [10.0, 20.0, -10.0]
    found = task.measures(outputs, np.array([12.0, 20.0, -14.0]))
    assert found["mae"] == pytest.approx(2 / 3)
    assert found["rmse"] == pytest.approx(math.sqrt(4 / 3))
    assert found["r2"] == pytest.approx(1 - 4 / (np.var([12, 20, -10]) * 3))


def test_target_beyond_its_range_is_taken_for_its_end() -> None:
    task = task_of(QUESTIONS["regression"])
    outputs = torch.tensor([[0.2]])
    far, end = (task.losses(outputs, torch.tensor([value])) for value in (1e9, 30.0))
    torch.testing.assert_close(far, end)


def test_survival_loss_is_one_coin_for_each_interval_at_risk() -> None:
    task = task_of(QUESTIONS["survival"])  # horizons 1, 2, 5
    logits = torch.tensor([[0.4, -0.7, 1.1]])
    hazard = torch.sigmoid(logits)[0]
    alive = torch.log(1 - hazard)
    cases = {
        (0.5, 1): torch.log(hazard[0]),
        (1.0, 1): torch.log(hazard[0]),
        (1.2, 1): alive[0] + torch.log(hazard[1]),
        (9.0, 1): alive.sum(),
        (0.4, 0): torch.tensor(0.0),  # left before the middle of the first interval
        (0.6, 0): alive[0],
        (3.6, 0): alive.sum(),  # the middle of the last is 3.5
        (0.0, 1): torch.log(hazard[0]),
    }
    for (time, seen), expected in cases.items():
        found = task.losses(logits, torch.tensor([[time, float(seen)]]))
        torch.testing.assert_close(-found[0], expected, msg=f"{time}, {seen}")


def test_concordance_counts_pairs_whose_order_is_known() -> None:
    time, seen = np.array([1.0, 2.0, 3.0, 4.0]), np.array([True, False, True, False])
    # Known pairs: the first against all others, the third against the fourth.
    assert concordance(np.array([4.0, 1.0, 3.0, 2.0]), time, seen) == 1.0
    assert concordance(np.array([4.0, 9.0, 3.0, 2.0]), time, seen) == pytest.approx(3 / 4)
    assert concordance(np.array([1.0, 1.0, 1.0, 1.0]), time, seen) == 0.5
    assert math.isnan(concordance(np.ones(4), time, np.zeros(4, dtype=bool)))


def test_concordance_of_many_is_that_of_all_pairs_one_by_one() -> None:
    draw = np.random.default_rng(0)
    time, seen, risk = draw.integers(1, 50, 700).astype(float), draw.random(700) < 0.5, None
    risk = draw.normal(size=700) - 0.05 * time
    pairs = right = 0.0
    for i in np.flatnonzero(seen):
        later = (time > time[i]) | ((time == time[i]) & ~seen)
        pairs += later.sum()
        right += (risk[i] > risk[later]).sum() + 0.5 * (risk[i] == risk[later]).sum()
    assert concordance(risk, time, seen) == pytest.approx(right / pairs)


def test_brier_score_without_anybody_leaving_is_the_mean_square() -> None:
    time, seen = np.array([0.5, 1.5, 2.5]), np.ones(3, dtype=bool)
    chances = np.array([0.2, 0.6, 0.9])
    expected = np.mean((chances - (time > 1.0)) ** 2)
    assert brier_at(chances, time, seen, 1.0) == pytest.approx(expected)


def test_kaplan_meier_is_the_textbooks() -> None:
    curve = KaplanMeier(np.array([1.0, 2.0, 2.0, 3.0]), np.array([True, True, False, True]))
    assert [curve(t) for t in (0.5, 1.0, 2.0, 3.0)] == pytest.approx([1, 3 / 4, 1 / 2, 0])
    assert curve(1.0, before=True) == 1.0


def test_dice_is_twice_what_is_shared_and_silent_of_what_is_nowhere() -> None:
    task = task_of(Question(kind="segmentation", names=("rest", "a", "b"), space=(2, 2)))
    targets = np.array([[[1, 1], [0, 0]], [[0, 0], [0, 0]]])
    said = np.array([[[1, 0], [1, 0]], [[0, 0], [0, 2]]])
    outputs = np.moveaxis(np.eye(3)[said], -1, 1)
    rows = task.judged(outputs, targets)["rows"]
    assert [(row["records"], row["dice"]) for row in rows] == [(1, 0.5), (1, 0.0)]
    assert task.measures(outputs, targets)["dice"] == 0.25
    assert task.answers(outputs) == {"share: a": [0.5, 0.0], "share: b": [0.0, 0.25]}


def test_perfect_masks_cost_next_to_nothing() -> None:
    task = task_of(QUESTIONS["segmentation"])
    targets = made_targets(QUESTIONS["segmentation"], 3)
    sure = 40.0 * torch.nn.functional.one_hot(targets, 3).movedim(-1, 1).float()
    assert float(task.losses(sure, targets).max()) < 1e-5
    assert float(task.losses(-sure, targets).min()) > 10


def test_task_for_other_targets_is_refused_with_what_it_is_for() -> None:
    with pytest.raises(TaskError, match="is for survival targets; these are binary"):
        task_of(Question(kind="binary", asked="survival", names=("a", "b")))
    with pytest.raises(TaskError, match="declare ordinal = true"):
        task_of(Question(kind="multiclass", asked="ordinal", names=("a", "b", "c")))
    with pytest.raises(TaskError, match="did you mean regression"):
        task_of(Question(kind="regression", asked="regresion"))


def test_models_together_say_the_mean() -> None:
    assert together([np.zeros((2, 1)), np.ones((2, 1))]).tolist() == [[0.5], [0.5]]


def test_sigmoid_is_right_where_exponentials_overflow() -> None:
    assert sigmoid(np.array([-1e4, 0.0, 1e4])).tolist() == [0.0, 0.5, 1.0]


def test_no_records_have_no_figures() -> None:
    for name, question in QUESTIONS.items():
        outputs = task_of(question).outputs
        space = question.space
        empty = made_targets(question, 0).numpy()
        if name == "ordinal":
            outputs += 1
        found = task_of(question).measures(np.zeros((0, outputs, *space)), empty)
        assert all(map(math.isnan, found.values())), name
