"""What a comparison measured: a row per setup, and differences between setups on the same seeds.

Trainings of one seed share holdout, split and initial weights, whatever the regime, so two setups
are compared by the mean of their differences seed by seed. Intervals are Student's (1908), over
seeds: they say how far the mean would move with other patients held out, other splits, other noise.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from accounting.vocabulary import REGIMES
from clients.contract.settings import ConfigValue
from simulations.compare.axes import Cell, Setup, cell_folder
from simulations.compare.measures import default_measure, first_figure
from simulations.pages.wording import PATIENT
from strategies.run.reading import RunResult, read_run

LEVEL = 0.95
AXES = ("regime", "exchange", "partition", "hospitals", "epsilon")
#: Digits kept in ``comparison.json``.
DIGITS = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A mean with its interval; the ends are None where one value says nothing of the spread."""

    mean: float
    low: float | None
    high: float | None
    count: int

    @property
    def half(self) -> float | None:
        """Half the interval's width."""
        return None if self.high is None else self.high - self.mean


def t_interval(values: Sequence[float], level: float = LEVEL) -> Interval | None:
    """Return the mean of values with Student's interval; None for no values."""
    from scipy.stats import t

    count = len(values)
    if count == 0:
        return None
    mean = statistics.fmean(values)
    if count == 1:
        return Interval(mean=mean, low=None, high=None, count=1)
    half = float(t.ppf((1 + level) / 2, count - 1)) * statistics.stdev(values) / math.sqrt(count)
    return Interval(mean=mean, low=mean - half, high=mean + half, count=count)


@dataclass(frozen=True, kw_only=True)
class Row:
    """What the trainings of one setup came to.

    Attributes:
        setup: the way of training together.
        choice: tuned settings.
        seeds: of the trainings that finished, in order; every list below follows it.
        accuracy: on the public holdout; NaN where no classes are learnt.
        auc: likewise.
        figures: name -> the figure of each training on the public holdout, NaN where it has none.
        measure: what they are compared by where nobody says it.
        task: what is learnt, where it is not one class of several.
        classes: their names.
        confusion: counts over all trainings: rows are the truth, columns the guess.
        hospital_accuracy: of each hospital on its own test records, by seed; public data only.
        sent_bytes: that one hospital sent in the whole training, keys and releases included.
        received_bytes: likewise.
        epsilon: spent against the server (PRV); as if the training were unseeded.
        noise_multiplier: sigma of the last training.
        seconds: of a training.
        observers: who could learn what, by the last training's ``privacy.json``.
        ledger_entries: of the server, over all trainings.
        versions: of Python and the libraries, at the last training.
        cells: names of the run folders.
        unit: whom epsilons cover: a patient, or a record where the data name no patients.
    """

    setup: Setup
    choice: Mapping[str, ConfigValue]
    seeds: list[int] = field(default_factory=list)
    accuracy: list[float] = field(default_factory=list)
    auc: list[float] = field(default_factory=list)
    figures: Mapping[str, list[float]] = field(default_factory=dict)
    measure: str = "accuracy"
    task: str = ""
    classes: list[str] = field(default_factory=list)
    confusion: list[list[int]] = field(default_factory=list)
    hospital_accuracy: list[list[float]] = field(default_factory=list)
    sent_bytes: list[float] = field(default_factory=list)
    received_bytes: list[float] = field(default_factory=list)
    epsilon: float | None = None
    noise_multiplier: float = 0.0
    seconds: list[float] = field(default_factory=list)
    observers: list[dict[str, Any]] = field(default_factory=list)
    ledger_entries: int = 0
    versions: Mapping[str, str] = field(default_factory=dict)
    cells: list[str] = field(default_factory=list)
    unit: str = PATIENT

    def to_json(self) -> dict[str, Any]:
        """Return plain values, with intervals beside the values that they come from."""
        means = [statistics.fmean(one) for one in self.hospital_accuracy if one]
        worst = [min(one) for one in self.hospital_accuracy if one]
        content: dict[str, Any] = _rounded(
            {
                **{axis: getattr(self.setup, axis) for axis in AXES},
                "tuned": dict(self.choice),
                "seeds": self.seeds,
                "accuracy": summarise(_known(self.accuracy)),
                "auc": summarise(_known(self.auc)),
                "figures": {
                    name: summarise(_known(values)) for name, values in self.figures.items()
                },
                "classes": self.classes,
                "confusion": self.confusion,
                "mean_hospital_accuracy": summarise(means),
                "worst_hospital_accuracy": summarise(worst),
                "hospital_accuracy": self.hospital_accuracy,
                "sent_bytes": summarise(self.sent_bytes),
                "received_bytes": summarise(self.received_bytes),
                "spent_epsilon": self.epsilon,
                "noise_multiplier": self.noise_multiplier,
                "seconds": summarise(self.seconds),
                "observers": self.observers,
                "ledger_entries": self.ledger_entries,
                "cells": self.cells,
            }
        )
        return content

    def values(self, measure: str) -> list[float]:
        """Return a figure of each training, NaN where it has none."""
        own = {"accuracy": self.accuracy, "auc": self.auc}
        return own.get(measure) or self.figures.get(measure) or [math.nan] * len(self.seeds)


def _known(values: Sequence[float]) -> list[float]:
    return [value for value in values if not math.isnan(value)]


def summarise(values: Sequence[float]) -> dict[str, Any] | None:
    """Return mean, interval and the values themselves; None for no values."""
    interval = t_interval(values)
    return None if interval is None else {**asdict(interval), "values": list(values)}


