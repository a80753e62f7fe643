"""Tables as hospitals write them: each comes out right by the cell, or a sentence refuses it."""

from __future__ import annotations

import csv
import os
import re
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
import pytest

from clients.contract.settings import Settings
from clients.data import Cohorts, DataError, load_dataset
from clients.data.declaration import read_declaration

CASES = Path(os.environ.get("ASCLEPIAS_DATA", "")).parent / "cases"
pytestmark = pytest.mark.skipif(
    not (CASES / "README.md").is_file(), reason="no folder 'cases' beside ASCLEPIAS_DATA"
)


@dataclass(frozen=True, kw_only=True)
class Read:
    """A case that can be read: how it is written, and which rows differ from what they say.

    Attributes:
        separator, encoding: how an independent reader reads it.
        missing: (row, column) of cells that are no value.
        out: rows that are left out.
        said: part of what the log says, "" for nothing.
    """

    separator: str = ","
    encoding: str = "utf-8-sig"
    missing: tuple[tuple[int, str], ...] = ()
    out: tuple[int, ...] = ()
    said: str = ""


READ = {
    "ok": Read(),
    "missing-na-slash": Read(missing=tuple((row, "age") for row in (5, 6, 7, 8, 9))),
    "missing-minus9": Read(
        missing=tuple((row, "age") for row in range(2, 62, 5)), said="age: '-9', expected 0 to 110"
    ),
    "missing-999": Read(missing=((7, "age"),), said="age: '999', expected 0 to 110"),
    "european": Read(separator=";"),
    "semicolon": Read(separator=";"),
    "tab": Read(separator="\t"),
    "latin1": Read(encoding="latin-1"),
    "bom": Read(),
    "crlf-quoted": Read(),
    "kind-case": Read(),
    "kind-unknown": Read(missing=((11, "sex"),), said="sex: 'unknown', expected f, m"),
    "label-case": Read(),
    "label-missing": Read(out=(11,), said="no outcome: the record is out: 1"),
    "date": Read(),
    "unit": Read(missing=((12, "bp"),), said='a unit is read with [units] bp = {"mmHg" = 1}'),
    "censored": Read(missing=((12, "bp"),), said='a bound is read with [censored] bp = "bound"'),
    "outlier": Read(missing=((12, "bp"),), said="bp: '1e9', expected 60 to 240"),
    "pid-missing": Read(out=(6,), said="row 6, column pid: '', expected an identifier"),
    "dup-across-hospitals": Read(),
    "single-class-hospital": Read(),
    "no-patients-hospital": Read(),
    "one-patient-hospital": Read(),
    "wide200": Read(),
    "ragged": Read(),
    "int-classes": Read(),
    "float-classes": Read(),
}
REFUSED = {
    "date-num": r"'2020-01-01', expected a number; .*\[ranges\] visit = \[\"2015-01-01\"",
    "constant": r"constant.toml: ranges.bp = \[120, 120\].*leave it out, or declare what it could",
    "regression": r"regression.toml: declares no classes of 'outcome'.*declare target-range = ",
    "survival": r"survival.toml: unknown key 'time': .*target names the column of times",
    "multilabel": (
        r"'Effusion\|Mass'.*label-separator = \"\|\" and labels = \[\"Effusion\", \"Mass\"\], "
        r"or for one alone two classes, .*\"Effusion\""
    ),
    "no-toml": r"no-toml.toml does not exist.*'flower-simulation describe'",
    "empty": r"empty.csv: no row below the header",
    "dupcol": r"dupcol.csv: two columns 'age': rename or remove one",
}
LABELS = {"alive": 0, "dead": 1, "0": 0, "1": 1, "0.0": 0, "1.0": 1}


def test_every_table_of_the_folder_is_a_case():
    assert {file.stem for file in CASES.glob("*.csv")} == {*READ, *REFUSED}


def _read_otherwise(name: str, case: Read):
    """Read a table with Python's own reader; returns inputs, labels, patients and hospitals."""
    with (CASES / f"{name}.csv").open(encoding=case.encoding, newline="") as file:
        rows = list(csv.DictReader(file, delimiter=case.separator))
    inputs, labels, patients, hospitals = [], [], [], []
    for number, row in enumerate(rows, start=2):
        if number in case.out:
            continue
        low_high = {"age": (0, 110), "bp": (60, 240)}
        value = {}
        for column, (low, high) in low_high.items():
            if (number, column) in case.missing:
                value[column] = 0.0
                continue
            found = float(row[column].replace(",", "."))
            assert low <= found <= high
            value[column] = 2 * (found - low) / (high - low) - 1
        line = [value["age"], value["bp"]]
        if name == "date":
            first, last = date(2015, 1, 1), date(2025, 1, 1)
            days = (date.fromisoformat(row["visit"]) - first).days
            line.append(2 * days / (last - first).days - 1)
        sex = 0.0 if (number, "sex") in case.missing else {"f": 1.0, "m": -1.0}[row["sex"].lower()]
        inputs.append([*line, sex, -sex])
        labels.append(LABELS[row["outcome"].lower()])
        patients.append(row["pid"])
        hospitals.append(row["site"])
    return np.asarray(inputs, dtype=np.float32), labels, patients, hospitals


