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
    times, sizes, right = [], [], []
    for row in found["rows"]:
        name, encrypted = row["row"].replace("-", " "), row.get("encrypted")
        spu = row.get("spu", {}).get("seconds")
        processor = row["patient_processor"] + row["provider_processor"]
        whole = row["dealing"]["processor"] + row["prepare_processor"] + processor
        times.append(
            [
                name,
                _seconds(row["plain"]),
                *map(_seconds, (row["best_online"], processor, whole)),
                str(row["rounds"]),
                "-" if encrypted is None else _seconds(encrypted["seconds"]),
                "-" if spu is None else _seconds(spu),
            ]
        )
        sizes.append([name, *(_megabytes(row["bytes"][way]) for way in _WAYS)])
        if encrypted is not None:
            sent = [encrypted["patient_to_provider"], encrypted["provider_to_patient"]]
            cells = [*map(_megabytes, sent), "-", "-", "-"]
            sizes.append([f"{name}, CKKS", *cells])
        count = row["agreement"]
        if count["pictures"]:
            same = f"{count['same']:,} of {count['pictures']:,}"
            right.append([name, same, f"{count['worst_error']:.1e}"])
    parts = (
        table(_TIMES, times),
        table(["bytes sent", *(way.replace("_", " ") for way in _WAYS)], sizes),
        table(["", "class as in plain", "worst error of a probability"], right),
    )
    loads = sorted(row["load"] for row in found["rows"])
    said = (
        f"{found['cores']} cores, loopback, TLS; the machine also had other work, a load of "
        f"{loads[0]:.0f} to {loads[-1]:.0f}, which lengthens what is given in plain seconds: "
        f"online (the fastest of the runs), CKKS and SPU. Processor seconds are not lengthened: "
        f"those of both parties online, and with dealer and preparation (medians). One party "
        f"mostly works while the other waits, so on idle cores online takes about as long. "
        f"Measured by `{found['command']}`, SPU with `--spu`.\n"
    )
    return "\n".join([*parts, said])


def _seconds(seconds: float) -> str:
    if seconds >= 0.2:
        return f"{seconds:.2f} s"
    return f"{1000 * seconds:.0f} ms" if seconds >= 0.01 else f"{1000 * seconds:.1f} ms"


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB" if size >= 1e5 else f"{size:,} B"
