"""Looking at one's own data: what is drafted, what is said to be odd, what a check finds."""

from __future__ import annotations

import json
import os
import tomllib
from datetime import date, timedelta
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from PIL import Image

from clients.contract.settings import Settings
from clients.data import Cohorts, DataError, load_dataset
from clients.data.declaration import declared, json_schema
from clients.data.draft import class_line
from clients.data.drafting import draft
from simulations.cli import main

ROOT = Path(__file__).parents[2]
CASES = Path(os.environ.get("ASCLEPIAS_DATA", "")).parent / "cases"

#: A table with oddities of many kinds, as a hospital of the continent writes it.
ODD = "patient;site;aufnahme;alter;crp;gewicht;sex;befund;outcome"


@pytest.fixture(autouse=True)
def wide(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")


def odd_table(folder: Path) -> Path:
    generator = np.random.default_rng(0)
    lines = [ODD]
    for row in range(120):
        day = date(2019, 1, 1) + timedelta(days=row * 7)
        age = "999" if row % 17 == 0 else str(20 + row % 70)
        crp = "<5" if row % 4 == 0 else f"{row / 3:.1f}".replace(".", ",")
        weight = f"{1000 + row * 30 + 0.5:,.1f}".translate(str.maketrans(",.", ".,"))
        lines.append(
            f"p{row // 2};{('Köln', 'Lyon')[row // 60]};{day:%d.%m.%Y};{age};{crp};{weight} g;"
            f"{('f', 'M', 'm', 'F')[row % 4]};frei {generator.integers(10**6)};{row % 3 == 0}"
        )
    file = folder / "visite.csv"
    file.write_bytes("\r\n".join(lines).encode("cp1252"))
    return file


def run(capsys, *words: str) -> tuple[int, str]:
    code = main(["describe", *words])
    captured = capsys.readouterr()
    return code, captured.out + captured.err


def test_a_table_of_oddities_is_drafted_confirmed_and_read(tmp_path, capsys):
    file = odd_table(tmp_path)
    code, out = run(capsys, str(file))
    assert code == 0 and "alter: '999' looks like a code for: not measured" in out
    said = tomllib.loads((tmp_path / "visite.toml").read_text())
    assert said["file"] == {
        "separator": ";",
        "decimal": ",",
        "thousands": ".",
        "encoding": "cp1252",
        "dates": "%d.%m.%Y",
    }
    assert (said["target"], said["patient"], said["hospital"]) == ("outcome", "patient", "site")
    assert said["missing"]["of"] == {"alter": ["999"]}
    assert said["censored"] == {"crp": "bound"} and said["units"] == {"gewicht": {"g": 1}}
    assert said["ranges"]["aufnahme"] == ["2018-01-01", "2022-12-31"]
    assert said["unconfirmed"] == ["classes", "aufnahme", "alter", "crp", "gewicht", "sex"]
    assert "--set partition.name=natural" in out
    with pytest.raises(DataError, match="of classes, aufnahme, alter"):
        load_dataset(f"csv:{file}")
    for regime, public in (("FSCDP", True), ("FPDP", False), ("F", False)):
        config = {"data.name": f"csv:{file}", "data.public": public, "partition.hospitals": 2}
        settings = Settings.from_config({**config, "privacy.regime": regime})
        if regime == "F":
            assert Cohorts().of(settings).patients
        else:
            with pytest.raises(DataError, match="of classes, aufnahme, alter"):
                Cohorts().of(settings)
    code, out = run(capsys, str(file), "--check", "visite.toml")
    assert code == 0 and "not confirmed" in out and "60 patients" in out
    text = (tmp_path / "visite.toml").read_text()
    (tmp_path / "visite.toml").write_text(
        "\n".join("" if line.startswith("unconfirmed") else line for line in text.splitlines())
    )
    loaded = load_dataset(f"csv:{file}")
    low, high = said["ranges"]["gewicht"]
    column = list(said["ranges"]).index("gewicht")
    weights = (loaded.train.inputs[:, column] + 1) / 2 * (high - low) + low
    np.testing.assert_allclose(weights, 1000.5 + 30 * np.arange(120), rtol=1e-5)
    assert not loaded.log and loaded.train.labels.sum() == 40
    code, out = run(capsys, str(file), "--check", "visite.toml")
    assert code == 0 and "visite.toml fits." in out


def test_an_existing_declaration_is_left_alone(tmp_path, capsys):
    file = odd_table(tmp_path)
    (tmp_path / "visite.toml").write_text("mine")
    assert "left alone" in run(capsys, str(file))[1]
    assert (tmp_path / "visite.toml").read_text() == "mine"
    code, out = run(capsys, str(file), "--out", "-")
    assert code == 0 and tomllib.loads(out)["target"] == "outcome"
    run(capsys, str(file), "--out", "other.toml")
    assert tomllib.loads(Path("other.toml").read_text())["target"] == "outcome"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "name a table, a folder, or an npz file"),
        (["absent.csv"], "absent.csv does not exist"),
        (["visite.csv", "--out", "absent/it.toml"], "cannot be written"),
    ],
)
def test_what_is_asked_wrongly_says_what_to_do(tmp_path, capsys, words, message):
    odd_table(tmp_path)
    code, out = run(capsys, *words)
    assert code == 2 and message in out


