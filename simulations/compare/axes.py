"""The grid of a comparison: which trainings there are, and what each is told.

A `Setup` is a way of training together: a regime, an exchange, a split, an epsilon, a number of
hospitals. A `Cell` is a setup with a seed: one training, one run folder. What does not matter to a
setup is None: data that are pooled are split and exchanged by nobody, and without noise there is no
epsilon; such setups are made once, however many values an axis has.

    >>> from simulations.scenario import find_scenario
    >>> axes = Axes(regimes=("C", "FSCDP"), hospitals=(5,), epsilons=(1.0, 3.0))
    >>> for setup in plan_comparison(find_scenario("default"), axes).setups:
    ...     print(setup.label)
    C
    FSCDP, gradients, dirichlet:0.5, K = 5, epsilon 1
    FSCDP, gradients, dirichlet:0.5, K = 5, epsilon 3
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from clients.contract.groups import NO_EXCHANGE
from clients.contract.settings import ConfigValue, Settings, SettingsError
from simulations.compare.folder import CELLS
from simulations.compare.measures import MEASURES
from simulations.scenario import Scenario, read_assignments, resolve

#: What a number or name after a colon sets: ``dirichlet:0.1``, ``weights:5``, ``gradients:adam``.
DETAILS = {
    "dirichlet": "partition.alpha",
    "quantity": "partition.alpha",
    "shards": "partition.shards",
    "pathological": "partition.shards",
    "gradients": "exchange.optimizer",
    "weights": "exchange.local-steps",
    "cyclic": "exchange.cycles",
    "ensemble": "exchange.vote",
    "layers": "exchange.cut",
}
#: Tuning looks at other seeds than the results, so that no result is the best of several draws. Nor
#: are results of the small seeds that people try a scenario with until its settings please them, or
#: of those from 1000 on that claims are measured on.
FIRST_TUNING_SEED = 500
FIRST_SEED = 2000
MOST_SEEDS = 500
#: What a training of a comparison is told unless something else is asked for.
QUIET: dict[str, ConfigValue] = {
    "run.log-level": "warning",
    "tracking.wandb": "disabled",
    "audit.enabled": False,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Axes:
    """What is varied; an empty axis is what the scenario says.

    Attributes:
        regimes: names of regimes.
        exchanges: names of exchanges, with a detail after a colon where wanted.
        partitions: names of partitions, likewise.
        epsilons: targets of the private regimes.
        hospitals: numbers of hospitals.
        without: ways of training, as ``FPDP, gradients``, that the question does without.
        seeds: trainings of each setup, seeded from `FIRST_SEED` on; at most `MOST_SEEDS`.
        tune: values by key; each setup takes the combination that is best by `measure`, or near
            it and has less loss (`simulations/compare/tuning.py`).
        tuning_seeds: trainings of each combination, on seeds that the results do not use; as many
            at the most.
        measure: what is compared and tuned by, of `MEASURES` ('' = accuracy, or balanced accuracy
            where classes are uneven; of other tasks what they are judged by first).
        assignments: ``key=value`` for every training.
    """

    regimes: tuple[str, ...] = ()
    exchanges: tuple[str, ...] = ()
    partitions: tuple[str, ...] = ()
    epsilons: tuple[float, ...] = ()
    hospitals: tuple[int, ...] = ()
    without: tuple[str, ...] = ()
    seeds: int = 5
    tune: Mapping[str, tuple[ConfigValue, ...]] = field(default_factory=dict)
    tuning_seeds: int = 5
    measure: str = ""
    assignments: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        faults = []
        if not 1 <= self.seeds <= MOST_SEEDS:
            faults.append(f"seeds = {self.seeds}; a comparison takes 1 to {MOST_SEEDS}.")
        if self.tune and not 1 <= self.tuning_seeds <= MOST_SEEDS:
            faults.append(f"tuning-seeds = {self.tuning_seeds}; tuning takes 1 to {MOST_SEEDS}.")
        if self.measure and self.measure not in MEASURES:
            known = ", ".join(MEASURES)
            faults.append(f"measure = {self.measure!r} is none; known: {known}.")
        if not all(0 < epsilon < float("inf") for epsilon in self.epsilons):
            faults.append(f"epsilons = {self.epsilons}; each must be positive and finite.")
        if faults:
            raise SettingsError(faults)


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """A way of training together; None where an axis does not matter to it."""

    regime: str
    exchange: str | None
    partition: str | None
    epsilon: float | None
    hospitals: int | None
    changes: Mapping[str, ConfigValue] = field(compare=False, repr=False)

    @property
    def label(self) -> str:
        """The setup in a line."""
        parts = [self.regime, self.exchange, self.partition]
        parts += [f"K = {self.hospitals}" if self.hospitals else None]
        parts += [f"epsilon {self.epsilon:g}" if self.epsilon else None]
        return ", ".join(part for part in parts if part)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One training of a comparison.

    Attributes:
        setup: what it is a training of.
        choice: tuned settings.
        seed: names the draws of everything: holdout, split, initial weights, sampling, noise.
        settings: all that the training is told, but for its folder.
    """

    setup: Setup
    choice: tuple[tuple[str, ConfigValue], ...]
    seed: int
    settings: Settings

    @property
    def name(self) -> str:
        """The name of the run folder: readable, and another one if any setting is another."""
        config = {k: v for k, v in self.settings.to_config().items() if k != "run.out"}
        digest = hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()[:10]
        words = [self.setup.regime, self.setup.exchange, self.setup.partition]
        words += [f"K{self.setup.hospitals}"] if self.setup.hospitals else []
        words += [f"eps{self.setup.epsilon:g}"] if self.setup.epsilon else []
        words += [f"{key.rpartition('.')[2]}{value}" for key, value in self.choice]
        text = "-".join(str(word) for word in [*words, f"seed{self.seed}"] if word)
        return f"{re.sub(r'[^A-Za-z0-9.]+', '-', text)}-{digest}"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a comparison will run.

    Attributes:
        scenario: where it starts from.
        axes: what is varied.
        setups: in the order of the axes, each once.
        skipped: reasons for which setups are not sound, each with those setups.
        of_classes: whether one class of several is learnt.
    """

    scenario: Scenario
    axes: Axes
    setups: tuple[Setup, ...]
    skipped: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...]
    of_classes: bool = True

    @property
    def choices(self) -> list[tuple[tuple[str, ConfigValue], ...]]:
        """Every combination that is tuned over; one empty one where nothing is."""
        columns = [[(key, value) for value in values] for key, values in self.axes.tune.items()]
        return [tuple(one) for one in itertools.product(*columns)]

    @property
    def seeds(self) -> range:
        """The seeds of the results."""
        return range(FIRST_SEED, FIRST_SEED + self.axes.seeds)

    def tuning_cells(self) -> list[Cell]:
        """Return the trainings that choices are made from; none where nothing is tuned."""
        if not self.axes.tune:
            return []
        seeds = range(FIRST_TUNING_SEED, FIRST_TUNING_SEED + self.axes.tuning_seeds)
        return [
            self._cell(setup, choice, seed, tuning=True)
            for setup, choice, seed in itertools.product(self.setups, self.choices, seeds)
        ]

    def cells(self, setup: Setup, choice: tuple[tuple[str, ConfigValue], ...] = ()) -> list[Cell]:
        """Return a setup's trainings, one a seed."""
        return [self._cell(setup, choice, seed) for seed in self.seeds]

    def _cell(
        self,
        setup: Setup,
        choice: tuple[tuple[str, ConfigValue], ...],
        seed: int,
        *,
        tuning: bool = False,
    ) -> Cell:
        changes = {**setup.changes, **dict(choice), "run.seed": seed}
        settings = _resolve(self.scenario, self.axes.assignments, changes)
        if tuning and settings.sealing.scheme == "bfv":
            # The same integers, so the same model, without the cost of encryption.
            settings = settings.with_config({"sealing.scheme": "modular"})
        return Cell(setup=setup, choice=choice, seed=seed, settings=settings)


