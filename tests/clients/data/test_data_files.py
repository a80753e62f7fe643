"""Tables that are no CSV file, and tables of several files."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import numpy as np
import pytest

from clients.data import DataError, load_dataset
from clients.data.reading_log import ReadingLog
from clients.data.rows import read_rows, text_lines

DECLARED = """
target = "outcome"
classes = [0, 1]
patient = "id"
hospital = "site"
[ranges]
age = [0, 100]
visit = ["2020-01-01", "2020-01-11"]
[kinds]
sex = ["f", "m"]
"""
COLUMNS = ("id", "site", "age", "visit", "sex", "outcome")
ROWS = [
    (7, "north", 50.0, datetime(2020, 1, 1), "f", 0),
    (7, "north", 25.5, datetime(2020, 1, 11), "m", 1),
    (8, "south", None, None, None, True),
]
INPUTS = [[0, -1, 1, -1], [-0.49, 1, -1, 1], [0, 0, 0, 0]]


def write_excel(path, rows=ROWS, sheet="Visits"):
    from openpyxl import Workbook

    book = Workbook()
    book.active.title = "Notes"
    made = book.create_sheet(sheet)
    for row in (COLUMNS, *rows):
        made.append(row)
    book.save(path)


def write_parquet(path, rows=ROWS):
    import pyarrow as pa
    from pyarrow import parquet

    columns = [list(one) for one in zip(*rows, strict=True)]
    columns[-1] = [int(one) for one in columns[-1]]
    parquet.write_table(pa.table(dict(zip(COLUMNS, columns, strict=True))), path)


@pytest.mark.parametrize("decimal", ["", ","])
@pytest.mark.parametrize("suffix", ["xlsx", "parquet"])
def test_cells_that_have_types_come_out_as_they_are(tmp_path, suffix, decimal):
    form = '[file]\nsheet = "Visits"\n' + (f'decimal = "{decimal}"\n' if decimal else "")
    (tmp_path / "visits.toml").write_text(DECLARED + form)
    write = write_excel if suffix == "xlsx" else write_parquet
    write(tmp_path / f"visits.{suffix}")
    loaded = load_dataset(f"csv:visits.{suffix}", tmp_path)
    np.testing.assert_allclose(loaded.train.inputs, INPUTS, atol=1e-6)
    assert loaded.train.labels.tolist() == [0, 1, 1]
    assert (loaded.patient_names, loaded.hospital_names) == (("7", "8"), ("north", "south"))
    assert not loaded.log


def test_a_sheet_that_is_not_there_is_said(tmp_path):
    (tmp_path / "visits.toml").write_text(DECLARED + '[file]\nsheet = "Visit"\n')
    write_excel(tmp_path / "visits.xlsx")
    with pytest.raises(DataError, match=r"no sheet 'Visit'; it has Notes, Visits"):
        load_dataset("csv:visits.xlsx", tmp_path)
    (tmp_path / "visits.toml").write_text(DECLARED)
    with pytest.raises(DataError, match=r"no column 'outcome'"):
        load_dataset("csv:visits.xlsx", tmp_path)


@pytest.mark.parametrize("suffix", ["xlsx", "parquet"])
def test_a_damaged_file_is_an_error_with_a_code(tmp_path, suffix):
    (tmp_path / "visits.toml").write_text(DECLARED)
    (tmp_path / f"visits.{suffix}").write_bytes(b"PK\x03\x04junk")
    with pytest.raises(DataError, match="cannot be read") as caught:
        load_dataset(f"csv:visits.{suffix}", tmp_path)
    assert caught.value.code == "unreadable"


@pytest.mark.parametrize(("name", "mend"), [("it.xls", "save it as .xlsx"), ("it.sav", "as CSV")])
def test_other_files_are_told_what_to_become(tmp_path, name, mend):
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(DataError, match=mend):
        read_rows(tmp_path / name, (), ReadingLog())


def test_excel_without_its_library_says_what_to_install(tmp_path, monkeypatch):
    import sys

    write_excel(tmp_path / "visits.xlsx")
    (tmp_path / "visits.toml").write_text(DECLARED)
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    with pytest.raises(DataError, match=r"pip install 'asclepias\[formats\]'"):
        load_dataset("csv:visits.xlsx", tmp_path)


def test_a_folder_of_tables_is_a_hospital_a_file(tmp_path):
    folder = tmp_path / "visits"
    folder.mkdir()
    (folder / "dataset.toml").write_text(DECLARED)
    (folder / "north.csv").write_text(
        "id,age,visit,sex,outcome\na1,50,2020-01-01,f,0\na2,25.5,2020-01-11,m,1\n"
    )
    # Written by another program, in another order, with a column more.
    (folder / "south.csv").write_text("outcome;note;sex;age;visit;id\n1;x;;;;b1\n")
    loaded = load_dataset("csv:visits/*.csv", tmp_path)
    np.testing.assert_allclose(loaded.train.inputs, INPUTS, atol=1e-6)
    assert loaded.hospital_names == ("north", "south")
    assert loaded.train.hospitals.tolist() == [0, 0, 1]
    with pytest.raises(DataError, match="a hospital names its own file"):
        load_dataset("csv:visits/*.csv", tmp_path, declared=True)
    with pytest.raises(DataError, match="no such file"):
        load_dataset("csv:visits/*.parquet", tmp_path)


def test_ranges_that_nobody_confirmed_train_nothing_private(tmp_path):
    (tmp_path / "visits.toml").write_text('unconfirmed = ["age"]\n' + DECLARED)
    write_parquet(tmp_path / "visits.parquet")
    with pytest.raises(DataError, match=r"of age was taken from the data.*unconfirmed"):
        load_dataset("csv:visits.parquet", tmp_path)
    with pytest.raises(DataError, match=r"what it says of age"):
        load_dataset("csv:visits.parquet", tmp_path, declared=True)
    assert load_dataset("csv:visits.parquet", tmp_path, unconfirmed=True)


def test_lines_of_any_encoding_are_told_apart():
    text = "id,né\r\n1,Łódź\n"
    for encoding in ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"):
        assert text_lines(text.encode(encoding))[:2] == ["id,né", "1,Łódź"]
    mixed = "id,né\n".encode("latin-1") + "1,né\n".encode()
    assert text_lines(mixed) == ["id,né", "1,né"]
    assert text_lines("1,€\n".encode("cp1252")) == ["1,€"]
    assert text_lines("1,Ł\n".encode("iso8859-2"), "iso8859-2")[0] == "1,Ł"


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-16", "utf-32-le", "utf-32"])
def test_a_byte_too_many_in_a_row_spoils_that_row_alone(encoding: str) -> None:
    rows = ["id,age", "1,54", "2,61", "3,47"]
    mark = "".encode(encoding)

    def written(odd: bytes) -> list[str]:
        parts = [f"{row}\r\n".encode(encoding)[len(mark) :] for row in rows]
        return text_lines(mark + parts[0] + parts[1] + odd + parts[2] + parts[3], encoding)[:4]

    assert written(b"") == rows
    for odd in (b"7", b"\0", b"\n", b"\r", b"\xff"):
        found = written(odd)
        assert [found[0], found[1], found[-1]] == [rows[0], rows[1], rows[3]], odd


def test_a_byte_that_is_no_letter_is_one_records_alone(tmp_path: Path) -> None:
    """Identifiers and labels of an array of bytes, of which one is in another encoding."""
    np.savez(
        tmp_path / "a.npz",
        train_images=np.zeros((3, 8, 8), dtype=np.uint8),
        train_labels=np.array([b"no", b"yes", b"y\xe9s"]),
        train_patient=np.array([b"p1", b"p\xe9", b"p\xe8"]),
    )
    (tmp_path / "a.toml").write_text('classes = ["no", "yes"]\n')
    data = load_dataset("npz:a", tmp_path, declared=True)
    assert data.train.labels.tolist() == [0, 1]
    assert len(set(data.patient_names)) == 3


def test_a_hospitals_own_table_is_none_of_the_same_name_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = 'target = "y"\nclasses = ["a", "b"]\n[ranges]\nx = [0, 9]\n'
    for folder, rows in (("site", 3), ("elsewhere", 5)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "visits.toml").write_text(said)
        (tmp_path / folder / "visits.csv").write_text("y,x\n" + "a,5\n" * rows)
    monkeypatch.chdir(tmp_path / "elsewhere")
    site = tmp_path / "site"
    assert len(load_dataset("csv:visits.csv", site, declared=True).train) == 3
    assert len(load_dataset("csv:visits.csv", site).train) == 5, "what is typed is seen from here"
