"""What is declared public about a data set, in a small file beside it.

Classes, columns, ranges and shapes follow from nobody's records: they are written down by whoever
sets a training up, the same at every hospital, since a class that was counted would tell whether a
hospital has a patient of it. Tables have `<file>.toml` (`clients.data.table`), arrays likewise, and
folders of pictures `dataset.toml`; these two hold one line:

    classes = ["benign", "malignant"]      # in label order
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from clients.data.errors import DataError

#: Beside a folder's classes.
FOLDER_FILE = "dataset.toml"


def read_toml(path: Path) -> dict[str, Any]:
    """Return what a declaration says.

    Raises:
        DataError: `declaration`: it is no TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise DataError(f"{path}: not readable as TOML ({error})", code="declaration") from error


def declared_classes(path: Path, *, required: bool, found: Sequence[str]) -> tuple[str, ...]:
    """Return the classes that a file declares, in label order.

    Args:
        path: of the declaration.
        required: the records are a real hospital's own, so nothing is counted from them.
        found: what the records seem to hold, taken where nothing is declared nor required.

    Raises:
        DataError: `declaration`: there is none where one is required, or it is not sound.
    """
    if not path.is_file():
        if not required:
            return tuple(found)
        raise DataError(
            f"{path} does not exist. It declares the classes, in label order and the same at every "
            f"hospital, in one line such as: {_line(found)}",
            code="declaration",
        )
    given = read_toml(path)
    classes = given.get("classes")
    if strange := sorted(set(given) - {"classes"}):
        raise DataError(f"{path}: unknown key {strange[0]!r}; expected classes", code="declaration")
    sound = isinstance(classes, list) and all(isinstance(one, str | int) for one in classes)
    names = tuple(str(one) for one in classes) if sound and classes else ()
    if len(names) < 2 or len(set(names)) != len(names):
        raise DataError(
            f"{path}: classes = {classes!r}, expected two or more different names, such as: "
            f"{_line(found)}",
            code="declaration",
        )
    return names


def _line(found: Sequence[str]) -> str:
    names = found if len(found) > 1 else ("healthy", "ill")
    return "classes = [" + ", ".join(f'"{name}"' for name in names) + "]"
