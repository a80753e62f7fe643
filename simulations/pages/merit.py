"""What a model is worth, as people read it: never an accuracy without what it takes to reach it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from simulations.pages.task_words import cell, columns_of, figure_rows
from simulations.pages.wording import ABSENT, share_text

#: Why a figure of a model is not there; a figure that has other reasons is not listed.
WHY_NOT = {
    "auc": "the holdout has one class only",
    "average_precision": "the holdout has one class only",
    "sensitivity": "too few records of a class to choose a threshold on a half of them",
    "specificity": "too few records of a class to choose a threshold on a half of them",
}
NO_MODEL = "no model was released"
NO_HOLDOUT = "nothing was measured: data.holdout-from is none"
#: What a model is said to have learnt that says one class of everybody.
LEARNT = "it has learnt"
#: What may help.
TEACHES = "more rounds, patients or epsilon, or training.class-shares, may teach it more"
#: Most classes that a table of results lists one by one.
MOST_CLASSES = 10
#: Of what is measured at a threshold.
FAIR = "threshold chosen on the other half of the patients"

#: Part of a page, filled with `class_rows` and `CAPTION`.
PART = """
{%- if by_class %}
<h2>{{ class_heading }} by {{ class_heading | lower }}</h2>
<table class="stack" id="classes">
<thead><tr><th scope="col">{{ class_heading }}</th>
{%- for name in class_columns %}
<th scope="col" class="number">{{ name }}</th>
{%- endfor %}
</tr></thead>
<tbody>
{%- for name, values in by_class %}
<tr><th scope="row">{{ name }}</th>
{%- for value in values %}
<td class="number" data-label="{{ class_columns[loop.index0] }}">{{ value }}</td>
{%- endfor %}
</tr>
{%- endfor %}
</tbody>
<caption>{{ class_caption }}</caption>
</table>
{%- endif %}
"""
COLUMNS = (
    "Records",
    "Guessed",
    "Precision",
    "Recall",
    "AUC",
    "Average precision",
    "Threshold",
    "Sensitivity",
    "Specificity",
)
_KEYS = (
    "precision",
    "recall",
    "auc",
    "average_precision",
    "threshold",
    "sensitivity",
    "specificity",
)
CAPTION = (
    "On the public holdout. Guessed, precision and recall: by the most probable class. The others: "
    "each class against all others. Sensitivity and specificity: the patients are dealt into two "
    "halves, and each half is judged at the threshold that is best on the other, so that no record "
    "is judged at a threshold that was chosen on it; the threshold shown is the one that is best "
    "on all. -: the class is never guessed (precision), or has too few records."
)


def merit_rows(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return label and value of a run's figures on the holdout, accuracy first."""
    metrics, merit = summary.get("metrics") or {}, summary.get("merit") or {}
    if "task" in summary:
        return [("task", str(summary["task"])), *figure_rows(metrics)]
    none = (summary.get("holdout") or {}).get("origin") == "none"
    without = "" if summary.get("accuracy") is not None else NO_HOLDOUT if none else NO_MODEL
    rows = [
        ("accuracy", _beside(_figure(summary.get("accuracy"), without), _majority(merit))),
    ]
    if guess := merit.get("one_guess"):
        rows.append((LEARNT, f"{nothing_text(guess)}; {TEACHES}"))
    if "balanced_accuracy" in metrics:
        rows.append(("balanced accuracy", share_text(metrics["balanced_accuracy"])))
    rows.append(("AUC", _figure(summary.get("auc"), without or WHY_NOT["auc"])))
    if not merit:
        return rows
    of = f" of {merit['looked_for'][0]}" if len(merit["looked_for"]) == 1 else ", mean of classes"
    area = _figure(metrics.get("average_precision"), WHY_NOT["average_precision"])
    rows.append((f"average precision{of}", area))
    known = metrics.get("sensitivity") is not None
    both = ", ".join(share_text(metrics.get(name)) for name in ("sensitivity", "specificity"))
    rows.append(
        (
            f"sensitivity, specificity{of}",
            f"{both} ({FAIR})" if known else f"{ABSENT} ({WHY_NOT['sensitivity']})",
        )
    )
    classes = merit["by_class"]
    if len(classes) <= MOST_CLASSES:
        right = ", ".join(f"{one['class']} {share_text(one.get('recall'))}" for one in classes)
        rows.append(("right, of each class", right))
    both = ", ".join(share_text(metrics.get(name)) for name in ("ece", "brier"))
    rows.append(("calibration error, Brier score", f"{both} (less is better)"))
    return rows


