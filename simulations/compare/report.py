"""``report.html`` of a comparison: one self-contained page, made from ``comparison.json`` alone.

It begins with the same four answers as a run's: private or not, against whom, how good, what it
cost. What older files do not hold, who could learn what and the ledgers, is left out.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from crypto.whole_file import write_shared
from simulations.compare.alone import by_size
from simulations.compare.answers import answers
from simulations.compare.figures import draw_all
from simulations.compare.measures import MEASURES, figure_of, goodness, measure_of
from simulations.compare.tables import (
    CLEAR,
    Table,
    axis_text,
    caption,
    figure_table,
    label_text,
    left_out,
    mean_text,
    of_classes,
    paired_table,
    paired_title,
    result_table,
    tuning_text,
    varying,
)
from simulations.pages.drawing import inline_figures
from simulations.pages.tables import epsilon_cells
from simulations.pages.template import COMPARISON_PAGE, REPORT, Answer, fill_page
from simulations.pages.wording import (
    ABSENT,
    PATIENT,
    PER_RECORD,
    RECORD,
    bytes_text,
    epsilon_text,
    seconds_text,
    versions_text,
)

Content = Mapping[str, Any]
Row = Mapping[str, Any]
TASK_CAPTION = "On the public holdout; mean of the seeds, with half a 95% interval."
FURTHER_CAPTION = (
    "On the public holdout. commonest class: its share of the records, the accuracy of whoever "
    "says it of everything. Sensitivity and specificity: at a threshold chosen on the other half "
    "of the patients. right, of each class: by the most probable class, over all seeds. "
    "-: the holdout has too few records of a class."
)
ALONE_CAPTION = (
    "Mean accuracy of hospitals on their own test records, over all seeds, by how many training "
    "records they have: thirds of one size. alone: each hospital's own model, without noise and "
    "with as many steps as together."
)
#: Head of a column that names rows by all axes that vary.
WAYS = "way of training"


def write_comparison_report(content: Content, out: Path) -> Path:
    """Write ``report.html`` into a comparison's folder and return its path."""
    file = out / REPORT
    write_shared(file, render_comparison_report(content).encode(), durable=False)
    return file


def render_comparison_report(content: Content) -> str:
    """Return the page."""
    return fill_page(
        COMPARISON_PAGE,
        ways=WAYS,
        title=content["title"],
        subtitle=f"Asclepias comparison of {content['date']}: {len(content['rows'])} ways of "
        f"training, {content['seeds']} seeds each.",
        answers=[
            answer_private(content),
            answer_whom(content),
            answer_good(content),
            answer_cost(content),
        ],
        description=content["description"],
        what=_what(content),
        tables=[
            (head, {"columns": columns, "rows": rows, "caption": text})
            for head, (columns, rows), text in _tables(content)
            if rows
        ],
        sayings=answers(content) if content["paired"] else [],
        figures=inline_figures(draw_all(content)),
        figures_note="",
        left_out=left_out(content),
        command=content["command"],
        repeat_note="The same command goes on where it was stopped; in an empty folder (--out) it "
        f"trains everything anew. '{_redraw(content)}' draws figures and page again.",
        versions=versions_text(content.get("versions") or {}),
    )


def _redraw(content: Content) -> str:
    return shlex.join(["flower-simulation", "report", f"runs/compare-{content['name']}"])


def answer_private(content: Content) -> Answer:
    """Whether the trainings were private: never, since they are seeded."""
    private, bare = _private(content), [row for row in content["rows"] if not _noisy(row)]
    lines = []
    if private:
        spent = sorted(row["spent_epsilon"] for row in private)
        ends = [epsilon_text(spent[0]), epsilon_text(spent[-1])]
        claim = ends[0] if ends[0] == ends[1] else f"{ends[0]} to {ends[1]}"
        lines.append(
            f"Unseeded, {_count(len(private), 'way')} of training would have had epsilon {claim} "
            f"(PRV) against the server, at delta {content['delta']:g}."
        )
    if bare:
        lines.append(f"{_count(len(bare), 'way')} of training added no noise at all.")
    return Answer(
        question="Was it private?",
        headline="No: every training was seeded, so its noise can be repeated.",
        lines=lines,
        tone="no",
    )


def answer_whom(content: Content) -> Answer:
    """Against whom: nobody, and where it is told what would have been promised."""
    lines = ["Whoever knows the seed can draw the noise again and take it off."]
    if any(row.get("observers") for row in content["rows"]):
        lines += ["A table below shows what unseeded trainings would have promised, and to whom."]
    return Answer(question="Against whom?", headline="Nobody.", lines=lines, tone="no")


def answer_good(content: Content) -> Answer:
    """The best way with noise and the best without."""
    measure = measure_of(content)
    measured = [row for row in content["rows"] if figure_of(row, measure)]
    if not measured:
        return Answer(question="How good is the model?", headline="Not known: nothing finished.")
    names = varying(content)

    def best(rows: Sequence[Row]) -> str:
        found = [(figure_of(row, measure) or {}, row) for row in rows]
        figure, row = max(found, key=lambda one: goodness(float(one[0]["mean"]), measure))
        return f"{label_text(row, names)}: {MEASURES[measure]} {mean_text(figure)}"

    noisy = [row for row in measured if _noisy(row)]
    bare = [row for row in measured if not _noisy(row)]
    lines = [f"Best without noise: {best(bare)}."] if noisy and bare else []
    lines.append(
        "On the public holdout, whose patients no hospital trained on; mean of the seeds, with "
        "half a 95% interval."
    )
    headline = f"Best with noise: {best(noisy)}." if noisy else f"Best: {best(bare)}."
    return Answer(question="How good is the model?", headline=headline, lines=lines)


