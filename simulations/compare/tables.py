"""A comparison as tables: for the terminal, at most 80 columns, and as Markdown for a page.

Only axes that vary become columns. All numbers come from ``comparison.json``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import RenderableType
from rich.text import Text

from clients.contract.printable import printable_lines
from simulations.compare.measures import (
    LEAST_CLEAR,
    LESS,
    MEASURES,
    figure_of,
    is_clear,
    measure_of,
)
from simulations.pages.tables import plain_table
from simulations.pages.wording import ABSENT, bytes_text

AXES = ("regime", "exchange", "partition", "hospitals", "epsilon")
HEADS = {
    "regime": "regime",
    "exchange": "exchange",
    "partition": "split",
    "hospitals": "K#",
    "epsilon": "epsilon#",
}
CLEAR = (
    "clear: the interval excludes 0, over three seeds at the least. Each interval is by itself; of "
    "twenty true zeros one is expected to look clear."
)
Content = Mapping[str, Any]
Table = tuple[list[str], list[list[str]]]


def varying(content: Content) -> list[str]:
    """Return the axes that have several values; the first axis where none has."""
    rows = content["rows"]
    found = [axis for axis in AXES if len({row[axis] for row in rows} - {None}) > 1]
    return found or [AXES[0]]


def heads(axes: Sequence[str]) -> list[str]:
    """Return the columns' names of axes."""
    return [HEADS[axis] for axis in axes]


def result_table(content: Content, *, wide: bool = False) -> Table:
    """Return columns and rows of what was measured.

    Args:
        content: a ``comparison.json``.
        wide: with what was tuned and how many trainings, for pages.
    """
    axes, rows = varying(content), content["rows"]
    measure = measure_of(content)
    others = ("accuracy", "auc") if of_classes(content) else ()
    figures = {name: MEASURES[name] for name in dict.fromkeys((measure, *others))}
    if any(row["worst_hospital_accuracy"] for row in rows if row["hospitals"]):
        figures["worst_hospital_accuracy"] = "worst site"
    if not wide:
        # Eighty columns hold the figure that is compared by, and one or two more.
        spare = {"accuracy", "auc"} if len(axes) > 2 else {"auc"} if measure != "accuracy" else ()
        figures = {name: text for name, text in figures.items() if name not in {*spare} - {measure}}
    columns = heads(axes) + [f"{one}#" for one in figures.values()] + ["sent#"]
    if wide:
        noisy = any(row["noise_multiplier"] for row in rows)
        columns += ["sigma#"] if noisy else []
        columns += ["trainings#"] + (["tuned to"] if content["tuned"] else [])
    table = []
    for row in rows:
        cells = [axis_text(row[axis]) for axis in axes]
        for key in figures:
            pooled = key.endswith("hospital_accuracy") and not row["hospitals"]
            cells.append(ABSENT if pooled else mean_text(figure_of(row, key)))
        cells.append(ABSENT if not row["hospitals"] else _bytes(row["sent_bytes"]))
        if wide:
            if noisy:
                sigma = row["noise_multiplier"]
                cells.append(f"{sigma:.3g}" if sigma else ABSENT)
            cells.append(str(len(row["seeds"])))
            if content["tuned"]:
                cells.append(tuned_text(row["tuned"]))
        table.append(cells)
    return columns, table


#: Figures of a table of their own, where trainings have them.
FURTHER = ("majority", "average_precision", "sensitivity", "specificity", "ece", "brier")


def figure_table(content: Content) -> Table:
    """Return columns and rows of further figures of merit; no rows where there are none."""
    axes, classes = varying(content), of_classes(content)
    names = {"majority": "commonest class", **MEASURES}
    shown = FURTHER if classes else _others(content)
    rows = [
        [
            *(axis_text(row[axis]) for axis in axes),
            *(mean_text(figure_of(row, name)) for name in shown),
            *([recalls_text(row)] if classes else []),
        ]
        for row in content["rows"]
        if any(figure_of(row, name) for name in shown)
    ]
    columns = heads(axes) + [f"{names[name]}#" for name in shown]
    return columns + (["right, of each class"] if classes else []), rows


