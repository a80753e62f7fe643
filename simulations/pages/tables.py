"""The tables shown after a run: its results, and who could learn what. At most 80 columns wide."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Literal

from rich import box
from rich.cells import cell_len
from rich.console import Console, RenderableType
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from clients.contract.printable import printable
from simulations.pages.merit import delta_text, holdout_text, merit_rows
from simulations.pages.task_words import figure_text, name_text
from simulations.pages.wording import (
    ABSENT,
    PATIENT,
    PER_RECORD,
    RECORD,
    bytes_text,
    epsilon_text,
    seconds_text,
    share_text,
)

WIDTH = 80
SEEDED = "seeded: repeatable, no guarantee"
ACCOUNTANTS = {"rdp": "RDP", "prv": "PRV"}
ATTACK = (
    "attack: made-up patients have shown that epsilon is at least this (at 95%, so one honest row "
    "in twenty has it above its claim)."
)


def show_table(console: Console, table: RenderableType) -> None:
    """Print a table, at most `WIDTH` columns wide; where it has no room, cell by cell.

    No number is ever cut: half an epsilon reads like a smaller one. Text is printed as it is.
    """
    width = min(WIDTH, console.width)
    if not isinstance(table, Table):
        console.print(table, width=width)
        return
    for column in table.columns:
        texts = [column.header, *column.cells]
        column.min_width = column.width or max(map(partial(_needs, whole=column.no_wrap), texts))
    anywhere = console.options.update(width=10 * WIDTH)  # measured, a table needs no more than that
    if Measurement.get(console, anywhere, table).minimum <= width:
        console.print(table, width=width)
        return
    for text in _lines(table):
        console.print(text, soft_wrap=True)


def _needs(text: Any, whole: bool) -> int:
    """Return the columns that a cell needs: those of its longest word, or of all of it."""
    plain = str(text)
    return max(map(cell_len, [plain] if whole else plain.split()), default=0)


def _lines(table: Table) -> Iterator[Text]:
    """Yield a table as lines: the title, then each row's cells, each below the one before."""
    yield Text.assemble(table.title or "")
    headers = [str(column.header) for column in table.columns]
    for first, *rest in zip(*(column.cells for column in table.columns), strict=True):
        if not table.show_header:
            yield Text.assemble(str(first), ": ", *map(str, rest))
            continue
        yield Text(str(first))
        for header, cell in zip(headers[1:], rest, strict=True):
            if str(cell):
                yield Text(f"  {header}: {cell}")
    if table.caption:
        yield Text.assemble(table.caption)