@pytest.mark.parametrize("name", READ)
def test_a_table_comes_out_right_cell_by_cell(name):
    case = READ[name]
    loaded = load_dataset(f"csv:{name}.csv", CASES)
    inputs, labels, patients, hospitals = _read_otherwise(name, case)
    np.testing.assert_allclose(loaded.train.inputs, inputs, atol=1e-7)
    assert loaded.train.labels.tolist() == labels
    assert [loaded.patient_names[one] for one in loaded.train.patients] == patients
    assert [loaded.hospital_names[one] for one in loaded.train.hospitals] == hospitals
    said = " ".join(loaded.log.lines())
    assert case.said in said and bool(said) == bool(case.said)


@pytest.mark.parametrize("name", REFUSED)
def test_a_table_that_is_not_meant_so_is_refused_by_one_sentence(name):
    with pytest.raises(DataError, match=REFUSED[name]) as caught:
        load_dataset(f"csv:{name}.csv", CASES)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", REFUSED)
def test_of_a_hospitals_own_rows_none_is_a_reason_to_refuse(name):
    # What the rows hold must not decide on an answer; the header and the declaration may.
    if name in ("date-num", "multilabel", "empty"):
        assert load_dataset(f"csv:{name}.csv", CASES, declared=True).log or name == "empty"
    else:
        with pytest.raises(DataError, match=REFUSED[name]):
            load_dataset(f"csv:{name}.csv", CASES, declared=True)


def _split(name: str):
    config = {
        "data.name": f"csv:{name}.csv",
        "data.dir": str(CASES),
        "partition.name": "natural",
        "partition.hospitals": 3,
    }
    return Cohorts().of(Settings.from_config(config))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "dup-across-hospitals",
            r"patients p000, p001, p002 and 17 more lie in two or more hospitals",
        ),
        (
            "no-patients-hospital",
            r"data come from 2 real hospitals \(lyon, turin\): set it to 2",
        ),
        ("ragged", r"partition.hospitals is 3, but there (is 1 patient|are 0 patients) to deal"),
        ("latin1", r"4 real hospitals \(Besançon, berlin, lyon, turin\)"),
    ],
)
def test_hospitals_that_cannot_be_so_are_named(name, message):
    with pytest.raises(DataError, match=message):
        _split(name)


@pytest.mark.parametrize("name", ["ok", "single-class-hospital", "one-patient-hospital"])
def test_uneven_hospitals_train(name):
    cohort = _split(name)
    assert cohort.names == ("berlin", "lyon", "turin") and cohort.patients > 20


@pytest.mark.parametrize(
    ("name", "declared", "row", "column", "value"),
    [
        ("unit", "[units]\nbp = {mmHg = 1, kPa = 7.5}", 12, 1, 120),
        ("censored", '[censored]\nbp = "bound"', 12, 1, 90),
        ("censored", '[censored]\nbp = "half"', 12, 1, None),
    ],
)
def test_units_and_bounds_are_read_as_declared(tmp_path, name, declared, row, column, value):
    for suffix in ("csv", "toml"):
        (tmp_path / f"it.{suffix}").write_bytes((CASES / f"{name}.{suffix}").read_bytes())
    with (tmp_path / "it.toml").open("a") as file:
        file.write(f"\n{declared}\n")
    loaded = load_dataset("csv:it.csv", tmp_path)
    expected = 0.0 if value is None else 2 * (value - 60) / 180 - 1
    assert loaded.train.inputs[row - 2, column] == pytest.approx(expected)
    assert bool(loaded.log) == (value is None)


def test_two_hospitals_that_declare_differently_differ_in_what_the_terms_hold():
    folder = CASES / "deploy-mismatch"
    lyon, turin = (read_declaration(folder / f"{name}-visits.toml") for name in ("lyon", "turin"))
    found = {key for key, value in lyon.public().items() if turin.public()[key] != value}
    assert found == {"classes", "ranges: age"}


def test_labels_joined_in_a_cell_are_read_as_one_against_the_rest(tmp_path):
    (tmp_path / "it.csv").write_bytes((CASES / "multilabel.csv").read_bytes())
    text = (CASES / "multilabel.toml").read_text()
    text = re.sub("classes = .*", 'classes = ["other", "Mass"]\nlabel-separator = "|"', text)
    (tmp_path / "it.toml").write_text(text)
    loaded = load_dataset("csv:it.csv", tmp_path)
    with (CASES / "multilabel.csv").open() as file:
        expected = ["Mass" in row["outcome"].split("|") for row in csv.DictReader(file)]
    assert loaded.train.labels.tolist() == expected and not loaded.log
