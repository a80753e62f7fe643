"""Any table of patients: a CSV file and, a TOML file that declares what is public about it.

`csv:visits.csv` reads `visits.csv` and `visits.toml`:

    target = "outcome"                 # the column to predict
    classes = ["alive", "dead"]        # its values, in label order
    patient = "patient_id"             # optional: rows of one patient stay together
    hospital = "site"                  # optional: real hospitals, for the natural partition
    [ranges]                           # measurements and their public ranges
    age = [0, 110]
    [kinds]                            # categories and their public values
    sex = ["f", "m"]
    [missing]                          # optional: columns whose absence is itself a feature
    columns = ["age"]

A column declared nowhere is not used. Nothing is fitted to the rows: values are scaled by the
declared ranges and cut at them. An empty cell, `?` or `NA` becomes the middle of its range, and so
does a cell that cannot be read. A row whose outcome is no declared class, or that names no patient,
is left out. A line is a row, so that a stray quotation mark spoils one patient's row and no other.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from clients.data.declaration import read_toml
from clients.data.errors import DataError
from clients.data.files import Location, find, read_bounded
from clients.data.reading_log import ReadingLog
from clients.data.records import Dataset, DatasetInfo, Ints, Records, dense

_ABSENT = ("", "?", "na", "n/a", "nan", "null", "none", ".")
_SEPARATORS = (",", ";", "\t")

Row = Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Declaration:
    """What is declared public about a table."""

    target: str
    classes: tuple[str, ...]
    patient: str
    hospital: str
    ranges: Mapping[str, tuple[float, float]]
    kinds: Mapping[str, tuple[str, ...]]
    missing: tuple[str, ...]

    @property
    def width(self) -> int:
        """Number of input columns that rows become."""
        return len(self.ranges) + sum(map(len, self.kinds.values())) + len(self.missing)

    @property
    def columns(self) -> tuple[str, ...]:
        """Every column that the file must have."""
        named = (self.target, self.patient, self.hospital, *self.ranges, *self.kinds)
        return tuple(name for name in named if name)


def read_declaration(path: Path) -> Declaration:
    """Return what the TOML file declares.

    Raises:
        DataError: `declaration`, saying what is wrong and what was expected.
    """
    if not path.is_file():
        raise DataError(
            f"{path} does not exist. It declares what is public: target, classes, [ranges] with "
            'column = [lowest, highest], [kinds] with column = ["value", ...]; and, if there are '
            "any, patient, hospital and [missing] columns",
            code="missing-file",
        )
    given = read_toml(path)
    known = {"target", "classes", "patient", "hospital", "ranges", "kinds", "missing"}
    if strange := sorted(set(given) - known):
        raise DataError(
            f"{path}: unknown key {strange[0]!r}; expected {', '.join(sorted(known))}",
            code="declaration",
        )
    try:
        declared = Declaration(
            target=str(given["target"]),
            classes=tuple(str(one) for one in given["classes"]),
            patient=str(given.get("patient", "")),
            hospital=str(given.get("hospital", "")),
            ranges={k: _range(path, k, v) for k, v in dict(given.get("ranges", {})).items()},
            kinds={k: tuple(map(str, v)) for k, v in dict(given.get("kinds", {})).items()},
            missing=tuple(given.get("missing", {}).get("columns", ())),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(
            f"{path}: {error!r}; expected target, classes, [ranges] and [kinds]", code="declaration"
        ) from error
    if not declared.ranges and not declared.kinds:
        raise DataError(f"{path}: declares no column in [ranges] or [kinds]", code="declaration")
    for column in declared.missing:
        if column not in declared.ranges and column not in declared.kinds:
            raise DataError(
                f"{path}: [missing] names {column!r}, which is in neither [ranges] nor [kinds]",
                code="declaration",
            )
    return declared


def _range(path: Path, column: str, value: Any) -> tuple[float, float]:
    low, high = float(value[0]), float(value[1])
    if not low < high:
        raise DataError(
            f"{path}: [ranges] {column} = [{low}, {high}], expected lowest < highest",
            code="declaration",
        )
    return low, high


def load(where: Location) -> Dataset:
    """Return the rows of `csv:<file>`."""
    if not where.variant:
        raise DataError("say which: csv:<file>", code="unknown-dataset")
    named = Path(where.variant).expanduser()
    path = named if named.is_file() else find(where.data_dir, [where.variant])
    declared = read_declaration(path.with_suffix(".toml"))
    kept = [
        (place, row, label)
        for place, row in read_rows(path, declared.columns, where.log)
        if (label := _label(place, row, declared, where.log)) is not None
    ]
    inputs = np.zeros((len(kept), declared.width), dtype=np.float32)
    for number, (place, row, _) in enumerate(kept):
        inputs[number] = encode(place, row, declared, where.log)
    patients = np.arange(len(kept), dtype=np.int64)
    if declared.patient:
        patients, _ = dense([row[declared.patient] for _, row, _ in kept])
    homes: Ints | None = None
    names: tuple[str, ...] = ()
    if declared.hospital:
        homes, names = dense([row[declared.hospital] for _, row, _ in kept])
    return Dataset(
        info=DatasetInfo(
            name=f"csv:{where.variant}",
            title=f"the table {path.name}",
            task="binary" if len(declared.classes) == 2 else "multiclass",
            shape=(declared.width,),
            classes=declared.classes,
            has_patient_ids=bool(declared.patient),
            has_hospital_ids=bool(declared.hospital),
        ),
        train=Records(
            inputs=inputs,
            labels=np.asarray([label for _, _, label in kept], dtype=np.int64),
            patients=patients,
            hospitals=homes,
        ),
        hospital_names=names,
        log=where.log,
    )


def _label(place: str, row: Row, declared: Declaration, log: ReadingLog) -> int | None:
    """Return a row's class number, or None if the row is left out."""
    for column in (declared.patient, declared.hospital):
        if column and not row[column]:
            log.note("no identifier: the record is out", f"{place}, column {column}")
            return None
    label = _meant(row[declared.target], declared.classes)
    if label is None:
        log.note(
            "no declared class: the record is out",
            f"{place}, column {declared.target}: {row[declared.target]!r}, expected "
            f"{', '.join(declared.classes)}",
        )
    return label


