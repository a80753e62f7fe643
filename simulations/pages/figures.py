"""Figures of a run, drawn from its files alone: as SVG for pages, as PNG for slides.

Each drawing is a function from a `RunResult` to a matplotlib figure, or to None where the run holds
nothing to draw: a split is there only when the data are public, a curve only after a release. Every
axis has its unit.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from simulations.pages.attack_figures import ATTACK_DRAWINGS
from simulations.pages.curves import draw_precision_recall, draw_roc
from simulations.pages.doubt import NAMES as DOUBT_NAMES
from simulations.pages.drawing import (
    BLUE,
    CYCLE,
    GREEN,
    GREY,
    ORANGE,
    SKY,
    VERMILION,
    Drawing,
    Drawn,
    draw,
    write_figures,
)
from simulations.pages.task_figures import TASK_DRAWINGS
from simulations.pages.task_words import LESS, first_of, name_text
from simulations.pages.wording import epsilon_text, share_text
from strategies.run.reading import RunResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Of a run's figures, in its folder.
FOLDER = "figures"
#: Nine points stay above six on half of an A4 page and on a phone.
SIZE_INCHES = (4.4, 3.0)


def draw_figures(run: RunResult) -> list[Path]:
    """Draw every figure that the run holds data for into ``figures/``.

    Returns:
        The files written, an SVG and a PNG for each figure.
    """
    return write_figures(draw_all(run), run.path / FOLDER)


def draw_all(run: RunResult) -> Drawn:
    """Return every figure that the run holds data for, by name."""
    return {**draw({**DRAWINGS, **TASK_DRAWINGS}, run), **draw(ATTACK_DRAWINGS, run.attacks)}


def _axes(width: float = SIZE_INCHES[0], height: float = SIZE_INCHES[1]) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.add_subplot()


def draw_training(run: RunResult) -> Figure | None:
    """Accuracy and AUC of released models, with epsilon spent on a second axis."""
    releases = run.of_kind("release")
    if not releases:
        return None
    figure, axes = _axes()
    rounds = [event["round"] for event in releases]
    lines = []
    for key, label, colour, style in _measures(releases):
        values = [math.nan if event.get(key) is None else event[key] for event in releases]
        if not all(map(math.isnan, values)):
            lines += axes.plot(rounds, values, style, color=colour, markersize=3, label=label)
    axes.set_xlabel("round")
    axes.set_ylabel(_measured(releases))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    for name in ("prv", "rdp"):
        if points := _spent(run, name):
            right = axes.twinx()
            right.grid(False)
            right.spines["right"].set_visible(True)
            label = f"epsilon ({name.upper()})"
            lines += right.plot(*zip(*points, strict=True), ":", color=VERMILION, label=label)
            right.set_ylim(bottom=0)
            right.set_ylabel("epsilon spent", color=VERMILION)
            break
    figure.legend(handles=lines, loc="outside upper center", ncols=len(lines))
    return figure


def _measures(releases: Sequence[dict[str, Any]]) -> list[tuple[str, str, str, str]]:
    """Return name, label, colour and style of what releases are judged by."""
    first = next(map(first_of, releases), "accuracy")
    named = [(first, name_text(first), BLUE, "o-")]
    return [*named, ("auc", "AUC", GREEN, "s--")] if first == "accuracy" else named


def _measured(releases: Sequence[dict[str, Any]]) -> str:
    """Return what the axis of these says."""
    first = next(map(first_of, releases), "accuracy")
    unit = "the target's unit, less is better" if first in LESS else "share"
    return f"on the public holdout ({unit})"


def _spent(run: RunResult, accountant: str) -> list[tuple[int, float]]:
    """Return (round, epsilon spent so far): RDP after every round, PRV at every release."""
    kind = "round" if accountant == "rdp" else "release"
    key = f"epsilon_{accountant}"
    return [(e["round"], e[key]) for e in run.of_kind(kind) if e.get(key) is not None]


def draw_tradeoff(run: RunResult) -> Figure | None:
    """Accuracy and AUC of released models against the epsilon spent for them."""
    name = next((one for one in ("prv", "rdp") if _spent_at_releases(run, one)), None)
    if name is None or not any(first_of(one) in one for one in run.of_kind("release")):
        return None
    figure, axes = _axes()
    for key, label, colour, style in _measures(run.of_kind("release")):
        points = [
            (event[f"epsilon_{name}"], event[key])
            for event in _spent_at_releases(run, name)
            if event.get(key) is not None and not math.isnan(event[key])
        ]
        if points:
            axes.plot(*zip(*points, strict=True), style, color=colour, markersize=3, label=label)
    if target := run.progress.facts.get("target_epsilon"):
        axes.axvline(target, color=GREY, linestyle=":", label=f"target {target:g}")
    axes.set_xlim(left=0)
    axes.set_xlabel(f"epsilon spent ({name.upper()})")
    axes.set_ylabel(_measured(run.of_kind("release")))
    figure.legend(loc="outside upper center", ncols=3)
    return figure


def _spent_at_releases(run: RunResult, accountant: str) -> list[dict[str, Any]]:
    key = f"epsilon_{accountant}"
    return [event for event in run.of_kind("release") if event.get(key) is not None]


def draw_budget(run: RunResult) -> Figure | None:
    """Epsilon spent round by round against the target, and what is left."""
    loose, tight = _spent(run, "rdp"), _spent(run, "prv")
    if not loose:
        return None
    figure, axes = _axes()
    style = ":" if tight else "-"
    axes.plot(*zip(*loose, strict=True), style, color=VERMILION, label="spent, by RDP")
    final = (run.summary.get("epsilon") or {}).get("prv")
    if tight:
        axes.plot(*zip(*tight, strict=True), "o-", color=BLUE, markersize=3, label="spent, by PRV")
    elif final is not None:
        label = f"at the end, by PRV: {epsilon_text(final)}"
        axes.plot(loose[-1][0], final, "D", color=BLUE, markersize=5, label=label)
    if target := run.progress.facts.get("target_epsilon"):
        axes.axhline(target, color=GREY, linestyle="--", label=f"target {target:g}")
        rounds, values = zip(*(tight or loose), strict=True)
        left = [value <= target for value in values]
        axes.fill_between(rounds, values, target, where=left, color=SKY, alpha=0.3, label="left")
    axes.set_ylim(bottom=0)
    axes.set_xlabel("round")
    axes.set_ylabel("epsilon against the server")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    figure.legend(loc="outside upper center", ncols=2)
    return figure


def draw_split(run: RunResult) -> Figure | None:
    """Records of each label at each hospital; only for public data."""
    hospitals = run.split.get("hospitals")
    if not hospitals:
        return None
    names = sorted(hospitals)
    classes = run.split.get("classes") or [str(k) for k in range(len(hospitals[names[0]]))]
    figure, axes = _axes(height=min(1.2 + 0.22 * len(names), 9.0))
    _stack(axes, names, [[hospitals[name][k] for name in names] for k in range(len(classes))],
           [str(one) for one in classes])  # fmt: skip
    axes.set_xlabel("records")
    if len(names) > 40:
        axes.set_yticks([])
        axes.set_ylabel(f"{len(names)} hospitals")
    figure.legend(loc="outside upper center", ncols=min(len(classes), 5))
    return figure


def _stack(
    axes: Axes, names: Sequence[str], rows: Sequence[Sequence[float]], labels: Sequence[str]
) -> None:
    """Stack rows of bars to the right, the first name on top."""
    left = [0.0] * len(names)
    for k, (row, label) in enumerate(zip(rows, labels, strict=True)):
        axes.barh(
            names, row, left=left, label=label, color=CYCLE[k % len(CYCLE)],
            edgecolor="white", linewidth=0.5,
        )  # fmt: skip
        left = [a + b for a, b in zip(left, row, strict=True)]
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)


def draw_phases(run: RunResult) -> Figure | None:
    """Median seconds of each phase of a round."""
    phases: dict[str, list[float]] = {}
    for event in run.of_kind("round"):
        parts = (event.get("phases") or {}) | (event.get("server_phases") or {})
        for name, seconds in parts.items():
            phases.setdefault(name, []).append(float(seconds))
    if not phases:
        return None
    medians = {name: 1000 * statistics.median(values) for name, values in phases.items()}
    figure, axes = _axes(height=min(1.0 + 0.28 * len(medians), 6.0))
    bars = axes.barh(list(medians), list(medians.values()), color=BLUE)
    axes.bar_label(bars, fmt="%.3g", padding=3)
    axes.margins(x=0.12)
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    axes.set_xlabel("milliseconds, median over rounds")
    return figure


def draw_bytes(run: RunResult) -> Figure | None:
    """Bytes that all hospitals sent and received, summed over rounds."""
    events = [event for event in run.of_kind("round") if "uplink_bytes_total" in event]
    if not events:
        return None
    figure, axes = _axes()
    rounds = [event["round"] for event in events]
    for way, label, colour, style in (
        ("uplink", "sent by hospitals", BLUE, "-"),
        ("downlink", "received by hospitals", ORANGE, "--"),
    ):
        values = [event[f"{way}_bytes_total"] / 1e6 for event in events]
        axes.plot(rounds, values, style, color=colour, label=label)
    axes.set_xlabel("round")
    axes.set_ylabel("megabytes, all hospitals")
    axes.set_ylim(bottom=0)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    figure.legend(loc="outside upper center", ncols=2)
    return figure


def draw_rejection(run: RunResult) -> Figure | None:
    """Accuracy on what is left when the least sure records are left to a person."""
    curves = {key: found.get("rejection") for key, found in run.doubt.items()}
    if not any(curves.values()):
        return None
    figure, axes = _axes()
    for (key, curve), colour, style in zip(curves.items(), CYCLE, ("o-", "s--"), strict=False):
        shares = [row["rejected"] for row in curve or []]
        values = [row["accuracy"] for row in curve or []]
        axes.plot(shares, values, style, color=colour, markersize=3, label=DOUBT_NAMES[key])
    axes.set_xlabel("least sure records left to a person (share)")
    axes.set_ylabel("accuracy on the others (share)")
    figure.legend(loc="outside upper center", ncols=2)
    return figure


def draw_confusion(run: RunResult) -> Figure | None:
    """The final model's guesses against the truth on the public holdout."""
    counts = run.evaluation.get("confusion")
    if not counts:
        return None
    classes = [str(one) for one in run.evaluation.get("classes") or range(len(counts))]
    side = min(max(2.6, 0.9 + 0.55 * len(classes)), 4.2)
    figure, axes = _axes(width=side + 1.2, height=side)
    shares = [[value / max(sum(row), 1) for value in row] for row in counts]
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for i, row in enumerate(counts):
        for j, value in enumerate(row):
            colour = "white" if shares[i][j] > 0.55 else "black"
            axes.text(j, i, str(value), ha="center", va="center", color=colour)
    ticks = range(len(classes))
    turn = 30 if max(map(len, classes)) > 4 and len(classes) > 2 else 0
    axes.set_xticks(ticks, classes, rotation=turn, ha="right" if turn else "center")
    axes.set_yticks(ticks, classes)
    axes.grid(False)
    axes.spines[:].set_visible(False)
    axes.set_xlabel("guess")
    axes.set_ylabel("truth")
    return figure


