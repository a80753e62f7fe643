"""The operator's own word that the hospital's records fit the number it declares.

Where slots are fixed, more patients than slots cannot be taken in, and refusing a run then would
tell the server how many there are. So the operator compares beforehand, at the hospital, and what
is kept is a stamp: which data, up to which declared number, when. Whether a run is refused depends
on the stamp alone. It holds nothing of the records, neither a count nor a digest.
"""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path

from crypto.whole_file import write_private

#: In the hospital's private folder.
STAMP = "data-checked.json"


def write_stamp(folder: Path, *, data: str, bound: int, day: date) -> None:
    """Write that no more than so many patients are in the data of a name."""
    kept = {"data": data, "most-patients": bound, "date": day.isoformat()}
    write_private(folder / STAMP, json.dumps(kept).encode(), durable=True)


def remove_stamp(folder: Path) -> None:
    """Take the word back."""
    (folder / STAMP).unlink(missing_ok=True)


def stamp_covers(folder: Path, bound: int, *, data: str) -> bool:
    """Whether the operator has found no more patients in the data than a run allows.

    Args:
        folder: the hospital's private one.
        bound: patients that the run has room for.
        data: name of the hospital's data, as in its ``site.toml``.
    """
    try:
        kept = json.loads((folder / STAMP).read_text(encoding="utf-8"))
        return bool(kept["data"] == data and 0 < int(kept["most-patients"]) <= bound)
    except (OSError, ValueError, KeyError, TypeError):
        return False
