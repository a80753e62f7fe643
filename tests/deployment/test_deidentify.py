"""`asclepias deidentify`: what it writes holds what it says, and it shows nobody's cells."""

from __future__ import annotations

import csv
import os
import re
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest

from clients.data import load_dataset
from deployment.cli import main

CASES = Path(os.environ.get("ASCLEPIAS_DATA", "nowhere")).parent / "cases"
DECLARED = """target = "outcome"
classes = ["low", "high"]
patient = "patient"
[ranges]
age = [0, 110]
pressure = [60, 240]
seen = ["2015-01-01", "2024-12-31"]
[kinds]
sex = ["f", "m"]
ward = ["heart", "lung", "skin", "eye"]
"""
KNOWN = ("age", "pressure", "sex", "ward")


def table(folder: Path, patients: int = 200, declared: str = DECLARED) -> Path:
    """A hospital's table, with a name and a note that nobody declared."""
    generator = np.random.default_rng(0)
    lines = ["name,patient,age,pressure,seen,sex,ward,note,outcome"]
    for number in range(patients):
        age, pressure = generator.integers(18, 99), generator.normal(130, 20)
        day = f"20{generator.integers(15, 25)}-{generator.integers(1, 13):02}-17"
        sex, ward = generator.choice(["f", "m"]), generator.choice(["heart"] * 9 + ["lung", "eye"])
        ill = "high" if pressure + age > 190 else "low"
        lines.append(
            f"Needle{number},N{number:05}X,{age},{pressure:.3f},{day},{sex},{ward},n{number},{ill}"
        )
    file = folder / "visits.csv"
    file.write_text("\n".join(lines) + "\n")
    file.with_suffix(".toml").write_text(declared)
    return file


def rows_of(file: Path) -> list[dict[str, str]]:
    with file.open(newline="") as lines:
        return list(csv.DictReader(lines))


def groups(rows: list[dict[str, str]], known: tuple[str, ...]) -> dict[object, list[str]]:
    found: dict[object, list[str]] = defaultdict(list)
    for row in rows:
        found[tuple(row[name] for name in known)].append(row["outcome"])
    return found


def test_what_is_written_is_as_alike_as_was_asked_and_trains(tmp_path, capsys) -> None:
    file = table(tmp_path)
    assert main(["deidentify", str(file), "--k", "6", "--l", "2"]) == 0
    said = capsys.readouterr().out
    made = tmp_path / "visits-deidentified.csv"
    before, rows = rows_of(file), rows_of(made)
    assert list(rows[0]) == ["patient", "age", "pressure", "seen", "sex", "ward", "outcome"]
    found = groups(rows, KNOWN)
    k = min(map(len, found.values()))
    assert k >= 6 and min(len(set(one)) for one in found.values()) == 2
    assert min(map(len, groups(before, KNOWN).values())) == 1
    assert f"k-anonymity: 1 before, {k} after." in said
    assert "l-diversity of outcome: 1 before, 2 after." in said
    assert 190 <= len(rows) <= 200 and f"Patients: 200 before, {len(rows)} after." in said
    assert "Columns left out, declared nowhere: 2." in said
    # What the model needs is still there: more than one class, some columns not empty of meaning.
    assert any(len({row[name] for row in rows}) > 1 for name in KNOWN)
    dataset = load_dataset(f"csv:{made}", "", declared=True)
    assert len(dataset.train) == len(rows) and not dataset.log.lines()


def test_what_nobody_may_know_stays_exact(tmp_path) -> None:
    file = table(tmp_path)
    assert main(["deidentify", str(file), "--known", "sex", "--known", "ward"]) == 0
    rows, before = rows_of(tmp_path / "visits-deidentified.csv"), rows_of(file)
    kept = sorted(float(row["pressure"]) for row in rows)
    assert set(kept) <= {float(row["pressure"]) for row in before} and len(kept) >= 190
    assert min(map(len, groups(rows, ("sex", "ward")).values())) >= 5


def test_one_patient_has_one_pseudonym_in_every_table_of_the_key(tmp_path) -> None:
    file = table(tmp_path)
    for out in ("a.csv", "b.csv"):
        assert main(["deidentify", str(file), "--k", "1", "--out", str(tmp_path / out)]) == 0
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()
    other = ["--key", str(tmp_path / "other.key"), "--out", str(tmp_path / "c.csv")]
    assert main(["deidentify", str(file), "--k", "1", *other]) == 0
    names = [{row["patient"] for row in rows_of(tmp_path / f"{one}.csv")} for one in "ac"]
    assert len(names[0]) == 200 and not names[0] & names[1]
    assert (tmp_path / "pseudonyms.key").stat().st_mode & 0o777 == 0o600


