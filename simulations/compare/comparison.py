"""``flower-simulation compare``: many trainings over one grid, each in its own run folder.

First every setup is tuned, if asked for, on seeds of their own; then each is run on the same seeds
with its best combination. What has finished is never run again, so a comparison that was stopped
goes on where it was by giving the same command. ``comparison.json`` holds all that tables and
figures are made from.
"""

from __future__ import annotations

import shlex
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Column

from clients.contract.plain_json import json_text
from clients.contract.printable import printable
from clients.contract.settings import ConfigValue, Settings, SettingsError
from clients.data import Cohorts
from crypto.whole_file import locked, write_shared
from simulations.compare.alone import alone_cells, read_alone
from simulations.compare.axes import Axes, Cell, Plan, Setup, cell_folder, plan_comparison
from simulations.compare.folder import COMPARISON
from simulations.compare.measures import default_measure, goodness, measure_fault
from simulations.compare.rows import Row, is_finished, paired_rows, read_row
from simulations.compare.tuning import RULE, Measured, chosen
from simulations.compare.workers import run_trainings
from simulations.error_messages import NotStarted, asked_of_the_machine
from simulations.pages.wording import PATIENT
from simulations.preflight import fault_of, log_kept
from simulations.progress import PartsColumn, describe_place
from simulations.scenario import Scenario, check_model, resolve
from strategies.run.events import last_change, run_progress
from strategies.run.reading import read_run

if TYPE_CHECKING:
    from rich.console import Console

