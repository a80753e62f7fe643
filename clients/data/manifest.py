"""Tables beside pictures: whose they are (`patients.csv`), or all that is known (a manifest)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from clients.data.declaration import Declaration
from clients.data.dialect import identifier, says_nothing
from clients.data.encoding import Encoder
from clients.data.errors import DataError
from clients.data.files import Location
from clients.data.layouts import TRAINED_ON, Found
from clients.data.picture_files import SUFFIXES
from clients.data.reading_log import ReadingLog
from clients.data.rows import Row, read_rows

#: Whose pictures those of a folder are.
OWNERS = "patients.csv"


def owned(root: Path, found: list[Found], log: ReadingLog) -> list[Found]:
    """Return the pictures with the patient and hospital that the table of owners says.

    A picture of nobody's is out, and so is one without a hospital where others have one.
    """
    table = root / OWNERS
    if not table.is_file():
        return found
    rows: dict[str, Row] = {}
    read = read_rows(table, ("file", "patient"), log)
    named = [one for one in ("patient", "hospital") if one in read.header]
    for place, row in read.rows:
        if row["file"] and not any(says_nothing(row[column]) for column in named):
            rows[row["file"].replace("\\", "/").removeprefix("./")] = row
        else:
            log.note("no identifier: the record is out", place)
    kept = []
    for one in found:
        name = one.file.relative_to(root).as_posix()
        if name not in rows:
            log.note("no patient is told: the record is out", f"{table}: no row for {name}")
            continue
        row = rows[name]
        home = row.get("hospital", one.hospital)
        kept.append(replace(one, patient=identifier(row["patient"]), hospital=home))
    return kept


def listed(root: Path, declared: Declaration, where: Location) -> list[Found]:
    """Return the pictures that a manifest lists."""
    said, table = declared.pictures, root / declared.pictures.manifest
    if not table.is_file():
        raise DataError(
            f"{table} does not exist, but [pictures] manifest names it", code="missing-file"
        )
    split = (said.split,) if said.split else ()
    whose = (declared.patient, declared.hospital)
    columns = (said.file, said.masks, *declared.target_columns, *whose, *split)
    read = read_rows(table, [one for one in columns if one], where.log, declared.file)
    encoder = Encoder(declared, read.dialect, where.log)
    found = []
    for place, row in read.rows:
        label = encoder.label(place, row)
        file = picture_of(table.parent, row[said.file])
        part = row[said.split].lower() if said.split else "train"
        if label is None:
            continue
        if file is None or part not in TRAINED_ON:
            column = said.split if file else said.file
            where.log.note(
                "no such picture, or no known part: the record is out",
                f"{place}, column {column}: {row[column]!r}",
            )
            continue
        found.append(
            Found(
                file=file,
                label=label,
                patient=identifier(row.get(declared.patient, "")),
                hospital=row.get(declared.hospital, ""),
                trained_on=TRAINED_ON[part],
                mask=picture_of(table.parent, row[said.masks]) if said.masks else None,
            )
        )
    if not where.declared:
        encoder.check()
    return sorted(found, key=lambda one: not one.trained_on)


def picture_of(folder: Path, name: str) -> Path | None:
    """Return the file that a cell means, with or without the end of its name; None for none."""
    path = folder / name.replace("\\", "/")
    try:
        if not name or not path.resolve().is_relative_to(folder.resolve()):
            return None
        tried = (path.with_name(path.name + ending) for ending in ("", *SUFFIXES))
        return next((one for one in tried if one.is_file()), None)
    except (OSError, ValueError, RuntimeError):
        # No name that a file can have: too long, or with a zero byte, or links in a circle.
        return None
