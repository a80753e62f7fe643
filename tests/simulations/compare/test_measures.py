"""What ways of training are compared by, and when a difference is clear."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from clients.contract.settings import SettingsError
from simulations.cli import main
from simulations.compare.answers import answers
from simulations.compare.axes import Axes, cell_folder, plan_comparison
from simulations.compare.comparison import Comparison
from simulations.compare.figures import draw_all
from simulations.compare.measures import default_measure, goodness
from simulations.compare.report import answer_good, render_comparison_report
from simulations.compare.rows import paired_rows, read_row
from simulations.compare.tables import (
    caption,
    figure_table,
    paired_table,
    paired_title,
    result_table,
    tuning_text,
)
from simulations.scenario import find_scenario
from strategies.run.folder import RunFolder
from tests.simulations.compare.made_comparisons import OWN, comparison, row
from tests.simulations.made_runs import summary

TUNE = {"training.learning-rate": (0.3, 1.0)}


@pytest.mark.parametrize("count", [2, 3, 5])
def test_two_seeds_never_make_a_difference_clear(count: int) -> None:
    """All differences are the same, so the interval is a point, far from 0."""
    seeds = tuple(range(count))
    rows = [row("FSCDP", [0.9] * count, seeds=seeds), row("F", [0.7] * count, seeds=seeds)]
    content = comparison(rows, seeds=count)
    [line] = paired_table(content)[1]
    [said] = answers(content)
    if count < 3:
        assert line[-1] == "no: too few seeds"
        assert said.startswith("FSCDP, gradients against F, gradients: too few seeds to say.")
    else:
        assert line[-1] == "yes"
        assert "clearly better" in said


def uneven_rows():
    """The private way wins by accuracy, since it says the commonest class of all records."""
    made = []
    for regime, accuracy, balanced in (
        ("FSCDP", [0.85, 0.85, 0.86], [0.5, 0.5, 0.51]),
        ("F", [0.80, 0.79, 0.81], [0.74, 0.75, 0.76]),
    ):
        figures = {
            "balanced_accuracy": balanced,
            "majority": [0.85] * 3,
            "loss": [0.4, 0.5, 0.6] if regime == "F" else [0.5, 0.6, 0.7],
        }
        confusion = [[80, 5], [10, 5]]
        made.append(
            replace(
                row(regime, accuracy),
                figures=figures,
                measure="balanced_accuracy",
                classes=["no", "yes"],
                confusion=confusion,
            )
        )
    return made


def test_uneven_classes_are_compared_by_balanced_accuracy() -> None:
    rows = uneven_rows()
    measure = "balanced_accuracy"
    content = comparison(rows, measure=measure, paired=paired_rows(rows, OWN, measure))
    columns, lines = result_table(content)
    assert columns[1:3] == ["balanced accuracy#", "accuracy#"]
    assert [line[1] for line in lines] == ["0.503 ±0.014", "0.750 ±0.025"]
    assert paired_title(content).startswith("Balanced accuracy of FSCDP, gradients less")
    [line] = paired_table(content)[1]
    assert line[-1] == "yes" and line[-3].startswith("-0.247")
    assert "clearly worse" in answers(content)[0]
    assert "balanced accuracy 0.750" in answer_good(content).headline
    assert "since classes are uneven" in caption(content)
    _, [axes] = figure_table(content)[0], draw_all(content)["hospitals"][1].axes
    assert axes.get_xlabel()
    assert "Further figures" in render_comparison_report(content)
    assert [line[1] for line in figure_table(content)[1]] == ["0.850 ±0.000"] * 2
    assert figure_table(content)[1][0][-1] == "no 0.941, yes 0.333"
    # Files of before have none of it, and are shown as they were.
    plain = comparison(rows)
    assert paired_title(plain).startswith("Accuracy of FSCDP")
    assert "by mean accuracy over" in tuning_text(plain)


def test_where_less_is_better_the_smaller_figure_wins() -> None:
    rows = uneven_rows()
    content = comparison(rows, measure="loss", paired=paired_rows(rows, OWN, "loss"))
    assert "clearly worse" in answers(content)[0]
    assert answer_good(content).headline.startswith("Best: F")
    assert goodness(0.3, "loss") > goodness(0.4, "loss")
    assert goodness(0.3, "auc") < goodness(0.4, "auc")


def test_empty_cells_say_why() -> None:
    rows = [row("C", [0.9, 0.9, 0.8]), row("FSCDP", [0.9, 0.8, 0.8], epsilon=1.0)]
    text = caption(comparison(rows), wide=True)
    assert "-: pooled data are split over no hospitals" in text
    assert "without noise there is no epsilon" in text
    assert "a holdout of one class has no AUC" in text


def test_the_default_is_balanced_where_any_training_has_uneven_classes() -> None:
    assert default_measure([{}, {"merit": {"uneven": False}}]) == "accuracy"
    assert default_measure([{}, {"merit": {"uneven": True}}]) == "balanced_accuracy"


@pytest.mark.parametrize(
    ("measure", "uneven", "best"),
    [("", False, 0.3), ("", True, 1.0), ("accuracy", True, 0.3), ("brier", False, 1.0)],
)
def test_settings_are_tuned_by_the_measure(
    tmp_path: Path, measure: str, uneven: bool, best: float
) -> None:
    """Of two step sizes one has the better accuracy, the other the better of all else."""
    axes = Axes(regimes=("F",), tune=TUNE, tuning_seeds=1, seeds=1, measure=measure)
    plan = plan_comparison(find_scenario("default"), axes)
    cells = [*plan.tuning_cells(), *plan.cells(plan.setups[0], (("training.learning-rate", best),))]
    for cell in cells:
        slow = dict(cell.choice)["training.learning-rate"] == 0.3
        metrics = {
            "accuracy": 0.85 if slow else 0.8,
            "balanced_accuracy": 0.5 if slow else 0.7,
            "brier": 0.4 if slow else 0.3,
            "loss": 0.5,
        }
        folder = cell_folder(tmp_path, cell)
        folder.mkdir(parents=True)
        told = {**summary(3), "metrics": metrics, "merit": {"uneven": uneven}, "accuracy": 0.8}
        told |= {"uplink_bytes_total": 1, "downlink_bytes_total": 1}
        RunFolder(folder).write_json("summary.json", told)
    content = Comparison(out=tmp_path).run(find_scenario("default"), axes)
    [found] = content["rows"]
    assert found["tuned"] == {"training.learning-rate": best}
    expected = measure or ("balanced_accuracy" if uneven else "accuracy")
    assert content["measure"] == expected
    assert found["figures"]["brier"]["mean"] == (0.3 if best == 1.0 else 0.4)
    default = "balanced_accuracy" if uneven else "accuracy"
    assert read_row(tmp_path, cells[-1:]).measure == default


def test_a_measure_that_there_is_none_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SettingsError, match=r"known: accuracy, balanced_accuracy"):
        Axes(measure="f1")
    arguments = ["compare", "default", "--measure", "f1", "--out", str(tmp_path / "out")]
    assert main(arguments) == 2
    assert "is none; known: accuracy" in capsys.readouterr().err
