"""One record that no reader can make sense of is out, or a missing value; its source is read."""

from __future__ import annotations

import re
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clients.data import Dataset, load_dataset
from tests.clients.data.test_data_volumes import write_dicom

TABLE = 'target = "y"\nclasses = ["0", "1"]\n'


def own(name: str) -> Dataset:
    """What a real hospital's reader makes of its own files."""
    return load_dataset(name, declared=True)


@pytest.mark.parametrize("cells", [[0, 50], [0], [0, 50, "x", "y"]])
def test_rows_of_an_excel_file_may_end_early_or_late(tmp_path: Path, cells: list) -> None:
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    for row in (["y", "age", "note"], [1, 50, "x"], cells):
        book.active.append(row)
    book.save(tmp_path / "whole.xlsx")
    # Not every program writes how wide a sheet is; then each row is as long as its last cell says.
    with (
        zipfile.ZipFile(tmp_path / "whole.xlsx") as whole,
        zipfile.ZipFile(tmp_path / "rows.xlsx", "w") as made,
    ):
        for name in whole.namelist():
            made.writestr(name, re.sub(rb"<dimension[^>]*/>", b"", whole.read(name)))
    (tmp_path / "rows.toml").write_text(f"{TABLE}[ranges]\nage = [0, 100]\n")
    read = own(f"csv:{tmp_path}/rows.xlsx")
    assert len(read.train) == (1 if len(cells) > 3 else 2)
    assert read.train.inputs[0, 0] == 0.0


def _times(value: int, unit: str) -> Callable[[], object]:
    def make() -> object:
        import pyarrow as pa

        kind = pa.date32() if unit == "day" else pa.timestamp(unit)
        whole = pa.int32() if unit == "day" else pa.int64()
        return pa.array([14_610 if unit == "day" else 1_262_304_000, value], type=whole).cast(kind)

    return make


def _bytes() -> object:
    import pyarrow as pa

    ends = pa.array([0, 10, 11], type=pa.int32()).buffers()[1]
    return pa.Array.from_buffers(pa.string(), 2, [None, ends, pa.py_buffer(b"2010-01-01\xff")])


@pytest.mark.parametrize(
    "make", [_times(10**15, "s"), _times(10**8, "day"), _bytes], ids=["moment", "day", "bytes"]
)
def test_a_value_that_python_cannot_hold_is_missing(
    tmp_path: Path, make: Callable[[], object]
) -> None:
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    parquet.write_table(pa.table({"y": pa.array([0, 1]), "seen": make()}), tmp_path / "t.parquet")
    (tmp_path / "t.toml").write_text(f'{TABLE}[ranges]\nseen = ["2000-01-01", "2020-01-01"]\n')
    read = own(f"csv:{tmp_path}/t.parquet")
    first, second = np.asarray(read.train.inputs)[:, 0]
    assert first == pytest.approx(0.0, abs=1e-3)
    assert second == 0.0  # the middle


@pytest.mark.parametrize("cell", ["x" * 300, "a\0b", "a/..", "/", "circle/p"])
def test_a_manifest_may_name_what_no_file_is_called(tmp_path: Path, cell: str) -> None:
    from PIL import Image

    Image.new("L", (8, 8)).save(tmp_path / "p.png")
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    (tmp_path / "list.csv").write_text(f"image,y\np.png,1\n{cell},0\n")
    (tmp_path / "dataset.toml").write_text(f'{TABLE}[pictures]\nmanifest = "list.csv"\n')
    assert len(own(f"image-folder:{tmp_path}").train) == 1


