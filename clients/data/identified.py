"""A hospital's own table with its patients' names, read column by column and not yet scaled.

Read as a training reads it: by the declaration beside it. Columns that are declared nowhere are not
read at all, so free text and names go nowhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np

from clients.data.declaration import Declaration, check_confirmed
from clients.data.dialect import identifier
from clients.data.encoding import Encoder
from clients.data.errors import DataError
from clients.data.generalised import Floats
from clients.data.reading_log import ReadingLog
from clients.data.records import Ints, dense
from clients.data.rows import read_rows
from clients.data.table import read_table_declaration
from clients.tasks.question import OF_CLASSES

#: Days are counted from here.
EPOCH = date(1900, 1, 1)


@dataclass(frozen=True, kw_only=True, repr=False)
class Identified:
    """A table's columns, by name.

    Attributes:
        declared: what is public about it.
        names: of patients, by number; empty names where none is declared.
        patients: [rows] whose each row is; a patient of its own where none is declared.
        labels: [rows] class numbers.
        numbers: measurements, [rows] each; no number where nothing was read.
        kinds: categories, [rows] each; "" where none was read.
        dates: days since `epoch`, [rows] each.
        log: what could not be read, with values of patients.
        unread: columns of the file that are declared nowhere.
    """

    declared: Declaration
    names: tuple[str, ...]
    patients: Ints
    labels: Ints
    numbers: Mapping[str, Floats]
    kinds: Mapping[str, tuple[str, ...]]
    dates: Mapping[str, Floats]
    log: ReadingLog
    unread: tuple[str, ...] = ()
    epoch: date = EPOCH

    @property
    def columns(self) -> tuple[str, ...]:
        """Every column but the patient and the one to predict, in order."""
        home = (self.declared.hospital,) if self.declared.hospital else ()
        return (*home, *self.declared.ranges, *self.declared.kinds)

    def bounds(self, name: str) -> tuple[int, int]:
        """Return first and last day of a date's declared range."""
        range_ = self.declared.ranges[name]
        assert range_.origin is not None
        low = (range_.origin - self.epoch).days
        return low, low + int(range_.high)

    def first_days(self) -> Floats:
        """Return [rows] the first day of each row's patient; no number where there is none."""
        found: Floats = np.full(len(self.patients), np.nan)
        if not self.dates:
            return found
        days = np.stack(list(self.dates.values()))
        least = np.full(len(self.names), np.inf)
        np.minimum.at(least, self.patients, np.where(np.isnan(days), np.inf, days).min(axis=0))
        found = least[self.patients]
        found[np.isinf(found)] = np.nan
        return found

    def exact(self) -> dict[str, Ints]:
        """Return each column as it was read, equal numbers for equal values."""
        found: dict[str, Ints] = {}
        for name in self.columns:
            values: object = self.kinds.get(name)
            if values is None:
                values = {**self.numbers, **self.dates}[name]
            codes = np.unique(np.asarray(values), return_inverse=True)[1]
            found[name] = codes.astype(np.int64)
        return found


def read_identified(path: Path, declaration: Path) -> Identified:
    """Read a table with all that its declaration names.

    Raises:
        DataError: the declaration is not sound or not confirmed, or the table cannot be read by
            it; nothing in the message is out of the table.
    """
    declared = _sound(declaration)
    log = ReadingLog()
    try:
        table = read_rows(path, declared.columns, log, declared.file)
    except DataError as error:
        # What it says may be cells: of a table without a header its first patient's.
        raise _unread(path, declared, error.code) from None
    encoder = Encoder(declared, table.dialect, log)
    labelled = [(encoder.label(place, row), place, row) for place, row in table.rows]
    taken = [(place, row) for label, place, row in labelled if label is not None]
    patients, names = np.arange(len(taken), dtype=np.int64), ("",) * len(taken)
    if declared.patient:
        patients, names = dense([identifier(row[declared.patient]) for _, row in taken])
    numbers, kinds, dates = _read_columns([encoder.values(*one) for one in taken], declared)
    if declared.hospital:
        kinds[declared.hospital] = tuple(row[declared.hospital] for _, row in taken)
    return Identified(
        declared=declared,
        names=names,
        patients=patients,
        labels=np.asarray([one for one, _, _ in labelled if one is not None], dtype=np.int64),
        numbers=numbers,
        kinds=kinds,
        dates=dates,
        log=log,
        unread=tuple(name for name in table.header if name and name not in declared.columns),
    )


def _sound(file: Path) -> Declaration:
    declared = read_table_declaration(file)
    check_confirmed(declared, file, unconfirmed=False)
    if not (declared.ranges or declared.kinds):
        raise DataError(f"{file}: declares no column of the table", code="declaration")
    if declared.task not in OF_CLASSES:
        raise DataError(
            f"{file}: the outcome is {declared.task}, and l-diversity counts classes: only a table "
            'whose outcome is a class is de-identified, as with classes = ["alive", "dead"]',
            code="declaration",
        )
    if not declared.patient and any(one.origin is not None for one in declared.ranges.values()):
        raise DataError(
            f"{file}: dates are shifted by patient, and no column is declared that names "
            'patients, as in patient = "patient_id"',
            code="declaration",
        )
    return declared


def _read_columns(
    rows: Sequence[Mapping[str, float | int | None]], declared: Declaration
) -> tuple[dict[str, Floats], dict[str, tuple[str, ...]], dict[str, Floats]]:
    """Return numbers, categories and days, by column."""
    numbers: dict[str, Floats] = {}
    dates: dict[str, Floats] = {}
    for name, range_ in declared.ranges.items():
        values = np.array([np.nan if one[name] is None else one[name] for one in rows], dtype=float)
        if range_.origin is None:
            numbers[name] = values
        else:
            dates[name] = np.floor(values) + (range_.origin - EPOCH).days
    kinds = {
        name: tuple("" if (at := one[name]) is None else words[int(at)] for one in rows)
        for name, words in declared.kinds.items()
    }
    return numbers, kinds, dates


def _unread(path: Path, declared: Declaration, code: str) -> DataError:
    if code == "missing-column":
        return DataError(
            f"{path}: its first line does not hold each of {', '.join(declared.columns)} once, "
            "which are declared; 'flower-simulation describe' shows what it holds",
            code=code,
        )
    if not path.is_file():
        return DataError(f"{path}: no such file", code="missing-file")
    return DataError(
        f"{path} cannot be read as CSV, Excel (.xlsx) or Parquet; 'flower-simulation describe' "
        "says more",
        code=code,
    )