def of_classes(content: Content) -> bool:
    """Whether one class of several was learnt."""
    return not content.get("task")


def _others(content: Content) -> list[str]:
    """Return all figures of a task but the one that is compared by."""
    there = {name for row in content["rows"] for name in row["figures"]}
    return [name for name in MEASURES if name in there - {measure_of(content)}]


def recalls_text(row: Mapping[str, Any]) -> str:
    """Write the share of each class that is guessed right, over all trainings of a row."""
    named = zip(row.get("classes") or [], row.get("confusion") or [], strict=True)
    found = [
        f"{name} {counts[place] / sum(counts):.3f}"
        for place, (name, counts) in enumerate(named)
        if sum(counts)
    ]
    return ", ".join(found) or ABSENT


def paired_table(content: Content) -> Table:
    """Return columns and rows of the differences on the same seeds."""
    pairs = content["paired"]
    places = [axis for axis in ("partition", "hospitals", "epsilon") if axis in varying(content)]
    several = len({way_text(one) for one in pairs}) > 1
    columns = [*heads(places), *(["of"] if several else [])]
    columns += ["less", "difference#", "95% interval#", "clear"]
    rows = []
    for one in pairs:
        other, difference = one["against"], one["difference"]
        parts = [other["regime"] if other["regime"] != one["regime"] else None]
        parts += [other["exchange"] if other["exchange"] != one["exchange"] else None]
        name = ", ".join(part for part in parts if part)
        low, high = difference["low"], difference["high"]
        ends = ABSENT if low is None else f"{low:+.3f} to {high:+.3f}"
        few = difference["count"] < LEAST_CLEAR
        clear = "yes" if is_clear(difference) else "no: too few seeds" if few else "no"
        rows.append(
            [
                *(axis_text(one[axis]) for axis in places),
                *([way_text(one)] if several else []),
                name,
                f"{difference['mean']:+.3f}",
                ends,
                clear,
            ]
        )
    return columns, rows


def terminal_tables(content: Content) -> list[RenderableType]:
    """Return what the command prints when the grid is done."""
    found: list[RenderableType] = [plain_table(_title(content), *result_table(content))]
    found.append(Text(printable_lines(caption(content)), style="dim"))
    if content["paired"]:
        found.append(plain_table(paired_title(content), *paired_table(content)))
    for head, lines in left_out(content):
        text = "\n".join([f"\n{head}:", *(f"  {line}" for line in lines)])
        found.append(Text(printable_lines(text)))
    return found


def left_out(content: Content) -> list[tuple[str, list[str]]]:
    """Return what was not run and what ended early: headings, each with its lines."""
    skipped = [f"{'; '.join(one['setups'])}: {one['why']}" for one in content["skipped"]]
    cells: dict[str, list[str]] = {}
    for one in content["failed"]:
        cells.setdefault(one["why"], []).append(one["cell"])
    failed = [f"{_cells_text(names)}: {why}" for why, names in cells.items()]
    asked_less = content.get("unasked") or {}  # files of before do not say
    unasked = [f"{axis}: {', '.join(values)}" for axis, values in asked_less.items()]
    found = [
        ("Part of the scenario, but not asked for by this command", unasked),
        ("Not sound, or not possible, and so not run", skipped),
        ("Ended early, and left out", failed),
    ]
    return [(head, lines) for head, lines in found if lines]


def _cells_text(names: Sequence[str]) -> str:
    """Return which trainings share a fate; of many, the first."""
    return names[0] if len(names) == 1 else f"{len(names)} trainings, {names[0]} the first of them"


