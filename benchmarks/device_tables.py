"""Tables of what `device_rounds.py` measured."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Rows = Callable[[list[str], list[list[str]]], str]
WAYS = ("plain", "private, together", "private, one by one")
PHASES = ("gradient", "noise", "seal", "open", "step", "sample")


def device_tables(found: dict[str, Any], rows: Rows) -> str:
    """Return steps and rounds as tables, and what they were measured on."""
    steps = [
        [
            f"K = {row['hospitals']}, {row['records']:,} pictures",
            *(f"{1e3 * row['median_seconds'][name]:.1f}" for name in WAYS),
            f"{row['median_seconds'][WAYS[1]] / row['median_seconds'][WAYS[0]]:.2f}",
        ]
        for row in found["steps"]
    ]
    parts = [rows(["ms", *WAYS, "private / plain"], steps)]
    rounds = []
    for row in found["rounds"]:
        unsealed = row["schemes"].get("modular", {}).get("round_median")
        for scheme, one in row["schemes"].items():
            phases = one["phases_median"]
            rounds.append(
                [
                    f"K = {row['hospitals']}, {scheme}"
                    + (f" ({row['at']})" if "at" in row else ""),
                    f"{1e3 * one['round_median']:.0f}",
                    f"{one['round_median'] / unsealed:.2f}" if unsealed else "",
                    *(f"{1e3 * phases.get(name, 0.0):.1f}" for name in PHASES),
                ]
            )
    if rounds:
        parts.append(rows(["ms", "a round", "over unsealed", *PHASES], rounds))
    parts.append(
        f"{found['device']}, torch {found['torch']}, {found['processors']} processors; "
        f"{found['model']} at {found['side']} pixels.\n"
    )
    return "\n".join(parts)


def private_step_tables(found: dict[str, Any], table: Rows) -> str:
    """Return what a private step costs over a plain one: time, and the peak of tensors' memory."""
    parts = []
    for device, works in found.items():
        for named, work in works.items():
            rows = [
                [
                    row["way"],
                    f"{row['ms']:.0f}",
                    f"{row['over_plain']:.2f}",
                    f"{row['peak_mib']:.0f}",
                    f"{row['peak_over_plain']:.2f}",
                ]
                for row in work["rows"]
            ]
            head = [f"{named}, {device}", "ms", "of plain", "peak MiB", "of plain"]
            parts.append(table(head, rows))
            parts.append(f"By `{work['command']}`, at a load of {work['load']:.1f}.\n")
    return "\n".join(parts)
