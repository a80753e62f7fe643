"""The rows of a table of patients: CSV, Excel and Parquet files, as text by column.

    table = read_rows(path, ("age", "outcome"), log)
    table.rows[0]                 # ("visits.csv: row 2", {"age": "54", "outcome": "dead", ...})
    table.dialect.number("54")    # 54.0

Of a CSV file a line is a row, so that a stray quotation mark spoils one patient's row and no other.
Its separator follows from the header alone, its encoding from the first bytes, or each line's own.
"""

from __future__ import annotations

import codecs
import csv
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from clients.contract.setting_faults import nearest
from clients.data.declared_parts import FileForm
from clients.data.dialect import Dialect
from clients.data.errors import DataError
from clients.data.files import MOST_TABLE_BYTES, read_bounded
from clients.data.reading_log import ReadingLog

#: Separators between cells, in the order in which they are tried.
SEPARATORS = (",", ";", "\t", "|")
EXCEL, PARQUET = (".xlsx", ".xlsm"), (".parquet", ".pq")
#: Files that are often meant to be tables, and are not read as such.
_OTHERS = {
    ".xls": "save it as .xlsx",
    ".ods": "save it as .xlsx",
    ".sav": "export it as CSV",
    ".sas7bdat": "export it as CSV",
    ".dta": "export it as CSV",
}
_BOMS = {
    codecs.BOM_UTF32_LE: "utf-32-le",  # begins as that of UTF-16 does
    codecs.BOM_UTF32_BE: "utf-32-be",
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
}
#: What a damaged Excel or Parquet file raises is anybody's guess; these are meant to be seen.
_OWN = (DataError, KeyboardInterrupt)

Row = Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Table:
    """Rows of a file, each with its place.

    Attributes:
        header: names of the columns.
        rows: (place, row), stripped.
        dialect: how its cells are read.
    """

    header: tuple[str, ...]
    rows: Sequence[tuple[str, Row]]
    dialect: Dialect


def read_rows(
    path: Path, columns: Sequence[str], log: ReadingLog, form: FileForm | None = None
) -> Table:
    """Return a file's rows.

    Args:
        path: a CSV, Excel (.xlsx) or Parquet file.
        columns: those that it must have, each once; it may have more, in any order.
        log: where rows that cannot be read are counted.
        form: what is declared of how the file is written.

    Raises:
        DataError: the file cannot be read, or lacks a column.
    """
    form = FileForm() if form is None else form
    suffix = path.suffix.lower()
    if suffix in EXCEL or suffix in PARQUET:
        return _typed(path, columns, form, log)
    if instead := _OTHERS.get(suffix):
        raise DataError(f"{path}: {suffix} files are not read; {instead}", code="unreadable")
    lines = text_lines(read_bounded(path), form.encoding)
    header, separator = _header(path, lines[0] if lines else "", columns, form.separator)
    rows: list[tuple[str, Row]] = []
    for number, line in enumerate(lines[1:], start=2):
        place = f"{path}: row {number}"
        if not line.strip():
            continue
        row = _row(place, header, cells(line, separator), log)
        if row is not None:
            rows.append((place, row))
    return Table(header=tuple(header), rows=rows, dialect=Dialect(form, separator))


def _row(place: str, header: Sequence[str], found: list[str], log: ReadingLog) -> Row | None:
    """Return cells by column; None where there are more or fewer, and the record is out."""
    while len(found) > len(header) and not found[-1]:
        found.pop()
    if len(found) == len(header):
        return dict(zip(header, found, strict=True))
    log.note(
        "another number of cells than the header: the record is out",
        f"{place} has {len(found)}, expected {len(header)}",
    )
    return None


def text_lines(data: bytes, encoding: str = "") -> list[str]:
    """Return the lines of a file's bytes.

    Not declared, the encoding is that of the mark in front, UTF-16 where every other byte of the
    first line is zero, and else each line's own: UTF-8, or Windows' Western European.
    """
    mark = next((one for one in _BOMS if data.startswith(one)), b"")
    known = _BOMS[mark] if mark else encoding or _two_bytes(data)
    body = data.removeprefix(mark)
    if not known:
        return [_by_itself(line) for line in body.splitlines()]
    # Line by line: neither a shift of letters that a cell opens and never closes, nor a byte too
    # many in a letter of several, goes beyond its row.
    lines = [line.decode(known, errors="replace") for line in _ends_of(known).split(body)]
    return [line.removeprefix("\ufeff") for line in lines[:1]] + lines[1:]


@lru_cache(maxsize=8)
def _ends_of(encoding: str) -> re.Pattern[bytes]:
    """Return what ends a line in an encoding, wherever among the letters' bytes it stands."""
    mark = len("".encode(encoding))
    ends = [end.encode(encoding)[mark:] for end in ("\r\n", "\r", "\n")]
    return re.compile(b"|".join(map(re.escape, ends)))


def _two_bytes(data: bytes) -> str:
    """Return the name of UTF-16 in the order of bytes that a first line without a mark shows."""
    first = data[:64].split(b"\n")[0]
    if first[1:2] == b"\0":
        return "utf-16-le"
    return "utf-16-be" if first[:1] == b"\0" else ""


