"""The table of planted faults: which detector sees which, and by what."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Table = Callable[[list[str], list[list[str]]], str]
#: When a planted fault came -> words for a count of them.
FAULT_SETS = {
    "known": "faults that detectors were made with",
    "unseen": "planted by somebody else when these were frozen, that gates were added for",
    "fresh": "planted when they were frozen again",
    "later": "planted when they were frozen a third time, thought up before they were read",
    "blind": "planted when they were frozen a fourth time, written down before they were read",
    "fifth": "planted when they were frozen a fifth time, two of them written down before",
    "sixth": "planted when they were frozen a sixth time, drawn by lot of 27 written down before",
    "parts": "of a part of a training, a vector or a statement",
}


def fault_table(found: dict[str, Any], table: Table) -> str:
    """Return which detector sees which planted fault, and by what."""
    first, *rows = found["rows"]
    names = list(first["detectors"])
    cells = [
        [row["fault"] or "the code as it is", *(_seen(row["detectors"][name]) for name in names)]
        for row in (first, *rows)
    ]
    said = "; ".join(
        f"{len(kind)} {words}, {sum(not _is_seen(row) for row in kind)} missed"
        for name, words in FAULT_SETS.items()
        if (kind := [row for row in rows if row.get("set", "known") == name])
    )
    said = f"{said[:1].upper()}{said[1:]}. Measured by `{found['command']}`.\n"
    head = "| " + " | ".join(["fault", *names]) + " |\n" + "| --- " * (len(names) + 1) + "|\n"
    whole = head + "".join("| " + " | ".join(row) + " |\n" for row in cells) + "\n" + said
    by_size = [
        [f"{one['canaries']:,}", str(one["bounds"]), str(one["shut"] - one["bounds"])]
        for one in found["sizes"]
    ]
    tenth = ["a tenth less noise: canaries of `audit`", "bounds above their claim", "gates shut"]
    return whole + "\n" + table(tenth, by_size)


def _is_seen(row: dict[str, Any]) -> bool:
    return any(one["shut"] for one in row["detectors"].values())


def _seen(found: dict[str, Any]) -> str:
    return f"{found['gate']} ({found['shut']})" if found["shut"] else "-"
