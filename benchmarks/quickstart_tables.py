"""The table of the quickstart and its peers: lines, bytes, time, and whose epsilon is accounted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Table = Callable[[list[str], list[list[str]]], str]


def peers_table(found: dict[str, Any], table: Table) -> str:
    """Return what making the plain app private takes, a row for each way."""
    head = [
        "the quickstart",
        "lines changed",
        "kB up",
        "kB down",
        "s of processor a round",
        "accuracy",
        "epsilon accounted",
        "the server sees",
    ]
    rows = [
        [
            row["name"],
            "another framework" if row["lines"] is None else str(row["lines"]),
            f"{row['up'] / 1000:,.1f}",
            f"{row['down'] / 1000:,.1f}",
            f"{row['seconds']:.2f}",
            "as plain" if row["accuracy"] is None else f"{row['accuracy']:.2f}",
            f"{row['epsilon']:.3g}, of {row['whom']}" if row["epsilon"] else "no",
            row["sees"],
        ]
        for row in found["rows"]
    ]
    said = f"By `{found['command']}`, at a load of {found['load']:.1f} on two cores.\n"
    return table(head, rows) + "\n" + said
