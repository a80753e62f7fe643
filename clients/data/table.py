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
declared ranges and cut at them. An empty cell, `?` or `NA` becomes the middle of its range.
"""

from __future__ import annotations

import csv
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from clients.data.errors import DataError
from clients.data.files import Location, find
from clients.data.records import Dataset, DatasetInfo, Floats, Ints, Records, dense

_ABSENT = ("", "?", "na", "nan", "null", "none")


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
    try:
        given = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not readable as TOML ({error})", code="declaration") from error
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
    rows = read_rows(path, declared.columns)
    inputs = np.empty((len(rows), declared.width), dtype=np.float32)
    labels = np.empty(len(rows), dtype=np.int64)
    for number, row in enumerate(rows):
        place = f"{path}: row {number + 2}"
        inputs[number] = encode(place, row, declared)
        if row[declared.target] not in declared.classes:
            raise DataError(
                f"{place}, column {declared.target}: {row[declared.target]!r}, expected "
                f"{', '.join(declared.classes)}",
                code="label-range",
            )
        labels[number] = declared.classes.index(row[declared.target])
    patients = np.arange(len(rows), dtype=np.int64)
    if declared.patient:
        patients, _ = dense(_filled(path, rows, declared.patient))
    homes, names = _homes(path, rows, declared.hospital)
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
        train=Records(inputs=inputs, labels=labels, patients=patients, hospitals=homes),
        hospital_names=names,
    )


def read_rows(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    """Return the rows of a CSV file, stripped, with at least the given columns."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as opened:
            reader = csv.DictReader(opened, strict=True)
            header = [name.strip() for name in reader.fieldnames or []]
            reader.fieldnames = header
            for column in columns:
                if column not in header:
                    raise DataError(
                        f"{path}: no column {column!r}; it has {', '.join(header)}",
                        code="missing-column",
                    )
            rows = []
            for number, row in enumerate(reader, start=2):
                if None in row or None in row.values():
                    raise DataError(
                        f"{path}: row {number} has another number of cells than the "
                        f"{len(header)} of the header",
                        code="shape",
                    )
                rows.append({name: cell.strip() for name, cell in row.items()})
    except (csv.Error, UnicodeDecodeError, OSError) as error:
        raise DataError(f"{path}: not a readable CSV file ({error})", code="unreadable") from error
    if not rows:
        raise DataError(f"{path}: no rows below the header", code="shape")
    return rows


def encode(place: str, row: Mapping[str, str], declared: Declaration) -> Floats:
    """Return one row's inputs, in [-1, 1]: measurements, kinds, then columns of missingness."""
    values: list[float] = []
    for column, (low, high) in declared.ranges.items():
        cell = row[column]
        if cell.lower() in _ABSENT:
            values.append(0.0)
            continue
        try:
            value = float(cell)
        except ValueError:
            value = float("nan")
        if not np.isfinite(value):
            raise DataError(
                f"{place}, column {column}: {cell!r}, expected a number", code="bad-value"
            )
        values.append(min(max(2 * (value - low) / (high - low) - 1, -1.0), 1.0))
    for column, kinds in declared.kinds.items():
        cell = row[column]
        absent = cell.lower() in _ABSENT and cell not in kinds
        if not absent and cell not in kinds:
            raise DataError(
                f"{place}, column {column}: {cell!r}, expected {', '.join(kinds)}",
                code="bad-value",
            )
        values.extend(0.0 if absent else (1.0 if cell == kind else -1.0) for kind in kinds)
    values.extend(float(row[column].lower() in _ABSENT) for column in declared.missing)
    return np.asarray(values, dtype=np.float32)


def _homes(
    path: Path, rows: Sequence[Mapping[str, str]], column: str
) -> tuple[Ints | None, tuple[str, ...]]:
    """Return each row's hospital number and the hospitals' names, if there is such a column."""
    return dense(_filled(path, rows, column)) if column else (None, ())


def _filled(path: Path, rows: Sequence[Mapping[str, str]], column: str) -> list[str]:
    """Return an identifier column, none of whose cells may be empty."""
    for number, row in enumerate(rows, start=2):
        if not row[column]:
            raise DataError(
                f"{path}: row {number}, column {column}: empty, expected an identifier",
                code="bad-value",
            )
    return [row[column] for row in rows]
