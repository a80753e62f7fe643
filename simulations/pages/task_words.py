"""Figures of tasks, as people read them: of labels, measurements, times and masks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from simulations.pages.wording import ABSENT, share_text

#: Measure -> what it is called.
NAMES = {
    "macro_auc": "AUC, mean of labels",
    "macro_average_precision": "average precision, mean of labels",
    "mae": "mean absolute error",
    "rmse": "root mean squared error",
    "r2": "R squared",
    "concordance": "concordance",
    "brier": "Brier score",
    "dice": "Dice, mean of classes",
    "pixel_accuracy": "pixels that are right",
    "loss": "loss",
}
#: What tasks are judged by first, but classification.
HEADLINES = ("macro_auc", "mae", "concordance", "dice")
#: Measures that are in the target's own unit, or have none.
_NUMBERS = frozenset({"mae", "rmse", "r2", "loss", "bias"})
#: Measures of which less is better.
LESS = frozenset({"mae", "rmse", "loss", "brier"})
#: What a line of a task's table is about, and its columns: key -> heading.
COLUMNS: Mapping[str, tuple[str, Mapping[str, str]]] = {
    "multi-label": (
        "Label",
        {
            "records": "Records",
            "share": "Holds of",
            "auc": "AUC",
            "average_precision": "Average precision",
        },
    ),
    "regression": (
        "Truth",
        {"records": "Records", "mae": "Mean absolute error", "bias": "Mean error"},
    ),
    "survival": (
        "By time",
        {"records": "At risk", "said": "Said to stay", "seen": "Stayed", "brier": "Brier score"},
    ),
    "segmentation": (
        "Class",
        {
            "records": "Records",
            "dice": "Dice",
            "lower_quarter": "Lower quarter",
            "median": "Median",
            "upper_quarter": "Upper quarter",
        },
    ),
}


def figure_text(name: str, value: float | None) -> str:
    """Write a figure: a share in three digits, other numbers in four."""
    if value is None or not math.isfinite(value):
        return ABSENT
    return f"{value:.4g}" if name in _NUMBERS else share_text(value)


def name_text(measure: str) -> str:
    """Return what a measure is called."""
    return NAMES.get(measure, measure.replace("_", " "))


def figure_rows(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return label and value of each figure that is a number."""
    return [
        (name_text(key), figure_text(key, value) + (" (less is better)" if key in LESS else ""))
        for key, value in found.items()
        if key != "records" and (value is None or isinstance(value, int | float))
    ]


def first_of(event: Mapping[str, Any]) -> str:
    """Return the name of the figure that a release is judged by first, of those that it has."""
    return next((one for one in ("accuracy", *HEADLINES) if one in event), "accuracy")


def first_figure(event: Mapping[str, Any]) -> str:
    """Return a release's first figure, in words."""
    name = first_of(event)
    return f"{name_text(name)} {figure_text(name, event.get(name))}"


def part_rows(task: str, rows: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Return a line for each label, horizon or class, for a terminal."""
    heading, columns = columns_of(task, rows)
    return [
        (
            f"{heading.lower()} {row['name']}",
            ", ".join(f"{text.lower()} {cell(key, row.get(key))}" for key, text in columns.items()),
        )
        for row in rows
    ]


def worth_text(summary: Mapping[str, Any]) -> tuple[str, list[str]]:
    """Return how good a run's model is, in a sentence and further lines."""
    metrics = summary.get("metrics") or {}
    first, *others = sorted(metrics, key=lambda one: one != summary["headline"])
    lines = [f"{_capital(name_text(one))} {figure_text(one, metrics[one])}." for one in others]
    if (mean := summary.get("mean_hospital_headline")) is not None:
        lines.append(f"At the hospitals, on average, {figure_text(first, mean)}.")
    lines.append("Measured on the public holdout, whose patients no hospital trained on.")
    return f"{_capital(name_text(first))} {figure_text(first, metrics[first])}.", lines


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def columns_of(task: str, rows: Sequence[Mapping[str, Any]]) -> tuple[str, Mapping[str, str]]:
    """Return what lines are about, and their columns; of one's own task as it names them."""
    if task in COLUMNS:
        return COLUMNS[task]
    keys = dict.fromkeys(key for row in rows for key in row if key != "name")
    return "Part", {key: name_text(key).capitalize() for key in keys}


def cell(key: str, value: Any) -> str:
    """Write a cell of a task's table."""
    if key == "records":
        return f"{value:,}"
    return figure_text(key, value) if isinstance(value, int | float) else str(value or ABSENT)