FORMAT = 2
#: Axes that are lists of values.
LISTS = ("regimes", "exchanges", "partitions", "epsilons", "hospitals", "without")
PULSE_SECONDS = 1.0
Choice = tuple[tuple[str, ConfigValue], ...]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Where a comparison runs and what it says meanwhile.

    Attributes:
        out: its folder.
        jobs: processes that train at a time.
        command: what the user typed.
        console: where the progress bar goes; None shows none.
    """

    out: Path
    jobs: int = 1
    command: Sequence[str] = ()
    console: Console | None = None

    def run(self, scenario: Scenario, axes: Axes) -> dict[str, Any]:
        """Run what has not finished yet, and write ``comparison.json``.

        Returns:
            What was written.

        Raises:
            SettingsError: nothing of the grid is sound, a model cannot be cut as asked, or the
                folder is in use.
            NotStarted: nothing of the grid can be run.
        """
        plan = possible(plan_comparison(scenario, axes))
        for setup in plan.setups:
            check_model(plan.cells(setup)[0].settings)
        with held(self.out):
            return self._run(plan)

    def _run(self, plan: Plan) -> dict[str, Any]:
        axes = plan.axes
        tuning = plan.tuning_cells()
        total = len(tuning) + len(plan.setups) * axes.seeds
        total += sum(len(one) for one in alone_cells(plan, {}).values())
        with comparison_bar(self.console, total) as bar:
            failed = self._train(tuning, bar)
            measure = axes.measure or default_measure(
                read_run(cell_folder(self.out, cell)).summary for cell in tuning
            )
            choices = {setup: self._best(plan, setup, tuning, measure) for setup in plan.setups}
            cells = {setup: plan.cells(setup, choices[setup]) for setup in plan.setups}
            failed |= self._train([cell for one in cells.values() for cell in one], bar)
            alone = alone_cells(plan, choices)
            failed |= self._train([cell for one in alone.values() for cell in one], bar)
        rows = [read_row(self.out, cells[setup]) for setup in plan.setups]
        content = self._content(plan, rows, failed)
        content["alone"] = read_alone(self.out, alone, cells)
        text = json_text(content, indent=1) + "\n"
        write_shared(self.out / COMPARISON, text.encode())
        return content

    def _train(self, cells: Sequence[Cell], bar: Bar) -> dict[str, str]:
        """Run the cells that have not finished; what is on disk counts as done at once.

        Returns:
            Trainings that ended early, by name of their folder, with the reason.
        """
        failed: dict[str, str] = {}
        waiting = [cell for cell in cells if not self._finished(cell)]
        bar.found(len(cells) - len(waiting))
        bar.follow({cell_folder(self.out, cell): cell.setup.label for cell in waiting})
        configs = [
            {**cell.settings.to_config(), "run.out": str(cell_folder(self.out.absolute(), cell))}
            for cell in waiting
        ]
        results = run_trainings(configs, processes=self.jobs, command=self.command)
        for place, result in results:
            if result.status != "finished":
                failed[waiting[place].name] = result.message
            bar.step(cell_folder(self.out, waiting[place]))
        return failed

    def _finished(self, cell: Cell) -> bool:
        return is_finished(read_run(cell_folder(self.out, cell)))

    def _best(self, plan: Plan, setup: Setup, tuning: Sequence[Cell], measure: str) -> Choice:
        """Return the combination that a setup takes, by its trainings on the tuning seeds."""
        figures: dict[Choice, list[Measured]] = {choice: [] for choice in plan.choices}
        for cell in tuning:
            if cell.setup == setup:
                metrics = read_run(cell_folder(self.out, cell)).summary.get("metrics") or {}
                value = metrics.get(measure)
                found = None if value is None else goodness(value, measure)
                figures[cell.choice].append((found, metrics.get("loss")))
        return chosen(figures) if tuning else ()

    def _content(
        self, plan: Plan, rows: Sequence[Row], failed: Mapping[str, str]
    ) -> dict[str, Any]:
        axes, scenario = plan.axes, plan.scenario
        unusual = (row.measure for row in rows if row.measure != "accuracy")
        measure = axes.measure or next(unusual, "accuracy")
        settings = resolve(scenario, axes.assignments)
        own = {"regime": settings.privacy.regime, "exchange": settings.exchange.name}
        here = [{key: getattr(setup, key) for key in own} for setup in plan.setups]
        if own not in here:  # the scenario's own way was not asked for
            own = next((one for one in here if one["exchange"]), here[0])
        return {
            "format": FORMAT,
            "name": settings.run.scenario,
            "title": scenario.title,
            "description": scenario.description,
            "command": shlex.join(self.command),
            "date": datetime.now(UTC).date().isoformat(),
            "data": settings.data.name,
            "model": settings.model.name,
            "rounds": settings.training.rounds,
            "delta": settings.privacy.delta,
            "unit": rows[-1].unit if rows else PATIENT,
            "measure": measure,
            "task": next((row.task for row in rows if row.task), ""),
            "seeds": axes.seeds,
            "tuned": {key: list(values) for key, values in axes.tune.items()},
            "tuning_seeds": axes.tuning_seeds if plan.tuning_cells() else 0,
            "tuning_rule": RULE if plan.tuning_cells() else "",
            "reference": own,
            "unasked": unasked(scenario, axes),
            "versions": next((row.versions for row in reversed(rows) if row.versions), {}),
            "rows": [row.to_json() for row in rows],
            "paired": paired_rows(rows, own, measure),
            "skipped": [
                {"why": " ".join(why), "setups": list(labels)} for why, labels in plan.skipped
            ],
            "failed": [{"cell": name, "why": why} for name, why in sorted(failed.items())],
        }


def possible(plan: Plan) -> Plan:
    """Return a plan without the setups that cannot be run, whose reasons stand with those skipped.

    Every setting, every file and every noise of the grid is looked at, before anything starts.

    Raises:
        SettingsError: a value that is tuned over cannot be.
        NotStarted: none can be run; what all share is said once.
    """
    cohorts = Cohorts()
    faults: dict[str, list[str]] = {}
    setups = []
    for setup in plan.setups:
        firsts = [plan.cells(setup, choice)[0] for choice in plan.choices]
        with log_kept():  # each training writes it into its own log
            found = [
                fault
                for one in firsts
                if (fault := _fault(one.settings, cohorts, plan.axes.measure))
            ]
        for fault in dict.fromkeys(found):
            faults.setdefault(fault, []).append(setup.label)
        if not found:
            setups.append(setup)
    if not setups:
        raise NotStarted("\n".join(faults))
    skipped = (*plan.skipped, *(((why,), tuple(labels)) for why, labels in faults.items()))
    question = cohorts.of(plan.cells(setups[0])[0].settings).info.question
    return replace(plan, setups=tuple(setups), skipped=skipped, of_classes=question.of_classes)


def _fault(settings: Settings, cohorts: Cohorts, measure: str) -> str:
    fault = fault_of(settings, cohorts)
    return fault or measure_fault(cohorts.of(settings).info.question, measure)


@contextmanager
def held(out: Path) -> Iterator[None]:
    """Keep a comparison's folder to one command at a time.

    Raises:
        SettingsError: another command has it.
        NotStarted: it cannot be made.
    """
    with asked_of_the_machine(out, "--out"):
        out.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        try:
            with asked_of_the_machine(out, "--out"):
                stack.enter_context(locked(out / ".lock", wait=False))
        except BlockingIOError:
            raise SettingsError([f"another comparison is running in {out}; give --out."]) from None
        yield


class Bar:
    """The progress over a whole grid, with the time left at the pace of this command."""

    def __init__(self, progress: Progress, say: Callable[[str], None], total: int) -> None:
        self._progress, self._say, self._total, self._done = progress, say, total, 0
        self._labels: dict[Path, str] = {}
        self._since = time.time()
        self._task = progress.add_task("", total=total, label="starting")

    def follow(self, labels: Mapping[Path, str]) -> None:
        """Say from now on where the trainings of these folders are."""
        self._labels = dict(labels)

    def found(self, count: int) -> None:
        """Count trainings that an earlier command finished; they say nothing of the pace."""
        if count:
            self._total -= count
            self._progress.update(self._task, total=self._total)
            noun = "training was" if count == 1 else "trainings were"
            self._say(f"{count} {noun} finished before.")

    def step(self, folder: Path) -> None:
        """Count a training that has just ended; a plain line where there is no live bar."""
        self._done += 1
        label = self._labels.pop(folder)
        self._progress.update(self._task, advance=1, label=label)
        if self._progress.disable:
            self._say(f"{self._done}/{self._total}: {label}")

    def pulse(self, until: threading.Event) -> None:
        """Say every second where the trainings are, until told to stop."""
        while not until.wait(PULSE_SECONDS):
            places = [
                f"{label}: {describe_place(run_progress(folder))[0]}"
                for folder, label in list(self._labels.items())
                if last_change(folder) >= self._since
            ]
            if places:
                self._progress.update(self._task, label=printable("; ".join(places)))


@contextmanager
def comparison_bar(console: Console | None, total: int) -> Iterator[Bar]:
    """Show the progress over a grid inside the block: live where there is a terminal."""

    def say(text: str) -> None:
        if console is not None:
            console.print(printable(text), highlight=False, markup=False, soft_wrap=True)

    with Progress(
        BarColumn(bar_width=16),
        MofNCompleteColumn(),
        PartsColumn("label", Column(ratio=1)),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
        disable=console is None or not console.is_terminal,
        transient=True,
        speed_estimate_period=120,
        expand=True,
    ) as progress:
        bar, until = Bar(progress, say, total), threading.Event()
        if not progress.disable:
            threading.Thread(target=bar.pulse, args=(until,), daemon=True).start()
        try:
            yield bar
        finally:
            until.set()


def unasked(scenario: Scenario, axes: Axes) -> dict[str, list[str]]:
    """Return values of a scenario's own axes that a command left out, so that its page says so."""
    found = {}
    for name in LISTS:
        own = scenario.compare.get(name, [])
        if left := [f"{value}" for value in own if value not in getattr(axes, name)]:
            found[name] = left
    return found


def axes_of(scenario: Scenario, given: Mapping[str, Any]) -> Axes:
    """Return a scenario's own axes, from its ``[compare]`` table, under those that were given.

    Raises:
        SettingsError: the table holds what is no axis, or no value of one.
    """
    table = {key.replace("-", "_"): value for key, value in scenario.compare.items()}
    unknown = sorted(set(table) - set(Axes.__dataclass_fields__) - {"assignments"})
    if unknown:
        known = ", ".join(name for name in Axes.__dataclass_fields__ if name != "assignments")
        raise SettingsError(
            [
                f"[compare] of {scenario.name}: {name} is no axis; known: {known}."
                for name in unknown
            ]
        )
    merged = {**table, **{key: value for key, value in given.items() if value not in (None, ())}}
    values: dict[str, Any] = {
        key: tuple(value) if key in LISTS else value for key, value in merged.items()
    }
    values["epsilons"] = tuple(float(one) for one in values.get("epsilons", ()))
    values["tune"] = {key: tuple(value) for key, value in (values.get("tune") or {}).items()}
    return Axes(**values)