def read_rows(path: Path, columns: Sequence[str], log: ReadingLog) -> list[tuple[str, Row]]:
    """Return a CSV file's rows, stripped, each with its place, and at least the given columns.

    The header decides on the separator: a comma, a semicolon or a tab.

    Raises:
        DataError: the file cannot be read, or its header lacks a column.
    """
    lines = read_bounded(path).removeprefix(b"\xef\xbb\xbf").splitlines()
    header, separator = _header(path, _text(lines[0]) if lines else "", columns)
    decimal_comma = separator != ","
    rows: list[tuple[str, Row]] = []
    for number, line in enumerate(lines[1:], start=2):
        place = f"{path}: row {number}"
        if not line.strip():
            continue
        cells = _cells(_text(line), separator)
        while len(cells) > len(header) and not cells[-1]:
            cells.pop()
        if len(cells) != len(header):
            log.note(
                "another number of cells than the header: the record is out",
                f"{place} has {len(cells)}, expected {len(header)}",
            )
            continue
        if decimal_comma:
            cells = [_with_point(cell) for cell in cells]
        rows.append((place, dict(zip(header, cells, strict=True))))
    return rows


def _text(line: bytes) -> str:
    """Decode a line by itself: UTF-8, else Latin-1, as old exports are."""
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError:
        return line.decode("latin-1")


def _cells(line: str, separator: str) -> list[str]:
    try:
        return [cell.strip() for cell in next(csv.reader([line], delimiter=separator), [])]
    except csv.Error:
        return []


def _with_point(cell: str) -> str:
    """Write a decimal comma as a point; leave all other text alone."""
    pointed = cell.replace(",", ".", 1)
    return pointed if _number(pointed) is not None else cell


def _header(path: Path, line: str, columns: Sequence[str]) -> tuple[list[str], str]:
    """Return the columns' names and the separator."""
    for separator in _SEPARATORS:
        header = _cells(line, separator)
        if set(columns) <= set(header):
            for column in columns:
                if header.count(column) > 1:
                    raise DataError(f"{path}: two columns {column!r}", code="missing-column")
            return header, separator
    header = _cells(line, ",")
    absent = next(column for column in columns if column not in header)
    raise DataError(
        f"{path}: no column {absent!r}; it has {', '.join(header)}", code="missing-column"
    )


def encode(place: str, row: Row, declared: Declaration, log: ReadingLog) -> list[float]:
    """Return one row's inputs, in [-1, 1]: measurements, kinds, then columns of missingness."""
    values: list[float] = []
    absent = set()
    for column, (low, high) in declared.ranges.items():
        value = None if row[column].lower() in _ABSENT else _number(row[column])
        if value is None:
            absent.add(column)
            values.append(0.0)
            _note_unread(place, row, column, "a number", log)
            continue
        if not low <= value <= high:
            log.note(
                "outside its declared range: cut to it",
                f"{place}, column {column}: {row[column]!r}, expected {low:g} to {high:g}",
            )
        values.append(min(max(2 * (value - low) / (high - low) - 1, -1.0), 1.0))
    for column, kinds in declared.kinds.items():
        kind = _meant(row[column], kinds)
        if kind is None:
            absent.add(column)
            _note_unread(place, row, column, ", ".join(kinds), log)
        values.extend(
            0.0 if kind is None else (1.0 if number == kind else -1.0)
            for number in range(len(kinds))
        )
    values.extend(float(column in absent) for column in declared.missing)
    return values


def _note_unread(place: str, row: Row, column: str, expected: str, log: ReadingLog) -> None:
    """Note a cell that holds something, but nothing that can be read."""
    cell = row[column]
    if cell.lower() not in _ABSENT:
        log.note(
            "cannot be read: a missing value",
            f"{place}, column {column}: {cell!r}, expected {expected}",
        )


def _number(cell: str) -> float | None:
    """Return a finite number, or None."""
    try:
        value = float(cell)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _meant(cell: str, choices: Sequence[str]) -> int | None:
    """Return the number of the one choice that a cell means, or None.

    Spelled alike; else alike but for the case of letters; else the same number (1.0 for 1).
    """
    if cell in choices:
        return choices.index(cell)
    folded = [number for number, one in enumerate(choices) if one.casefold() == cell.casefold()]
    if len(folded) == 1:
        return folded[0]
    value = _number(cell)
    equal = [number for number, one in enumerate(choices) if _number(one) == value]
    return equal[0] if value is not None and len(equal) == 1 else None