def test_a_declaration_that_does_not_fit_is_a_failure(tmp_path, capsys):
    file = odd_table(tmp_path)
    run(capsys, str(file))
    declaration = tmp_path / "visite.toml"
    drafted = declaration.read_text()
    declaration.write_text(drafted.replace('decimal = ","', 'decimal = "."', 1))
    code, out = run(capsys, str(file), "--check", "visite.toml")
    assert code == 2 and "decimal and thousands are both '.'" in out
    declaration.write_text(drafted.replace("[ranges]", "[ranges]\nheight = [0, 1]"))
    code, out = run(capsys, str(file), "--check", "visite.toml")
    assert code == 2 and "no column 'height'" in out


def test_a_folder_of_tables_is_drafted_as_one(tmp_path, capsys):
    whole = odd_table(tmp_path).read_bytes().decode("cp1252").splitlines()
    folder = tmp_path / "visits"
    folder.mkdir()
    (folder / "koeln.csv").write_text("\n".join([whole[0], *whole[1:61]]))
    (folder / "lyon.csv").write_text("\n".join([whole[0], *whole[61:]]))
    code, out = run(capsys, "visits")
    assert code == 0 and "120 rows" in out and "partition.hospitals=2" in out
    loaded = load_dataset("csv:visits/*.csv", tmp_path, unconfirmed=True)
    assert loaded.hospital_names == ("koeln", "lyon") and len(loaded.train) == 120


def test_arrays_are_drafted_with_the_range_of_their_numbers(tmp_path, capsys):
    images = (np.arange(20 * 64).reshape(20, 8, 8) * 3).astype(np.uint16)
    np.savez("scans.npz", train_images=images, train_labels=np.repeat([1, 2], 10))
    code, out = run(capsys, "scans.npz")
    assert code == 0 and "train_images: uint16 [20, 8, 8]" in out
    assert "each image counts as a patient of its own" in out
    with pytest.raises(DataError, match="of classes, values was taken"):
        load_dataset("npz:scans", tmp_path)
    code, out = run(capsys, "scans.npz", "--check", "scans.toml")
    assert code == 0 and "20 records: 1 10, 2 10" in out and "no patients are named" in out
    np.savez("scans.npz", train_images=images[:, :, :, None], train_labels=images[:, :2, 0] / 3.5)
    code, out = run(capsys, "scans.npz", "--out", "-")
    assert code == 0 and tomllib.loads(out)["classes"] == ["0", "1"]


@pytest.mark.parametrize(
    ("head", "target"),
    [
        ("Fallnr;Alter;Ausgang", "Ausgang"),  # one column holds what ends tell apart
        ("Fallnr;Alter;outcome", "outcome"),
        ("Fallnr;Alter;Ausgang;spaeter", ""),  # two do: nobody guesses
    ],
)
def test_an_outcome_is_known_by_what_stands_in_it(tmp_path, capsys, head, target):
    ends = [("lebt", "verstorben")[row % 3 == 0] for row in range(30)]
    rows = [f"P{row:03d};{20 + row};{end};{end}" for row, end in enumerate(ends)]
    width = head.count(";") + 1
    lines = [head, *(";".join(row.split(";")[:width]) for row in rows)]
    (tmp_path / "klinik.csv").write_text("\n".join(lines) + "\n")
    code, out = run(capsys, "klinik.csv", "--out", "-")
    drafted = tomllib.loads(out)
    assert code == 0 and drafted["target"] == target
    assert drafted["classes"] == (["lebt", "verstorben"] if target else [])