def markdown_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table; columns whose name ends in ``#`` hold numbers."""
    names = [column.rstrip("#") for column in columns]
    rules = ["---:" if column.endswith("#") else "---" for column in columns]
    lines = [names, rules, *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def caption(content: Content, *, wide: bool = False) -> str:
    """Return what the numbers of a table are, in sentences; `wide` as in `result_table`."""
    seeds = content["seeds"]
    text = (
        f"Mean of {seeds} seeds with a 95% t-interval; every seed holds other patients out and "
        "splits the others anew. sent: by one hospital in the whole training."
    )
    if any(row["worst_hospital_accuracy"] for row in content["rows"] if row["hospitals"]):
        text += " worst site: accuracy at the hospital that is served worst."
    if wide and any(row["noise_multiplier"] for row in content["rows"]):
        text += " sigma: noise in units of the clip."
    if measure_of(content) == "balanced_accuracy":
        text += " balanced accuracy: mean of the classes' recalls, since classes are uneven."
    if any(ABSENT in row for row in result_table(content, wide=wide)[1]):
        text += f" {ABSENT}: {_why_absent(content)}."
    if measure_of(content) in LESS:
        text += f" {MEASURES[measure_of(content)]}: less is better."
    shown = "accuracy" if of_classes(content) else "figures"
    return f"{text} Seeded trainings show {shown} and cost; they guarantee nothing."


def _why_absent(content: Content) -> str:
    """Say why cells are empty."""
    rows, reasons = content["rows"], []
    if any(not row["hospitals"] for row in rows):
        reasons.append("pooled data are split over no hospitals and sent by none")
    if any(not row["noise_multiplier"] for row in rows):
        reasons.append("without noise there is no epsilon and no sigma")
    if any(not row["seeds"] for row in rows):
        reasons.append("no training finished")
    if of_classes(content) and any(row["seeds"] and row["auc"] is None for row in rows):
        reasons.append("a holdout of one class has no AUC")
    return "; ".join(reasons) or "it does not apply"


def paired_title(content: Content) -> str:
    """Return the heading of the differences."""
    ways = {way_text(one) for one in content["paired"]}
    whose = f" of {ways.pop()}" if len(ways) == 1 else ""
    measure = MEASURES[measure_of(content)]
    return f"{measure[0].upper()}{measure[1:]}{whose} less another's on the same seeds"


def way_text(row: Mapping[str, Any]) -> str:
    """Write a way of training together: its regime, and its exchange where it has one."""
    return ", ".join(part for part in (row["regime"], row["exchange"]) if part)


def axis_text(value: str | float | None) -> str:
    """Write a value of an axis; absent where it does not matter."""
    if value is None:
        return ABSENT
    return value if isinstance(value, str) else f"{value:g}"


def mean_text(summary: Mapping[str, Any] | None) -> str:
    """Write a mean with half its interval."""
    if summary is None:
        return ABSENT
    mean = f"{summary['mean']:.3f}"
    return mean if summary["high"] is None else f"{mean} ±{summary['high'] - summary['mean']:.3f}"


def tuning_text(content: Content) -> str:
    """Return how settings were tuned: by what, over which values."""
    grids = "; ".join(
        f"{key} in {', '.join(f'{value:g}' for value in values)}"
        for key, values in content["tuned"].items()
    )
    seeds = seeds_text(content["tuning_seeds"])
    measure = MEASURES[measure_of(content)]
    by = f"by mean {measure} over {seeds} that the results do not use"
    if content.get("tuning_rule"):
        by += ", and of all within one standard error of the best by the least loss"
    return f"for each row {by}: {grids}"


def seeds_text(count: int) -> str:
    """Write a number of seeds."""
    return f"{count} seed" if count == 1 else f"{count} seeds"


def label_text(row: Mapping[str, Any], names: Sequence[str]) -> str:
    """Write a row's place on some axes: ``FSCDP, K = 10, epsilon 1``."""
    marks = {"hospitals": "K = ", "epsilon": "epsilon "}
    parts = [
        f"{marks.get(name, '')}{axis_text(row[name])}" for name in names if row[name] is not None
    ]
    return ", ".join(parts) or str(row["regime"])


def tuned_text(choice: Mapping[str, Any]) -> str:
    """Write tuned settings by the last word of their keys."""
    return ", ".join(f"{key.rpartition('.')[2]} {value:g}" for key, value in choice.items())


def _bytes(summary: Mapping[str, Any] | None) -> str:
    return ABSENT if summary is None else bytes_text(summary["mean"])


def _title(content: Content) -> str:
    return f"{content['name']}: {content['data']}, {content['model']}"