def draw_calibration(run: RunResult) -> Figure | None:
    """How often the final model is right, against how sure it is."""
    bins = run.evaluation.get("calibration")
    if not bins:
        return None
    figure, axes = _axes(width=3.8, height=3.6)
    axes.plot([0, 1], [0, 1], "--", color=GREY, label="as sure as right")
    sizes = [12 + 140 * row["count"] / max(one["count"] for one in bins) for row in bins]
    confidence, accuracy = ([row[key] for row in bins] for key in ("confidence", "accuracy"))
    axes.plot(confidence, accuracy, "-", color=BLUE)
    axes.scatter(confidence, accuracy, s=sizes, color=BLUE, zorder=3, label="model (area: records)")
    axes.set_xlim(0, 1.03)
    axes.set_ylim(0, 1.03)
    axes.set_aspect("equal")
    axes.set_xlabel("confidence (share)")
    axes.set_ylabel("accuracy (share)")
    figure.legend(loc="outside upper center", ncols=2)
    return figure


def draw_hospitals(run: RunResult) -> Figure | None:
    """The final model's accuracy at each hospital; only for public data."""
    own = run.summary.get("hospital_accuracy")
    if not own:
        return None
    names = sorted(own)
    figure, axes = _axes(height=min(1.0 + 0.24 * len(names), 9.0))
    axes.barh(names, [own[name] for name in names], color=BLUE)
    mean = statistics.fmean(own.values())
    axes.axvline(mean, color=VERMILION, linestyle="--", label=f"mean {share_text(mean)}")
    axes.set_xlim(0, 1)
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    axes.set_xlabel("accuracy on the hospital's own records (share)")
    figure.legend(loc="outside upper center")
    return figure