@pytest.mark.parametrize("odd", ["place", "number"])
def test_a_slice_whose_header_holds_no_numbers_is_out(tmp_path: Path, odd: str) -> None:
    pixels = np.zeros((8, 8), dtype=np.uint16)
    write_dicom(tmp_path / "0/a.dcm", pixels, SeriesInstanceUID="1.2.3")
    file = tmp_path / "1/b.dcm"
    if odd == "place":
        axes = [1, 0, 0, 0, 1, 0]
        write_dicom(file, pixels, ImagePositionPatient=[1, 2], ImageOrientationPatient=axes)
    else:
        write_dicom(file, pixels, InstanceNumber="77")
        file.write_bytes(file.read_bytes().replace(b"IS\2\x0077", b"IS\2\0xx"))
    (tmp_path / "dataset.toml").write_text('classes = ["0", "1"]\n[pictures]\nvolumes = true\n')
    read = own(f"image-folder:{tmp_path}")
    assert len(read.train) == 1
    assert "not a readable picture" in read.log.lines()[0]


@pytest.mark.parametrize("kind", [np.float32, np.uint8])
def test_arrays_of_nobody_declare_what_those_of_one_patient_do(tmp_path: Path, kind: type) -> None:
    facts = []
    for count in (0, 1):
        np.savez(
            tmp_path / "some.npz",
            train_images=np.zeros((count, 8, 8), kind),
            train_labels=np.zeros(count, int),
            train_patient=np.full(count, "p1"),
        )
        (tmp_path / "some.toml").write_text('classes = ["0", "1"]\n')
        read = own(f"npz:{tmp_path}/some.npz")
        facts.append((read.info.unit, read.info.shape, read.info.kind))
        assert len(read.train) == count
    assert facts[0] == facts[1]


def most_memory(path: Path) -> int:
    tracemalloc.start()
    try:
        own(f"csv:{path}")
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_one_patients_identifier_does_not_decide_on_how_much_memory_is_taken(
    tmp_path: Path,
) -> None:
    """In an array of texts each would be as wide as the longest: gigabytes for one odd cell."""
    found = []
    for name in ("p", "p" * 50_000):
        rows = [f"{name if k == 7 else k},{k % 2},5" for k in range(2000)]
        (tmp_path / "visits.csv").write_text("\n".join(["who,y,age", *rows]) + "\n")
        (tmp_path / "visits.toml").write_text(f'patient = "who"\n{TABLE}[ranges]\nage = [0, 9]\n')
        found.append(most_memory(tmp_path / "visits.csv"))
    # The cell itself is read, decoded and looked at a few times.
    assert found[1] < found[0] + 100 * 50_000


def test_an_identifier_in_one_part_is_no_wider_in_the_others(tmp_path: Path) -> None:
    for width in (2, 20_000):
        np.savez(
            tmp_path / "some.npz",
            **{f"{part}_images": np.zeros((n, 8), np.float32) for part, n in PARTS.items()},
            **{f"{part}_labels": np.zeros(n, int) for part, n in PARTS.items()},
            train_patient=np.array([f"p{k}" for k in range(PARTS["train"])]),
            val_patient=np.array(["v" * width]),
        )
        (tmp_path / "some.toml").write_text('classes = ["0", "1"]\n')
        tracemalloc.start()
        read = own(f"npz:{tmp_path}/some.npz")
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert len(read.train.patient_ids) == PARTS["train"] + 1
        assert most < 20_000_000


PARTS = {"train": 1000, "val": 1}


@pytest.mark.parametrize(("encoding", "opened"), [("iso2022_jp", b"\x1b$B"), ("utf-7", b"+")])
def test_letters_that_one_cell_shifts_and_never_back_end_with_its_row(
    tmp_path: Path, encoding: str, opened: bytes
) -> None:
    path = tmp_path / "visits.csv"
    path.write_bytes(b"y,age,note\n1,5,\n0,6," + opened + b"\n1,7,\n0,8,\n")
    (tmp_path / "visits.toml").write_text(
        f'{TABLE}[ranges]\nage = [0, 9]\n[file]\nencoding = "{encoding}"\n'
    )
    ages = own(f"csv:{path}").train.inputs[:, 0]
    assert len(ages) >= 3
    assert {round(float(age) * 4.5 + 4.5) for age in ages} >= {5, 7, 8}