def plan_comparison(scenario: Scenario, axes: Axes) -> Plan:
    """Lay the axes over a scenario.

    Raises:
        SettingsError: nothing that was asked for is sound, or a value cannot be read.
    """
    values: list[list[tuple[str, dict[str, ConfigValue]]]] = [
        [(name, {"privacy.regime": name}) for name in axes.regimes],
        [(text, _with_detail("exchange.name", text)) for text in axes.exchanges],
        [(text, _with_detail("partition.name", text)) for text in axes.partitions],
        [(f"K = {count}", {"partition.hospitals": count}) for count in axes.hospitals],
        [
            (f"epsilon {one:g}", {"privacy.target-epsilon": one, "privacy.noise-multiplier": 0.0})
            for one in axes.epsilons
        ],
    ]
    found: dict[Setup, None] = {}
    skipped: dict[tuple[str, ...], list[str]] = {}
    for parts in itertools.product(*(one or [("", {})] for one in values)):
        changes = {key: value for _, part in parts for key, value in part.items()}
        try:
            settings = _resolve(scenario, axes.assignments, {**changes, "run.seed": 0})
        except SettingsError as error:
            label = ", ".join(text for text, _ in parts if text)
            skipped.setdefault(tuple(error.faults), []).append(label or scenario.name)
            continue
        setup = _setup(settings, changes)
        if f"{setup.regime}, {setup.exchange}" not in axes.without:
            found.setdefault(setup)
    if not found:
        faults = list(dict.fromkeys(fault for faults in skipped for fault in faults))
        raise SettingsError(faults or [f"without = {list(axes.without)} leaves nothing to run."])
    grouped = tuple((why, tuple(labels)) for why, labels in skipped.items())
    return Plan(scenario=scenario, axes=axes, setups=tuple(found), skipped=grouped)


