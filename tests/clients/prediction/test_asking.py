"""Records to predict are read as in training, each keeps its place, and misfits are named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_breast_cancer

from clients.data import DataError, load_dataset
from clients.prediction.asked import UNTOLD, Asked, RowNotes
from clients.prediction.asking import ask, ask_records
from tests.clients.prediction.models import (
    VISITS,
    VISITS_TOML,
    picture_info,
    visits_info,
    write_visits,
)

HEADER = VISITS.splitlines()[0]


def asked(path: Path, info) -> Asked:
    return ask(path, info, RowNotes())


@pytest.fixture(scope="module")
def info(tmp_path_factory: pytest.TempPathFactory):
    return visits_info(tmp_path_factory.mktemp("training"))


def test_every_row_of_a_table_keeps_its_place(tmp_path: Path, info) -> None:
    found = asked(write_visits(tmp_path), info)
    assert found.keys["row"] == ["2", "3", "4", "5", "6"]
    assert found.keys["patient_id"] == ["a", "b", "", "d", "b"]
    assert found.rows.tolist() == [0, 1, 4]
    assert found.unread == [2, 3]
    assert found.notes[2] == "it has 3, expected 5: no prediction"
    assert found.notes[3].startswith("nothing of it can be read")
    assert "column age: '120', expected 0 to 110: outside its declared range" in found.notes[1]
    assert "column pulse: 'x', expected a number" in found.notes[1]
    assert found.labels is not None
    assert found.labels.tolist() == [0, 1, UNTOLD, UNTOLD, UNTOLD]
    assert found.patients[1] == found.patients[4] != found.patients[0]


def test_rows_are_read_as_a_training_reads_them(tmp_path: Path, info) -> None:
    rows = "".join(f"p{k};{20 + k};{60 + k};{'fm'[k % 2]};alive\n" for k in range(6))
    rows += "q;44;66;m;dead\n"
    file = write_visits(tmp_path, f"{HEADER}\n{rows}")
    trained = load_dataset("csv:visits.csv", tmp_path).train
    found = asked(file, info)
    assert np.array_equal(np.asarray(found.inputs), np.asarray(trained.inputs))
    assert np.array_equal(found.labels, trained.labels)


def test_columns_may_stand_in_another_order_and_labels_be_absent(tmp_path: Path, info) -> None:
    file = write_visits(tmp_path, "sex,pulse,age\nf,80,54\n", declaration="")
    there = asked(file, info)
    here = asked(write_visits(tmp_path, f"{HEADER}\na;54;80;f;alive\n"), info)
    assert np.array_equal(np.asarray(there.inputs), np.asarray(here.inputs))
    assert there.labels is None


def test_another_column_is_named_with_what_was_expected(tmp_path: Path, info) -> None:
    file = write_visits(tmp_path, "age;puls;sex\n54;80;f\n", declaration="")
    with pytest.raises(DataError, match=r"no column 'pulse' \(did you mean 'puls'\?\).*age, pulse"):
        asked(file, info)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (('"alive", "dead"', '"dead", "alive"'), r'classes = \["dead", "alive"\], expected \["al'),
        (("[0, 110]", "[0, 100]"), r"ranges: age = \[0, 100\], expected \[0, 110\]"),
        (('["f", "m"]', '["f", "m", "x"]'), "kinds: sex"),
    ],
    ids=["classes", "range", "kinds"],
)
def test_another_declaration_is_refused_by_key(tmp_path: Path, info, change, said) -> None:
    file = write_visits(tmp_path, declaration=VISITS_TOML.replace(*change))
    with pytest.raises(DataError, match=said):
        asked(file, info)


def test_a_hospital_writes_its_file_in_its_own_way(tmp_path: Path, info) -> None:
    own = VISITS_TOML.replace("[ranges]", '[missing]\ncodes = ["-9"]\n[ranges]')
    found = asked(write_visits(tmp_path, f"{HEADER}\na;-9;80;f;alive\n", own), info)
    assert found.notes[0] == "" and np.asarray(found.inputs)[0, 0] == 0


def test_a_published_table_is_read_by_its_names(tmp_path: Path) -> None:
    bunch = load_breast_cancer()
    trained = load_dataset("breast-cancer")
    names = [str(name) for name in bunch.feature_names]
    lines = [",".join([*names[::-1], "diagnosis"])]
    for row, label in zip(bunch.data[:5], bunch.target[:5], strict=True):
        lines.append(",".join([*map(repr, map(float, row[::-1])), bunch.target_names[label]]))
    lines.append(",".join([""] * 31))
    file = tmp_path / "patients.csv"
    file.write_text("\n".join([*lines, ",".join(["1", *["?"] * 29, "who"])]) + "\n")
    found = asked(file, trained.info)
    assert np.array_equal(np.asarray(found.inputs)[:5], np.asarray(trained.train.inputs)[:5])
    assert found.labels is not None
    assert found.labels[:5].tolist() == trained.train.labels[:5].tolist()
    assert found.unread == [5] and "'who', expected malignant, benign" not in found.notes[6]


def test_uci_files_without_a_header_are_read(tmp_path: Path) -> None:
    file = tmp_path / "processed.cleveland.data"
    good = "63.0,1.0,1.0,145.0,233.0,1.0,2.0,150.0,0.0,2.3,3.0,0.0,6.0,0"
    file.write_text(f"{good}\n1,2\n{good[:-1]}3\n")
    from clients.data.heart_disease import _info

    found = asked(file, _info("", 31))
    assert found.keys["row"] == ["1", "2", "3"] and found.unread == [1]
    assert found.labels is not None and found.labels.tolist() == [0, UNTOLD, 1]


def test_arrays_of_another_shape_are_named(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", images=np.zeros((3, 8, 8), dtype=np.uint8))
    with pytest.raises(DataError, match=r"\(1, 8, 8\).*trained on records of \(1, 16, 16\)"):
        asked(tmp_path / "a.npz", picture_info())
    np.savez(tmp_path / "b.npz", pixels=np.zeros((3, 8, 8)))
    with pytest.raises(DataError, match="no array 'images'; it holds pixels"):
        asked(tmp_path / "b.npz", picture_info())


def test_arrays_of_bytes_and_floats_are_read_with_their_labels(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (4, 16, 16), dtype=np.uint8)
    np.savez(tmp_path / "a.npz", test_images=pixels, test_labels=np.array([[0], [1], [1], [7]]))
    found = asked(tmp_path / "a.npz", picture_info())
    assert np.allclose(np.asarray(found.inputs)[:, 0], pixels / 255)
    assert found.labels is not None and found.labels.tolist() == [0, 1, 1, UNTOLD]
    floats = (pixels / 255 * 2 - 1).astype(np.float32)
    floats[1] = np.nan
    np.savez(tmp_path / "b.npz", images=floats)
    found = asked(tmp_path / "b.npz", picture_info())
    assert found.unread == [1] and "nothing" in found.notes[1]
    assert np.allclose(np.asarray(found.inputs)[0, 0], pixels[0] / 255, atol=1e-6)


def test_a_folder_of_pictures_keeps_the_unreadable_one(tmp_path: Path) -> None:
    for name in ("NORMAL/a.png", "PNEUMONIA/b.png", "c.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(np.full((20, 24), 100, dtype=np.uint8)).save(tmp_path / name)
    (tmp_path / "d.png").write_text("no picture")
    found = asked(tmp_path, picture_info())
    assert found.keys["file"] == ["NORMAL/a.png", "PNEUMONIA/b.png", "c.png", "d.png"]
    assert found.labels is not None and found.labels.tolist() == [0, 1, UNTOLD, UNTOLD]
    assert found.unread == [3] and "cannot identify image file 'd.png')" in found.notes[3]
    assert found.inputs.shape == (3, 1, 16, 16)
    alone = asked(tmp_path / "c.png", picture_info())
    assert alone.keys["file"] == ["c.png"] and alone.labels is None


def test_a_folder_of_volumes_is_read(tmp_path: Path) -> None:
    nibabel = pytest.importorskip("nibabel")
    info = picture_info((1, 8, 8, 8), kind="volume", declared={"ranges: values": "[0, 100]"})
    values = np.random.default_rng(0).uniform(0, 100, (8, 8, 8)).astype(np.float32)
    nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), tmp_path / "a.nii.gz")
    (tmp_path / "b.nii").write_text("no volume")
    found = asked(tmp_path, info)
    assert found.keys["file"] == ["a.nii.gz", "b.nii"] and found.unread == [1]
    inside = np.asarray(found.inputs)
    assert inside.shape == (1, 1, 8, 8, 8) and np.ptp(inside) > 0.8
    alone = asked(tmp_path / "a.nii.gz", info)
    assert np.array_equal(np.asarray(alone.inputs), inside)


@pytest.mark.parametrize(
    ("name", "said"),
    [("missing.csv", "does not exist; expected a folder of pictures"), ("t.csv", "no image data")],
)
def test_other_data_than_the_model_knows_are_refused(tmp_path: Path, name: str, said: str) -> None:
    (tmp_path / "t.csv").write_text("a\n1\n")
    with pytest.raises(DataError, match=said):
        asked(tmp_path / name, picture_info())


def test_a_data_set_s_own_records_keep_their_order() -> None:
    train = load_dataset("breast-cancer").train
    found = ask_records(train)
    assert len(found) == len(train) and not found.unread
    assert np.array_equal(found.labels, train.labels)
