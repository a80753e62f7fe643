"""Tables of patients to predict: the columns that a model was trained on, in any order.

`visits.csv` is read as `visits.toml` beside it says, or the declaration that is named: how a
hospital's file is written is its own. What all hospitals agreed on must be the same. Without one
the model's own declaration holds, and the file is read as its first line shows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from clients.data import breast_cancer, heart_disease
from clients.data.declaration import Declaration, read_declaration
from clients.data.declared_parts import FileForm
from clients.data.dialect import ABSENT, Dialect, identifier, says_nothing
from clients.data.encoding import Encoder
from clients.data.errors import DataError
from clients.data.files import read_bounded
from clients.data.public_facts import declaration_of
from clients.data.reading_log import ReadingLog
from clients.data.records import DatasetInfo
from clients.data.rows import Row, Table, cells, read_rows, text_lines
from clients.data.targets import Target, no_target, target_array
from clients.prediction.asked import UNTOLD, Asked, RowNotes, patient_numbers

#: Suffix of UCI's own files of heart disease.
HEADLESS = ".data"
NOTHING = "nothing of it can be read: no prediction"


class _Reader(Protocol):
    """Reads the rows of one kind of table."""

    def read(self, place: str, row: Row) -> tuple[list[float], bool]:
        """Return a row's inputs, and whether anything of it could be read."""

    def label(self, place: str, row: Row) -> Target:
        """Return a row's class number or other target, `UNTOLD` or `no_target` for none."""

    def blind(self) -> list[str]:
        """Return a line for each column that is filled, and of which nothing could be read."""


class _Declared:
    """Rows of a declared table."""

    def __init__(self, declared: Declaration, dialect: Dialect, log: ReadingLog) -> None:
        # Whoever is asked about need not be named, nor be of a named hospital.
        self._declared = declared.model_copy(update={"patient": "", "hospital": ""})
        self._encoder = Encoder(self._declared, dialect, log)

    def read(self, place: str, row: Row) -> tuple[list[float], bool]:
        values, absent = self._encoder.read(place, row)
        return values, len(absent) < len(self._declared.ranges) + len(self._declared.kinds)

    def label(self, place: str, row: Row) -> Target:
        label = self._encoder.label(place, row)
        return no_target(self._declared) if label is None else label

    def blind(self) -> list[str]:
        return self._encoder.blind()


@dataclass(frozen=True, kw_only=True)
class Published:
    """The form of a published table, which no declaration describes.

    Attributes:
        columns: of measurements.
        target: column of the outcome.
        encode: from float64 [n, columns], NaN for missing, to inputs float32 [n, width].
        label: from a cell of the outcome to its class number, or None.
    """

    columns: tuple[str, ...]
    target: str
    encode: Callable[[NDArray[np.float64]], NDArray[np.float32]]
    label: Callable[[str, tuple[str, ...]], int | None]


def _named(cell: str, classes: tuple[str, ...]) -> int | None:
    folded = [one.casefold() for one in classes]
    return folded.index(cell.casefold()) if cell.casefold() in folded else None


def _grade(cell: str, classes: tuple[str, ...]) -> int | None:
    named = _named(cell, classes)
    return int(int(cell) > 0) if named is None and cell in ("0", "1", "2", "3", "4") else named


def _heart(columns: tuple[str, ...]) -> Published:
    def encode(values: NDArray[np.float64]) -> NDArray[np.float32]:
        whole = np.full((len(values), len(heart_disease.COLUMNS)), np.nan)
        whole[:, : len(columns)] = values
        return heart_disease.encode(whole, columns)

    return Published(columns=columns, target="num", encode=encode, label=_grade)


def _breast(values: NDArray[np.float64]) -> NDArray[np.float32]:
    # What was not measured is the middle of its range, as in every table here.
    return np.nan_to_num(breast_cancer.scale(values))


PUBLISHED: dict[str, Published] = {
    "breast-cancer": Published(
        columns=breast_cancer.COLUMNS, target=breast_cancer.TARGET, encode=_breast, label=_named
    ),
    "heart-disease": _heart(heart_disease.COLUMNS[:-1]),
    "heart-disease:complete": _heart(heart_disease.COMPLETE),
}


