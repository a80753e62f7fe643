"""Comparisons of every task: by its own figure, in tables, sentences, figures and the page."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from clients.tasks.question import Question
from simulations.cli import main
from simulations.compare.figures import drawings_of
from simulations.compare.measures import MEASURES, measure_fault
from simulations.compare.tables import result_table
from tests.mask_data import write_arrays
from tests.task_data import write_table

#: Task -> what it is compared by, and another figure of it.
FIGURES = {
    "regression": ("mae", "r2"),
    "multi-label": ("macro_auc", "brier"),
    "survival": ("concordance", "brier"),
    "segmentation": ("dice", "pixel_accuracy"),
}


def compared(folder: Path, task: str, *more: str) -> int:
    masks = task == "segmentation"
    file = write_arrays(folder, 30, 8) if masks else write_table(folder, task, 60)
    source = f"npz:{file}" if masks else f"csv:{file}"
    sets = [f"data.name={source}", "data.public=true", "data.holdout=0.3", "training.rounds=2"]
    sets += ["partition.name=iid", "partition.hospitals=2", "audit.enabled=false"]
    sets += ["model.name=unet"] if masks else []
    words = ["compare", "default", "--regimes", "F,FSCDP", "--epsilons", "3,8", "--seeds", "1"]
    words += [word for one in sets for word in ("--set", one)]
    return main([*words, "--quiet", "--out", str(folder / "out"), *more])


def check_compared(folder: Path, task: str) -> None:
    assert compared(folder, task) == 0
    content = json.loads((folder / "out/comparison.json").read_text())
    first, other = FIGURES[task]
    assert (content["task"], content["measure"]) == (task, first)
    for row in content["rows"]:
        assert row["accuracy"] is None
        assert row["figures"][first]["count"] == 1
        assert row["figures"][other]["mean"] is not None
    assert not content["alone"]
    assert len(content["paired"]) == 2
    columns, rows = result_table(content)
    assert columns[1:] == ["epsilon#", f"{MEASURES[first]}#", "sent#"]
    assert len(rows) == 3
    page = (folder / "out/report.html").read_text()
    assert re.search(rf"Best with noise: FSCDP, epsilon [38]: {MEASURES[first]} ", page)
    assert f"{MEASURES[other]}" in page
    assert "accuracy" not in page.lower().replace("pixel_accuracy", "")
    assert drawings_of(content)["epsilon"].title in page


def test_measurements_are_compared_by_their_error(tmp_path: Path) -> None:
    check_compared(tmp_path, "regression")


@pytest.mark.exhaustive
@pytest.mark.parametrize("task", ["multi-label", "survival", "segmentation"])
def test_every_task_is_compared_by_its_own_figure(tmp_path: Path, task: str) -> None:
    check_compared(tmp_path, task)


def test_a_figure_that_a_task_has_not_is_refused_before_anything_is_trained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert compared(tmp_path, "regression", "--measure", "auc") == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "measure auc: the task regression has none such, but loss, mae, rmse, r2" in said
    assert not [one for one in (tmp_path / "out").glob("*") if one.is_dir()]


def test_each_task_says_which_figures_it_has() -> None:
    kinds = {
        "multiclass": ("a", "b"),
        "multi-label": ("a",),
        "segmentation": ("a", "b"),
        "regression": (),
        "survival": (),
    }
    for kind, names in kinds.items():
        space = (4, 4) if kind == "segmentation" else ()
        question = Question(kind=kind, names=names, horizons=(1.0,), space=space)
        first = FIGURES.get(kind, ("accuracy",))[0]
        assert not measure_fault(question, first)
        assert not measure_fault(question, "")
        wrong = "mae" if kind != "regression" else "dice"
        assert f"the task {'classification' if kind == 'multiclass' else kind} has none" in (
            measure_fault(question, wrong)
        )
