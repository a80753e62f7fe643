"""What a run says of its model: figures and what they mean, no NaN, and whom nothing covers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from clients.contract.plain_json import json_text
from clients.contract.settings import Settings, SettingsError
from clients.data import Cohorts, DataError, Dataset, DatasetInfo, Records
from simulations.pages.report import render_report
from simulations.pages.tables import summary_rows
from strategies.run.reading import read_run
from tests.exchange_runs import read_json, recorded, run_app
from tests.in_process import small_settings

pytestmark = pytest.mark.filterwarnings("ignore:Full backward hook is firing:UserWarning")

SHORT = {"training__rounds": 2, "training__release_every": 1, "partition__hospitals": 2}


def made(labels: np.ndarray, name: str = "made") -> Dataset:
    generator = np.random.default_rng(len(labels))
    inputs = (0.5 * labels[:, None] + generator.normal(0, 0.3, (len(labels), 2))).clip(-1, 1)
    info = DatasetInfo(name=name, title=name, task="binary", shape=(2,), classes=("no", "yes"))
    records = Records(
        inputs=inputs.astype(np.float32),
        labels=labels.astype(np.int64),
        patients=np.arange(len(labels)),
    )
    return Dataset(info=info, train=records)


def uneven(folder: Path) -> Dataset:
    return made(np.arange(200) % 10 == 0)


def one_class(folder: Path) -> Dataset:
    """The holdout is of one class: there are too few of the other to be held out."""
    return made(np.arange(200) < 2)


def other(folder: Path) -> Dataset:
    return made(np.arange(60) % 3 == 0, "other")


def other_form(folder: Path) -> Dataset:
    from dataclasses import replace

    found = made(np.arange(60) % 3 == 0, "other")
    return replace(found, info=replace(found.info, classes=("yes", "no")))


UNEVEN, ONE_CLASS = f"{__name__}:uneven", f"{__name__}:one_class"
OTHER, OTHER_FORM = f"{__name__}:other", f"{__name__}:other_form"


def strict(text: str) -> object:
    def refuse(name: str) -> object:
        raise ValueError(f"{name} is no JSON")

    return json.loads(text, parse_constant=refuse)


def rows_of(path: Path) -> dict[str, str]:
    return dict(summary_rows(read_run(path).summary))


@pytest.fixture(scope="module")
def uneven_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("uneven")
    run_app(small_settings(path, data__name=UNEVEN, privacy__delta=0.02, **SHORT))
    return path


def test_accuracy_stands_beside_the_share_of_the_commonest_class(uneven_run: Path) -> None:
    run = read_run(uneven_run)
    assert run.summary["metrics"]["majority"] == pytest.approx(0.9)
    assert run.summary["merit"]["uneven"]
    rows = rows_of(uneven_run)
    assert "0.900 of the records are no" in rows["accuracy"]
    assert {"balanced accuracy", "average precision of yes"} < set(rows)
    assert "threshold chosen on the other half" in rows["sensitivity, specificity of yes"]
    assert set(run.evaluation["merit"]["curves"][0]) == {"class", "roc", "precision_recall"}
    page = render_report(run)
    for text in ('id="classes"', "figure-roc", "figure-precision-recall", "Balanced accuracy"):
        assert text in page


def test_a_delta_above_one_in_n_is_said(uneven_run: Path) -> None:
    rows = rows_of(uneven_run)
    assert "TOO LARGE, above 1/N of N = 160 records" in rows["delta"]
    [warning] = [row for row in map(json.loads, lines(uneven_run)) if row["kind"] == "warning"]
    assert "above 1/N" in warning["message"]
    from dataclasses import replace

    run = read_run(uneven_run)
    unseeded = replace(run, summary={**run.summary, "seeded": False})
    assert "delta is above one patient in all" in render_report(unseeded)
    assert "delta is above one patient in all" not in render_report(
        replace(run, summary={**unseeded.summary, "delta": 1e-4})
    )


def test_noise_above_all_that_patients_can_say_is_said(tmp_path: Path) -> None:
    run_app(small_settings(tmp_path, privacy__noise_multiplier=900.0, **SHORT))
    [warning] = [row for row in map(json.loads, lines(tmp_path)) if row["kind"] == "warning"]
    assert "noise of 900 clips on each sum" in warning["message"]


def lines(path: Path) -> list[str]:
    return (path / "metrics.jsonl").read_text().splitlines()


def test_a_holdout_of_ones_own_patients_is_named_where_epsilon_is(uneven_run: Path) -> None:
    text = rows_of(uneven_run)["covered by no epsilon"]
    assert text == "40 records of these data: held out as public, measured on in the open"
    assert read_run(uneven_run).privacy["holdout"]["origin"] == "own"


def test_what_is_no_number_never_reaches_json(tmp_path: Path) -> None:
    settings = small_settings(tmp_path, data__name=ONE_CLASS, data__public=True, **SHORT)
    run_app(settings)
    for file in [*tmp_path.glob("*.json"), *tmp_path.glob("*.jsonl")]:
        text = file.read_text()
        for part in text.splitlines() if file.suffix == ".jsonl" else [text]:
            strict(part)
    assert read_json(settings, "summary.json")["auc"] is None
    rows = rows_of(tmp_path)
    assert rows["AUC"] == "- (the holdout has one class only)"
    assert rows["sensitivity, specificity of yes"].startswith("- (too few records")
    learnt, help = rows["it has learnt"].split("; ")
    assert learnt == "nothing: every record is said to be no" and "training.class-shares" in help
    found = strict(json_text({"a": [float("nan"), (float("inf"), 1.5)]}))
    assert found == {"a": [None, [None, 1.5]]}


def test_models_are_measured_on_other_data_and_all_patients_train(tmp_path: Path) -> None:
    settings = small_settings(tmp_path, data__name=UNEVEN, data__holdout_from=OTHER, **SHORT)
    cohort = Cohorts().of(settings)
    assert (cohort.patients, len(cohort.holdout), cohort.origin) == (200, 60, "other")
    trained = np.concatenate([one.patient_ids for one in cohort.records.values()])
    assert not np.isin(cohort.holdout.patients, trained).any()
    run_app(settings)
    summary = read_json(settings, "summary.json")
    assert summary["metrics"]["majority"] == pytest.approx(2 / 3)
    assert rows_of(tmp_path)["covered by no epsilon"] == (
        f"nobody of these data; models are measured on 60 records of {OTHER}"
    )


def test_data_of_another_form_measure_nothing(tmp_path: Path) -> None:
    settings = small_settings(tmp_path, data__name=UNEVEN, data__holdout_from=OTHER_FORM, **SHORT)
    with pytest.raises(DataError, match=r"its classes is \('yes', 'no'\)"):
        Cohorts().of(settings)


def test_nothing_is_measured_on_what_was_learnt_from() -> None:
    with pytest.raises(SettingsError, match="measured on the records that they learn from"):
        Settings.from_config({"data.name": "csv:a.csv", "data.holdout-from": "csv:a.csv"})


def test_without_a_holdout_nothing_is_measured_and_that_is_said(tmp_path: Path) -> None:
    settings = small_settings(tmp_path, data__name=UNEVEN, data__holdout_from="none", **SHORT)
    run_app(settings)
    summary = read_json(settings, "summary.json")
    assert summary["status"] == "finished" and summary["accuracy"] is None
    assert summary["patients"] == 200
    assert all("accuracy" not in row for row in recorded(settings, "release"))
    rows = rows_of(tmp_path)
    assert rows["accuracy"] == rows["AUC"] == "- (nothing was measured: data.holdout-from is none)"
    assert rows["covered by no epsilon"] == "nobody of these data; nothing is measured"
    assert (tmp_path / "predictor.safetensors").is_file()
    assert "Not known: nothing was measured" in render_report(read_run(tmp_path))
