"""Tables of private inference: what it costs, who sends what, how right it is; and of copies."""

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


def copy_table(found: Any, table: Table) -> str:
    """Return what copies of models are worth, as Markdown.

    Args:
        found: what `model_copy.py` measured.
        table: a head and rows -> a table.
    """
    kinds = ("probabilities", "classes", "labels")
    rows = [
        [f"{row['row'].replace('-', ' ')}, {one['questions']:,} pictures"]
        + [f"{one[kind]['same']:.1%}" for kind in kinds]
        for row in found["rows"]
        for one in row["copies"]
    ]
    right = ", ".join(f"{row['row'].replace('-', ' ')} {row['right']:.1%}" for row in found["rows"])
    said = (
        f"Share of {found['compared']:,} other pictures to which the copy gives the model's class "
        f"(which is the right one for {right}). Of own labels: the same pictures with the labels "
        f"that their owner has anyway, without a question. Measured by `{found['command']}`.\n"
    )
    head = ["a copy fitted to", "probabilities", "the class alone", "own labels, no answer"]
    return table(head, rows) + "\n" + said


#: Name of a table in the pages -> what makes it.
PAGES: dict[str, Callable[[Any, Table], str]] = {
    "private-inference": private_tables,
    "model-copy": copy_table,
}
