"""A run's progress in the terminal: one live line, or plain lines where there is no terminal.

Everything shown is read from the run folder, so a run in this process, one in another process and a
server in a deployment are followed by the same code.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.progress import BarColumn, ProgressColumn, Task, TextColumn
from rich.progress import Progress as Bar
from rich.table import Column
from rich.text import Text

from clients.contract.printable import printable
from simulations.pages.task_words import first_figure
from simulations.pages.wording import bytes_text, epsilon_text, seconds_text
from strategies.run.events import Event, RunProgress, follow

#: Columns of the shortest bar, with a blank on both sides.
_LEAST_BAR = 3


def whole_parts(text: str, room: int) -> str:
    """Return as many parts of a line as there is room for, none of them cut.

    Half an epsilon reads like a smaller one.

    Args:
        text: parts with ", " or "; " between them.
        room: columns.
    """
    while text and cell_len(text) > room:
        cut = max(text.rfind(", "), text.rfind("; "), 0)
        text = text[:cut]
    return text


class WholeParts:
    """A line in whole parts, for a column whose width shows when it is drawn."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield the parts that fit."""
        yield Text(whole_parts(self._text, options.max_width), no_wrap=True)

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        """Return that there may be any room, and how much is of use."""
        return Measurement(1, max(1, min(cell_len(self._text), options.max_width)))


class PartsColumn(ProgressColumn):
    """A column of a progress bar with a task's field, in whole parts."""

    def __init__(self, field: str, column: Column | None = None) -> None:
        super().__init__(column)
        self._field = field

    def render(self, task: Task) -> WholeParts:
        """Return what is shown of a task."""
        return WholeParts(str(task.fields[self._field]))


def describe_progress(progress: RunProgress) -> str:
    """Write where a run is in a line, without its round."""
    parts = []
    if progress.released:
        parts.append(first_figure(progress.released))
    if progress.epsilon is not None:
        target, at = progress.facts.get("target_epsilon"), progress.epsilon_round
        aim = f" (target {target:g})" if target else ""
        after = f" after round {at}" if at < progress.round else ""
        parts.append(f"epsilon <={epsilon_text(progress.epsilon)}{after}{aim}")
    if progress.bytes_sent:
        parts.append(f"sent {bytes_text(progress.bytes_sent)}")
    if progress.seconds_left is not None and not progress.status:
        parts.append(f"{seconds_text(progress.seconds_left)} left")
    return ", ".join(parts)


def describe_place(progress: RunProgress) -> tuple[str, int, int]:
    """Write the round or the stage that a run is in; with how much is done, and of how much."""
    done, total = progress.round, progress.rounds
    word = f"round {done}/{total}" if total else "starting"
    if progress.stage and not progress.status:
        done, total = progress.stage.get("done", 0), progress.stage.get("total", 0)
        word = progress.stage["stage"] + (f" {done:,}/{total:,}" if total else "")
    return word, done, total


def describe_start(progress: RunProgress) -> str:
    """Write what kind of run it is in a line."""
    facts = progress.facts
    parts = [
        f"{facts.get('hospitals', '?')} hospitals",
        str(facts.get("regime", "")),
        str(facts.get("exchange", "")),
        f"sealed by {scheme}" if (scheme := facts.get("scheme", "none")) != "none" else "",
    ]
    return f"{facts.get('scenario', 'run')}: {', '.join(part for part in parts if part)}"


class Display:
    """Shows events on a console as they come.

    Attributes:
        progress: where the run is, as far as it was shown.
    """

    def __init__(
        self,
        console: Console,
        *,
        since: float = 0.0,
        at_end: Callable[[], None] | None = None,
    ) -> None:
        """Show on `console`.

        Args:
            console: where.
            since: events older than this (unix seconds) count but say nothing.
            at_end: called when a run has ended that was not interrupted: its results are there,
                while trackers are waited for and processes end.
        """
        self.progress = RunProgress()
        self._at_end = at_end
        self._console = console
        self._since = since
        self._bar = Bar(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=16),
            TextColumn("{task.fields[state]}", markup=False, table_column=Column(no_wrap=True)),
            console=console,
            disable=not console.is_terminal,
            transient=True,
        )
        self._task = self._bar.add_task("starting", total=None, state="")

    def show(self, path: Path, *, until: threading.Event, stop_at_end: bool = False) -> None:
        """Follow the run folder at `path` until told, or until the run has ended."""
        with self._bar:
            for event in follow(path, until=until):
                if event is not None:
                    self._take(event)
                else:
                    self._refresh()
                    if stop_at_end and self.progress.status:
                        until.set()
            self._refresh()

    def _take(self, event: Event) -> None:
        self.progress.add(event)
        if event.get("time", 0.0) < self._since:
            return
        match event.get("kind"):
            case "stage" if not self._console.is_terminal and not event.get("done"):
                if total := event.get("total"):
                    self._say(f"{event['stage']} of {total:,} ...")
            case "start":
                self._say(describe_start(self.progress))
            case "release" if not self._console.is_terminal:
                state = describe_progress(self.progress)
                self._say(f"round {event.get('round')}/{self.progress.rounds}: {state}")
            case "warning":
                self._say(f"warning: {event.get('message')}")
            case "fault":
                self._say(
                    f"round {event.get('round')}, attempt {event.get('attempt', 1)}: "
                    f"{event.get('hospital')} did not contribute ({event.get('code')})"
                )
            case "end" if self._at_end and event.get("status") != "interrupted":
                self._bar.stop()
                self._at_end()

    def _say(self, text: str) -> None:
        self._console.print(printable(text), markup=False, highlight=False, soft_wrap=True)

    def _refresh(self) -> None:
        progress = self.progress
        word, done, total = describe_place(progress)
        word = printable(word)
        room = self._console.width - cell_len(word) - _LEAST_BAR
        self._bar.update(
            self._task,
            description=word,
            completed=done,
            total=total or None,
            state=whole_parts(describe_progress(progress), room),
        )


class ProgressThread:
    """Shows a run folder's progress beside the work, inside a ``with`` block."""

    def __init__(
        self, path: Path, console: Console, at_end: Callable[[], None] | None = None
    ) -> None:
        self._until = threading.Event()
        # Slightly earlier: times in the file are rounded.
        display = Display(console, since=time.time() - 0.05, at_end=at_end)
        self._thread = threading.Thread(
            target=display.show, args=(path,), kwargs={"until": self._until}, daemon=True
        )

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._until.set()
        self._thread.join()