class _PublishedRows:
    """Rows of a published table."""

    def __init__(
        self, form: Published, classes: tuple[str, ...], dialect: Dialect, log: ReadingLog
    ) -> None:
        self._form = form
        self._classes = classes
        self._dialect = dialect
        self._log = log
        self._read: set[str] = set()
        self._unread: dict[str, str] = {}

    def read(self, place: str, row: Row) -> tuple[list[float], bool]:
        values = [self._value(place, column, row[column]) for column in self._form.columns]
        table = np.asarray([values], dtype=np.float64)
        return self._form.encode(table)[0].tolist(), bool(np.isfinite(table).any())

    def _value(self, place: str, column: str, cell: str) -> float:
        value = self._dialect.number(cell)
        if value is not None:
            self._read.add(column)
        elif cell.casefold() not in ABSENT:
            note = f"{place}, column {column}: {cell!r}, expected a number"
            self._log.note("cannot be read: a missing value", note)
            self._unread.setdefault(column, note)
        return np.nan if value is None else value

    def blind(self) -> list[str]:
        return [
            f"{note}; so is every filled cell of this column"
            for column, note in self._unread.items()
            if column not in self._read
        ]

    def label(self, place: str, row: Row) -> int:
        cell = row[self._form.target]
        number = self._form.label(cell, self._classes)
        if number is None and cell.casefold() not in ABSENT:
            self._log.note(
                "no class of the model",
                f"{place}, column {self._form.target}: {cell!r}, expected "
                f"{', '.join(self._classes)}",
            )
        return UNTOLD if number is None else number


@dataclass(frozen=True, kw_only=True)
class _Form:
    """What of a file is read, and how it is written."""

    columns: tuple[str, ...]
    target: tuple[str, ...]
    patient: str
    declared: Declaration
    file: FileForm
    reader: Callable[[Dialect, ReadingLog], _Reader]


def ask_table(
    path: Path, info: DatasetInfo, log: RowNotes, declaration: Path | None = None
) -> Asked:
    """Return the rows of a CSV, Excel or Parquet file.

    Args:
        path: of the file.
        info: public facts of what the model was trained on.
        log: where what could not be read is counted.
        declaration: file that says how it is written; None for the one beside it, if there is one.

    Raises:
        DataError: the file cannot be read, lacks a column, or declares other columns or classes
            than the model was trained on.
    """
    form = _form(path, info, declaration)
    odd = RowsLeftOut()
    table = _headless(path, odd) if path.suffix == HEADLESS else _rows(path, form, odd)
    reader = form.reader(table.dialect, log)
    inputs, rows, notes, labels = [], [], [], []
    told = set(form.target) <= set(table.header)
    nothing = no_target(form.declared)
    for number, (place, row) in enumerate(table.rows):
        values, says = reader.read(place, row)
        said = log.of_record()
        if says:
            inputs.append(values)
            rows.append(number)
        notes.append(said if says else "; ".join(filter(None, [NOTHING, said])))
        labels.append(reader.label(place, row) if told else nothing)
        log.of_record()
    found = _in_order(table, form, odd, inputs, rows, notes, labels if told else None, info)
    return replace(found, columns=form.columns, blind=reader.blind())


class RowsLeftOut(ReadingLog):
    """Keeps the place and the fault of every row that a reader left out."""

    def __init__(self) -> None:
        super().__init__()
        self.left_out: dict[int, str] = {}

    def note(self, kind: str, example: str = "", count: int = 1) -> None:
        """Keep a row that is out."""
        super().note(kind, example, count)
        place, _, fault = example.partition(" has ")
        self.left_out[int(place.rpartition(" ")[2])] = f"it has {fault}: no prediction"


def _headless(path: Path, log: ReadingLog) -> Table:
    """Return the rows of one of UCI's files of heart disease, whose columns have no names."""
    columns, rows = heart_disease.COLUMNS, []
    for number, line in enumerate(text_lines(read_bounded(path)), start=1):
        found = cells(line, ",")
        if len(found) == len(columns):
            rows.append((f"{path}: row {number}", dict(zip(columns, found, strict=True))))
        elif line.strip():
            log.note("out", f"{path}: row {number} has {len(found)}, expected {len(columns)}")
    return Table(header=columns, rows=rows, dialect=Dialect(FileForm()))


