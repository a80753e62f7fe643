"""Ledgers as people read them: which there are, and what was spent, when, on what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from simulations.pages.wording import epsilon_text
from strategies.run.reading import NoRun, find_run, read_run

LEDGER = "ledger.jsonl"
Statement = Mapping[str, Any]


def read_statements(name: str, delta: float | None) -> list[Statement]:
    """Read a ledger file, or all ledgers of a run: the server's first, then each hospital's.

    Returns:
        For each what `accounting.statement.ledger_statement` returns.

    Raises:
        NoRun: there is no ledger.
        LedgerError: one is damaged.
    """
    from accounting.statement import ledger_statement

    files, default = [Path(name)], 1e-4
    if not files[0].is_file():
        path = find_run(name)
        files = [path / LEDGER, *sorted(path.glob(f"sites/*/{LEDGER}"))]
        files = [file for file in files if file.is_file() and file.stat().st_size]
        default = float(read_run(path).config.get("privacy.delta", default))
        if not files:
            raise NoRun(f"{path} holds no {LEDGER}: nothing was spent, or no noise was added.")
    return [ledger_statement(file, default if delta is None else delta) for file in files]


def overview_rows(statements: Sequence[Statement]) -> list[tuple[str, str, str, str, str]]:
    """Return whose, entries, first and last moment, epsilon, for each ledger."""
    rows = []
    for one in statements:
        times = [entry["time"] for entry in one["entries"]]
        rows.append(
            (
                str(one["site"]),
                str(len(times)),
                moment_text(min(times, default=None)),
                moment_text(max(times, default=None)),
                _epsilon(one["epsilon"].get("rdp")),
            )
        )
    return rows


def spending_rows(statement: Statement) -> list[tuple[str, str, str, str, str]]:
    """Return training, purpose, rounds, entries and mechanism, gathered where these agree."""
    groups: dict[tuple[str, str, str], list[int]] = {}
    for entry in statement["entries"]:
        mechanism = mechanism_text(entry["event"], entry.get("views", {}))
        key = (entry["training"], entry["purpose"], mechanism)
        groups.setdefault(key, []).append(entry["round"])
    return [
        (training, purpose, f"{min(rounds)}-{max(rounds)}", str(len(rounds)), mechanism)
        for (training, purpose, mechanism), rounds in groups.items()
    ]


def mechanism_text(
    event: Mapping[str, Any], views: Mapping[str, float | None] | None = None
) -> str:
    """Write an event without its count: ``gaussian, q 0.2, sigma 1.94 (hospital 1.84)``.

    In brackets is what is left of the noise for those for whom less of it is left.
    """
    names = {"sampling_rate": "q", "noise_multiplier": "sigma"}
    fields = [
        f"{names.get(key, key)} {value:.4g}"
        for key, value in event.items()
        if key not in ("kind", "count")
    ]
    text = ", ".join([str(event.get("kind", "event")), *fields])
    less = [
        f"{name} {'none' if left is None else f'{left:.4g}'}"
        for name, left in (views or {}).items()
        if left is None or left < event.get("noise_multiplier", 0.0)
    ]
    return f"{text} ({', '.join(less)})" if less else text


def moment_text(seconds: float | None) -> str:
    """Write unix seconds as a moment, UTC."""
    if seconds is None:
        return ""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")


def _epsilon(value: float | str | None) -> str:
    return epsilon_text(value) if isinstance(value, float | int) else "none"