def test_what_a_run_refuses_of_patients_in_arrays_is_said_beforehand(tmp_path, capsys):
    images, labels = np.zeros((6, 8, 8), np.uint8), np.array([0, 1] * 3)
    whole = {"train_images": images, "train_labels": labels, "train_patient": np.arange(6) // 2}
    held_out = {"test_images": images, "test_labels": labels}
    np.savez("scans.npz", **whole, **held_out)
    code, out = run(capsys, "scans.npz")
    assert code == 0 and "train_patient, but no test_patient: add it, or leave out both" in out
    np.savez("scans.npz", **whole, train_hospital=np.array(list("aaabbb")))
    code, out = run(capsys, "scans.npz")
    assert code == 0 and "train_patient: 1 patient is in several hospitals (1)" in out


def test_every_key_of_the_format_is_in_the_schema_and_on_the_page(tmp_path, capsys):
    code, out = run(capsys, "--schema")
    assert code == 0 and json.loads(out) == json_schema()
    kept = json.loads((ROOT / "docs/declaration.schema.json").read_text())
    assert kept == json_schema(), "write it again: describe --schema > docs/declaration.schema.json"
    page = (ROOT / "docs/data.md").read_text()
    for key in json_schema()["properties"]:
        assert f"`{key}`" in page or f"`[{key}]`" in page, key
    jsonschema.validate(tomllib.loads(draft(odd_table(tmp_path)).text), json_schema())
    for wrong in ({"clases": []}, {"ranges": {"age": [0]}}, {"file": {"decimal": ";"}}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(wrong, json_schema())
        with pytest.raises(DataError):
            declared(wrong, tmp_path)


def test_declarations_on_the_page_are_sound(tmp_path):
    page = (ROOT / "docs/data.md").read_text()
    blocks = [block.split("```")[0] for block in page.split("```toml\n")[1:]]
    assert len(blocks) > 1
    for block in blocks:
        declared(tomllib.loads(block), tmp_path)


@pytest.mark.skipif(not CASES.is_dir(), reason="no folder 'cases' beside ASCLEPIAS_DATA")
def test_tables_as_hospitals_write_them_are_read_by_their_drafts(tmp_path):
    # What is not the outcome's own fault, or a constant's, is read without a word.
    for name in ("european", "latin1", "bom", "tab", "unit", "censored", "missing-999", "date",
                 "missing-minus9", "missing-na-slash", "multilabel", "float-classes",
                 "no-toml", "wide200", "kind-unknown", "kind-case"):  # fmt: skip
        drafted = draft(CASES / f"{name}.csv")
        (tmp_path / "it.toml").write_text(drafted.text)
        loaded = load_dataset(
            f"csv:{CASES / name}.csv", unconfirmed=True, declaration=tmp_path / "it.toml"
        )
        assert not loaded.log, (name, loaded.log.lines())
        assert len(loaded.train) == drafted.rows
        assert loaded.info.has_patient_ids and loaded.info.has_hospital_ids


@pytest.mark.skipif(not CASES.is_dir(), reason="no folder 'cases' beside ASCLEPIAS_DATA")
def test_folders_as_hospitals_export_them_are_read_by_their_drafts(tmp_path):
    expected = {"nested": 3, "flat": 6, "owners": 6, "owners2": 6}
    for folder in sorted((CASES / "img").iterdir()):
        if folder.name in ("dcm", "nifti"):
            continue  # neither is what its name says
        drafted = draft(folder)
        (tmp_path / "it.toml").write_text(drafted.text)
        jsonschema.validate(tomllib.loads(drafted.text), json_schema())
        loaded = load_dataset(
            f"image-folder:{folder}",
            declared=True,
            unconfirmed=True,
            declaration=tmp_path / "it.toml",
        )
        inputs = np.asarray(loaded.train.inputs)
        odd = folder.name in ("corrupt", "notimage", "masks")
        assert bool(loaded.log) == odd, (folder.name, loaded.log.lines())
        assert np.nanstd(inputs) > 0.1 and len(loaded.train) >= 12
        unit = "patient" if folder.name in expected else "record"
        assert loaded.info.unit == unit, folder.name
        if folder.name in expected:
            assert len(loaded.train.patient_ids) == expected[folder.name]
        assert ("cannot be read" in " ".join(drafted.oddities)) == (
            folder.name in ("corrupt", "notimage")
        )


def test_a_folder_without_pictures_says_so(tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    code, out = run(capsys, "empty")
    assert code == 2 and "no picture in it" in out


@pytest.mark.parametrize(
    ("found", "declared_so"),
    [
        (["alive", "Dead"], ["alive", "Dead"]),
        (["Survived", "died"], ["Survived", "died"]),
        (["Pneumonie", "normal"], ["normal", "Pneumonie"]),
        (["yes", "No"], ["No", "yes"]),
        (["10", "9", "-1"], ["-1", "9", "10"]),
        (["b", "A", "none"], ["none", "A", "b"]),
    ],
)
def test_of_two_classes_the_one_looked_for_is_drafted_last(found, declared_so):
    line = class_line(found)
    assert tomllib.loads(line)["classes"] == declared_so
    said = f'sensitivity and precision are of the last, "{declared_so[-1]}"'
    assert (said in line) == (len(found) == 2)


def test_columns_that_repeat_another_are_left_out_and_one_that_repeats_the_outcome_is_named(
    tmp_path, capsys
):
    rows = [f"p{n};{n % 9};{n % 9};{'NY'[n % 2]};{'ny'[n % 2]};{n % 5}" for n in range(40)]
    (tmp_path / "v.csv").write_text("\n".join(["id;age;age2;result;died;crp", *rows]))
    code, out = run(capsys, "v.csv")
    said = tomllib.loads((tmp_path / "v.toml").read_text())
    assert code == 0 and said["target"] == "result"
    assert "age2: the same as age in every row, so that" in out
    assert "died: the same as result in every row: it gives the outcome away" in out
    assert {*said["ranges"], *said.get("kinds", {})} == {"age", "crp"}


def test_a_check_ends_with_the_command_that_trains(tmp_path, capsys):
    file = odd_table(tmp_path)
    said = draft(file).text
    (tmp_path / "visite.toml").write_text(said)
    code, out = run(capsys, str(file), "--check", "visite.toml")
    assert code == 0 and "60 patients: epsilon covers all records of one" in out
    assert "not confirmed" in out and "Run it" not in out
    confirmed = "\n".join(one for one in said.split("\n") if not one.startswith("unconfirmed"))
    (tmp_path / "mine.toml").write_text(confirmed)
    code, out = run(capsys, str(file), "--check", "mine.toml")
    assert code == 0 and "A run reads visite.toml: put the declaration there." in " ".join(
        out.replace(f"{tmp_path}/", "").split()
    )
    assert f"flower-simulation run default --set data.name=csv:{file}" in out
    assert "partition.hospitals=2" in out


def test_a_check_says_which_class_nobody_has(tmp_path, capsys):
    rows = [f"p{n},{20 + n % 60},{'died' if n % 15 == 0 else 'alive'}" for n in range(300)]
    (tmp_path / "visits.csv").write_text("patient,age,outcome\n" + "\n".join(rows))
    said = draft(tmp_path / "visits.csv").text
    for spelled, told in (("died", False), ("dead", True)):
        (tmp_path / "visits.toml").write_text(said.replace('"died"', f'"{spelled}"'))
        code, out = run(capsys, str(tmp_path / "visits.csv"), "--check", f"{tmp_path}/visits.toml")
        assert code == 0
        assert ("no record is dead" in out) == told


def test_a_table_that_lists_pictures_in_folders_says_whose_they_are(tmp_path):
    rows = ["Datei;Patient;Befund"]
    for n in range(8):
        name = f"{('krank', 'gesund')[n % 2]}/{n}.png"
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(np.full((8, 8), n * 9, np.uint8)).save(tmp_path / name)
        rows.append(f"{name};p{n // 2};{('krank', 'gesund')[n % 2]}")
    (tmp_path / "liste.csv").write_text("\n".join(rows))
    said = tomllib.loads(draft(tmp_path).text)
    assert (said["target"], said["patient"]) == ("Befund", "Patient")
    assert said["classes"] == ["gesund", "krank"]
    assert said["pictures"]["manifest"] == "liste.csv" and "layout" not in said["pictures"]
    (tmp_path / "liste.csv").write_text("\n".join(row.rpartition(";")[0] for row in rows))
    drafted = draft(tmp_path)
    assert tomllib.loads(drafted.text)["pictures"]["layout"] == "class"
    assert any("liste.csv lists pictures, but no column" in odd for odd in drafted.oddities)
    (tmp_path / "liste.csv").write_bytes(b"")
    assert tomllib.loads(draft(tmp_path).text)["pictures"]["layout"] == "class"


def test_a_check_refuses_patients_of_two_hospitals_as_a_run_does(tmp_path, capsys):
    rows = [f"p{n % 30},{'ab'[n < 30]},{n}.0,{n % 2}" for n in range(60)]
    (tmp_path / "two.csv").write_text("\n".join(["patient,site,x,y", *rows]) + "\n")
    told = 'target = "y"\nclasses = ["0", "1"]\npatient = "patient"\nhospital = "site"\n'
    (tmp_path / "two.toml").write_text(told + "[ranges]\nx = [0, 60]\n")
    code, out = run(capsys, str(tmp_path / "two.csv"), "--check", str(tmp_path / "two.toml"))
    assert code == 2 and " and 27 more lie in two or more hospitals" in out and "fits" not in out