def _rows(path: Path, form: _Form, log: ReadingLog) -> Table:
    try:
        return read_rows(path, form.columns, log, form.file)
    except DataError as error:
        if error.code != "missing-column":
            raise
        raise DataError(
            f"{error}. The model was trained on {', '.join(form.columns)}", code=error.code
        ) from None


def _in_order(
    table: Table,
    form: _Form,
    odd: RowsLeftOut,
    inputs: list[list[float]],
    rows: list[int],
    notes: list[str],
    labels: list[Target] | None,
    info: DatasetInfo,
) -> Asked:
    """Return all rows of the file, those that were left out among them, in its order."""
    numbers = [int(place.rpartition(" ")[2]) for place, _ in table.rows]
    whole = sorted([*numbers, *odd.left_out])
    at = {number: place for place, number in enumerate(whole)}
    all_notes = [odd.left_out.get(number, "") for number in whole]
    patients = [""] * len(whole)
    told = [no_target(form.declared)] * len(whole)
    for here, number in enumerate(numbers):
        all_notes[at[number]] = notes[here]
        patients[at[number]] = table.rows[here][1].get(form.patient, "")
        if labels is not None:
            told[at[number]] = labels[here]
    keys: dict[str, list[str]] = {"row": [str(number) for number in whole]}
    # As a training knows them: it is the same patient who is 17 here and 17.0 there.
    names = ["" if says_nothing(one) else identifier(one) for one in patients]
    if form.patient in table.header:
        keys[form.patient] = patients
    return Asked(
        keys=keys,
        inputs=np.asarray(inputs, dtype=np.float32).reshape(len(inputs), *info.shape),
        rows=np.asarray([at[numbers[row]] for row in rows], dtype=np.int64),
        notes=all_notes,
        labels=None if labels is None else target_array(form.declared, told),
        patients=patient_numbers(names),
        names=names,
    )


def _form(path: Path, info: DatasetInfo, declaration: Path | None) -> _Form:
    if published := PUBLISHED.get(info.name):
        if declaration is not None:
            raise DataError(
                f"{declaration}: the model was trained on {info.name}, a published table, whose "
                "columns no file declares; leave it out",
                code="declaration",
            )

        def rows(dialect: Dialect, log: ReadingLog) -> _Reader:
            return _PublishedRows(published, info.classes, dialect, log)

        return _Form(
            columns=published.columns,
            target=(published.target,),
            patient="patient",
            declared=Declaration(classes=info.classes),
            file=FileForm(),
            reader=rows,
        )
    if not info.declared:
        raise DataError(
            f"{path}: the model was trained on {info.name}, whose columns no file declares; give "
            f"arrays of shape {info.shape} in an npz file",
            code="declaration",
        )
    declared = _declared(path.with_suffix(".toml"), info, declaration)

    def reader(dialect: Dialect, log: ReadingLog) -> _Reader:
        return _Declared(declared, dialect, log)

    return _Form(
        columns=(*declared.ranges, *declared.kinds),
        target=declared.target_columns,
        patient=declared.patient,
        declared=declared,
        file=declared.file,
        reader=reader,
    )


def _declared(beside: Path, info: DatasetInfo, declaration: Path | None) -> Declaration:
    """Return how a file is read: as is declared, if that is what the model knows.

    Raises:
        DataError: it declares something else.
    """
    if declaration is None and not beside.is_file():
        return declaration_of(info)
    file = declaration or beside
    declared = read_declaration(file)
    check_same(declared.public(), info.declared, str(file))
    return declared


def check_same(found: Mapping[str, str], expected: Mapping[str, str], where: str) -> None:
    """Insist that what all hospitals agree on is what the model was trained on.

    Raises:
        DataError: `declaration`, with every key that differs.
    """
    faults = [
        f"{key} = {found.get(key, 'not declared')}, expected {expected.get(key, 'not declared')}"
        for key in dict.fromkeys([*expected, *found])
        if found.get(key) != expected.get(key)
    ]
    if faults:
        raise DataError(
            f"{where} declares other data than the model was trained on: {'; '.join(faults)}",
            code="declaration",
        )