def cell_folder(out: Path, cell: Cell) -> Path:
    """Return where a cell's run folder lies in a comparison's folder."""
    return out / CELLS / cell.name


def _resolve(
    scenario: Scenario, assignments: Sequence[str], changes: Mapping[str, ConfigValue]
) -> Settings:
    """Lay an axis' values over what holds for all; pooled data have no exchange of their own.

    Ways of training are compared at equal steps at a hospital, so what takes several local steps a
    round takes as many rounds less; `training.rounds` counts the steps of the others.
    """
    given, _ = read_assignments(assignments)
    before = {**scenario.config, **given, **changes}
    pooled = before.get("privacy.regime") in ("C", "CDP")
    last = NO_EXCHANGE if pooled else {}
    quiet = {key: value for key, value in QUIET.items() if key not in before}
    settings = resolve(scenario, assignments, {**quiet, **changes, **last})
    local = settings.exchange.local_steps
    if settings.exchange.name == "weights" and "exchange.local-steps" in changes and local > 1:
        rounds = math.ceil(settings.training.rounds / local)
        settings = settings.with_config({"training.rounds": rounds})
    return settings


def _setup(settings: Settings, changes: Mapping[str, ConfigValue]) -> Setup:
    pooled, private = settings.regime.pooled, settings.regime.private
    return Setup(
        regime=settings.privacy.regime,
        exchange=None if pooled else _name_with_detail(settings, "exchange.name", changes),
        partition=None if pooled else _name_with_detail(settings, "partition.name", changes),
        epsilon=(settings.privacy.target_epsilon or None) if private else None,
        hospitals=None if pooled else settings.partition.hospitals,
        changes=dict(changes),
    )


def _with_detail(key: str, text: str) -> dict[str, ConfigValue]:
    name, colon, detail = text.partition(":")
    if not colon or name not in DETAILS:
        return {key: text}  # a name with a colon may be a function of the user's own
    values, _ = read_assignments([f"{DETAILS[name]}={detail}"])
    value = values[DETAILS[name]]
    whole = isinstance(value, int) and DETAILS[name] == "partition.alpha"
    return {key: name, DETAILS[name]: float(value) if whole else value}


def _name_with_detail(settings: Settings, key: str, changes: Mapping[str, ConfigValue]) -> str:
    config = settings.to_config()
    name = str(config[key])
    detail = DETAILS.get(name, "")
    if detail in changes or detail == "partition.alpha":
        value = config[detail]
        return f"{name}:{value:g}" if isinstance(value, float) else f"{name}:{value}"
    return name
