"""Curves over all thresholds: what is found against what is wrongly called, class by class."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from matplotlib.figure import Figure

from simulations.pages.drawing import BLUE, CYCLE, GREY
from simulations.pages.wording import share_text
from strategies.run.reading import RunResult

if TYPE_CHECKING:
    from collections.abc import Mapping

    from matplotlib.axes import Axes

SIZE_INCHES = (3.8, 3.9)
#: Most classes that have a curve of their own.
MOST = 8


def draw_roc(run: RunResult) -> Figure | None:
    """Sensitivity against false alarms, with the point that a fair threshold gives."""
    curves = _curves(run)
    if not curves:
        return None
    figure, axes = _axes()
    axes.plot([0, 1], [0, 1], "--", color=GREY, label="by chance")
    for curve, row, colour in curves:
        label = f"{curve['class']}: AUC {share_text(row.get('auc'))}"
        axes.plot(*zip(*curve["roc"], strict=True), color=colour, label=label)
        if row.get("sensitivity") is not None:
            axes.plot(1 - row["specificity"], row["sensitivity"], "o", color=colour, markersize=5)
    _finish(figure, axes, "false alarms: 1 - specificity (share)", "sensitivity (share)")
    return figure


def draw_precision_recall(run: RunResult) -> Figure | None:
    """How many of those that are called are of the class, against how many of it are called."""
    curves = _curves(run)
    if not curves:
        return None
    figure, axes = _axes()
    for curve, row, colour in curves:
        label = f"{curve['class']}: average precision {share_text(row.get('average_precision'))}"
        axes.plot(*zip(*curve["precision_recall"], strict=True), color=colour, label=label)
        axes.axhline(row["share"], color=colour, linestyle=":", linewidth=1)
    _finish(figure, axes, "recall (share)", "precision (share); dotted: by chance")
    return figure


def _curves(run: RunResult) -> list[tuple[Mapping[str, Any], Mapping[str, Any], str]]:
    """Return each class's curves, its figures and its colour."""
    merit, judged = run.evaluation.get("merit") or {}, run.evaluation.get("judged") or {}
    classes = merit.get("by_class") or []
    total = sum(row["records"] for row in classes) or 1
    rows = {row["class"]: {**row, "share": row["records"] / total} for row in classes}
    rows |= {row["name"]: row for row in judged.get("rows") or []}
    shown = (merit.get("curves") or judged.get("curves") or [])[:MOST]
    colours = [BLUE] if len(shown) == 1 else CYCLE
    return [
        (one, rows[one["class"]], colours[place % len(colours)]) for place, one in enumerate(shown)
    ]


def _axes() -> tuple[Figure, Axes]:
    figure = Figure(figsize=SIZE_INCHES, layout="constrained")
    return figure, figure.add_subplot()


def _finish(figure: Figure, axes: Axes, across: str, up: str) -> None:
    axes.set_xlim(-0.02, 1.02)
    axes.set_ylim(-0.02, 1.02)
    axes.set_aspect("equal")
    axes.set_xlabel(across)
    axes.set_ylabel(up)
    figure.legend(loc="outside upper center", ncols=1)
