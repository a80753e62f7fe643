"""Figures of attacks, drawn from ``attacks.json`` alone."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from simulations.pages.drawing import BLUE, CYCLE, GREY, VERMILION, Drawing

#: Results by the name of the attack.
Attacks = Mapping[str, Any]
_Drawer = Callable[[Mapping[str, Any]], Figure | None]


def draw_pictures(found: Mapping[str, Any]) -> Figure | None:
    """The records, and what came back of each: a row for each sight, a column for each record."""
    drawn = found["drawn"]
    if not drawn.get("pictures"):
        return None
    rows, columns = len(drawn["labels"]), len(drawn["pictures"][0])
    figure = Figure(figsize=(2.6 + 0.8 * columns, 0.8 * rows), layout="constrained")
    grid = figure.subplots(rows, columns + 1, squeeze=False, width_ratios=[3.0, *[1.0] * columns])
    for axes in grid.flat:
        axes.set_axis_off()
    for line, (label, pictures) in enumerate(zip(drawn["labels"], drawn["pictures"], strict=True)):
        name = label.replace(": ", "\n", 1)
        grid[line][0].text(1.0, 0.5, name, ha="right", va="center", fontsize=7, color=GREY)
        for axes, text in zip(grid[line][1:], pictures, strict=True):
            axes.imshow(_picture(text, drawn["shape"]), cmap="gray", vmin=0, vmax=255)
    return figure


def _picture(text: str, shape: list[int]) -> np.ndarray[Any, Any]:
    """Return a picture ``[height, width]``, or with its colours last."""
    levels = np.frombuffer(base64.b64decode(text), dtype=np.uint8).reshape(shape)
    return levels[0] if shape[0] == 1 else np.moveaxis(levels, 0, -1)


def draw_rocs(found: Mapping[str, Any]) -> Figure | None:
    """What is called of those trained on, against false alarms; dashed: what is allowed."""
    curves = [one for one in found["drawn"].get("curves", []) if one["attacker"] == "lira"]
    if not curves:
        return None
    figure = Figure(figsize=(5.2, 4.6), layout="constrained")
    axes = figure.add_subplot()
    axes.plot([1e-4, 1], [1e-4, 1], ":", color=GREY, label="a guess")
    for number, one in enumerate(curves):
        colour = CYCLE[number % len(CYCLE)]
        axes.plot(*zip(*one["curve"], strict=True), color=colour, label=one["way"])
        if any(allowed < 1.0 for _, allowed in one["limit"][:-1]):
            axes.plot(*zip(*one["limit"], strict=True), "--", color=colour, linewidth=0.9)
    least = min(one["curve"][0][0] for one in curves)
    axes.set(xscale="log", yscale="log", xlim=(least, 1), ylim=(least, 1.05))
    axes.set_xlabel("false alarms: patients who were not trained on (share)")
    axes.set_ylabel("patients trained on who are called (share)")
    figure.legend(loc="outside upper center", ncols=2, fontsize=7)
    return figure


def draw_lies(found: Mapping[str, Any]) -> Figure | None:
    """Accuracy, or what a patch takes, as more hospitals lie: a panel for each lie."""
    shares = found["drawn"]["shares"]
    lies = list(dict.fromkeys(row["poison"] for row in found["rows"]))
    figure = Figure(figsize=(2.5 * len(lies), 2.9), layout="constrained")
    names = list(dict.fromkeys(row["way"] for row in found["rows"]))
    ways: dict[str, Any] = {}
    for axes, lie in zip(figure.subplots(1, len(lies), squeeze=False)[0], lies, strict=True):
        rows = [row for row in found["rows"] if row["poison"] == lie]
        for row in rows:
            values = [row[f"at_{share:g}"] for share in shares]
            colour = CYCLE[names.index(row["way"]) % len(CYCLE)]
            (ways[row["way"]],) = axes.plot(shares, values, "o-", color=colour, markersize=3)
        axes.set(title=lie, ylim=(0, 1.03), xlabel="hospitals that lie (share)")
        axes.set_ylabel(f"{rows[0]['measure']} (share)")
    figure.legend(ways.values(), ways.keys(), loc="outside upper center", ncols=4, fontsize=7)
    return figure


def draw_radii(found: Mapping[str, Any]) -> Figure | None:
    """Accuracy under PGD as values may move further."""
    radii = found["drawn"]["radii"]
    # Names are long, and there are two for each regime and epsilon.
    figure = Figure(figsize=(5.6, 3.0 + 0.09 * len(found["rows"])), layout="constrained")
    axes = figure.add_subplot()
    for number, row in enumerate(found["rows"]):
        values = [row["clean"], *(row[f"pgd_{radius:g}"] for radius in radii[1:])]
        style = ("o-", "s--")[number // len(CYCLE) % 2]
        colour = CYCLE[number % len(CYCLE)]
        axes.plot(radii, values, style, color=colour, markersize=3, label=row["way"])
    axes.set(ylim=(0, 1.03), xlabel="how far a value may move (share of its range)")
    axes.set_ylabel("accuracy under PGD (share)")
    figure.legend(loc="outside upper center", ncols=2, fontsize=7)
    return figure


def draw_bars(
    found: Mapping[str, Any], reached: str, allowed: str, guess: float, label: str
) -> Figure | None:
    """What an attack reaches in each row, and what it may reach at most."""
    rows = [row for row in found["rows"] if row[reached] is not None]
    figure = Figure(figsize=(5.6, 0.8 + 0.26 * len(rows)), layout="constrained")
    axes = figure.add_subplot()
    names = [f"{row['way']}: {row['sees']}" for row in rows]
    places = np.arange(len(rows))
    axes.barh(places, [row[reached] for row in rows], color=BLUE, label="reached")
    axes.plot([row[allowed] for row in rows], places, "|", color=VERMILION, markersize=11,
              markeredgewidth=2, label="allowed at most")  # fmt: skip
    axes.axvline(guess, color=GREY, linestyle=":", label="a guess")
    axes.set(xlim=(0, 1.02), yticks=places, xlabel=label)
    axes.set_yticklabels(names, fontsize=7)
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    figure.legend(loc="outside upper center", ncols=3)
    return figure


def _of(name: str, draw: _Drawer, attacks: Attacks) -> Figure | None:
    return draw(attacks[name]) if name in attacks else None


_DRAWERS: dict[str, tuple[str, str, _Drawer]] = {
    "gradient-inversion": (
        "Records that come back from one round",
        "On top the records, below what is rebuilt of each from what is seen. Shown because the "
        "data are public.",
        draw_pictures,
    ),
    "membership": (
        "Who was trained on, told by LiRA from answers",
        "Solid: what the attack reaches; dashed, in the same colour: the most that any attack "
        "reaches at that epsilon. Both axes are logarithmic.",
        draw_rocs,
    ),
    "poisoning": (
        "What hospitals that lie do to the model",
        "Accuracy on the public holdout, and for a backdoor the share of patched records that are "
        "taken for the last class.",
        draw_lies,
    ),
    "property-inference": (
        "How common a class is at a hospital",
        "How often the two kinds of hospitals are told apart from one round, and the most that "
        "group privacy allows. Epsilon hides a patient, not a hospital.",
        partial(
            draw_bars, reached="told", allowed="allowed", guess=0.5, label="told apart (share)"
        ),
    ),
}
_DRAWERS["membership-rounds"] = (
    "Who was trained on, told from every round",
    "Area under the ROC curve of an attacker who sees every update or every sum, and the most that "
    "the noise in these allows. What is sealed is seen as a sum alone.",
    partial(
        draw_bars, reached="area", allowed="most_area", guess=0.5, label="area under the ROC curve"
    ),
)
_DRAWERS["model-inversion"] = (
    "What a final model thinks of when it thinks of a class",
    "On top the mean of each class, below what comes out of each model. Shown because the data are "
    "public.",
    draw_pictures,
)
_DRAWERS["visual-privacy"] = (
    "What a denoiser gets back of noised pictures",
    "On top the records; below, for each scale, what noise makes of them and what is taken off "
    "again. Shown because the data are public.",
    draw_pictures,
)
_DRAWERS["linkage"] = (
    "Whose record is whose, in a table without names",
    "How often a patient's record is found by what is known of them, and the most that the noise "
    "allows.",
    partial(draw_bars, reached="picked", allowed="allowed", guess=0.0, label="found (share)"),
)
_DRAWERS["adversarial"] = (
    "Accuracy on records that are changed against the model",
    "On the public holdout, each value moved against the model by no more than the radius.",
    draw_radii,
)
#: Drawings of results by the name of the attack.
ATTACK_DRAWINGS: dict[str, Drawing[Attacks]] = {
    f"attack-{name}": Drawing(title=title, caption=caption, draw=partial(_of, name, draw))
    for name, (title, caption, draw) in _DRAWERS.items()
}
