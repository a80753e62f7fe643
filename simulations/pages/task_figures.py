"""Figures of tasks that do not tell one class of several: truth against answer, task by task."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from matplotlib.figure import Figure

from simulations.pages.drawing import BLUE, GREY, ORANGE, Drawing

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from strategies.run.reading import RunResult

SIZE_INCHES = (4.0, 3.4)


def draw_errors(run: RunResult) -> Figure | None:
    """What a model says of a measurement against what was measured."""
    judged = _judged(run, "regression")
    if not judged:
        return None
    figure, axes = _axes()
    low, high = judged["range"]
    axes.plot([low, high], [low, high], "--", color=GREY, label="as measured")
    truth, said = zip(*judged["pairs"], strict=True)
    axes.plot(truth, said, "o", color=BLUE, markersize=2.5, alpha=0.6, label="a public record")
    axes.set_xlim(low, high)
    axes.set_ylim(low, high)
    axes.set_xlabel("measured (the target's unit)")
    axes.set_ylabel("predicted (the target's unit)")
    figure.legend(loc="outside upper center", ncols=2)
    return figure


def draw_survival(run: RunResult) -> Figure | None:
    """What share is said to come through each horizon, and what share did."""
    judged = _judged(run, "survival")
    if not judged:
        return None
    figure, axes = _axes()
    times = [0.0, *judged["horizons"]]
    for key, label, colour, style in (
        ("seen", "seen (Kaplan-Meier)", ORANGE, "s--"),
        ("said", "predicted, mean", BLUE, "o-"),
    ):
        values = [1.0, *(row[key] for row in judged["rows"])]
        axes.plot(times, values, style, color=colour, markersize=4, label=label)
    axes.set_ylim(0, 1.02)
    axes.set_xlim(left=0)
    axes.set_xlabel("time (the target's unit)")
    axes.set_ylabel("without the event (share)")
    figure.legend(loc="outside upper center", ncols=2)
    return figure


def draw_dice(run: RunResult) -> Figure | None:
    """Each class's Dice over public records: its mean, and the middle half."""
    judged = _judged(run, "segmentation")
    rows = [row for row in judged.get("rows", []) if row["dice"] is not None]
    if not rows:
        return None
    figure, axes = _axes(height=min(1.4 + 0.4 * len(rows), 8.0))
    names = [row["name"] for row in rows]
    axes.barh(names, [row["dice"] for row in rows], color=BLUE, label="mean")
    for place, row in enumerate(rows):
        ends = (row["lower_quarter"], row["upper_quarter"])
        label = "middle half of records" if not place else None
        axes.plot(ends, (place, place), "-", color=ORANGE, linewidth=3, label=label)
    axes.set_xlim(0, 1)
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    axes.set_xlabel("Dice (share)")
    figure.legend(loc="outside upper center", ncols=2)
    return figure


def _judged(run: RunResult, task: str) -> dict[str, Any]:
    """Return what a task says of the model; empty of another task."""
    if run.evaluation.get("task") != task:
        return {}
    return dict(run.evaluation.get("judged") or {})


def _axes(height: float = SIZE_INCHES[1]) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(SIZE_INCHES[0], height), layout="constrained")
    return figure, figure.add_subplot()


TASK_DRAWINGS: dict[str, Drawing[RunResult]] = {
    "errors": Drawing(
        title="Predicted and measured",
        caption="Records of the public holdout, evenly along what was measured.",
        draw=draw_errors,
    ),
    "survival": Drawing(
        title="Predicted and seen survival",
        caption="On the public holdout: the mean of what is predicted, and the estimate of Kaplan "
        "and Meier, which counts who left early as long as they were there.",
        draw=draw_survival,
    ),
    "dice": Drawing(
        title="Dice of each class",
        caption="On the public holdout: twice the pixels that truth and answer share, over those "
        "of both. Records without the class, where none is said to be, are left out.",
        draw=draw_dice,
    ),
}
