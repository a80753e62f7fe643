"""Whatever a training reads can be asked about: the same records, labels and patients."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clients.data import DataError, load_dataset
from clients.data.dataset import Dataset
from clients.prediction.asked import UNTOLD, Asked, RowNotes
from clients.prediction.asking import ask
from tests.clients.data.test_data_volumes import write_dicom
from tests.clients.prediction.models import VISITS_TOML

SIZE = 8
CLASSES = 'classes = ["benign", "malignant"]\n'


def picture(file: Path, level: int) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((SIZE, SIZE), level, dtype=np.uint8)).save(file)


def folder_of(root: Path, layout: str, names: list[str], more: str = "") -> None:
    for number, name in enumerate(names):
        picture(root / name, 20 * number)
    said = f'{CLASSES}[pictures]\nchannels = 1\nlayout = "{layout}"\n{more}'
    (root / "dataset.toml").write_text(said)


def by_patient(root: Path) -> None:
    names = ["benign/p1/a.png", "benign/p1/x/b.png", "malignant/p2/a.png", "malignant/p1/c.png"]
    folder_of(root, "class/patient", names)


def by_hospital(root: Path) -> None:
    folder_of(root, "hospital/class", ["lyon/benign/a.png", "turin/malignant/a.png"])


def in_parts(root: Path) -> None:
    folder_of(
        root, "part/class", ["train/benign/a.png", "val/benign/b.png", "test/malignant/c.png"]
    )


def with_owners(root: Path) -> None:
    folder_of(root, "class", ["benign/a.png", "benign/b.png", "malignant/c.png"])
    (root / "patients.csv").write_text(
        "file,patient\nbenign/a.png,q\nbenign\\b.png,q\nmalignant/c.png,r\n"
    )


def manifest(root: Path, target: str = "finding,", *cells: str) -> None:
    for number in range(3):
        picture(root / f"images/x{number}.png", 30 * number)
    (root / "dataset.toml").write_text(
        'target = "finding"\nclasses = ["other", "Mass"]\nlabel-separator = "|"\n'
        'patient = "who"\n[pictures]\nmanifest = "all.csv"\nchannels = 1\n'
    )
    rows = [
        f"images/x{n},{cell}p{n // 2}" for n, cell in enumerate(cells or ("Mass|a,", "a,", "b,"))
    ]
    (root / "all.csv").write_text("\n".join([f"image,{target}who", *rows]) + "\n")


def series(root: Path) -> None:
    for label, number in (("benign", 1), ("malignant", 2), ("malignant", 3)):
        for slice_ in range(SIZE):
            write_dicom(
                root / label / f"s{number}" / f"{SIZE - slice_}.dcm",
                np.full((SIZE, SIZE), 100 * number + 50 * slice_, dtype=np.uint16),
                SeriesInstanceUID=f"1.2.{number}",
                InstanceNumber=slice_,
                PatientID=f"secret-{number // 2}",
            )
    (root / "dataset.toml").write_text(
        f'{CLASSES}[ranges]\nvalues = [0, 4095]\n[pictures]\nlayout = "class/patient"\n'
        'volumes = true\npatient = "header"\n'
    )


def trained_and_asked(root: Path, source: str) -> tuple[Dataset, Asked]:
    data = load_dataset(f"{source}", root.parent, image_size=SIZE)
    return data, ask(root, data.info, RowNotes())


def records(inputs, labels, patients) -> Counter[tuple[bytes, int, tuple[int, ...]]]:
    """Each record with its label, and how many records of each label its patient has."""
    whose = [tuple(sorted(labels[patients == one].tolist())) for one in patients]
    rows = np.asarray(inputs, dtype=np.float32)
    return Counter((r.tobytes(), int(k), w) for r, k, w in zip(rows, labels, whose, strict=True))


@pytest.mark.parametrize(
    "build",
    [by_patient, by_hospital, in_parts, with_owners, manifest, series],
    ids=lambda build: build.__name__,
)
def test_a_folder_is_asked_about_as_it_is_trained_on(tmp_path: Path, build) -> None:
    if build is series:
        pytest.importorskip("pydicom")
    root = tmp_path / "scans"
    root.mkdir()
    build(root)
    data, found = trained_and_asked(root, "image-folder:scans")
    parts = [part for part in (data.train, data.test) if part is not None]
    assert not found.unread and found.labels is not None
    # A patient of the training part and the test part is numbered in both alike.
    joined = [
        np.concatenate([np.asarray(getattr(part, name)) for part in parts])
        for name in ("inputs", "labels", "patients")
    ]
    assert records(found.inputs, found.labels, found.patients) == records(*joined)
    if build is series:
        assert "secret" not in repr(found.keys) and "patient" not in found.keys


def test_photographs_of_aptos_are_asked_about_as_they_are_published(tmp_path: Path) -> None:
    root = tmp_path / "aptos"
    for number in range(3):
        picture(root / f"train_images/f{number}.png", 40 * number)
    (root / "train.csv").write_text("id_code,diagnosis\nf2,4\nf0,0\nf1,2\n")
    data = load_dataset("aptos", tmp_path, image_size=SIZE)
    found = ask(root, data.info, RowNotes())
    assert found.keys["file"] == ["f2", "f0", "f1"]
    assert found.labels is not None and found.labels.tolist() == data.train.labels.tolist()
    assert np.array_equal(np.asarray(found.inputs), np.asarray(data.train.inputs))
    # A folder of photographs alone is asked about as well.
    assert len(ask(root / "train_images", data.info, RowNotes())) == 3


def test_pictures_that_training_leaves_out_are_asked_about(tmp_path: Path) -> None:
    by_patient(tmp_path)
    data = load_dataset(f"image-folder:{tmp_path}", image_size=SIZE)
    picture(tmp_path / "new/p9/z.png", 200)
    found = ask(tmp_path, data.info, RowNotes())
    at = list(found.keys["file"]).index("new/p9/z.png")
    assert found.labels is not None and found.labels[at] == UNTOLD and at in found.rows


def test_a_manifest_needs_no_labels_and_keeps_every_row_in_place(tmp_path: Path) -> None:
    manifest(tmp_path)
    info = load_dataset(f"image-folder:{tmp_path}", image_size=SIZE).info
    manifest(tmp_path, "", "", "")
    (tmp_path / "all.csv").write_text("image,who\nimages/x1.png,a\nnowhere.png,b\nx,y,z\n../x,c\n")
    found = ask(tmp_path, info, RowNotes())
    assert found.keys["row"] == ["2", "3", "4", "5"] and found.labels is None
    assert found.rows.tolist() == [0] and found.keys["patient"][0] == "a"
    expected = ["", "no such picture", "it has 3, expec", "no such picture"]
    assert [note[:15] for note in found.notes] == expected


def test_a_slice_with_a_damaged_header_keeps_its_place(tmp_path: Path) -> None:
    pytest.importorskip("pydicom")
    series(tmp_path)
    info = load_dataset(f"image-folder:{tmp_path}", image_size=SIZE).info
    (tmp_path / "benign/s1/0.dcm").write_bytes(b"no DICOM")
    found = ask(tmp_path, info, RowNotes())
    assert len(found) == 4 and len(found.rows) == 3
    assert "no readable picture" in found.notes[found.unread[0]]


def test_a_folder_of_tables_is_asked_about_as_it_is_trained_on(tmp_path: Path) -> None:
    folder = tmp_path / "visits"
    folder.mkdir()
    header = "patient_id;age;pulse;sex;outcome\n"
    (folder / "lyon.csv").write_text(f"{header}a;50;70;f;alive\nb;61;80;m;dead\n")
    (folder / "turin.csv").write_text(f"{header}a;51;71;f;alive\nc;;90;f;dead\n")
    (folder / "dataset.toml").write_text(VISITS_TOML)
    data = load_dataset("csv:visits/*.csv", tmp_path)
    found = ask(folder, data.info, RowNotes())
    assert found.keys["file"] == ["lyon.csv", "lyon.csv", "turin.csv", "turin.csv"]
    assert found.keys["row"] == ["2", "3", "2", "3"]
    assert np.array_equal(found.inputs, data.train.inputs)
    assert found.labels is not None and found.labels.tolist() == data.train.labels.tolist()
    assert found.patients.tolist() == data.train.patients.tolist()
    (folder / "README.txt").write_text("not a table")
    (folder / "cleveland.data").write_text("1 2 3")
    assert len(ask(folder, data.info, RowNotes())) == 4
    (folder / "none").mkdir()
    with pytest.raises(DataError, match="no table in it"):
        ask(folder / "none", data.info, RowNotes())


def test_another_folder_s_declaration_is_refused(tmp_path: Path) -> None:
    by_hospital(tmp_path)
    info = load_dataset(f"image-folder:{tmp_path}", image_size=SIZE).info
    other = tmp_path / "other.toml"
    other.write_text('classes = ["malignant", "benign"]\n[pictures]\nchannels = 1\n')
    with pytest.raises(DataError, match="declares other data than the model was trained on"):
        ask(tmp_path, info, RowNotes(), other)
    with pytest.raises(DataError, match="does not exist; expected a declaration"):
        ask(tmp_path, info, RowNotes(), tmp_path / "none.toml")
