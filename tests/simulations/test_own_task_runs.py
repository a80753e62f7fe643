"""A task of one's own: trained by its name, refused where it mixes patients or is not allowed."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from clients.contract.faults import Fault
from clients.contract.settings import Settings
from clients.data import DatasetInfo
from clients.learning.batch import Batch
from clients.learning.dp_sgd import clipped_gradient_sum
from clients.learning.per_sample import PerSample
from clients.learning.task_loss import loss_of
from clients.models import ModelError, build_model
from clients.prediction.artefact import ArtefactError
from clients.site.own_settings import own_settings
from clients.site.site_file import read_site_file
from simulations.cli import app, main
from tests.exchange_runs import read_json, run_app
from tests.in_process import small_settings
from tests.patient_sums import one_by_one
from tests.task_data import write_table

OWN = "tests.own_tasks:Quantile"
INFO = DatasetInfo(
    name="made",
    title="made",
    task="regression",
    shape=(4,),
    classes=(),
    target_range=(0.0, 10.0),
)


def build(task: str) -> torch.nn.Module:
    settings = Settings.from_config({"task.name": task})
    return build_model(settings, replace(INFO, asked=task), 1)


def test_own_tasks_clipped_sum_is_that_of_patients_one_by_one() -> None:
    module, loss = build(OWN), loss_of(replace(INFO, asked=OWN))
    assert loss is not None
    torch.manual_seed(1)
    inputs, targets = torch.randn(6, 4), 10 * torch.rand(6)
    patients = torch.tensor([0, 1, 1, 2, 2, 2])
    batch = Batch(inputs=inputs, labels=targets, patients=patients)
    found = clipped_gradient_sum(PerSample(module, loss=loss), batch, l2_clip=0.6)
    total = one_by_one(module, loss, batch, l2_clip=0.6)
    torch.testing.assert_close(torch.from_numpy(found.total), total, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("Ranking", "mixes patients of a batch"),
        ("Drawing", "when it comes again"),
    ],
)
def test_own_task_that_is_no_sum_over_records_is_refused(name: str, why: str) -> None:
    with pytest.raises(ModelError, match=why) as caught:
        build(f"tests.own_tasks:{name}")
    assert caught.value.code == "not-private-ready"


def test_hospital_runs_own_tasks_that_its_file_lists_and_no_others(tmp_path: Path) -> None:
    file = tmp_path / "site.toml"
    text = 'hospital = "lyon"\ntrust-on-first-use = true\nany-app = true\n'
    text += '[data]\nname = "csv:x.csv"\nmost-patients = 10\n'
    file.write_text(text)
    settings = Settings.from_config({"task.name": OWN})
    with pytest.raises(Fault, match=r"task.name = .*\[allow\] functions of site.toml holds none"):
        own_settings(read_site_file(file), settings, invited=False)
    file.write_text(f'{text}[allow]\nfunctions = ["{OWN}"]\n')
    made = own_settings(read_site_file(file), settings, invited=False)
    assert made.task.name == OWN


@pytest.mark.exhaustive
def test_own_task_is_trained_privately_judged_and_predicted_with(tmp_path: Path) -> None:
    file = write_table(tmp_path, "regression", 160)
    settings = small_settings(
        tmp_path / "run",
        data__name=f"csv:{file}",
        data__public=True,
        data__holdout=0.3,
        partition__name="iid",
        partition__hospitals=2,
        training__rounds=10,
        training__learning_rate=1.0,
        training__sampling_rate=0.5,
        task__name=OWN,
    )
    run_app(settings)
    summary = read_json(settings, "summary.json")
    assert summary["task"] == OWN
    assert summary["headline"] == "below"
    assert summary["metrics"]["below"] > 0.6
    assert summary["epsilon"]["prv"] > 0
    table = tmp_path / "predictions.csv"
    words = ("predict", settings.run.out, "--data", "holdout", "--evaluate", "--json")
    run = CliRunner()
    with pytest.raises(ArtefactError, match=f"--allow {OWN}"):
        run.invoke(app, [*words, "--out", str(table)], catch_exceptions=False)
    said = run.invoke(
        app, [*words, "--out", str(table), "--allow", OWN], catch_exceptions=False
    ).output
    assert json.loads(said)["evaluation"]["below"] == pytest.approx(summary["metrics"]["below"])


def test_own_task_that_cannot_be_found_is_told_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    file = write_table(tmp_path, "regression")
    data = ["--set", f"data.name=csv:{file}"]
    assert main(["run", "default", *data, "--set", "task.name=nowhere:Quantile"]) == 2
    assert "set PYTHONPATH to its folder" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()