def _by_itself(line: bytes) -> str:
    for encoding in ("utf-8", "cp1252"):
        try:
            return line.decode(encoding)
        except UnicodeDecodeError:
            continue
    return line.decode("latin-1")


def cells(line: str, separator: str) -> list[str]:
    """Return a line's cells, stripped; none where quotation marks are wrong."""
    try:
        return [cell.strip() for cell in next(csv.reader([line], delimiter=separator), [])]
    except csv.Error:
        return []


def _header(path: Path, line: str, columns: Sequence[str], declared: str) -> tuple[list[str], str]:
    """Return the columns' names and the separator: the declared one, or the first that fits."""
    for separator in [declared] if declared else SEPARATORS:
        header = cells(line, separator)
        if set(columns) <= set(header):
            _check_once(path, header, columns)
            return header, separator
    counted = {one: len(cells(line, one)) for one in SEPARATORS}
    likely = declared or max(counted, key=lambda one: counted[one])
    raise missing_column(path, cells(line, likely), columns)


def _check_once(path: Path, header: Sequence[str], columns: Sequence[str]) -> None:
    for column in columns:
        if header.count(column) > 1:
            raise DataError(
                f"{path}: two columns {column!r}: rename or remove one in the file",
                code="missing-column",
            )


def missing_column(path: Path, header: Sequence[str], columns: Sequence[str]) -> DataError:
    """Return the error that a declared column is not in the file."""
    absent = next(column for column in columns if column not in header)
    close = nearest(absent, header) if header else None
    meant = f" (did you mean {close!r}?)" if close else ""
    return DataError(
        f"{path}: no column {absent!r}{meant}; it has {', '.join(header) or 'no header'}",
        code="missing-column",
    )


def _typed(path: Path, columns: Sequence[str], form: FileForm, log: ReadingLog) -> Table:
    """Read a file whose cells have types of their own."""
    excel = path.suffix.lower() in EXCEL
    try:
        size = path.stat().st_size
        if size > MOST_TABLE_BYTES:
            raise DataError(
                f"{path} has {size} bytes, at most {MOST_TABLE_BYTES} are read", code="unreadable"
            )
        header, values = _excel(path, form.sheet) if excel else _parquet(path)
    except _OWN:
        raise
    except Exception as error:
        raise DataError(f"{path} cannot be read ({error})", code="unreadable") from error
    if not set(columns) <= set(header):
        raise missing_column(path, header, columns)
    _check_once(path, header, columns)
    dialect = Dialect(form, separator="")
    rows: list[tuple[str, Row]] = []
    for number, cells_ in enumerate(values, start=2):
        place, texts = f"{path}: row {number}", [dialect.written(one).strip() for one in cells_]
        if any(texts):
            # Excel files need not hold the empty cells at a row's end.
            texts += [""] * (len(header) - len(texts))
            row = _row(place, header, texts, log)
            if row is not None:
                rows.append((place, row))
    return Table(header=tuple(header), rows=rows, dialect=dialect)


def _workbook(path: Path) -> Any:
    try:
        from openpyxl import load_workbook
    except ImportError:
        raise DataError(
            f"{path}: reading Excel needs openpyxl: pip install 'asclepias[formats]', or save the "
            "sheet as CSV",
            code="unreadable",
        ) from None
    return load_workbook(path, read_only=True, data_only=True)


def sheet_names(path: Path) -> tuple[str, ...]:
    """Return the names of an Excel file's sheets.

    Raises:
        DataError: it cannot be read.
    """
    try:
        book = _workbook(path)
    except _OWN:
        raise
    except Exception as error:
        raise DataError(f"{path} cannot be read ({error})", code="unreadable") from error
    names = tuple(book.sheetnames)
    book.close()
    return names


def _excel(path: Path, sheet: str) -> tuple[list[str], Iterable[Sequence[Any]]]:
    book = _workbook(path)
    if sheet and sheet not in book.sheetnames:
        raise DataError(
            f"{path}: no sheet {sheet!r}; it has {', '.join(book.sheetnames)}: mend [file] sheet",
            code="missing-column",
        )
    rows = list((book[sheet] if sheet else book.worksheets[0]).iter_rows(values_only=True))
    book.close()
    names = ["" if name is None else str(name).strip() for name in (rows[0] if rows else [])]
    return names, rows[1:]


def _parquet(path: Path) -> tuple[list[str], Iterable[Sequence[Any]]]:
    from pyarrow import parquet

    with path.open("rb") as file:  # by Python, so that whoever guards files is told of it
        table = parquet.read_table(file)
    return list(table.column_names), zip(*map(_values, table.columns), strict=True)


def _values(column: Any) -> list[Any]:
    """Return a column's values; what Python cannot hold, as a day beyond year 9999, is None."""
    try:
        return list(column.to_pylist())
    except Exception:
        return [_value(one) for one in column]


def _value(scalar: Any) -> Any:
    try:
        return scalar.as_py()
    except Exception:
        return None