def test_no_cell_is_shown_whatever_goes_wrong(tmp_path, capsys, monkeypatch) -> None:
    file = table(tmp_path)
    assert main(["deidentify", str(file)]) == 0
    body = file.read_text().partition("\n")[2]
    file.write_text(body)  # without its header: the first patient stands in the first line
    out = ["--out", str(tmp_path / "x.csv")]
    assert main(["deidentify", str(file), *out]) == 2
    (tmp_path / "visits.xlsx").write_text(body)
    assert main(["deidentify", str(tmp_path / "visits.xlsx"), *out]) == 2

    def fail(*_: object) -> None:
        raise ValueError(body)

    monkeypatch.setattr("clients.data.identified.read_rows", fail)
    assert main(["deidentify", str(file), *out]) == 1
    said = "".join(capsys.readouterr())
    assert "a ValueError, whose text could hold cells" in said
    shown = {word for line in body.splitlines() for word in line.split(",") if len(word) > 4}
    assert not [word for word in sorted(shown) if word in said]
    assert not (tmp_path / "x.csv").exists()


@pytest.mark.parametrize(
    ("words", "patients", "declared", "said"),
    [
        ([], 4, DECLARED, "4 patients with an outcome, fewer than k = 5"),
        (["--l", "3"], 50, DECLARED, "l = 3, but 2 classes are declared"),
        (["--known", "weight"], 50, DECLARED, "'weight' is no column"),
        ([], 50, "unconfirmed = ['age']\n" + DECLARED, "was taken from the data"),
        ([], 50, DECLARED.replace('patient = "patient"\n', ""), "dates are shifted by patient"),
        (
            [],
            50,
            DECLARED.replace('classes = ["low", "high"]', "target-range = [0, 9]"),
            "l-diversity counts classes",
        ),
        (["--declaration", "gone.toml"], 50, DECLARED, "gone.toml does not exist"),
        (["--out", "visits.csv"], 50, DECLARED, "visits.csv exists already"),
    ],
)
def test_what_cannot_be_done_is_refused(
    tmp_path, capsys, monkeypatch, words, patients, declared, said
) -> None:
    monkeypatch.chdir(tmp_path)
    file = table(tmp_path, patients, declared)
    there = sorted(tmp_path.iterdir())
    assert main(["deidentify", file.name, *words]) == 2
    assert said in " ".join(capsys.readouterr().err.split())
    assert [one for one in sorted(tmp_path.iterdir()) if one.suffix != ".key"] == there


def test_patients_who_differ_in_how_many_rows_they_have_are_left_out_or_refused(
    tmp_path, capsys
) -> None:
    file = table(tmp_path, 30)
    lines = file.read_text().splitlines()
    file.write_text("\n".join([*lines, *lines[1:4], lines[1]]) + "\n")
    assert main(["deidentify", str(file)]) == 2
    assert "Patients differ in how many rows they have" in capsys.readouterr().err
    assert main(["deidentify", str(file), "--most-left-out", "0.1"]) == 0
    assert "Patients: 30 before, 27 after." in capsys.readouterr().out


@pytest.mark.exhaustive
@pytest.mark.skipif(not CASES.is_dir(), reason="no folder 'cases' beside ASCLEPIAS_DATA")
def test_tables_as_hospitals_write_them_come_out_or_are_refused(tmp_path, capsys) -> None:
    done = 0
    for declaration in sorted(CASES.glob("*.toml")):
        file = declaration.with_suffix(".csv")
        if not file.is_file():
            continue
        out = tmp_path / file.name
        code = main(["deidentify", str(file), "--out", str(out), "--key", str(tmp_path / "key")])
        assert code in (0, 2), file.name
        said = "".join(capsys.readouterr())
        assert not re.search(r"\bp\d{3}\b", said), file.name
        if code == 0:
            done += 1
            dataset = load_dataset(f"csv:{out}", "", declared=True)
            assert len(dataset.train) and not dataset.log.lines(), file.name
            assert not re.search(r"\bp\d{3}\b", out.read_text()), file.name
    assert done > 20