def nothing_text(guess: str) -> str:
    """Say what a model has learnt that gives every record the same class."""
    return f"nothing: every record is said to be {guess}"


def _majority(merit: Mapping[str, Any]) -> str:
    if not (most := merit.get("majority")):
        return ""
    return f"{share_text(most['share'])} of the records are {most['class']}"


def _beside(value: str, other: str) -> str:
    return f"{value}; {other}" if other else value


def _figure(value: float | None, why_not: str) -> str:
    """Write a share, or why there is none."""
    shown = share_text(value)
    return f"{ABSENT} ({why_not})" if shown == ABSENT and why_not else shown


def class_rows(summary: Mapping[str, Any]) -> list[tuple[str, list[str]]]:
    """Return each class with its figures, in the order of `COLUMNS`; of tasks their own lines."""
    if "task" in summary:
        _, columns = columns_of(summary["task"], summary["rows"])
        return [
            (str(row["name"]), [cell(key, row.get(key)) for key in columns])
            for row in summary["rows"]
        ]
    return [
        (
            str(one["class"]),
            [
                f"{one['records']:,}",
                f"{one['guessed']:,}",
                *(share_text(one.get(key)) for key in _KEYS),
            ],
        )
        for one in (summary.get("merit") or {}).get("by_class") or []
    ]


def part_columns(summary: Mapping[str, Any]) -> tuple[str, tuple[str, ...], str]:
    """Return what the lines of `class_rows` are about, their columns, and a caption."""
    if "task" not in summary:
        return "Class", COLUMNS, CAPTION
    heading, columns = columns_of(summary["task"], summary["rows"])
    return heading, tuple(columns.values()), "On the public holdout."


def holdout_text(summary: Mapping[str, Any]) -> str:
    """Return whom no epsilon covers, or that nobody is left out; empty where it is not known."""
    found = summary.get("holdout") or {}
    unit = str(summary.get("unit", "patient"))
    count, named = found.get("patients", 0), found.get("named", "")
    counted = f"{count:,} {unit}" if count == 1 else f"{count:,} {unit}s"
    match found.get("origin"):
        case "own":
            return f"{counted} of these data: held out as public, measured on in the open"
        case "test":
            return f"{counted} of these data's own test part: public, measured on in the open"
        case "other":
            return f"nobody of these data; models are measured on {counted} of {named}"
        case "server":
            return f"nobody at a hospital; models are measured on {counted} public at the server"
        case "none":
            return "nobody of these data; nothing is measured"
    return ""


def delta_is_large(summary: Mapping[str, Any]) -> bool:
    """Whether delta is above 1/N: a patient in N may be shown whole, and the claim holds."""
    return float(summary.get("delta") or 0.0) * int(summary.get("patients") or 0) > 1


def delta_text(summary: Mapping[str, Any]) -> str:
    """Return delta, and what it lets through where it is above 1/N."""
    delta, patients = summary["delta"], summary.get("patients")
    if not delta_is_large(summary):
        return f"{delta:g}"
    unit = str(summary.get("unit", "patient"))
    return (
        f"{delta:g}: TOO LARGE, above 1/N of N = {patients:,} {unit}s; publishing one {unit} in N "
        "whole would keep to it"
    )
