"""What is declared public about a data set, in one TOML file beside it.

Classes, columns, ranges and categories follow from nobody's records: they are written down by
whoever sets a training up, the same at every hospital, since what was counted or measured would
tell of a patient. Tables and arrays have `<file>.toml`, folders of pictures `dataset.toml`:

    target = "outcome"                 # of a table: the column to predict
    classes = ["alive", "dead"]        # its values, in label order
    patient = "patient_id"             # rows of one patient stay together
    hospital = "site"                  # real hospitals, for the natural partition
    [ranges]                           # measurements and dates, and their public ranges
    age = [0, 110]
    admitted = ["2015-01-01", "2025-01-01"]
    [kinds]                            # categories and their public values
    sex = ["f", "m"]

`docs/data.md` describes every key; `Declaration` holds them, and the schema is made from it.
`PUBLIC` are those that all hospitals of a training agree on. The others say how one hospital's file
is written (`[file]`, `[missing]`, `[units]`), and each hospital has its own.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from clients.contract.setting_faults import nearest
from clients.data.declared_parts import (
    FileForm,
    Missing,
    PublicRange,
    Texts,
)
from clients.data.declared_targets import DeclaredTargets, listed, twice
from clients.data.errors import DataError

#: Beside a folder's classes, or a folder's tables.
FOLDER_FILE = "dataset.toml"

#: Keys that all hospitals of a training agree on, in whatever way their files are written.
PUBLIC = (
    *("classes", "ordinal", "label-separator", "labels", "target-range", "horizons", "event"),
    *("ranges", "kinds", "censored"),
)

#: What is asked for and cannot be had, and what to do instead.
_INSTEAD = dict.fromkeys(
    ("time", "duration", "survival"),
    "of a time to an event, target names the column of times, event that of what happened, and "
    "horizons the times that it is looked for by",
)

#: In `unconfirmed`: the labels, which a draft took from the data.
CLASSES = "classes"


class Declaration(DeclaredTargets):
    """What a file declares; all keys of the format."""

    patient: str = Field(default="", description="of a table: the column that names the patient")
    hospital: str = Field(default="", description="of a table: the column that names the hospital")
    unconfirmed: tuple[str, ...] = Field(
        default=(),
        description="what was drafted from the data, `classes` too: look, mend, then take out of "
        "here",
    )
    ranges: dict[str, PublicRange] = Field(
        default={}, description="column = [lowest, highest], numbers or dates"
    )
    kinds: dict[str, Texts] = Field(default={}, description="column = its categories")
    censored: dict[str, Literal["bound", "half"]] = Field(
        default={},
        description="column = how '<5' and '>90' are read: bound (5, 90) or half (2.5, 90); else "
        "they are missing values",
    )
    units: dict[str, dict[str, float]] = Field(
        default={}, description="column = {unit = factor}: '5 kPa' is read as 5 times the factor"
    )
    missing: Missing = Field(default=Missing(), description="what stands for no value")
    file: FileForm = Field(default=FileForm(), description="how the file is written")

    def faults(self) -> list[str]:
        """Return what is not sound, a sentence each."""
        return [
            *self.target_faults(),
            *self._kind_faults(),
            *self._column_faults(),
            *self.file.faults(),
            *self.pictures.faults(),
        ]

    def _kind_faults(self) -> list[str]:
        found = []
        for column, kinds in self.kinds.items():
            found += [f"[kinds] {column} names {one!r} twice: take one out" for one in twice(kinds)]
            if len(kinds) < 2:
                found.append(
                    f"[kinds] {column} = {list(kinds)}: a column that is always the same tells "
                    "nothing; leave it out, or declare what else it can be"
                )
        return found

    def _column_faults(self) -> list[str]:
        known = {*self.ranges, *self.kinds}
        places = {
            "[missing] columns": self.missing.columns,
            "[missing.of]": (one for one in self.missing.of if one not in self.target_columns),
            "[censored]": self.censored,
            "[units]": self.units,
            "unconfirmed": (one for one in self.unconfirmed if one != CLASSES),
        }
        found = [
            f"{place} names {column!r}, which is in neither [ranges] nor [kinds]"
            for place, columns in places.items()
            for column in columns
            if column not in known
        ]
        found += [
            f"{column!r} is in both [ranges] and [kinds]: take it out of one"
            for column in self.ranges
            if column in self.kinds
        ]
        given = {"target": self.target, "patient": self.patient, "hospital": self.hospital}
        given |= {"event": self.event, **{f"label {one!r}": one for one in self.labels}}
        return found + [
            f"{column!r} is the {role} and in [ranges] or [kinds] too: it would tell the outcome "
            "or who it is; take it out"
            for role, column in given.items()
            if column and column in known
        ]

    @property
    def width(self) -> int:
        """Number of input columns that a table's rows become."""
        return len(self.ranges) + sum(map(len, self.kinds.values())) + len(self.missing.columns)

    @property
    def columns(self) -> tuple[str, ...]:
        """Every column that a table must have."""
        named = (*self.target_columns, self.patient, self.hospital, *self.ranges, *self.kinds)
        return tuple(name for name in named if name)

    def public(self) -> dict[str, str]:
        """Return what all hospitals must agree on: key -> value, as TOML spells it, in order.

        The order of columns counts: it decides which input is which.
        """
        said = self.said_of_targets()
        columns = (*self.ranges, *self.kinds)
        if columns:
            said["columns"] = listed(columns)
        said |= {f"ranges: {name}": str(one) for name, one in self.ranges.items()}
        said |= {f"kinds: {name}": listed(kinds) for name, kinds in self.kinds.items()}
        said |= {f"censored: {name}": how for name, how in self.censored.items()}
        if self.missing.columns:
            said["missing: columns"] = listed(self.missing.columns)
        return {**said, **self.pictures.public()}