def read_row(out: Path, cells: Sequence[Cell]) -> Row:
    """Read the trainings of one setup that have finished; the others are left out."""
    found = [(cell, read_run(cell_folder(out, cell))) for cell in cells]
    done = [cell for cell, run in found if is_finished(run)]
    runs = [run for _, run in found if is_finished(run)]
    summaries = [run.summary for run in runs]
    last = summaries[-1] if summaries else {}
    return Row(
        setup=cells[0].setup,
        choice=dict(cells[0].choice),
        seeds=[cell.seed for cell in done],
        accuracy=[_number(one.get("accuracy")) for one in summaries],
        auc=[_number(one.get("auc")) for one in summaries],
        figures=_figures(summaries),
        measure=default_measure(summaries),
        task=str(last.get("task", "")),
        classes=list(last.get("classes") or []),
        confusion=_added([one["confusion"] for one in summaries if one.get("confusion")]),
        hospital_accuracy=[
            list((one.get("hospital_accuracy") or {}).values()) for one in summaries
        ],
        sent_bytes=[_by_hospital(one, "uplink_bytes_total") for one in summaries],
        received_bytes=[_by_hospital(one, "downlink_bytes_total") for one in summaries],
        epsilon=min((last.get("epsilon") or {}).values(), default=None),
        noise_multiplier=float(last.get("noise_multiplier") or 0.0),
        seconds=[float(one["seconds"]["total"]) for one in summaries],
        observers=_observers(runs[-1]) if runs else [],
        ledger_entries=sum(len(run.privacy.get("ledger") or []) for run in runs),
        versions=dict(last.get("versions") or {}),
        cells=[cell.name for cell in done],
        unit=str(last.get("unit", PATIENT)),
    )


def _added(tables: Sequence[Sequence[Sequence[int]]]) -> list[list[int]]:
    """Add tables of counts, cell by cell."""
    return [
        [sum(cells) for cells in zip(*lines, strict=True)] for lines in zip(*tables, strict=True)
    ]


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _figures(summaries: Sequence[Mapping[str, Any]]) -> dict[str, list[float]]:
    """Return every other figure of trainings, by name."""
    metrics = [one.get("metrics") or {} for one in summaries]
    names = dict.fromkeys(name for one in metrics for name in one)
    return {
        name: [_number(one.get(name)) for one in metrics]
        for name in names
        if name not in ("accuracy", "auc")
    }


def _by_hospital(summary: Mapping[str, Any], key: str) -> float:
    """Return a total as one hospital's share of it."""
    return float(summary[key] / max(int(summary["hospitals"]), 1))


def _observers(run: RunResult) -> list[dict[str, Any]]:
    """Return who could learn what in a run, without the sentences that say why."""
    keys = ("observer", "epsilon", "binds_target", "guaranteed")
    found = run.privacy.get("observers") or []
    return [{key: one[key] for key in keys if key in one} for one in found]


def is_finished(run: RunResult) -> bool:
    """Whether a training ran to its end and measured a model."""
    return run.summary.get("status") == "finished" and first_figure(run.summary) is not None


def paired_rows(
    rows: Sequence[Row], reference: Mapping[str, Any], measure: str = "accuracy"
) -> list[dict[str, Any]]:
    """Return a figure less another's, seed by seed, for rows that a question is about.

    Args:
        rows: all rows.
        reference: regime and exchange, as a rule the scenario's own. Its rows are compared with
            those of every other regime, and in each regime the rows of its exchange with those of
            every other exchange; always at the same split, hospitals and epsilon.
        measure: the figure.
    """
    found = []
    for one in rows:
        for other in rows:
            if not _is_asked(one.setup, other.setup, rows, reference):
                continue
            theirs = dict(zip(other.seeds, other.values(measure), strict=True))
            values = _known(
                [
                    mine - theirs[seed]
                    for seed, mine in zip(one.seeds, one.values(measure), strict=True)
                    if seed in theirs
                ]
            )
            if values:
                found.append(
                    _rounded(
                        {
                            **{axis: getattr(one.setup, axis) for axis in AXES},
                            "against": {
                                axis: getattr(other.setup, axis) for axis in ("regime", "exchange")
                            },
                            "difference": summarise(values),
                        }
                    )
                )
    return found


def _is_asked(one: Setup, other: Setup, rows: Sequence[Row], reference: Mapping[str, Any]) -> bool:
    """Whether two setups differ in the regime alone, or in the exchange alone.

    An exchange that is not sound under the reference's regime has no row to differ from in the
    exchange alone; it is compared where its own regime adds noise as well, or as little.
    """
    if one is other or one.exchange != reference["exchange"] or not _same_place(one, other):
        return False
    if one.regime == other.regime:
        return True
    if one.regime != reference["regime"]:
        return False
    if other.exchange in (one.exchange, None):
        return True
    sound = {row.setup.exchange for row in rows if row.setup.regime == one.regime}
    private = REGIMES[one.regime].private == REGIMES[other.regime].private
    return private and other.exchange not in sound


def _same_place(one: Setup, other: Setup) -> bool:
    """Whether two setups agree in split, hospitals and epsilon, wherever both have one."""
    for axis in ("partition", "hospitals", "epsilon"):
        mine, theirs = getattr(one, axis), getattr(other, axis)
        if None not in (mine, theirs) and mine != theirs:
            return False
    return True


def _rounded(value: Any) -> Any:
    """Round every float in a nest of plain values; what is no finite number is None."""
    if isinstance(value, dict):
        return {key: _rounded(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_rounded(one) for one in value]
    if not isinstance(value, float):
        return value
    if not math.isfinite(value):
        return None
    return round(value, DIGITS) if abs(value) < 1e6 else round(value)
