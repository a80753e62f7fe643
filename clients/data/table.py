"""Any table of patients: a CSV, Excel or Parquet file, and what is declared public about it.

`csv:visits.csv` reads `visits.csv` and `visits.toml` (`clients.data.declaration`). A column that is
declared nowhere is not used. `csv:visits/*.csv` reads a folder of files, each the patients of the
hospital that it is named after, with `visits/dataset.toml`: in simulations alone.

A row whose outcome is no declared class, or that names no patient, is left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from clients.data.dataset import Dataset
from clients.data.declaration import (
    FOLDER_FILE,
    Declaration,
    check_confirmed,
    read_declaration,
)
from clients.data.dialect import identifier
from clients.data.encoding import Encoder
from clients.data.errors import DataError
from clients.data.files import Location, find
from clients.data.records import DatasetInfo, Ints, Records, dense
from clients.data.rows import Row, Table, read_rows
from clients.data.targets import Target, target_array


def load(where: Location) -> Dataset:
    """Return the rows of `csv:<file>`, or `csv:<folder>/*.csv`."""
    sources = find_tables(where)
    file = where.declared_in(sources.declaration)
    declared = read_table_declaration(file)
    check_confirmed(declared, file, unconfirmed=where.unconfirmed)
    columns = [one for one in declared.columns if one != sources.hospital_column(declared)]
    tables = [read_rows(path, columns, where.log, declared.file) for path in sources.files]
    if not any(table.rows for table in tables) and not where.declared:
        raise DataError(f"{sources.files[0]}: no row below the header", code="unreadable")
    found = [
        row
        for path, table in zip(sources.files, tables, strict=True)
        for row in _rows(table, declared, where, home=path.stem if sources.named else "")
    ]
    return _dataset(found, declared, where)


@dataclass(frozen=True, kw_only=True)
class Sources:
    """Files of one table.

    Attributes:
        files: one, or one for each hospital.
        declaration: the file that declares what is public about them.
        named: whether files are named after hospitals.
    """

    files: tuple[Path, ...]
    declaration: Path
    named: bool = False

    def hospital_column(self, declared: Declaration) -> str:
        """Return the column of hospitals that files named after them need not have."""
        return declared.hospital if self.named else ""


def find_tables(where: Location) -> Sources:
    """Return the files of a table that is named in the settings.

    Raises:
        DataError: there is none.
    """
    if not where.variant:
        raise DataError("say which: csv:<file>", code="unknown-dataset")
    if "*" not in where.variant:
        named = where.named()
        path = named if named.is_file() else find(where.data_dir, [where.variant])
        return Sources(files=(path,), declaration=path.with_suffix(".toml"))
    if where.declared:
        raise DataError(
            f"csv:{where.variant} is a file for each hospital, which simulations have; a hospital "
            "names its own file",
            code="unknown-dataset",
        )
    pattern = Path(where.variant).expanduser()
    folder = pattern.parent if pattern.is_absolute() else find(where.data_dir, [pattern.parent])
    files = tuple(one for one in sorted(folder.glob(pattern.name)) if one.suffix != ".toml")
    if not files:
        raise DataError(f"{folder / pattern.name}: no such file", code="missing-file")
    return Sources(files=files, declaration=folder / FOLDER_FILE, named=True)


def read_table_declaration(path: Path) -> Declaration:
    """Return what is declared about a table.

    Raises:
        DataError: `missing-file`, or `declaration` where a table's own keys are missing.
    """
    declared = read_declaration(path)
    if not declared.target_columns:
        raise DataError(
            f"{path}: declares no target, expected the name of the column to predict, as in "
            'target = "outcome"',
            code="declaration",
        )
    if not declared.declares_targets:
        raise DataError(
            f"{path}: declares no classes of {declared.target!r}, as in classes = "
            '["alive", "dead"]; of a measurement declare target-range = [lowest, highest], of a '
            "time to an event horizons = [1, 2, 5] and the column of the event",
            code="declaration",
        )
    if declared.horizons and not declared.event:
        raise DataError(
            f"{path}: declares horizons and no event, the column that says whether the event was "
            f"seen at the time in {declared.target!r}",
            code="declaration",
        )
    if not declared.ranges and not declared.kinds:
        raise DataError(
            f"{path}: declares no column in [ranges] or [kinds], so nothing would be used",
            code="declaration",
        )
    return declared


@dataclass(frozen=True, kw_only=True)
class _Read:
    """A row that takes part."""

    inputs: list[float]
    label: Target
    patient: str
    hospital: str


def _rows(table: Table, declared: Declaration, where: Location, *, home: str) -> list[_Read]:
    """Return the rows of a file that take part."""
    encoder = Encoder(declared, table.dialect, where.log)
    found = []
    for place, row in table.rows:
        row = _at_home(row, declared, home)
        label = encoder.label(place, row)
        if label is not None:
            found.append(
                _Read(
                    inputs=encoder.inputs(place, row),
                    label=label,
                    patient=identifier(row.get(declared.patient, "")),
                    hospital=row[declared.hospital] if declared.hospital else home,
                )
            )
    if not where.declared:
        encoder.check()
    return found


def _at_home(row: Row, declared: Declaration, home: str) -> Row:
    """Return a row whose hospital is the file's, where files are named after hospitals."""
    return {**row, declared.hospital: home} if home and declared.hospital else row


def _dataset(found: list[_Read], declared: Declaration, where: Location) -> Dataset:
    inputs = np.zeros((len(found), declared.width), dtype=np.float32)
    for number, row in enumerate(found):
        inputs[number] = row.inputs
    patients = np.arange(len(found), dtype=np.int64)
    names: tuple[str, ...] = ()
    if declared.patient:
        patients, names = dense([row.patient for row in found])
    homes: Ints | None = None
    hospitals: tuple[str, ...] = ()
    if declared.hospital or any(row.hospital for row in found):
        homes, hospitals = dense([row.hospital for row in found])
    return Dataset(
        info=DatasetInfo(
            name=f"csv:{where.variant}",
            title=f"the table {Path(where.variant).name}",
            **declared.asked(),
            shape=(declared.width,),
            has_patient_ids=bool(declared.patient),
            has_hospital_ids=homes is not None,
            declared=declared.public(),
            target=declared.target,
        ),
        train=Records(
            inputs=inputs,
            labels=target_array(declared, [row.label for row in found]),
            patients=patients,
            hospitals=homes,
        ),
        hospital_names=hospitals,
        patient_names=names,
        log=where.log,
    )
