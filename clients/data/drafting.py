"""Drafting a declaration of whatever a path names: a table, a folder of them, arrays, pictures.

drafted = draft(Path("visits.csv"))
drafted.text          # TOML, with comments
drafted.oddities      # what looks wrong, a sentence each
"""

from __future__ import annotations

from pathlib import Path

from clients.data.array_draft import draft_arrays
from clients.data.draft import Draft, name_of
from clients.data.picture_draft import draft_pictures
from clients.data.table_draft import draft_table


def draft(path: Path) -> Draft:
    """Look at data, and draft what could be declared of them.

    Raises:
        DataError: they cannot be read.
    """
    name = name_of(path)
    if name.startswith("csv:"):
        return draft_table(path, sorted(path.glob(Path(name).name)) if path.is_dir() else [path])
    if name.startswith("npz:"):
        return draft_arrays(path)
    return draft_pictures(path)