@pytest.mark.parametrize(
    "told",
    [["a", "b", "", " "], ["a", "b", "NA", "?"], [1.0, 2.0, np.nan, np.nan]],
    ids=["blank", "a word for nothing", "no number"],
)
def test_people_without_identifiers_are_not_one_patient(tmp_path: Path, told: list) -> None:
    """Else the mean of their records is clipped, and each of them moves a sum by up to 2 C."""
    file = tmp_path / "scans.npz"
    file.with_suffix(".toml").write_text('classes = ["0", "1"]\n')
    pictures, labels = np.zeros((4, 8, 8), dtype=np.uint8), np.array([0, 1, 0, 1])
    np.savez(file, train_images=pictures, train_labels=labels, train_patient=np.array(told))
    assert len(own(f"npz:{file}").train) == 2
    folder = tmp_path / "pictures"
    for number, label in enumerate("0101"):
        (folder / label).mkdir(parents=True, exist_ok=True)
        Image.fromarray(pictures[number]).save(folder / label / f"{number}.png")
    (folder / "dataset.toml").write_text('classes = ["0", "1"]\n')
    rows = "".join(f"{n % 2}/{n}.png,{one}\n" for n, one in enumerate(told))
    (folder / "patients.csv").write_text(f"file,patient\n{rows}")
    assert len(own(f"image-folder:{folder}").train) == 2


def _whose(file: Path, val: list, rows: str) -> tuple[list[int], tuple[str, ...]]:
    """Whose the records of arrays in two parts are, by number, and those of a table, by name."""
    parts = {}
    for name, told in (("train", [1, 2, 3]), ("val", val)):
        parts[f"{name}_images"] = np.zeros((len(told), 8, 8), dtype=np.uint8)
        parts[f"{name}_labels"] = np.zeros(len(told), dtype=np.int64)
        parts[f"{name}_patient"] = np.array(told)
    np.savez(file, **parts)
    file.with_suffix(".toml").write_text('classes = ["0", "1"]\n')
    table = file.with_name(f"{file.stem}-table.csv")
    table.write_text(f"y,age,who\n{rows}")
    declared = f'{TABLE}patient = "who"\n[ranges]\nage = [0, 100]\n'
    table.with_suffix(".toml").write_text(declared)
    return own(f"npz:{file}").train.patients.tolist(), own(f"csv:{table}").patient_names


@pytest.mark.parametrize("missing", [np.nan, ""], ids=["no number", "blank"])
def test_an_identifier_that_is_missing_makes_nobody_else_somebody_new(
    tmp_path: Path, missing: object
) -> None:
    """One that is missing makes a column of whole numbers one of floats, or of their texts."""
    whole, names = _whose(tmp_path / "whole.npz", [1, 2], "1,50,1\n0,40,2\n")
    floats, others = _whose(tmp_path / "floats.npz", [1.0, 2.0, missing], "1,50,1.0\n0,40,2.0\n")
    assert len(whole) == len(floats) == 5 and len(set(whole)) == len(set(floats)) == 3
    assert names == others == ("1", "2")


@pytest.mark.parametrize("classes", [("0", "1"), ("well", "ill")], ids=["numbers", "names"])
@pytest.mark.parametrize("odd", [np.nan, "", "?"], ids=["no number", "blank", "a mark"])
def test_a_label_that_is_missing_leaves_others_as_they_are(
    tmp_path: Path, classes: tuple[str, str], odd: object
) -> None:
    """It makes floats, or texts, of all labels of its part."""
    file, pictures = tmp_path / "scans.npz", np.zeros((3, 8, 8), dtype=np.uint8)
    file.with_suffix(".toml").write_text(f"classes = {list(classes)}\n".replace("'", '"'))
    np.savez(
        file,
        train_images=pictures,
        train_labels=np.array([0.0, 1.0, 1.0]),
        val_images=pictures,
        val_labels=np.array([1, 0, odd]),
    )
    assert own(f"npz:{file}").train.labels.tolist() == [0, 1, 1, 1, 0]
