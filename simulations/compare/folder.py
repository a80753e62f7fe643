"""A comparison's folder: found by its path or name, read from its ``comparison.json``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from strategies.run.reading import NoRun

COMPARISON = "comparison.json"
#: Folder of its trainings.
CELLS = "cells"


def find_comparison(name: str, parent: Path = Path("runs")) -> Path | None:
    """Return a comparison's folder by its path or its name in `parent`, or None if it is none.

    Raises:
        NoRun: the comparison has not come to its end.
    """
    for path in (Path(name), parent / name):
        if (path / COMPARISON).is_file():
            return path
        if any((path / CELLS).glob("*/config.toml")):
            raise NoRun(
                f"{path} is a comparison that has not finished: give the same 'compare' again, and "
                f"it goes on where it was. Its trainings are in {path / CELLS}."
            )
    return None


def read_comparison(path: Path) -> dict[str, Any]:
    """Read a comparison's folder, or its file.

    Raises:
        NoRun: there is none.
    """
    file = path / COMPARISON if path.is_dir() else path
    try:
        content = json.loads(file.read_bytes())
    except OSError as error:
        raise NoRun(f"{file} cannot be read: {error.strerror}; 'compare' writes it.") from None
    except ValueError as error:
        raise NoRun(f"{file} is no JSON: {error}.") from None
    if not isinstance(content, dict) or "rows" not in content:
        raise NoRun(f"{file} is no comparison.")
    return content
