"""Alone or together: what each hospital reaches by itself, in the federation, and in a private one.

Beside the ways that a comparison is about, each hospital trains by itself, without noise and with
as many steps as together: the exchange `ensemble` in regime F, whose models are judged one by one.
All are judged on the hospital's own test records, which are dealt from the public holdout, so this
is for public data alone. Whoever has few patients shows who gains.
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from clients.contract.groups import NO_EXCHANGE
from clients.contract.settings import ConfigValue, SettingsError
from simulations.compare.axes import Cell, Plan, Setup, cell_folder
from simulations.compare.rows import is_finished
from strategies.run.reading import RunResult, read_run

if TYPE_CHECKING:
    from pathlib import Path

#: Name of the way in which nobody learns from others.
ALONE = "alone"
#: What is told of a training in which every hospital is alone: nothing is added up or averaged.
_TOLD: Mapping[str, ConfigValue] = {
    **NO_EXCHANGE,
    "privacy.regime": "F",
    "exchange.name": "ensemble",
    "training.averaging": 0.0,
}
#: Hospitals are put into so many parts of one size by how many records they have.
PARTS = 3
Choice = tuple[tuple[str, ConfigValue], ...]
Place = tuple[str | None, int | None]
Cells = Mapping[Setup, Sequence[Cell]]


def alone_cells(plan: Plan, choices: Mapping[Setup, Choice]) -> dict[Place, list[Cell]]:
    """Return trainings of hospitals by themselves, for each split that others train together in.

    They take the tuned settings of the first way there that is without noise, or else of the first.
    None is made of data that are not public, of a hospital that has no others, of settings that
    suit no hospital by itself, or where no classes are learnt: it is told by accuracy.
    """
    if not plan.of_classes:
        return {}
    places: dict[Place, list[Setup]] = {}
    for setup in plan.setups:
        if setup.exchange is not None and (setup.hospitals or 0) > 1:
            places.setdefault((setup.partition, setup.hospitals), []).append(setup)
    found: dict[Place, list[Cell]] = {}
    for place, setups in places.items():
        first = next((one for one in setups if one.regime == "F"), setups[0])
        try:
            cells = [_by_itself(first, cell) for cell in plan.cells(first, choices.get(first, ()))]
        except SettingsError:
            continue
        if cells[0].settings.data.public:
            found[place] = cells
    return found


def _by_itself(setup: Setup, cell: Cell) -> Cell:
    """Return the training of one together in which everybody is alone instead."""
    told = dict(_TOLD)
    if cell.settings.training.learns_shares:
        told["training.class-shares"] = ""
        told["training.balance"] = "loss"
    rounds = cell.settings.training.rounds * cell.settings.exchange.local_steps
    told |= {"training.rounds": rounds, "exchange.local-steps": 1}
    settings = cell.settings.with_config(told)
    alone = replace(setup, regime="F", exchange="ensemble", epsilon=None)
    return replace(cell, setup=alone, settings=settings)


def read_alone(
    out: Path, alone: Mapping[Place, Sequence[Cell]], cells: Cells
) -> list[dict[str, Any]]:
    """Return, for each split, what every hospital reached in each way, training by training.

    Returns:
        One row a split: `partition`, `hospitals`, `ways` (names, the first is `ALONE`) and
        `points`: seed, hospital, its records, and its accuracy in each way (None: not known).
    """
    rows = []
    for (partition, hospitals), lonely in alone.items():
        together = {
            setup: {cell.seed: read_run(cell_folder(out, cell)) for cell in of_setup}
            for setup, of_setup in cells.items()
            if (setup.partition, setup.hospitals) == (partition, hospitals) and setup.exchange
        }
        points = [
            {
                "seed": cell.seed,
                "hospital": name,
                "records": records,
                "accuracy": [own, *(_at(runs.get(cell.seed), name) for runs in together.values())],
            }
            for cell in lonely
            for name, records, own in _of_alone(read_run(cell_folder(out, cell)))
        ]
        if points:
            rows.append(
                {
                    "partition": partition,
                    "hospitals": hospitals,
                    "ways": [ALONE, *(way_text(setup) for setup in together)],
                    "points": points,
                }
            )
    return rows


def way_text(setup: Setup) -> str:
    """Return a way of training together in a few words, without the split that all share."""
    parts = [setup.regime, setup.exchange]
    parts += [f"epsilon {setup.epsilon:g}"] if setup.epsilon else []
    return ", ".join(part for part in parts if part)


def _of_alone(run: RunResult) -> list[tuple[str, int, float]]:
    """Return each hospital's name, training records, and accuracy by itself."""
    held = (run.split or {}).get("hospitals") or {}
    found = run.summary.get("alone_accuracy") or {}
    return [(name, sum(held.get(name, [])), value) for name, value in sorted(found.items())]


def _at(run: RunResult | None, hospital: str) -> float | None:
    """Return what a hospital reached in a training together."""
    if run is None or not is_finished(run):
        return None
    found: float | None = (run.summary.get("hospital_accuracy") or {}).get(hospital)
    return found


def by_size(row: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return means of hospitals with few, some and many records, so far as all ways are known.

    Returns:
        One row a part: `least` and `most` records, `count` of hospitals over all seeds, and
        `means`, the mean accuracy in each way.
    """
    known = [one for one in row["points"] if None not in one["accuracy"]]
    ordered = sorted(known, key=lambda one: one["records"])
    parts = min(PARTS, len(ordered))
    edges = [round(number * len(ordered) / parts) for number in range(parts + 1)] if parts else []
    return [
        {
            "least": part[0]["records"],
            "most": part[-1]["records"],
            "count": len(part),
            "means": [
                statistics.fmean(one["accuracy"][way] for one in part)
                for way in range(len(row["ways"]))
            ],
        }
        for part in (ordered[a:b] for a, b in itertools.pairwise(edges))
        if part
    ]
