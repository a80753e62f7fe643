"""Targets that are no classes: declared, read cell by cell, and part of the terms."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from clients.contract.settings import Settings
from clients.data import DataError, load_dataset
from clients.data.cohort import split_cohort
from clients.data.public_facts import declaration_of, facts_from_elsewhere, public_facts
from tests.task_data import DECLARED, write_table

_INPUTS = '\npatient = "who"\n[ranges]\nage = [0, 100]\n'


def read(folder: Path, said: str, rows: list[str], header: str):
    file = folder / "t.csv"
    file.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    file.with_suffix(".toml").write_text(said + _INPUTS, encoding="utf-8")
    return load_dataset(f"csv:{file}", declared=True)


def test_labels_are_columns_of_ones_and_noughts(tmp_path: Path) -> None:
    rows = ["p1,50,1,0", "p2,50,0,-1", "p3,50,,1.0", "p4,50,true,False", "p5,50,,", "p6,50,2,0"]
    found = read(tmp_path, 'labels = ["mass", "effusion"]', rows, "who,age,mass,effusion")
    assert found.train.labels.tolist() == [[1, 0], [0, -1], [-1, 1], [1, 0]]
    assert [found.patient_names[k] for k in found.train.patients] == ["p1", "p2", "p3", "p4"]
    assert found.info.task == "multi-label"
    assert any("'2', '0'" in line for line in found.log.lines())


def test_labels_of_one_cell_are_told_apart(tmp_path: Path) -> None:
    said = 'target = "finding"\nlabel-separator = "|"\nlabels = ["Mass", "Effusion"]'
    rows = ["p1,50,Effusion|Mass", "p2,50,No Finding", "p3,50,effusion", "p4,50,"]
    found = read(tmp_path, said, rows, "who,age,finding")
    assert found.train.labels.tolist() == [[1, 1], [0, 0], [0, 1]]


def test_measurement_is_clipped_to_its_declared_range(tmp_path: Path) -> None:
    rows = ["p1,50,12.5", "p2,50,500", "p3,50,-3", "p4,50,?", "p5,50,many"]
    found = read(tmp_path, 'target = "y"\ntarget-range = [0, 100]', rows, "who,age,y")
    assert found.train.labels.tolist() == [12.5, 100.0, 0.0]
    assert found.train.labels.dtype == np.float32
    assert found.info.target_range == (0.0, 100.0)


def test_times_come_with_what_happened_then(tmp_path: Path) -> None:
    said = 'target = "t"\nevent = "state"\nclasses = ["alive", "dead"]\nhorizons = [1, 2.5]'
    rows = ["p1,50,0.5,dead", "p2,50,3,Alive", "p3,50,-1,dead", "p4,50,2,", "p5,50,2,lost"]
    found = read(tmp_path, said, rows, "who,age,t,state")
    assert found.train.labels.tolist() == [[0.5, 1.0], [3.0, 0.0]]
    assert found.info.horizons == (1.0, 2.5)


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ('labels = ["a", "A"]', "names 'A' twice"),
        ('labels = ["a"]\nclasses = ["x", "y"]', "labels and classes"),
        ('target = "y"\ntarget-range = [5, 5]', "always the same"),
        ('target = "y"\ntarget-range = [0, 9]\nclasses = ["x", "y"]', "a measurement has none"),
        ('target = "y"\ntarget-range = ["2020-01-01", "2021-01-01"]', "expected two numbers"),
        ('target = "y"\nhorizons = [2, 1]\nevent = "e"', "ascending"),
        ('target = "y"\nhorizons = [0, 1]\nevent = "e"', "above 0"),
        ('target = "y"\nhorizons = [1]', "the column that says whether the event was seen"),
        ('target = "y"\nevent = "e"\nclasses = ["x", "y"]', "event goes with horizons"),
        ('target = "y"\nhorizons = [1]\ntarget-range = [0, 1]', "another kind of target"),
        ('labels = ["age"]', "is the label 'age' and in"),
        ('target = "y"\ntime = "z"', "target names the column of times"),
        ('target = "y"', "horizons = [1, 2, 5]"),
    ],
)
def test_declaration_that_cannot_be_is_refused(tmp_path: Path, said: str, why: str) -> None:
    with pytest.raises(DataError) as caught:
        read(tmp_path, said, [], "who,age,y,e,a")
    assert why in str(caught.value)
    assert caught.value.code == "declaration"


@pytest.mark.parametrize("task", list(DECLARED))
def test_declared_targets_come_back_from_the_terms(tmp_path: Path, task: str) -> None:
    info = load_dataset(f"csv:{write_table(tmp_path, task, 10)}").info
    again = declaration_of(info)
    assert (again.task, again.names, again.span) == (info.task, info.classes, info.target_range)
    assert again.horizons == info.horizons
    assert again.public() == dict(info.declared)
    assert facts_from_elsewhere(info.said()).question == info.question


def test_other_horizons_and_ranges_are_other_terms(tmp_path: Path) -> None:
    facts = {}
    for key, said in {"short": "[1, 2]", "long": "[1, 5]"}.items():
        folder = tmp_path / key
        folder.mkdir()
        text = f'target = "t"\nevent = "e"\nhorizons = {said}'
        facts[key] = public_facts(read(folder, text, ["p1,50,1,1"], "who,age,t,e").info)
    assert facts["short"] != facts["long"]
    assert ("horizons", "[1.0, 2.0]") in facts["short"].declared


def test_table_of_classes_says_no_more_than_it_did(tmp_path: Path) -> None:
    info = read(tmp_path, 'target = "y"\nclasses = ["n", "j"]', ["p1,50,n"], "who,age,y").info
    assert list(info.declared) == ["classes", "columns", "ranges: age"]
    assert not {"target_range", "horizons", "asked"} & set(info.said())


def test_task_of_other_targets_is_refused_before_anything_starts(tmp_path: Path) -> None:
    dataset = load_dataset(f"csv:{write_table(tmp_path, 'regression', 30)}")
    settings = Settings.from_config({"task.name": "survival", "partition.name": "iid"})
    with pytest.raises(DataError, match="is for survival targets; these are regression"):
        split_cohort(dataset, settings, 2)


@pytest.mark.parametrize("task", ["multi-label", "regression", "survival"])
def test_holdout_has_its_part_of_each_stratum(tmp_path: Path, task: str) -> None:
    dataset = load_dataset(f"csv:{write_table(tmp_path, task, 200)}")
    settings = Settings.from_config({"partition.name": "dirichlet", "data.holdout": 0.25})
    cohort, question = split_cohort(dataset, settings, 3), dataset.info.question
    whole = np.bincount(question.strata(dataset.train.labels))
    held = np.bincount(question.strata(cohort.holdout.labels), minlength=len(whole))
    assert np.abs(held - 0.25 * whole).max() <= 10
    assert len(question.stratum_names) >= len(whole)


def _arrays(file: Path, said: str, **arrays: np.ndarray):
    np.savez(file, **arrays)
    file.with_suffix(".toml").write_text(said, encoding="utf-8")
    return load_dataset(f"npz:{file}", declared=True)


def test_arrays_hold_a_column_for_each_label(tmp_path: Path) -> None:
    pictures = np.zeros((4, 8, 8), dtype=np.uint8)
    labels = np.array([[1, 0], [1, 1], [0, np.nan], [7, 0]])
    file, said = tmp_path / "a.npz", 'labels = ["mass", "effusion"]'
    found = _arrays(file, said, train_images=pictures, train_labels=labels)
    assert found.train.labels.tolist() == [[1, 0], [1, 1], [0, -1]]
    with pytest.raises(DataError, match="a column for each of mass, effusion"):
        _arrays(file, said, train_images=pictures, train_labels=np.zeros(4))


def test_arrays_hold_measurements_and_times(tmp_path: Path) -> None:
    rows = np.zeros((3, 5), dtype=np.float32)
    found = _arrays(
        tmp_path / "m.npz",
        "target-range = [0, 10]\n[ranges]\nvalues = [-1, 1]",
        train_images=rows,
        train_labels=np.array([1.5, 99.0, np.nan]),
    )
    assert found.train.labels.tolist() == [1.5, 10.0]
    found = _arrays(
        tmp_path / "s.npz",
        "horizons = [1, 2]\n[ranges]\nvalues = [-1, 1]",
        train_images=rows,
        train_labels=np.array([[1.0, 1], [2.0, 0], [-1.0, 1]]),
    )
    assert found.train.labels.tolist() == [[1.0, 1.0], [2.0, 0.0]]


def test_manifest_in_the_form_of_chest_xrays_names_several_findings(tmp_path: Path) -> None:
    from PIL import Image

    rows = ["Image Index,Finding Labels,Patient ID,split"]
    for number, finding in enumerate(["Mass|Effusion", "No Finding", "Effusion", ""]):
        Image.fromarray(np.full((8, 8), 40 * number, dtype=np.uint8)).save(
            tmp_path / f"{number:08d}_000.png"
        )
        part = "test" if number == 2 else "train"
        rows.append(f"{number:08d}_000.png,{finding},{number},{part}")
    (tmp_path / "entries.csv").write_text("\n".join(rows) + "\n")
    (tmp_path / "dataset.toml").write_text(
        'target = "Finding Labels"\nlabels = ["Effusion", "Mass", "Nodule"]\n'
        'label-separator = "|"\npatient = "Patient ID"\n[pictures]\nmanifest = "entries.csv"\n'
        'file = "Image Index"\nsplit = "split"\nchannels = 1\n'
    )
    found = load_dataset(f"image-folder:{tmp_path}", image_size=8, declared=True)
    assert found.train.labels.tolist() == [[1, 1, 0], [0, 0, 0]]
    assert found.test is not None
    assert found.test.labels.tolist() == [[1, 0, 0]]
    assert found.info.question.names == ("Effusion", "Mass", "Nodule")


def test_cells_of_several_labels_are_drafted_as_labels_that_train(tmp_path: Path) -> None:
    from clients.data.drafting import draft

    cells = ["Mass|Effusion", "No Finding", "Effusion", "Mass", "Nodule|Mass", "No Finding", ""]
    rows = [f"p{k},{50 + k},{cell}" for k, cell in enumerate(cells)]
    file = tmp_path / "films.csv"
    file.write_text("\n".join(["patient,age,Finding Labels", *rows]) + "\n")
    drafted = draft(file)
    assert 'labels = ["Effusion", "Mass", "Nodule"]' in drafted.text
    assert "perhaps none at all: No Finding" in drafted.text
    file.with_suffix(".toml").write_text(drafted.text)
    found = load_dataset(f"csv:{file}", unconfirmed=True)
    assert found.train.labels.tolist()[:3] == [[1, 1, 0], [0, 0, 0], [1, 0, 0]]
    assert len(found.train) == 6


def test_shares_of_classes_are_not_learnt_where_there_are_no_classes(tmp_path: Path) -> None:
    from simulations.scenario import find_scenario, resolve

    labels, grades = (write_table(tmp_path, one, 20) for one in ("multi-label", "ordinal"))
    scenario = find_scenario("default")
    said = [resolve(scenario, [f"data.name=csv:{one}"]).training for one in (labels, grades)]
    assert [one.class_shares for one in said] == ["", "learned"]
