"""From a table's rows to a model's inputs: scaled by declared ranges, cell by cell.

Nothing is fitted to the rows. A cell that says nothing, that cannot be read, or that lies outside
its declared range is a missing value: the middle of its range. A cell of a category that was not
declared likewise. What was read so is counted, with the first examples and what to change.
"""

from __future__ import annotations

import re
from collections import Counter

from clients.data.declaration import Declaration
from clients.data.dialect import ABSENT, Dialect
from clients.data.errors import DataError
from clients.data.ranges import Range
from clients.data.reading_log import ReadingLog
from clients.data.rows import Row
from clients.data.targets import Target, TargetCells
from clients.tasks.question import OF_CLASSES, SEGMENTATION

#: Of cells that hold something, the share above which a declaration does not mean their column.
MOST_UNREAD = 0.5
#: Of rows that have an outcome, the share above which the classes do not mean theirs.
MOST_UNKNOWN = 0.1
_ABSENT = frozenset(ABSENT)
#: Fewer such cells than these are single rows' own oddities.
FEWEST = 5


class Encoder:
    """Reads rows as a declaration says.

    Args:
        declared: what is public about the table, and how it is written.
        dialect: of the file.
        log: the hospital's own.
    """

    def __init__(self, declared: Declaration, dialect: Dialect, log: ReadingLog) -> None:
        self._declared = declared
        self._dialect = dialect
        self._targets = TargetCells(declared, dialect, self._absent)
        self._log = log
        self._filled: Counter[str] = Counter()
        self._unread: Counter[str] = Counter()
        self._example: dict[str, str] = {}
        missing = declared.missing
        self._codes = {
            column: (*missing.codes, *missing.of.get(column, ()))
            for column in (*declared.ranges, *declared.kinds, *missing.of)
        }
        # Of other columns a plain number is the measurement, without another look at the cell.
        self._looked_at = {
            column
            for column, range_ in declared.ranges.items()
            if range_.origin is not None or self._codes[column] or column in declared.units
        }

    def label(self, place: str, row: Row) -> Target | None:
        """Return a row's class number or other target, or None for a row that is left out."""
        declared, target = self._declared, self._declared.target
        for column, whose in ((declared.patient, "patient"), (declared.hospital, "hospital")):
            if column and self._absent(column, row[column]):
                self._log.note(
                    f"no {whose} is named: the record is out",
                    f"{place}, column {column}: {row[column]!r}, expected an identifier",
                )
                return None
        if declared.task == SEGMENTATION:
            return 0  # a mask says it, not a cell
        if declared.task not in OF_CLASSES:
            return self._target(place, row)
        cell = row[target]
        label = self._class_of(cell)
        if label is not None:
            self._filled[target] += 1
            return label
        if self._absent(target, cell):
            self._log.note("no outcome: the record is out", f"{place}, column {target}: {cell!r}")
            return None
        expected = ", ".join(declared.classes)
        note = f"{place}, column {target}: {cell!r}, expected {expected}{self._joined(cell)}"
        self._log.note("no declared class: the record is out", note)
        self._count_unread(target, note)
        return None

    def _target(self, place: str, row: Row) -> Target | None:
        """Return a row's target that is no class, or None for a row that is left out."""
        columns = self._declared.target_columns
        found = self._targets.read(row)
        held = ", ".join(repr(row[one]) for one in columns)
        where = f"{place}, column {', '.join(columns)}: {held}"
        if found is None:
            self._log.note("no outcome: the record is out", where)
        elif isinstance(found, str):
            self._log.note("no known target: the record is out", f"{where}, expected {found}")
            self._count_unread(columns[0], f"{where}, expected {found}")
            return None
        else:
            self._filled[columns[0]] += 1
        return found

    def _class_of(self, cell: str) -> int | None:
        declared = self._declared
        if not declared.label_separator:
            return self._dialect.choice(cell, declared.classes)
        if self._absent(declared.target, cell):
            return None
        named = [one.strip() for one in cell.split(declared.label_separator)]
        wanted = (declared.classes[1],)
        return int(any(self._dialect.choice(one, wanted) is not None for one in named))

    def _joined(self, cell: str) -> str:
        """Say how a cell is read that holds several of the classes."""
        for separator in "|;,/+":
            named = [one.strip() for one in cell.split(separator)]
            known = [self._dialect.choice(one, self._declared.classes) for one in named]
            if len(named) > 1 and None not in known:
                labels = ", ".join(f'"{one}"' for one in named)
                return (
                    f'; several labels in a cell are read with label-separator = "{separator}" and '
                    f"labels = [{labels}], or for one alone two classes, as in "
                    f'classes = ["other", "{named[0]}"]'
                )
        return ""

    def _absent(self, column: str, cell: str) -> bool:
        codes = self._codes.get(column, self._declared.missing.codes)
        return cell.casefold() in _ABSENT or bool(codes and self._dialect.is_code(cell, codes))

    def inputs(self, place: str, row: Row) -> list[float]:
        """Return a row's inputs, in [-1, 1]: measurements, kinds, then columns of missingness."""
        return self.read(place, row)[0]

    def values(self, place: str, row: Row) -> dict[str, float | int | None]:
        """Return what each declared column holds: measurements, days, numbers of categories."""
        measured = {
            column: self._measured(place, row, column, range_)
            for column, range_ in self._declared.ranges.items()
        }
        kinds = {column: self._kind(place, row, column) for column in self._declared.kinds}
        return {**measured, **kinds}

    def read(self, place: str, row: Row) -> tuple[list[float], set[str]]:
        """Return a row's inputs, and the columns of which nothing could be read."""
        values: list[float] = []
        absent = set()
        for column, range_ in self._declared.ranges.items():
            value = self._measured(place, row, column, range_)
            if value is None:
                absent.add(column)
            values.append(0.0 if value is None else range_.scaled(value))
        for column, kinds in self._declared.kinds.items():
            kind = self._kind(place, row, column)
            if kind is None:
                absent.add(column)
            values.extend(
                0.0 if kind is None else (1.0 if number == kind else -1.0)
                for number in range(len(kinds))
            )
        values.extend(float(column in absent) for column in self._declared.missing.columns)
        return values, absent

    def _measured(self, place: str, row: Row, column: str, range_: Range) -> float | None:
        """Return a measurement or date within its range, or None for a missing value."""
        cell, declared, dialect = row[column], self._declared, self._dialect
        value = None if column in self._looked_at else dialect.plain_number(cell)
        if value is not None:
            pass
        elif self._absent(column, cell):
            return None
        elif range_.origin is None:
            value = dialect.measured(
                cell,
                censored=declared.censored.get(column, ""),
                units=declared.units.get(column),
            )
        else:
            moment = dialect.moment(cell)
            value = None if moment is None else range_.days(moment)
        if value is None:
            expected = "a number" if range_.origin is None else "a date"
            note = f"{place}, column {column}: {cell!r}, expected {expected}"
            self._log.note("cannot be read: a missing value", note + self._remedy(column, cell))
            self._count_unread(column, note + self._remedy(column, cell))
            return None
        if not range_.holds(value):
            note = f"{place}, column {column}: {cell!r}, expected {range_.words}"
            self._log.note("outside its declared range: a missing value", note)
            self._count_unread(column, note)
            return None
        self._filled[column] += 1
        return value

    def _kind(self, place: str, row: Row, column: str) -> int | None:
        cell, kinds = row[column], self._declared.kinds[column]
        kind = self._dialect.choice(cell, kinds)
        if kind is not None:
            self._filled[column] += 1
        elif not self._absent(column, cell):
            note = f"{place}, column {column}: {cell!r}, expected {', '.join(kinds)}"
            self._log.note("cannot be read: a missing value", note)
            self._count_unread(column, note)
        return kind

    def _remedy(self, column: str, cell: str) -> str:
        """Say what would have to be declared for a cell to be read, if anything would."""
        dialect = self._dialect
        if cell[:1] in "<>≤≥":
            return f'; a bound is read with [censored] {column} = "bound"'
        if dialect.moment(cell) is not None:
            return f'; a date is read with [ranges] {column} = ["2015-01-01", "2025-01-01"]'
        if unit := re.fullmatch(r"[+-]?[\d.,]*\d\s*([^\d\s.,]\D*)", cell):
            return f'; a unit is read with [units] {column} = {{"{unit[1].strip()}" = 1}}'
        if re.fullmatch(r"[+-]?\d{1,3}([.,' ]\d{3})*([.,]\d+)?", cell):
            return "; say with [file] decimal and thousands what its signs mean"
        return ""

    def _count_unread(self, column: str, example: str) -> None:
        self._unread[column] += 1
        self._example.setdefault(column, example)

    def blind(self) -> list[str]:
        """Return a line for each input column that is filled, and of which nothing was read."""
        return [
            f"{self._example[column]}; so is every filled cell of this column"
            for column in self._unread
            if not self._filled[column] and column not in self._declared.target_columns
        ]

    def check(self) -> None:
        """Refuse a declaration that does not mean these data; never of a hospital's own records.

        Raises:
            DataError: `declaration`: more cells of a column than not cannot be read, or a tenth of
                the rows have an outcome that is no class.
        """
        for column, unread in self._unread.items():
            whole = unread + self._filled[column]
            of_target = column in self._declared.target_columns
            most = MOST_UNKNOWN if of_target else MOST_UNREAD
            if unread >= FEWEST and unread > most * whole:
                raise DataError(
                    f"{self._example[column]}; so are {unread} of {whole} cells of this column: "
                    "mend the declaration ('flower-simulation describe' drafts one)",
                    code="declaration",
                )