def summary_rows(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return label and value of what a finished run's summary holds."""
    seconds, epsilon = summary.get("seconds") or {}, summary.get("epsilon") or {}
    up, down = (summary.get(f"{way}_bytes_per_hospital_round") for way in ("uplink", "downlink"))
    rows = merit_rows(summary)
    if summary.get("mean_hospital_accuracy") is not None:
        rows.append(("mean accuracy of hospitals", share_text(summary["mean_hospital_accuracy"])))
    if summary.get("mean_hospital_headline") is not None:
        mean = figure_text(summary["headline"], summary["mean_hospital_headline"])
        rows.append((f"{name_text(summary['headline'])} of hospitals, on average", mean))
    for key, name in ACCOUNTANTS.items():
        if key in epsilon:
            rows.append((f"epsilon ({name})", epsilon_text(epsilon[key])))
    if epsilon:
        if summary.get("unit") == RECORD:
            rows.append(("each epsilon is", PER_RECORD))
        rows.append(("delta", delta_text(summary)))
        if left_out := holdout_text(summary):
            rows.append(("covered by no epsilon", left_out))
        rows.append(("noise multiplier", f"{summary['noise_multiplier']:.4g}"))
    else:
        rows.append(("epsilon", "none: no noise was added"))
    if summary.get("seeded"):
        rows.append(("guarantee", "none: seeded, repeatable"))
    if audit := summary.get("audit"):
        rows.append(("audit", _audit_text(audit)))
    rounds, hospitals = (summary.get(key, ABSENT) for key in ("rounds", "hospitals"))
    none = "" if rounds else " (no round was finished)"
    return [
        *rows,
        ("rounds, hospitals", f"{rounds}, {hospitals}"),
        ("a hospital sends per round", bytes_text(up) + none),
        ("a hospital receives per round", bytes_text(down) + none),
        ("time", f"{seconds_text(seconds.get('total'))} in all, "
         f"{seconds_text(seconds.get('round_median'))} a round (median)"),
    ]  # fmt: skip


def _audit_text(audit: Mapping[str, Any]) -> str:
    if not audit["passed"]:
        return f"FAILED: {audit['failures'][0]}"
    if not audit["epsilon_at_least"]:
        return "none: there is no guarantee to attack"
    claims = len(audit["epsilon_at_least"])
    return f"passed: {claims} claims, {audit['canaries']:,} made-up patients"


def summary_table(summary: Mapping[str, Any]) -> Table:
    """Return the table of a run's results."""
    kind = ", ".join(
        str(summary[key]) for key in ("regime", "exchange", "scheme") if key in summary
    )
    table = _table(f"{summary.get('scenario', 'run')}: {kind}")
    table.show_header = False
    table.add_column(no_wrap=True)
    table.add_column()
    for label, value in summary_rows(summary):
        table.add_row(label, _cell(value))
    return table


def observer_rows(observers: Sequence[Mapping[str, Any]]) -> list[tuple[str, ...]]:
    """Return observer, epsilon by RDP, by PRV and as attacked, whether bound, and why."""
    rows = []
    for one in observers:
        rows.append(
            (
                str(one.get("observer", "")),
                *epsilon_cells(one),
                attack_cell(one),
                "yes" if one.get("binds_target") else "",
                str(one.get("why", "")).removeprefix(f"{SEEDED}; "),
            )
        )
    return rows


def epsilon_cells(observer: Mapping[str, Any]) -> list[str]:
    """Return an observer's epsilon by RDP and by PRV; absent where one accountant alone has one.

    One in brackets is what the run would have had unseeded: it is no guarantee.
    """
    epsilon = observer.get("epsilon") or {}
    pattern = "{}" if observer.get("guaranteed", True) else "({})"
    missing = ABSENT if epsilon else "none"
    return [
        pattern.format(epsilon_text(epsilon[name])) if name in epsilon else missing
        for name in ACCOUNTANTS
    ]


def attack_cell(observer: Mapping[str, Any]) -> str:
    """Return the epsilon that an attack has shown at the least; empty where there was none."""
    found = observer.get("audit")
    return epsilon_text(found["epsilon"]) if found else ""


def is_attacked(observers: Sequence[Mapping[str, Any]]) -> bool:
    """Whether an audit stands beside any claim."""
    return any(one.get("audit") for one in observers)


def observer_caption(observers: Sequence[Mapping[str, Any]], unit: str = PATIENT) -> str:
    """Return what must be said beneath the observers' table; `unit` is whom an epsilon covers."""
    text = f"Neighbours: add or remove one {unit} at one hospital."
    if any(one.get("binds_target") for one in observers):
        text += " bound: by target-epsilon."
    if unit == RECORD:
        text = f"Every epsilon is {PER_RECORD}. {text}"
    if is_attacked(observers):
        text += f" {ATTACK}"
    if any(one.get("epsilon") and not one.get("guaranteed", True) for one in observers):
        text = f"{SEEDED[0].upper()}{SEEDED[1:]}; brackets: if it were unseeded. {text}"
    return text


def resting_text(observers: Sequence[Mapping[str, Any]]) -> str:
    """Return whose claims take encryption to hold as well; empty where nobody's do."""
    sealed = [str(one["observer"]) for one in observers if "encrypt" in one.get("rests_on", "")]
    if not sealed:
        return ""
    return (
        f"Of {', '.join(sealed)}: for as long as the encryption holds of what they have kept. All "
        "other claims rest on noise alone, whatever an observer computes, now or later."
    )


def observer_table(observers: Sequence[Mapping[str, Any]], unit: str = PATIENT) -> Table:
    """Return the table of who could learn what about one patient, or one record."""
    deltas = {one.get("delta") for one in observers if one.get("epsilon")} - {None}
    at = f" (at delta {deltas.pop():g})" if len(deltas) == 1 else ""
    table = _table(f"Who could learn what about a {unit}: epsilon{at}")
    table.caption = Text(observer_caption(observers, unit), style="dim")
    table.caption_justify = "left"
    table.add_column("observer", width=20)
    table.add_column("RDP", justify="right", no_wrap=True)
    table.add_column("PRV", justify="right", no_wrap=True)
    attacked = is_attacked(observers)
    if attacked:
        table.add_column("attack", justify="right", no_wrap=True)
    aimed = any(one.get("binds_target") for one in observers)
    if aimed:
        table.add_column("bound", no_wrap=True)
    table.add_column("why")
    for name, rdp, prv, attack, bound, why in observer_rows(observers):
        shown = (*[attack] * attacked, *[bound] * aimed)
        table.add_row(*map(_cell, (name, rdp, prv, *shown, why)))
    return table


def plain_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """Return a table of texts; columns whose name ends in ``#`` hold numbers."""
    table = _table(title)
    for column in columns:
        justify: Literal["left", "right"] = "right" if column.endswith("#") else "left"
        table.add_column(column.rstrip("#"), justify=justify, overflow="fold")
    for row in rows:
        table.add_row(*map(_cell, row))
    return table


def _table(title: str) -> Table:
    return Table(
        title=_cell(title, "bold"), title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False
    )


def _cell(text: str, style: str = "") -> Text:
    """Return a text as it stands in a table: nothing in it steers the terminal."""
    return Text(printable(text), style=style)