def read_toml(path: Path) -> dict[str, Any]:
    """Return what a declaration says.

    Raises:
        DataError: `declaration`: it is no TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise DataError(f"{path}: not readable as TOML ({error})", code="declaration") from error


def read_declaration(path: Path) -> Declaration:
    """Return what a TOML file declares.

    Raises:
        DataError: `missing-file` where there is none, `declaration` with all that is wrong.
    """
    if not path.is_file():
        raise DataError(
            f"{path} does not exist. It declares what is public; 'flower-simulation describe' with "
            "the path of the data drafts it",
            code="missing-file",
        )
    return declared(read_toml(path), path)


def declared(given: Mapping[str, Any], path: Path) -> Declaration:
    """Return a declaration from its keys and values.

    Raises:
        DataError: `declaration` with all that is wrong.
    """
    try:
        made = Declaration.model_validate(dict(given))
    except ValidationError as error:
        faults = [_fault(dict(one)) for one in error.errors()]
        raise DataError(f"{path}: {'; '.join(faults)}", code="declaration") from None
    if faults := made.faults():
        raise DataError(f"{path}: {'; '.join(faults)}", code="declaration")
    return made


def _fault(error: Mapping[str, Any]) -> str:
    """Word one of pydantic's errors."""
    key = ".".join(str(one) for one in error["loc"])
    if error["type"] == "extra_forbidden":
        if instead := _INSTEAD.get(key):
            return f"unknown key {key!r}: {instead}"
        keys = [name.replace("_", "-") for name in Declaration.model_fields]
        close = nearest(key, keys)
        return f"unknown key {key!r}; " + (
            f"did you mean {close}?" if close and "." not in key else f"known: {', '.join(keys)}"
        )
    reason = str(error["msg"]).removeprefix("Value error, ")
    reason = reason[:1].lower() + reason[1:]
    return f"{key} = {error['input']!r}: {reason}"


def declared_beside(path: Path, *, required: bool, found: tuple[str, ...]) -> Declaration:
    """Return what is declared about arrays or pictures, where the classes are what counts.

    Args:
        path: of the declaration.
        required: the records are a real hospital's own, so nothing is counted from them.
        found: the classes that the records seem to hold, taken where nothing is declared.

    Raises:
        DataError: `declaration`: there is none where one is required, or it is not sound.
    """
    names = found if len(found) > 1 else ("healthy", "ill")
    if not path.is_file():
        if not required:
            return Declaration(classes=found)
        raise DataError(
            f"{path} does not exist. It declares the classes, in label order and the same at every "
            f"hospital, in one line such as: classes = {listed(names)}",
            code="declaration",
        )
    made = read_declaration(path)
    if not made.declares_targets:
        raise DataError(
            f"{path}: declares no classes, expected a line such as: classes = {listed(names)}",
            code="declaration",
        )
    return made


def check_confirmed(made: Declaration, path: Path, *, unconfirmed: bool) -> None:
    """Refuse what was taken from the data, and that nobody has looked at since.

    Args:
        made: the declaration.
        path: of its file.
        unconfirmed: whether that may be used: nothing is promised of these records.

    Raises:
        DataError: `declaration`.
    """
    if made.unconfirmed and not unconfirmed:
        raise DataError(
            f"{path}: what it says of {', '.join(made.unconfirmed)} was taken from the data, and "
            "would tell of single patients: put what is plausible for any patient in its place, "
            "then take the names out of 'unconfirmed'",
            code="declaration",
        )


def json_schema() -> dict[str, Any]:
    """Return the format as a JSON schema."""
    schema = Declaration.model_json_schema(by_alias=True)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **schema,
        "title": "What is declared public about a data set",
    }
