"""``predict``: a table in, a table out, nothing lost, and every misuse in one sentence."""

from __future__ import annotations

import csv
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from simulations.cli import main
from strategies.predictors import ITERATES
from tests.clients.prediction.models import (
    VISITS_TOML,
    made_artefact,
    picture_info,
    visits_info,
    write_visits,
)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    file = folder / "model.safetensors"
    file.write_bytes(made_artefact(visits_info(folder), "logistic").to_bytes())
    return file


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_every_row_is_in_the_table_and_unreadable_ones_are_told(
    model: Path, tmp_path: Path, capsys
) -> None:
    out = tmp_path / "p.csv"
    data = write_visits(tmp_path)
    assert main(["predict", str(model), "--data", str(data), "--out", str(out)]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert re.search(r"not readable: 2:? row 4, 5", shown)  # cell by cell where paths are long
    rows = rows_of(out)
    assert [row["row"] for row in rows] == ["2", "3", "4", "5", "6"]
    assert [row["prediction"] == "" for row in rows] == [False, False, True, True, False]
    for row in rows:
        if row["prediction"]:
            chances = {name: float(row[f"probability: {name}"]) for name in ("alive", "dead")}
            assert sum(chances.values()) == pytest.approx(1, abs=2e-6)
            assert row["prediction"] == max(chances, key=chances.__getitem__)
            assert row["prediction"] in row["set"].split(" | ")
            assert row["abstain"] == ("yes" if "|" in row["set"] else "no")
        else:
            assert row["abstain"] == "yes" and row["note"]


def test_no_name_of_a_file_or_class_is_a_formula_and_each_can_be_had_again(
    tmp_path: Path,
) -> None:
    from PIL import Image

    names = ["=1+1.png", "'x.png", "+a.png", "-1;=2.png", "@sum.png", "\tb.png", "plain.png"]
    (tmp_path / "d").mkdir()
    for name in names:
        Image.new("L", (16, 16)).save(tmp_path / "d" / name)
    info = picture_info(classes=("=cmd()", "-"))
    model, out = tmp_path / "m.safetensors", tmp_path / "p.csv"
    model.write_bytes(made_artefact(info, "logistic").to_bytes())
    words = ["predict", str(model), "--data", str(tmp_path / "d"), "--out"]
    assert main([*words, str(out)]) == 0
    rows = rows_of(out)
    cells = [cell for row in rows for cell in (*row, *row.values())]
    assert not [cell for cell in cells if cell[:1] in set("=+-@\t\r\n")]
    # A semicolon separates cells for half of the world: what follows it is in quotes with the rest.
    assert '"' in out.read_text().split(";=2")[0].rpartition("\n")[2]
    assert sorted(row["file"].removeprefix("'") for row in rows) == sorted(names)
    assert {row["prediction"].removeprefix("'") for row in rows} <= set(info.classes)
    assert main([*words, str(tmp_path / "p.parquet")]) == 0
    from pyarrow import parquet

    typed = parquet.read_table(tmp_path / "p.parquet").to_pylist()
    assert sorted(row["file"] for row in typed) == sorted(names)


def test_parquet_holds_the_same_as_csv(model: Path, tmp_path: Path) -> None:
    from pyarrow import parquet

    data = write_visits(tmp_path)
    for name in ("p.csv", "p.parquet"):
        out = str(tmp_path / name)
        assert main(["predict", str(model), "--data", str(data), "--out", out]) == 0
    typed = parquet.read_table(tmp_path / "p.parquet").to_pylist()
    texts = rows_of(tmp_path / "p.csv")
    assert [row["prediction"] or "" for row in typed] == [row["prediction"] for row in texts]
    assert typed[0]["probability: dead"] == pytest.approx(float(texts[0]["probability: dead"]))
    assert typed[2]["probability: dead"] is None


def test_a_run_predicts_its_own_holdout_and_is_judged(run: Path, tmp_path: Path, capsys) -> None:
    out = tmp_path / "p.csv"
    words = ["predict", str(run), "--data", "holdout", "--evaluate", "--json", "--out", str(out)]
    assert main(words) == 0
    found = json.loads(capsys.readouterr().out)["evaluation"]
    summary = json.loads((run / "summary.json").read_text())
    assert found["accuracy"] == summary["accuracy"]
    assert found["auc"] == pytest.approx(summary["auc"], abs=1e-9)
    rows = rows_of(out)
    right = np.mean([row["prediction"] == row["label"] for row in rows])
    held = np.mean([row["label"] in row["set"].split(" | ") for row in rows])
    assert right == pytest.approx(found["accuracy"]) and held == pytest.approx(found["coverage"])
    assert main([*words, "--iterates", "--overwrite"]) == 0
    capsys.readouterr()
    assert all(float(row["spread"]) >= 0 for row in rows_of(out))


def test_higher_coverage_abstains_more(run: Path, tmp_path: Path, capsys) -> None:
    abstained = []
    for coverage in ("0.5", "0.9", "0.97"):
        words = ["--data", "holdout", "--evaluate", "--json", "--out"]
        words.append(str(tmp_path / f"{coverage}.csv"))
        assert main(["predict", str(run), *words, "--coverage", coverage]) == 0
        abstained.append(json.loads(capsys.readouterr().out)["evaluation"]["abstained"])
    assert abstained == sorted(abstained) and abstained[0] < abstained[2]


def test_too_few_patients_for_a_promise_are_said(run: Path, tmp_path: Path, capsys) -> None:
    words = ["predict", str(run), "--data", "holdout", "--out", str(tmp_path / "p.csv")]
    assert main([*words, "--coverage", "0.99"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "of all classes" in shown and "are too few to promise 99%" in shown


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nowhere", "--data", "x.csv"], "nowhere is no run folder"),
        (["{model}", "--data", "{csv}", "--out", "{csv}"], "is the data"),
        (["{model}", "--data", "{csv}", "--out", "p.xlsx"], "ends in .csv or .parquet"),
        (["{model}", "--data", "{csv}", "--out", "no/p.csv"], "is no folder"),
        (["{model}", "--data", "{none}"], "does not exist; expected a table"),
        (["{model}", "--data", "holdout"], "is a run's own"),
        (["{model}", "--data", "{csv}", "--iterates"], "--iterates is for a run"),
        (["{model}", "--data", "{unlabelled}", "--evaluate"], "no record has a label"),
        (["{csv}", "--data", "{csv}"], "cannot be read as safetensors"),
    ],
    ids=["model", "over", "suffix", "folder", "data", "holdout", "iterates", "labels", "artefact"],
)
def test_misuse_is_one_sentence_and_writes_nothing(
    model: Path, tmp_path: Path, capsys, monkeypatch, words: list[str], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    data = write_visits(tmp_path)
    unlabelled = tmp_path / "u.csv"
    unlabelled.write_text("age,pulse,sex\n50,70,f\n")
    places = {"model": model, "csv": data, "none": tmp_path / "n.csv", "unlabelled": unlabelled}
    before = {file: file.read_bytes() for file in tmp_path.iterdir()}
    assert main(["predict", *(word.format(**places) for word in words)]) == 2
    assert said in " ".join(capsys.readouterr().err.split())
    assert {file: file.read_bytes() for file in tmp_path.iterdir()} == before


def test_no_earlier_prediction_or_other_file_is_written_over_unasked(
    model: Path, tmp_path: Path, capsys, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["predict", str(model), "--data", str(write_visits(tmp_path))]
    pages = [*words, "--out", "new.csv", "--explain", "p.html"]
    for again, file in ((words, Path("predictions.csv")), (pages, Path("p.html"))):
        file.write_text("earlier work")
        assert main(again) == 2
        assert f"{file} exists already" in capsys.readouterr().err
        assert file.read_text() == "earlier work"
        assert main([*again, "--overwrite"]) == 0
        assert file.read_text() != "earlier work"


def test_a_model_that_says_one_class_of_everybody_is_said_to_have_learnt_nothing(
    tmp_path: Path, capsys
) -> None:
    made = made_artefact(visits_info(tmp_path / "training"), "logistic")
    state = {name: 0 * tensor for name, tensor in made.members["model"].items()}
    model = tmp_path / "m.safetensors"
    model.write_bytes(replace(made, members={"model": state}).to_bytes())
    words = ["predict", str(model), "--data", str(write_visits(tmp_path)), "--evaluate"]
    assert main([*words, "--out", str(tmp_path / "p.csv")]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert f"it has learnt nothing: every record is said to be {made.info.classes[0]}" in shown


def test_odd_cells_of_a_table_of_unsaid_form_say_where_its_form_is_declared(
    model: Path, tmp_path: Path, capsys
) -> None:
    data = write_visits(tmp_path)
    words = [
        "predict",
        "--overwrite",
        str(model),
        "--data",
        str(data),
        "--out",
        str(tmp_path / "p.csv"),
    ]
    data.with_suffix(".toml").unlink(missing_ok=True)
    assert main(words) == 0
    assert f"no {data.stem}.toml beside it says how" in " ".join(capsys.readouterr().out.split())
    data.with_suffix(".toml").write_text(VISITS_TOML)
    assert main(words) == 0
    assert "beside it says how" not in " ".join(capsys.readouterr().out.split())


def test_a_declaration_by_name_says_how_a_table_is_written(
    model: Path, tmp_path: Path, capsys
) -> None:
    own, out = tmp_path / "own.toml", tmp_path / "p.csv"
    own.write_text(VISITS_TOML + '[file]\ndecimal = ","\n')
    data = write_visits(tmp_path, "age;pulse;sex\n50,5;71,5;f\n", declaration="")
    data.with_suffix(".toml").write_text("declared = otherwise")
    words = ["predict", str(model), "--data", str(data), "--out", str(out), "--overwrite"]
    assert main([*words, "--declaration", str(own)]) == 0
    assert rows_of(out)[0]["note"] == ""
    assert "columns 3, all read" in " ".join(capsys.readouterr().out.split())
    assert main([*words, "--declaration", str(tmp_path / "none.toml")]) == 2
    assert "none.toml does not exist" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ("fifty;70;f\nsixty;80;m\n", "1 of 3 columns could not be read in any row"),
        (";;\n?;;\n", "none of 2 records could be read, so nothing is predicted"),
        ("", "none of 0 records could be read, so nothing is predicted"),
    ],
    ids=["column", "rows", "empty"],
)
def test_a_table_of_which_a_part_cannot_be_read_anywhere_fails_with_its_notes(
    model: Path, tmp_path: Path, capsys, rows: str, said: str
) -> None:
    data, out = write_visits(tmp_path, f"age;pulse;sex\n{rows}"), tmp_path / "p.csv"
    data.with_suffix(".toml").write_text(VISITS_TOML)
    assert main(["predict", str(model), "--data", str(data), "--out", str(out)]) == 1
    assert said in " ".join(capsys.readouterr().err.split())
    assert len(rows_of(out)) == rows.count("\n") and all(row["note"] for row in rows_of(out))


def test_labels_of_other_classes_are_named(tmp_path: Path, capsys) -> None:
    model, data = tmp_path / "m.safetensors", tmp_path / "d.npz"
    model.write_bytes(made_artefact(picture_info(), "logistic").to_bytes())
    np.savez(data, images=np.zeros((2, 16, 16), np.uint8), labels=np.array([7, 8]))
    words = ["predict", str(model), "--data", str(data), "--out", str(tmp_path / "p.csv")]
    assert main([*words, "--evaluate"]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "no class of the model: 2" in said and "labels row 0: 7, expected normal, pneu" in said


def test_a_run_with_one_release_has_no_iterates(run: Path, tmp_path: Path, capsys) -> None:
    copy = tmp_path / "run"
    copy.mkdir()
    for name in ("config.toml", "predictor.safetensors"):
        (copy / name).write_bytes((run / name).read_bytes())
    out = str(tmp_path / "p.csv")
    assert main(["predict", str(copy), "--data", "holdout", "--iterates", "--out", out]) == 2
    assert f"has no {ITERATES}" in capsys.readouterr().err
