"""Each task from a table to a sealed private run, its figures, its report and its predictions."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from clients.contract.settings import Settings
from clients.prediction.artefact import ArtefactError
from simulations.cli import app
from simulations.pages.figures import draw_all
from simulations.pages.report import render_report
from simulations.pages.tables import summary_rows
from strategies.run.reading import read_run
from tests.exchange_runs import read_json, run_app
from tests.in_process import small_settings
from tests.mask_data import discs, write_arrays
from tests.task_data import write_table

#: Task -> the measure, what guessing reaches, and whether more is better.
BY_CHANCE = {
    "multi-label": ("macro_auc", 0.5, True),
    "regression": ("r2", 0.0, True),
    "ordinal": ("kappa", 0.0, True),
    "survival": ("concordance", 0.5, True),
}
#: Task -> a figure that is drawn of it alone, and a column of its predictions.
SHOWN = {
    "multi-label": ("roc", "probability: mass"),
    "regression": ("errors", "prediction"),
    "ordinal": ("confusion", "probability: worst"),
    "survival": ("survival", "no event by 2"),
}


def trained(folder: Path, task: str, **changes: object) -> Settings:
    """Train on a made-up table, privately and sealed; return the settings."""
    file = write_table(folder, task)
    settings = small_settings(
        folder / "run",
        **{
            "data__name": f"csv:{file}",
            "data__public": True,
            "data__holdout": 0.3,
            "partition__name": "iid",
            "partition__hospitals": 2,
            "training__rounds": 8,
            "training__sampling_rate": 0.4,
            "training__learning_rate": 1.0,
            "training__release_every": 4,
            "task__name": "ordinal" if task == "ordinal" else "",
            **changes,
        },
    )
    run_app(settings)
    return settings


def told(*words: str) -> str:
    """Return what the command line says."""
    result = CliRunner().invoke(app, list(words), catch_exceptions=False)
    return result.output


def check_run(folder: Path, task: str) -> None:
    """Train, and hold everything that comes of it against what the task is."""
    settings = trained(folder, task)
    out = Path(settings.run.out)
    summary, name = read_json(settings, "summary.json"), BY_CHANCE[task]
    assert summary["scheme"] != "none"
    assert 0 < summary["epsilon"]["prv"] < 10
    assert summary["metrics"][name[0]] > name[1] + 0.15
    run = read_run(out)
    figure, column = SHOWN[task]
    assert figure in draw_all(run)
    page = render_report(run)
    assert "accuracy None" not in page
    if task != "ordinal":
        assert summary["task"] == task
        assert summary["accuracy"] is None
        assert len(summary["hospital_headline"]) == 2
        assert summary["rows"]
        assert str(summary["rows"][0]["name"]) in page
        assert dict(summary_rows(summary))["task"] == task
    _check_predictions(folder, out, task, column, summary)


def _check_predictions(folder: Path, out: Path, task: str, column: str, summary: dict) -> None:
    table = folder / "predictions.csv"
    said = told(
        *("predict", str(out), "--data", "holdout", "--evaluate", "--json", "--out", str(table))
    )
    found = json.loads(said)["evaluation"]
    measure = BY_CHANCE[task][0]
    assert found[measure] == pytest.approx(summary["metrics"][measure], abs=1e-6)
    rows = list(csv.DictReader(table.read_text(encoding="utf-8").splitlines()))
    assert len(rows) == found["records"]
    assert all(row[column] for row in rows)
    # The same of a table of other patients, whose truth is beside them; one row has none.
    fresh = write_table(folder, task, 40, seed=9)
    lines = fresh.read_text().splitlines()
    lines[3] = ",".join(["p9", "", "", ""] + [""] * (lines[3].count(",") - 3))
    fresh.write_text("\n".join(lines) + "\n")
    said = told(
        *("predict", str(out), "--data", str(fresh), "--evaluate", "--json", "--overwrite"),
        *("--out", str(table)),
    )
    answer = json.loads(said)
    assert answer["records"] == 80
    assert answer["unread"] == [2]
    assert answer["evaluation"]["records"] == 79
    assert answer["evaluation"][measure] > BY_CHANCE[task][1] + 0.15
    if task != "ordinal":
        with pytest.raises(ArtefactError, match="'flower-simulation predict' answers all tasks"):
            told("export", str(out), "--out", str(folder / "x"))


def test_several_labels_are_learnt_privately_and_predicted(tmp_path: Path) -> None:
    check_run(tmp_path, "multi-label")


@pytest.mark.exhaustive
@pytest.mark.parametrize("task", ["regression", "ordinal", "survival"])
def test_task_is_learnt_privately_and_predicted(tmp_path: Path, task: str) -> None:
    check_run(tmp_path, task)


@pytest.mark.exhaustive
@pytest.mark.parametrize("exchange", ["weights", "cyclic", "ensemble"])
def test_labels_are_learnt_by_other_exchanges(tmp_path: Path, exchange: str) -> None:
    regime = "FSCDP" if exchange == "weights" else "FPDP"
    scheme = {} if exchange == "weights" else {"sealing__scheme": "plain"}
    settings = trained(
        tmp_path, "multi-label", exchange__name=exchange, privacy__regime=regime, **scheme
    )
    assert read_json(settings, "summary.json")["metrics"]["macro_auc"] > 0.6
    assert np.isfinite(read_json(settings, "summary.json")["metrics"]["loss"])


@pytest.mark.exhaustive
@pytest.mark.parametrize("axes", [2, 3])
def test_masks_are_learnt_privately_and_predicted(tmp_path: Path, axes: int) -> None:
    count, side, rounds = (60, 16, 8) if axes == 2 else (100, 10, 14)
    file = write_arrays(tmp_path, count, side, axes)
    settings = small_settings(
        tmp_path / "run",
        data__name=f"npz:{file}",
        data__public=True,
        data__holdout=0.25,
        partition__name="iid",
        partition__hospitals=2,
        model__name="unet",
        training__rounds=rounds,
        training__sampling_rate=0.4,
        training__learning_rate=1.0,
        training__release_every=rounds // 2,
    )
    run_app(settings)
    summary = read_json(settings, "summary.json")
    assert 0 < summary["epsilon"]["prv"] < 10
    assert summary["metrics"]["dice"] > 0.5
    run = read_run(Path(settings.run.out))
    assert {"dice", "training"} <= set(draw_all(run))
    assert "lesion" in render_report(run)
    pictures, masks = discs(6, side, axes, seed=5)
    np.savez(tmp_path / "new.npz", images=pictures, masks=masks)
    said = told(
        *("predict", settings.run.out, "--data", str(tmp_path / "new.npz"), "--evaluate", "--json"),
        *("--out", str(tmp_path / "said.csv")),
    )
    assert json.loads(said)["evaluation"]["dice"] > 0.5
    with np.load(tmp_path / "said.masks.npz") as beside:
        made = beside["masks"]
    assert made.shape == masks.shape
    shared = 2 * (made * masks).sum() / (made.sum() + masks.sum())
    assert shared > 0.5