def answer_cost(content: Content) -> Answer:
    """What the trainings took, and what a hospital sends in one."""
    rows = [row for row in content["rows"] if row["seconds"]]
    count = sum(len(row["seeds"]) for row in rows)
    total = sum(sum(row["seconds"]["values"]) for row in rows)
    lines = []
    if sent := sorted(row["sent_bytes"]["mean"] for row in rows if row["hospitals"]):
        low, high = bytes_text(sent[0]), bytes_text(sent[-1])
        lines.append(
            f"In a whole training a hospital sends {low}."
            if low == high
            else f"In a whole training a hospital sends {low} to {high}, by the way of training."
        )
    if content["tuned"]:
        lines.append("The trainings that chose the tuned settings are not counted.")
    return Answer(
        question="What did it cost?",
        headline=f"{_count(count, 'training')}, {seconds_text(total)} one after another.",
        lines=lines,
    )


def _noisy(row: Row) -> bool:
    return row["spent_epsilon"] is not None


def _private(content: Content) -> list[Row]:
    return [row for row in content["rows"] if _noisy(row)]


def _count(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count:,} {noun}s"


def _what(content: Content) -> list[tuple[str, str]]:
    rows = content["rows"]
    found = [("data", content["data"]), ("model", content["model"])]
    for axis in ("regime", "exchange", "partition", "hospitals", "epsilon"):
        values = [row[axis] for row in rows if row[axis] is not None]
        texts = [axis_text(value) for value in dict.fromkeys(values)]
        if texts:
            found.append(({"partition": "split"}.get(axis, axis), ", ".join(texts)))
    found += [
        ("rounds", f"{content['rounds']}"),
        ("seeds", f"{content['seeds']} for each row"),
        ("delta", f"{content['delta']:g}"),
    ]
    if content["tuned"]:
        found.append(("tuned", tuning_text(content)))
    return found


def _tables(content: Content) -> list[tuple[str, Table, str]]:
    """Return heading, table and caption of each table."""
    found = [("Results", result_table(content, wide=True), caption(content, wide=True))]
    further = FURTHER_CAPTION if of_classes(content) else TASK_CAPTION
    found.append(("Further figures", figure_table(content), further))
    if content["paired"]:
        found.append((paired_title(content), paired_table(content), CLEAR))
    unit = content.get("unit", PATIENT)
    found.append(
        (
            f"Who could learn what about a {unit}",
            observer_matrix(content),
            (f"Every epsilon is {PER_RECORD}. " if unit == RECORD else "")
            + f"Epsilon (PRV) at delta {content['delta']:g} for adding or removing one {unit} at "
            "one hospital. In brackets: what the training would have promised unseeded; seeded, it "
            "guarantees nothing.",
        )
    )
    if content.get("alone"):
        found.append(("Alone or together", alone_table(content), ALONE_CAPTION))
    found.append(
        (
            "Ledgers and cost",
            cost_table(content),
            "ledger: entries of the server's ledgers, each written before patients' data were "
            "touched; every run folder keeps its own. received: by one hospital in the whole "
            "training. seconds: mean of a training.",
        )
    )
    return found


def observer_matrix(content: Content) -> Table:
    """Return epsilon by PRV of every observer, a row for each way of training with noise."""
    rows = [row for row in content["rows"] if row.get("observers") and _noisy(row)]
    names = list(dict.fromkeys(one["observer"] for row in rows for one in row["observers"]))
    axes = varying(content)
    table = []
    for row in rows:
        by_name = {one["observer"]: epsilon_cells(one)[1] for one in row["observers"]}
        cells = [by_name.get(name, ABSENT) for name in names]
        table.append([label_text(row, axes), *cells])
    return [WAYS, *(f"{name}#" for name in names)], table


def alone_table(content: Content) -> Table:
    """Return the accuracy of hospitals with few, some and many records, alone and together.

    Ways that some splits do not have are left out.
    """
    rows = content["alone"]
    ways = [way for way in rows[0]["ways"] if all(way in row["ways"] for row in rows)]
    table = []
    for row in rows:
        at = [row["ways"].index(way) for way in ways]
        for part in by_size(row):
            table.append(
                [
                    f"{row['partition']}, K = {row['hospitals']}",
                    f"{part['least']:,} to {part['most']:,}",
                    f"{part['count']:,}",
                    *(f"{part['means'][one]:.3f}" for one in at),
                ]
            )
    return ["split", "records#", "hospitals#", *(f"{way}#" for way in ways)], table


def cost_table(content: Content) -> Table:
    """Return what each way of training spent, by its ledgers, and what it took."""
    axes = varying(content)
    columns = ["ledger#", "received#", "seconds#"]
    table = []
    for row in content["rows"]:
        if row.get("ledger_entries") is None:
            continue
        received = row["received_bytes"] if row["hospitals"] else None
        table.append(
            [
                label_text(row, axes),
                f"{row['ledger_entries']:,}",
                ABSENT if received is None else bytes_text(received["mean"]),
                ABSENT if row["seconds"] is None else f"{row['seconds']['mean']:.3g}",
            ]
        )
    return [WAYS, *columns], table
