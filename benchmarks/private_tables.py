"""The tables of private inference: what a prediction costs, who sends how much, how right it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Table = Callable[[list[str], list[list[str]]], str]
_WAYS = (
    "patient_to_provider",
    "provider_to_patient",
    "dealer_to_patient",
    "dealer_to_provider",
    "provider_to_patient_once",
)
_TIMES = [
    "one prediction",
    "plain",
    "online",
    "processor, online",
    "processor, in all",
    "rounds",
    "CKKS",
    "SPU",
]


def private_tables(found: Any, table: Table) -> str:
    """Return three tables as Markdown.

    Args:
        found: what `private_inference.py` measured.
        table: a head and rows -> a table.
    """
    times, sizes, right, loads = [], [], [], []
    for row in found["rows"]:
        name, cost = row["row"].replace("-", " "), row.get("timing")
        if cost:
            loads.append(cost["load"])
            times.append([name, *_times(cost, row.get("spu", {}))])
            sizes.append([name, *(_megabytes(cost["bytes"][way]) for way in _WAYS)])
        if cost and "encrypted" in cost:
            encrypted = cost["encrypted"]
            sent = [encrypted["patient_to_provider"], encrypted["provider_to_patient"]]
            sizes.append([f"{name}, CKKS", *map(_megabytes, sent), "-", "-", "-"])
        count = row.get("agreement", {"pictures": 0})
        if count["pictures"]:
            same = f"{count['same']:,} of {count['pictures']:,}"
            right.append([name, same, f"{count['worst_error']:.1e}"])
    parts = (
        table(_TIMES, times),
        table(["bytes sent", *(way.replace("_", " ") for way in _WAYS)], sizes),
        table(["", "class as in plain", "worst error of a probability"], right),
    )
    said = (
        f"{found['cores']} cores, loopback, TLS; the load when a row's timing began was "
        f"{min(loads, default=0.0):.1f} to {max(loads, default=0.0):.1f}, the benchmark's own "
        "earlier rows in it. Other work lengthens what is given in plain seconds: online (the "
        "fastest of the runs), CKKS and SPU; processor seconds it does not: those of both parties "
        "online, and with dealer and preparation (medians). Measured by "
        f"`{found['command']}`, SPU with `--spu`.\n"
    )
    return "\n".join([*parts, said])


def _times(cost: Any, spu: Any) -> list[str]:
    """Return the cells of what one prediction costs."""
    processor = cost["patient_processor"] + cost["provider_processor"]
    whole = cost["dealing"]["processor"] + cost["prepare_processor"] + processor
    others = (cost.get("encrypted", {}).get("seconds"), spu.get("seconds"))
    return [
        _seconds(cost["plain"]),
        *map(_seconds, (cost["best_online"], processor, whole)),
        str(cost["rounds"]),
        *("-" if one is None else _seconds(one) for one in others),
    ]


def _seconds(seconds: float) -> str:
    if seconds >= 0.2:
        return f"{seconds:.2f} s"
    return f"{1000 * seconds:.0f} ms" if seconds >= 0.01 else f"{1000 * seconds:.1f} ms"


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB" if size >= 1e5 else f"{size:,} B"
