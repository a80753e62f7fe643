"""Linkage: a table without names, and somebody who knows a few things about people with names.

Sweeney (2000) and Narayanan and Shmatikov (2008): few attributes are needed until one record is
left. Here the hospitals' records are released as a table without names, in several ways; the
attacker knows some columns of each patient, as well as people know them, and picks the likeliest
record. Which columns are identifiers is not asked: any that somebody knows are.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from accounting.attack_limits import Limit
from accounting.input_noise import LEVELS, InputNoise
from accounting.randomness import Stream
from clients.contract.settings import SettingsError
from simulations.attacks.ground import Ground, Way
from simulations.attacks.membership import limit_of_public
from simulations.attacks.result import Column, Control, Result, beyond

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Table = NDArray[np.float64]

NAME = "linkage"
#: How many columns the attacker knows, and how well: in steps of a column's range.
KNOWN, STEPS = (2, 4, 8), 50
#: What the control has to reach with the most columns.
FOUND = 0.9

COLUMNS = (
    Column(key="way", title="What is released", form="text"),
    Column(key="sees", title="Known", form="text"),
    Column(key="picked", title="Found"),
    Column(key="alone", title="Alone"),
    Column(key="allowed", title="Allowed"),
    Column(key="run_epsilon", title="epsilon", form="epsilon"),
)
CAPTION = (
    "Found: the chance that a patient's record is the one that is picked by what is known of them. "
    "Alone: patients whom no other record of the table equals in it. Allowed: what epsilon leaves "
    "possible of picking one of so many to whoever reads whole rows, since columns go together: of "
    "noised values twice 1/scale for each of a row, as with another row for the patient's two rows "
    "would be others. Epsilon: of a whole row. A model is no table, so "
    "there is nothing to pick; its row says what its epsilon allows whoever knows everything else."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """A way of releasing a table.

    Attributes:
        title: a few words for people.
        make: from values between 0 and 1 and a seed to what is released.
        epsilon: of one value; None where nothing is promised.
    """

    title: str
    make: Callable[[Table, int], Table]
    epsilon: float | None = None


def _rounded(steps: int) -> Callable[[Table, int], Table]:
    def make(table: Table, seed: int) -> Table:
        found: Table = np.rint(table * steps) / steps
        return found

    return make


def _noised(scale: float) -> Callable[[Table, int], Table]:
    def make(table: Table, seed: int) -> Table:
        noise = InputNoise(scale=scale, values=table.shape[1])
        stream = Stream.from_seed(seed, "attack linkage", int(1000 * scale))
        return noise.perturb(table, stream).astype(np.float64) / LEVELS

    return make


def releases() -> list[Release]:
    """Return the ways of releasing a table; the first is the control."""
    return [
        Release(title="names removed", make=lambda table, seed: table),
        Release(title="rounded to 10 steps", make=_rounded(10)),
        Release(title="rounded to 4 steps", make=_rounded(4)),
        *(
            Release(
                title=f"noise of scale {scale:g}",
                make=_noised(scale),
                epsilon=InputNoise(scale=scale, values=1).epsilon_value,
            )
            for scale in (0.25, 1.0, 4.0, 16.0)
        ),
    ]


def attack(ground: Ground) -> Result:
    """Link tables that are released in several ways.

    Raises:
        SettingsError: records are no rows of a table, or have too few columns.
    """
    started = time.perf_counter()
    table = _table_of(ground)
    rows: list[dict[str, Any]] = []
    alarms = []
    ways = releases()
    for number, release in enumerate(ways):
        ground.listener(f"attack {NAME}", number, len(ways))
        released = release.make(table, ground.seed)
        for known in KNOWN:
            row = _row(table, released, release, known)
            rows.append(row)
            found = round(row["picked"] * len(table))
            if beyond(found, len(table), row["allowed"], of=len(ways) * len(KNOWN)):
                alarms.append(f"{row['way']}, {row['sees']}: {row['picked']:.3f} found")
    rows += _models(ground, len(table))
    control = rows[len(KNOWN) - 1]
    return Result(
        attack=NAME,
        title="Whose record is whose, in a table without names",
        columns=COLUMNS,
        rows=rows,
        caption=CAPTION,
        control=Control(
            text=f"names removed, {KNOWN[-1]} columns known: {control['picked']:.0%} found",
            succeeded=control["picked"] >= FOUND,
        ),
        alarms=tuple(alarms),
        facts=f"{ground.settings.data.name}, {len(table)} patients",
        seed=ground.seed,
        seconds=time.perf_counter() - started,
    )


def _table_of(ground: Ground) -> Table:
    """Return one row for each patient of the hospitals, values between 0 and 1."""
    info = ground.cohort.info
    if info.kind != "table" or info.shape[0] < max(KNOWN):
        raise SettingsError(
            [
                f"data.name = {ground.settings.data.name}: {NAME} is about tables of "
                f"{max(KNOWN)} columns and more."
            ]
        )
    whole = ground.cohorts.split(ground.told(Way(regime="C")), 1)
    (records,) = whole.records.values()
    _, first = np.unique(records.patients, return_index=True)
    low, high = info.input_range
    values = np.asarray(records.take(first).inputs, dtype=np.float64)
    found: Table = np.clip((values - low) / (high - low), 0.0, 1.0)
    return found


def _row(table: Table, released: Table, release: Release, known: int) -> dict[str, Any]:
    """Pick a record for each patient by the first columns, as they are known."""
    asked = np.rint(table[:, :known] * STEPS) / STEPS
    shown = released[:, :known]
    apart = np.abs(asked[:, None, :] - shown[None, :, :]).sum(axis=2)
    least = apart.min(axis=1, keepdims=True)
    nearest = apart <= least + 1e-9
    right = nearest[np.arange(len(table)), np.arange(len(table))]
    same = (np.abs(shown[:, None, :] - shown[None, :, :]).max(axis=2) < 1e-9).sum(axis=1)
    # What is known of a patient also tells of columns that go with it, so whole rows count; that a
    # row is the patient's or another's changes two of them: twice the epsilon of a row.
    level = None if release.epsilon is None else table.shape[1] * release.epsilon
    limit = Limit() if level is None else Limit(claims=((2 * level, 0.0),))
    return {
        "way": release.title,
        "sees": f"{known} columns",
        "picked": float(np.mean(right / nearest.sum(axis=1))),
        "alone": float(np.mean(same == 1)),
        "allowed": limit.most_hits(1.0 / len(table)),
        "run_epsilon": level,
    }


def _models(ground: Ground, patients: int) -> list[dict[str, Any]]:
    """Return a row for each private regime: a model is released, and no table."""
    if not ground.sums_alone:
        return []
    found = []
    for way in ground.ways():
        if way.epsilon is not None:
            limit, level = limit_of_public(ground.told(way), ground)
            found.append(
                {
                    "way": f"a model: {way.label}",
                    "sees": "anything",
                    "picked": None,
                    "alone": None,
                    "allowed": limit.most_hits(1.0 / patients),
                    "run_epsilon": level,
                }
            )
    return found
