"""What goes with one class of several alone says so of other tasks, in one sentence, and stops."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from clients.data import Cohorts, load_dataset
from clients.models import ModelError, build_model
from clients.prediction.artefact import ArtefactError, read_artefact
from clients.prediction.predictor import Predictor
from clients.prediction.private_program import compile_model
from simulations.attacks.ground import Ground
from simulations.error_messages import NotStarted
from simulations.preflight import fault_of
from simulations.scenario import find_scenario, resolve
from tests.clients.prediction.models import made_artefact
from tests.task_data import write_table


def settings_of(file: Path, *words: str):
    return resolve(find_scenario("default"), [f"data.name=csv:{file}", *words])


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["exchange.name=layers", "model.name=mlp", "privacy.regime=F"], "exchange.name = layers"),
        (
            ["exchange.name=ensemble", "exchange.vote=majority", "privacy.regime=FPDP"],
            "exchange.vote = majority",
        ),
        (["training.class-shares=learned"], "training.class-shares"),
    ],
)
def test_settings_for_classes_are_refused_for_labels(
    tmp_path: Path, words: list[str], named: str
) -> None:
    file = write_table(tmp_path, "multi-label", 12)
    settings, info = settings_of(file, *words), load_dataset(f"csv:{file}").info
    with pytest.raises(ModelError, match="not for the task 'multi-label'") as caught:
        build_model(settings, info, 1)
    assert str(caught.value).startswith(named)


def test_models_of_labels_are_not_computed_on_shares_nor_have_chances(tmp_path: Path) -> None:
    info = load_dataset(f"csv:{write_table(tmp_path, 'multi-label', 12)}").info
    file = tmp_path / "m.safetensors"
    file.write_bytes(made_artefact(info, "logistic").to_bytes())
    made = read_artefact(file)
    assert made.info.question == info.question
    with pytest.raises(ArtefactError, match="is of the task multi-label"):
        compile_model(made)
    with pytest.raises(ArtefactError, match="'flower-simulation predict' answers all tasks"):
        Predictor(made).chances(load_dataset(f"csv:{tmp_path / 'multi-label.csv'}").train.inputs)


def test_attacks_are_refused_before_anything_is_trained(tmp_path: Path) -> None:
    settings, cohorts = settings_of(write_table(tmp_path, "regression", 40)), Cohorts()
    assert fault_of(settings, cohorts) == ""
    with pytest.raises(NotStarted, match="attacks are on models that tell one class of several"):
        _ = Ground(settings=settings, cohorts=cohorts).cohort


def test_run_that_names_another_task_is_refused_by_what_looks_first(tmp_path: Path) -> None:
    settings = settings_of(write_table(tmp_path, "regression", 40), "task.name=multi-label")
    said = fault_of(settings, Cohorts())
    assert "task.name = 'multi-label' is for multi-label targets; these are regression" in said


@pytest.mark.parametrize("asked", ["survival", "no-such-task"])
def test_file_that_names_a_task_that_cannot_be_is_no_model(tmp_path: Path, asked: str) -> None:
    info = load_dataset(f"csv:{write_table(tmp_path, 'regression', 12)}").info
    made = made_artefact(info, "logistic")
    file = tmp_path / "m.safetensors"
    file.write_bytes(replace(made, info=replace(info, asked=asked)).to_bytes())
    with pytest.raises(ArtefactError, match="what it says of itself is not sound"):
        read_artefact(file)


def test_file_that_names_somebodys_task_imports_nothing_unasked(tmp_path: Path) -> None:
    info = load_dataset(f"csv:{write_table(tmp_path, 'regression', 12)}").info
    made, file = made_artefact(info, "logistic"), tmp_path / "m.safetensors"
    named = replace(info, asked="tests.not_imported:Task")
    file.write_bytes(replace(made, info=named).to_bytes())
    with pytest.raises(ArtefactError, match=r"--allow tests\.not_imported:Task"):
        Predictor(read_artefact(file))