DRAWINGS: dict[str, Drawing[RunResult]] = {
    "training": Drawing(
        title="Training",
        caption="Accuracy and AUC of each released model on the public holdout (left axis), and "
        "epsilon spent against the server so far (right axis).",
        draw=draw_training,
    ),
    "tradeoff": Drawing(
        title="Accuracy against epsilon",
        caption="Each released model on the public holdout, against the epsilon (unitless) that "
        "had been spent against the server when it was released.",
        draw=draw_tradeoff,
    ),
    "budget": Drawing(
        title="Noise budget",
        caption="Epsilon spent against the server so far, and what is left of the target. Both "
        "accountants bound the same loss from above; RDP is quick and loose, PRV slow and tight.",
        draw=draw_budget,
    ),
    "split": Drawing(
        title="Patients' records per hospital",
        caption="Records of each label at each hospital. Shown because the data are public.",
        draw=draw_split,
    ),
    "hospitals": Drawing(
        title="Accuracy at each hospital",
        caption="The final model on each hospital's own records. Shown because the data are "
        "public.",
        draw=draw_hospitals,
    ),
    "confusion": Drawing(
        title="Confusion",
        caption="Records of the public holdout: the final model's guess against the truth. "
        "Shades are shares of the row.",
        draw=draw_confusion,
    ),
    "roc": Drawing(
        title="ROC curve",
        caption="Sensitivity against false alarms on the public holdout, over all thresholds. The "
        "dot: each half of the patients at the threshold that is best on the other half.",
        draw=draw_roc,
    ),
    "precision-recall": Drawing(
        title="Precision and recall",
        caption="On the public holdout, over all thresholds. Dotted: the share of the class, which "
        "is the precision of whoever calls everything.",
        draw=draw_precision_recall,
    ),
    "calibration": Drawing(
        title="Calibration",
        caption="How often the final model is right on the public holdout, against how sure it "
        "is. On the dashed line it is as sure as it is right.",
        draw=draw_calibration,
    ),
    "rejection": Drawing(
        title="Accuracy against rejection",
        caption="Accuracy on the public holdout when the records of which the model is least sure "
        "are left to a person: by the released model, and by its last releases together.",
        draw=draw_rejection,
    ),
    "phases": Drawing(
        title="Phases of a round",
        caption="Where the time of a round goes, in milliseconds (median over rounds). The "
        "parts of a hospital's work and transfer are means over hospitals; add, keep and evaluate "
        "are the server's own.",
        draw=draw_phases,
    ),
    "bytes": Drawing(
        title="Bytes",
        caption="Bytes that all hospitals together sent and received, summed over rounds.",
        draw=draw_bytes,
    ),
}
