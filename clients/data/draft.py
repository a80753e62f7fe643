"""A first declaration of data, drafted from the data for a person to look at and mend.

What is drafted so was measured: ranges and categories are marked as unconfirmed, and no run that
promises anything takes them until a person has put in what holds for any patient.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from shlex import quote

from clients.data.column_draft import MOST_KINDS, Column
from clients.data.picture_files import is_picture
from clients.data.rows import EXCEL, PARQUET

#: Classes that say that nothing is the matter: of two, the other one is what is looked for.
_UNHARMED = {
    *("alive", "benign", "control", "controls", "discharged", "healthy", "negative", "no"),
    *("no finding", "none", "normal", "survived", "survivor", "well", "without"),
    *("gesund", "kein", "keine", "kontrolle", "lebt", "nein", "negativ", "unauffällig", "überlebt"),
    *("non", "négatif", "sain", "vivant", "negativo", "normale", "sano", "vivo"),
}


@dataclass(frozen=True, kw_only=True)
class Draft:
    """What was found, and the declaration drafted from it.

    Attributes:
        columns: of the table, each once; empty for pictures and arrays.
        rows: how many were found.
        roles: column -> "patient", "hospital" or "target".
        oddities: what looks wrong or may be otherwise, a sentence each.
        text: the declaration as TOML.
        file: where it belongs.
        command: what trains on these data.
        facts: lines about the whole.
    """

    columns: tuple[Column, ...] = ()
    rows: int = 0
    roles: dict[str, str]
    oddities: tuple[str, ...]
    text: str
    file: Path
    command: str
    facts: tuple[str, ...] = ()


def name_of(path: Path) -> str:
    """Return the name by which settings mean these data."""
    whole = path.expanduser().absolute()
    if not path.is_dir():
        return f"npz:{whole}" if path.suffix.lower() == ".npz" else f"csv:{whole}"
    suffixes = Counter(one.suffix.lower() for one in path.iterdir())
    tables = [one for one in (".csv", *EXCEL, *PARQUET) if suffixes[one]]
    pictures = any(one.is_dir() or is_picture(one) for one in path.iterdir())
    return f"csv:{whole}/*{tables[0]}" if tables and not pictures else f"image-folder:{whole}"


def run_command(path: Path, hospitals: int, model: str = "") -> str:
    """Return the command that trains on these data."""
    words = []
    if hospitals > 1:
        words += ["partition.name=natural", f"partition.hospitals={hospitals}"]
    if model:
        words.append(f"model.name={model}")
    command = f"flower-simulation run default --set data.name={quote(name_of(path))}"
    return " --set ".join([command, *words])


def toml_key(name: str) -> str:
    """Return a key as TOML spells it."""
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else toml_string(name)


def toml_string(text: str) -> str:
    """Return a text as TOML spells it."""
    return json.dumps(text, ensure_ascii=False)


def class_line(names: Iterable[str], comment: str = "in this order") -> str:
    """Return the line that declares classes: grades upwards, of two the one looked for last."""
    ordered = sorted(names, key=_place)
    if len(ordered) == 2:
        comment = (
            f"sensitivity and precision are of the last, {toml_string(ordered[1])}: "
            "exchange them if the other is looked for"
        )
    return f"classes = {toml_list(ordered)}   # {comment}"


def _place(name: str) -> tuple[bool, float, str]:
    """Return by what a class is sorted: numbers by size, letters whatever their case."""
    folded = name.casefold()
    try:
        return folded not in _UNHARMED, float(folded.replace(",", ".")), ""
    except ValueError:
        return folded not in _UNHARMED, math.inf, folded


def unconfirmed_lines(names: Sequence[str]) -> list[str]:
    """Return the lines that say what was taken from the data; runs that add noise refuse it."""
    return [
        "# Taken from these data: put in what holds for any patient, then take the name out here.",
        f"unconfirmed = {toml_list(names, wide=True)}",
    ]


def value_lines(drafted: tuple[float, float] | None, oddities: list[str]) -> list[str]:
    """Return the lines about classes and, where a range was drafted, numbers of pictures."""
    if drafted is None:
        return unconfirmed_lines(["classes"])
    low, high = drafted
    oddities.append(f"values from {low:g} to {high:g}: declare what the device can give")
    return [
        *unconfirmed_lines(["classes", "values"]),
        "[ranges]",
        f"values = [{low:g}, {high:g}]",
    ]


def toml_list(names: Sequence[str], *, wide: bool = False) -> str:
    """Return a list of texts as TOML spells it; a wide one may have a line for each."""
    found = [toml_string(name) for name in names]
    if wide and len(found) > MOST_KINDS:
        return "[\n  " + ",\n  ".join(found) + ",\n]"
    return "[" + ", ".join(found) + "]"


def in_several(called: str, visits: Iterable[tuple[str, str]]) -> list[str]:
    """Say which patients are in several hospitals; nothing where none is.

    Args:
        called: what names them: a column, an array.
        visits: a record's patient and hospital.
    """
    homes: dict[str, set[str]] = {}
    for patient, hospital in visits:
        homes.setdefault(patient, set()).add(hospital)
    torn = [patient for patient, found in homes.items() if patient and len(found) > 1]
    if not torn:
        return []
    count = "1 patient is" if len(torn) == 1 else f"{len(torn)} patients are"
    return [
        f"{called}: {count} in several hospitals ({', '.join(torn[:3])}): "
        "put the hospital's name before the number if they are different people, else keep "
        "each patient's rows at one hospital"
    ]
