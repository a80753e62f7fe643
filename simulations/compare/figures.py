"""Figures of a comparison, drawn from ``comparison.json`` alone, as SVG and PNG.

A figure is drawn where its axis varies. A setup without an epsilon (no noise) or without a split
(pooled data) is a level line with its band. Lines differ in colour, style and marker; colours are
those of the figures of a run.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from simulations.compare.alone import by_size
from simulations.compare.measures import MEASURES, UNITS, figure_of, measure_of
from simulations.compare.tables import axis_text, label_text, of_classes, varying
from simulations.pages.drawing import CYCLE, GREY, Drawing, Drawn, draw, write_figures

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Content = Mapping[str, Any]
Row = Mapping[str, Any]
MARKERS = "osD^vPX*"
LINES = ("-", "--", "-.", ":")
#: Letters that lie side by side above a figure.
LEGEND_LETTERS = 84
#: Most marks of their own in the figure of bytes.
BYTES_LABELS = 12
#: Where an axis of accuracy ends: intervals may reach beyond 1, accuracy does not.
HIGHEST = 1.02
#: How many times the shortest bar the longest may be before a logarithm is needed.
LONGEST_BAR = 30
#: Most hospitals' dots in a row of the figure of hospitals.
DOTS = 400


def draw_comparison(content: Content, folder: Path) -> list[Path]:
    """Draw every figure that the comparison has an axis for; returns the files written."""
    return write_figures(draw_all(content), folder)


def draw_all(content: Content) -> Drawn:
    """Return every figure that the comparison has an axis for, by name."""
    return draw(drawings_of(content), content)


def drawings_of(content: Content) -> Mapping[str, Drawing[Content]]:
    """Return the drawings, called after what is compared where no classes are learnt."""
    if of_classes(content):
        return DRAWINGS
    name = MEASURES[measure_of(content)]
    called = f"{name[0].upper()}{name[1:]}"
    return {
        key: replace(one, title=one.title.replace("Accuracy", called))
        for key, one in DRAWINGS.items()
    }


def draw_epsilon(content: Content) -> Figure | None:
    """What is compared by, against epsilon: Figure 1 of Malekzadeh et al. (2021)."""
    return _against(content, "epsilon", "target epsilon (log scale)")


def draw_hospital_count(content: Content) -> Figure | None:
    """Accuracy against the number of hospitals."""
    return _against(content, "hospitals", "hospitals, K (log scale)")


def draw_skew(content: Content) -> Figure | None:
    """Accuracy against how unevenly patients are split."""
    return _against(content, "partition", "split")


def draw_bytes(content: Content) -> Figure | None:
    """Accuracy against what a hospital sends in the whole training."""
    rows = [row for row in _measured(content) if row["hospitals"] and row["sent_bytes"]]
    if len({round(row["sent_bytes"]["mean"], -3) for row in rows}) < 2:
        return None
    figure, axes = _axes()
    names = varying(content)
    if len(rows) > BYTES_LABELS:
        # Splits, epsilons and numbers of hospitals hardly change what is sent: one mark for all.
        names = [name for name in names if name in ("regime", "exchange")]
    series: dict[str, list[Row]] = {}
    for row in rows:
        series.setdefault(label_text(row, names), []).append(row)
    for place, (label, members) in enumerate(series.items()):
        sent = [row["sent_bytes"]["mean"] / 1e6 for row in members]
        _points(axes, sent, members, label, place, join=False)
    axes.set_xscale("log")
    axes.set_xlabel("megabytes that one hospital sends (log scale)")
    axes.set_ylabel(_axis_title(content))
    _finish(figure, axes, measure_of(content))
    return figure


def draw_traffic(content: Content) -> Figure | None:
    """Bytes that a hospital sends and receives in the whole training, by exchange."""
    if "exchange" not in varying(content):
        return None
    names = [axis for axis in varying(content) if axis in ("regime", "exchange", "hospitals")]
    sums: dict[str, list[tuple[float, float]]] = {}
    for row in _measured(content):
        if row["hospitals"] and row["sent_bytes"] and row["received_bytes"]:
            both = (row["sent_bytes"]["mean"] / 1e6, row["received_bytes"]["mean"] / 1e6)
            sums.setdefault(label_text(row, names), []).append(both)
    if not sums:
        return None
    figure = Figure(figsize=(5.4, min(1.3 + 0.42 * len(sums), 9.0)), layout="constrained")
    axes = figure.add_subplot()
    ways = (("sent", CYCLE[0], -0.2), ("received", CYCLE[1], 0.2))
    for column, (way, colour, shift) in enumerate(ways):
        means = [statistics.fmean(pair[column] for pair in pairs) for pairs in sums.values()]
        at = [place + shift for place in range(len(sums))]
        bars = axes.barh(at, means, height=0.38, color=colour, label=f"{way} by a hospital")
        axes.bar_label(bars, fmt="%.3g", padding=3)
    axes.set_yticks(range(len(sums)), list(sums))
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    title = "megabytes of one hospital in the whole training"
    everything = [value for pairs in sums.values() for pair in pairs for value in pair]
    if max(everything) > LONGEST_BAR * min(everything):
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_locator(NullLocator())
        title = f"{title} (log scale)"
    axes.margins(x=0.14)
    axes.set_xlabel(title)
    figure.legend(loc="outside upper center", ncols=2)
    return figure


def draw_hospitals(content: Content) -> Figure | None:
    """Accuracy at single hospitals, over all seeds."""
    rows = [row for row in _measured(content) if row["hospitals"] and any(row["hospital_accuracy"])]
    if not rows:
        return None
    names = varying(content)
    figure = Figure(figsize=(5.4, min(1.2 + 0.34 * len(rows), 9.0)), layout="constrained")
    axes = figure.add_subplot()
    for place, row in enumerate(rows):
        values = sorted(value for one in row["hospital_accuracy"] for value in one)
        shown = values[:: max(1, len(values) // DOTS)]
        # Dots lie a fixed way above and below the line, so that equal values stay apart.
        heights = [place + 0.26 * ((k * 0.618034) % 1 - 0.5) for k in range(len(shown))]
        axes.plot(shown, heights, ".", color=CYCLE[0], alpha=0.35, markersize=4)
        middle = values[len(values) // 2]
        axes.plot([middle, middle], [place - 0.3, place + 0.3], color=CYCLE[3], linewidth=2.2)
        mean = row["mean_hospital_accuracy"]["mean"]
        axes.plot(mean, place, "D", color=CYCLE[5], markersize=5)
    axes.set_yticks(range(len(rows)), [label_text(row, names) for row in rows])
    axes.invert_yaxis()
    axes.set_xlim(right=1.02)
    axes.grid(axis="y", visible=False)
    axes.set_xlabel("accuracy (share)\nhospitals: dots, median: bar, mean: diamond")
    return figure


def draw_alone(content: Content) -> Figure | None:
    """Accuracy of each hospital alone and together, against how many records it has."""
    rows = content.get("alone") or []
    if not rows:
        return None
    row = rows[0]
    figure, axes = _axes()
    for way, name in enumerate(row["ways"]):
        known = [one for one in row["points"] if one["accuracy"][way] is not None]
        if not known:
            continue
        colour = CYCLE[way % len(CYCLE)]
        shown = known[:: max(1, len(known) // DOTS)]
        axes.plot(
            [one["records"] for one in shown],
            [one["accuracy"][way] for one in shown],
            MARKERS[way % len(MARKERS)],
            color=colour,
            alpha=0.22,
            markersize=3,
        )
        parts = by_size(row)
        axes.plot(
            [math.sqrt(max(1, one["least"]) * max(1, one["most"])) for one in parts],
            [one["means"][way] for one in parts],
            LINES[way // len(CYCLE) % len(LINES)],
            marker=MARKERS[way % len(MARKERS)],
            color=colour,
            label=name,
        )
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.set_xlabel("training records of the hospital (log scale)")
    axes.set_ylabel("accuracy on its own test records")
    _finish(figure, axes)
    return figure


def _against(content: Content, axis: str, title: str) -> Figure | None:
    """Draw accuracy against an axis, a line for each combination of the others that vary."""
    rows = _measured(content)
    values = list(dict.fromkeys(row[axis] for row in rows if row[axis] is not None))
    if len(values) < 2:
        return None
    numeric = all(not isinstance(value, str) for value in values)
    values = sorted(values) if numeric else values
    names = [name for name in varying(content) if name != axis]
    series: dict[str, list[Row]] = {}
    for row in rows:
        series.setdefault(label_text(row, names), []).append(row)
    figure, axes = _axes()
    for place, (label, members) in enumerate(series.items()):
        along = sorted(
            (row for row in members if row[axis] is not None),
            key=lambda row: values.index(row[axis]),
        )
        if along:
            shift = 0.012 * (place - len(series) / 2)  # so that intervals do not hide each other
            at = [row[axis] * (1 + 2 * shift) if numeric else values.index(row[axis]) + 3 * shift
                  for row in along]  # fmt: skip
            _points(axes, at, along, label, place, join=True)
        for row in members:
            if row[axis] is None:
                _level(axes, row, label, place)
    if numeric:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(FixedLocator([float(value) for value in values]))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xticklabels([axis_text(value) for value in values])
    else:
        axes.set_xticks(range(len(values)), [axis_text(value) for value in values])
    axes.set_xlabel(title)
    axes.set_ylabel(_axis_title(content))
    _finish(figure, axes, measure_of(content))
    return figure


def _points(
    axes: Axes, at: Sequence[float], rows: Sequence[Row], label: str, place: int, *, join: bool
) -> None:
    means = [row["judged"]["mean"] for row in rows]
    halves = [(row["judged"]["high"] or mean) - mean for row, mean in zip(rows, means, strict=True)]
    axes.errorbar(
        at,
        means,
        yerr=halves,
        label=label,
        color=CYCLE[place % len(CYCLE)],
        marker=MARKERS[(place + place // len(CYCLE)) % len(MARKERS)],
        linestyle=LINES[place // len(CYCLE) % len(LINES)] if join else "none",
        markersize=4.5,
        capsize=2.5,
        elinewidth=1,
    )


def _level(axes: Axes, row: Row, label: str, place: int) -> None:
    mean, colour = row["judged"], CYCLE[place % len(CYCLE)]
    axes.axhline(mean["mean"], color=colour, linestyle=LINES[1 + place % 3], label=label)
    if mean["high"] is not None:
        axes.axhspan(mean["low"], mean["high"], color=colour, alpha=0.08, linewidth=0)


def _axes() -> tuple[Figure, Axes]:
    figure = Figure(figsize=(5.4, 3.1), layout="constrained")
    axes = figure.add_subplot()
    axes.tick_params(color=GREY)
    return figure, axes


def _finish(figure: Figure, axes: Axes, measure: str = "accuracy") -> None:
    """End the axis where shares end; add a legend above, and make room for it."""
    if measure not in UNITS:
        axes.set_ylim(top=min(axes.get_ylim()[1], HIGHEST))
    labels = axes.get_legend_handles_labels()[1]
    letters = max(map(len, labels), default=1) + 8  # the line, and space
    columns = max(1, min(3, len(labels), LEGEND_LETTERS // letters))
    figure.set_figheight(figure.get_figheight() + 0.18 * math.ceil(len(labels) / columns))
    figure.legend(loc="outside upper center", ncols=columns)


def _measured(content: Content) -> list[Row]:
    """Return the rows that have a model, with the figure that is compared by as `judged`."""
    measure = measure_of(content)
    found = [{**row, "judged": figure_of(row, measure)} for row in content["rows"]]
    return [row for row in found if row["judged"]]


def _axis_title(content: Content) -> str:
    measure = measure_of(content)
    nats = measure == "loss" and of_classes(content)
    unit = " (nats)" if nats else UNITS.get(measure, " (share)")
    return f"{MEASURES[measure]} on the public holdout{unit}"


DRAWINGS: dict[str, Drawing[Content]] = {
    "epsilon": Drawing(
        title="Accuracy against epsilon",
        caption="Mean over seeds with 95% intervals; level lines add no noise.",
        draw=draw_epsilon,
    ),
    "hospital-count": Drawing(
        title="Accuracy against the number of hospitals",
        caption="The same patients, dealt to more and more hospitals. Level lines are pooled data.",
        draw=draw_hospital_count,
    ),
    "skew": Drawing(
        title="Accuracy against the split",
        caption="The same patients, split more and more unevenly. Level lines are pooled data.",
        draw=draw_skew,
    ),
    "bytes": Drawing(
        title="Accuracy against bytes sent",
        caption="What one hospital sends in the whole training, headers and keys included.",
        draw=draw_bytes,
    ),
    "traffic": Drawing(
        title="Bytes by exchange",
        caption="What one hospital sends and receives in the whole training, in megabytes, headers "
        "and keys included. Mean over seeds, and over rows that differ in nothing else shown.",
        draw=draw_traffic,
    ),
    "hospitals": Drawing(
        title="Accuracy at single hospitals",
        caption="Each dot is a hospital in a training, on its own test records.",
        draw=draw_hospitals,
    ),
    "alone": Drawing(
        title="Alone or together",
        caption="Each dot is a hospital in a training, on its own test records; lines are means of "
        "the third of the hospitals with fewest records, of the middle, and of that with most. "
        "alone: a model of its own, without noise, with as many steps. Of several splits, the "
        "first.",
        draw=draw_alone,
    ),
}
