"""What folders and tables beside pictures say of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clients.data import DataError, load_dataset
from clients.data.declaration import declared


def picture(file: Path, grey: int) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((4, 4), grey, dtype=np.uint8)).save(file)


def load(folder: Path, said: str = "", **changes):
    (folder / "dataset.toml").write_text(f'classes = ["a", "b"]\n[pictures]\nchannels = 1\n{said}')
    where = {"image_size": 4, "declared": True, **changes}
    return load_dataset(f"image-folder:{folder.name}", folder.parent, **where)


def greys(records) -> list[int]:
    return [round(float(one)) for one in np.asarray(records.inputs)[:, 0, 0, 0] * 255]


def test_val_is_trained_on_and_test_is_measured_on(tmp_path):
    folder = tmp_path / "scans"
    for number, part in enumerate(("train", "val", "test", "other")):
        for place, label in enumerate(("a", "b")):
            picture(folder / part / label / "1.png", 10 * number + place)
    loaded = load(folder)
    assert greys(loaded.train) == [0, 1, 10, 11]
    assert loaded.test is not None and greys(loaded.test) == [20, 21]
    assert loaded.train.labels.tolist() == [0, 1, 0, 1]
    assert "folder 'other', expected train" in loaded.log.lines()[0]


def test_levels_may_stand_in_any_order(tmp_path):
    folder = tmp_path / "scans"
    for number, home in enumerate(("lyon", "turin")):
        picture(folder / home / "train" / "a" / "p1" / "1.png", 10 * number)
        picture(folder / home / "train" / "a" / "p1" / "later" / "2.png", 10 * number + 1)
        picture(folder / home / "test" / "B" / f"q{number}" / "3.png", 10 * number + 2)
    loaded = load(folder, 'layout = "hospital/part/class/patient"\n')
    assert greys(loaded.train) == [0, 1, 10, 11]
    assert loaded.hospital_names == ("lyon", "turin")
    assert loaded.train.hospitals.tolist() == [0, 0, 1, 1]
    assert [loaded.patient_names[one] for one in loaded.train.patients] == ["p1"] * 4
    assert loaded.test is not None and loaded.test.labels.tolist() == [1, 1]


def test_a_patient_of_both_parts_is_named_and_stays_in_training(tmp_path):
    folder = tmp_path / "scans"
    for part in ("train", "test"):
        picture(folder / part / "a" / "p1" / "1.png", 1)
        picture(folder / part / "b" / f"p-{part}" / "1.png", 1)
    loaded = load(folder, 'layout = "part/class/patient"\n')
    assert len(loaded.train) == 2 and loaded.test is not None and len(loaded.test) == 1
    assert "patient p1; a patient's records all belong to one part" in loaded.log.lines()[0]


def manifest(folder: Path, rows: str, said: str = "") -> object:
    for number in range(4):
        picture(folder / "images" / f"x{number}.png", number)
    (folder / "labels.csv").write_text("image;who;site;finding;split\n" + rows)
    (folder / "dataset.toml").write_text(
        'classes = ["other", "Mass"]\ntarget = "finding"\nlabel-separator = "|"\n'
        'patient = "who"\nhospital = "site"\n'
        '[pictures]\nmanifest = "labels.csv"\nsplit = "split"\nchannels = 1\n' + said
    )
    return load_dataset("image-folder:scans", folder.parent, image_size=4, declared=True)


def test_a_manifest_tells_all_of_each_picture(tmp_path):
    loaded = manifest(
        tmp_path / "scans",
        "images\\x3.png;p1;lyon;Effusion|Mass;train\n"
        "images/x1;p1;lyon;No Finding;val\n"
        "images/x0.png;p2;turin;Mass;test\n"
        "images/x9.png;p3;turin;Mass;train\n"
        "../outside.png;p3;turin;Mass;train\n"
        "images/x2.png;p3;turin;Mass;maybe\n"
        "images/x2.png;;turin;Mass;train\n"
        "images/x2.png;p3;turin;;train\n",
    )
    assert greys(loaded.train) == [3, 1] and loaded.train.labels.tolist() == [1, 0]
    assert greys(loaded.test) == [0] and loaded.info.unit == "patient"
    said = " ".join(loaded.log.lines())
    for part in ("images/x9.png", "outside.png", "column split: 'maybe'", "no patient is named",
                 "no outcome: the record is out: 1"):  # fmt: skip
        assert part in said, part


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ('layout = "hospital"', "has no level of classes"),
        ('layout = "class/class"', "each once"),
        ('layout = "ward/class"', "expected levels of part, hospital, class, patient"),
        ('layout = "class"\nmanifest = "x.csv"', "a layout and a manifest"),
        ("spacing = [1.0]", "expected three millimetres"),
        ("channels = 2", "pictures.channels = 2"),
    ],
)
def test_an_unsound_layout_says_what_to_change(tmp_path, said, message):
    import tomllib

    with pytest.raises(DataError, match=message):
        declared(tomllib.loads(f"[pictures]\n{said}\n"), tmp_path / "dataset.toml")


def test_folders_of_two_meanings_are_refused(tmp_path):
    folder = tmp_path / "scans"
    picture(folder / "x" / "alpha" / "1.png", 1)
    picture(folder / "y" / "beta" / "1.png", 1)
    with pytest.raises(DataError, match=r"say what they are, as in \[pictures\] layout"):
        load_dataset("image-folder:scans", tmp_path)
