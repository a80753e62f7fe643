"""One record that no reader can make sense of is out, or a missing value; its source is read."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

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
