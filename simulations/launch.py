"""Starting a run: its folder, its log, its progress on the screen, the tables at its end.

The run folder is made and its ``config.toml`` written before anything heavy is imported, so that an
interrupted start can be resumed as well.
"""

from __future__ import annotations

import json
import logging
import platform
import shlex
import shutil
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console

from clients.contract.plain_json import json_text
from clients.contract.printable import PrintableFormatter, printable
from clients.contract.settings import Settings
from simulations.error_messages import asked_of_the_machine, interrupted
from simulations.pages.tables import observer_table, show_table, summary_table
from simulations.pages.template import REPORT
from simulations.pages.wording import PATIENT
from simulations.preflight import Checked, check_run
from simulations.progress import Display, ProgressThread
from strategies.run.folder import RunFolder, new_folder
from strategies.run.reading import NoRun, read_run, read_settings

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Output:
    """What a command prints.

    Attributes:
        quiet: no progress; the run folder's path is all that is printed.
        as_json: the summary as JSON on standard output, and nothing else there.
        debug: logs go to the terminal as well.
    """

    quiet: bool = False
    as_json: bool = False
    debug: bool = False


def make_run_folder(settings: Settings, parent: Path, *, option: str = "") -> Settings:
    """Make ``<parent>/<time>-<scenario>`` with its ``config.toml``.

    Args:
        settings: the run's.
        parent: where run folders are made.
        option: of the command line, which chooses it.

    Returns:
        The settings with ``run.out`` set to the new folder, absolute.

    Raises:
        NotStarted: it cannot be made; nothing is left of it.
    """
    with asked_of_the_machine(parent, option):
        path = new_folder(parent.absolute(), settings.run.scenario)
        settings = settings.with_config({"run.out": str(path)})
        try:
            RunFolder(path).write_config(settings)
        except OSError:
            shutil.rmtree(path, ignore_errors=True)
            raise
    return settings


def training_to_resume(path: Path) -> Settings:
    """Return the settings that take up an interrupted run where it was.

    Raises:
        NoRun: the run is finished, or holds nothing to take up.
    """
    settings, run = read_settings(path), read_run(path)
    if run.progress.status == "finished":
        raise NoRun(f"{path} is finished; there is nothing to resume.")
    training = next(
        (event["training"] for event in reversed(run.events) if event.get("training")),
        run.summary.get("training", settings.run.training_id),
    )
    if not training:
        raise NoRun(f"{path} stopped before its training began; start it anew with 'run'.")
    return settings.with_config({"run.training-id": training, "run.out": str(path.absolute())})


def launch(
    settings: Settings,
    options: dict[str, Any],
    output: Output,
    *,
    command: Sequence[str],
    checked: Checked,
) -> None:
    """Run a training into ``run.out`` and print its results.

    Args:
        settings: with ``run.out`` set.
        options: fields of `simulations.engines.engine.EngineOptions`.
        output: what is printed, and where logs go.
        command: what the user typed; kept in ``provenance.json``.
        checked: what looking at the run beforehand has brought.

    Raises:
        RunStopped: the run ended cleanly before its last round.
        RunInUse: another command has the folder.
        Interrupted: the user ended it.
    """
    with RunFolder(Path(settings.run.out)).held():
        _launch(settings, options, output, command, checked)


def resume(path: Path, options: dict[str, Any], output: Output, *, command: Sequence[str]) -> None:
    """Take up an interrupted run and print its results; arguments and errors as for `launch`.

    Raises:
        NoRun: there is nothing to take up.
        NotStarted: what the run needs is not there.
    """
    with RunFolder(path).held():
        settings = training_to_resume(path)
        checked = check_run(settings, ray_address=str(options.get("ray_address", "")))
        _launch(settings, options, output, command, checked)


def _launch(
    settings: Settings,
    options: dict[str, Any],
    output: Output,
    command: Sequence[str],
    checked: Checked,
) -> None:
    path = Path(settings.run.out)
    silent = output.quiet or output.as_json
    tables = _Tables(path, output)
    # Flower's engine leads in another process, and the audit comes after its end.
    at_end = tables.show if options.get("engine", "ray") == "ray" else None
    follower = nullcontext() if silent else ProgressThread(path, Console(stderr=True), at_end)
    try:
        write_provenance(path, command)
        with logging_to(path / "run.log", settings.run.log_level, terminal=output.debug):
            from simulations.own_data import read_own_data

            for record in checked.said:
                if record.levelno >= logging.getLogger().level:
                    logging.getLogger(record.name).handle(record)
            read_own_data(settings, Console(stderr=True, quiet=silent), checked.cohorts)
            with follower:
                from simulations.engines.engine import EngineOptions, simulate

                simulate(settings, EngineOptions(**options), checked.cohorts)
            tables.show()
            illustrate(path)
    except Exception as error:
        if (ended := _interrupt_behind(error)) is not None:
            raise interrupted(f"Interrupted; {_how_to_go_on(path)}", ended) from error
        error.add_note(f"What was done so far is in {_short(path)}.")
        if (path / "summary.json").is_file():
            tables.show()
            illustrate(path)
            print_places(path, output)
        raise
    except KeyboardInterrupt as error:
        raise interrupted(f"Interrupted; {_how_to_go_on(path)}", error) from None
    print_places(path, output)


def _interrupt_behind(error: BaseException | None) -> KeyboardInterrupt | None:
    """Return what ended a run that then failed to be put down, as half an import may make it."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__context__
    return error


def _how_to_go_on(path: Path) -> str:
    """Say what can be done about a run that was interrupted, whenever that was."""
    short = _short(path)
    try:
        training_to_resume(path)
    except NoRun:
        if read_run(path).progress.status == "finished":
            return f"the training was finished, and {short} holds it."
        return (
            f"its training had not begun, so nothing was spent and {short} holds no more than its "
            "settings. The same command starts it anew."
        )
    return (
        f"what was done so far is in {short}. 'flower-simulation resume {short}' goes on from "
        "there."
    )


def follow_to_end(path: Path, output: Output) -> bool:
    """Show another process's run until it ends, then its tables; writes nothing.

    Returns:
        Whether the run finished; otherwise the reason is the last line on standard error.
    """
    silent = output.quiet or output.as_json
    display = Display(Console(stderr=True, quiet=silent))
    display.show(path, until=threading.Event(), stop_at_end=True)
    print_results(path, output)
    progress = display.progress
    if progress.status != "finished":
        text = printable(f"{progress.status}: {progress.message}")
        Console(stderr=True).print(text, markup=False, highlight=False, soft_wrap=True)
    return progress.status == "finished"


def illustrate(path: Path) -> None:
    """Draw a run's figures and write its report; what fails here fails no training."""
    try:
        from simulations.pages.drawing import write_figures
        from simulations.pages.figures import FOLDER, draw_all
        from simulations.pages.report import write_report

        run = read_run(path)
        drawn = draw_all(run)
        write_figures(drawn, path / FOLDER)
        write_report(run, drawn)
    except Exception:
        logger.warning("no figures or no report in %s", path, exc_info=True)


def print_results(path: Path, output: Output) -> None:
    """Print the tables of a run that has ended, and where its files are."""
    print_tables(path, output)
    print_places(path, output)


class _Tables:
    """A run's tables, printed once: as soon as they can be, or else at the end."""

    def __init__(self, path: Path, output: Output) -> None:
        self._path, self._output = path, output
        self._shown = False

    def show(self) -> None:
        """Print them, unless that was done."""
        if not self._shown:
            print_tables(self._path, self._output)
            self._shown = True


def print_tables(path: Path, output: Output) -> None:
    """Print the tables of a run that has ended, before anything is drawn of it."""
    if output.quiet or output.as_json:
        return
    run, console = read_run(path), Console()
    if run.summary:
        show_table(console, summary_table(run.summary))
    if observers := run.privacy.get("observers"):
        show_table(console, observer_table(observers, run.privacy.get("unit", PATIENT)))


def print_places(path: Path, output: Output) -> None:
    """Print where a run's files are; or, where JSON was asked for, its summary with that."""
    console = Console()
    if output.as_json:
        run = read_run(path)
        content = {**run.summary, "observers": run.privacy.get("observers"), "run": str(path)}
        console.out(json_text(content, indent=2), highlight=False)
        return
    prefix = "" if output.quiet else "run folder: "
    lines = [f"{prefix}{_short(path)}"]
    if not output.quiet and (path / REPORT).is_file():
        lines.append(f"report: {_short(path / REPORT)}")
    for line in lines:
        console.print(printable(line), soft_wrap=True, markup=False, highlight=False)


class _LogFile(logging.FileHandler):
    """A log that says nothing of itself: where the disk is full, what is done says so."""

    def handleError(self, record: logging.LogRecord) -> None:
        """Lose a line that cannot be written."""


@contextmanager
def logging_to(file: Path, level: str, *, terminal: bool) -> Iterator[None]:
    """Send every log and warning of this process to a file; to the terminal only when asked."""
    import flwr.app  # noqa: F401  (its import sets up a handler of its own, taken off below)

    handlers: list[logging.Handler] = [_LogFile(file, encoding="utf-8")]
    if terminal:
        handlers.append(logging.StreamHandler())
    root, flower = logging.getLogger(), logging.getLogger("flwr")
    before = root.handlers[:], root.level, flower.handlers[:], flower.propagate
    for handler in handlers:
        handler.setFormatter(PrintableFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root.handlers, flower.handlers, flower.propagate = handlers, [], True
    root.setLevel(level.upper())
    logging.captureWarnings(True)
    try:
        yield
    finally:
        logging.captureWarnings(False)
        root.handlers, root.level, flower.handlers, flower.propagate = before
        for handler in handlers:
            handler.close()


def write_provenance(path: Path, command: Sequence[str]) -> None:
    """Add a command, and the machine it was given on, to ``provenance.json``."""
    file = path / "provenance.json"
    commands = json.loads(file.read_text(encoding="utf-8"))["commands"] if file.exists() else []
    started = datetime.now(UTC).isoformat(timespec="seconds")
    content = {
        "commands": [*commands, {"command": shlex.join(command), "started": started}],
        "platform": platform.platform(),
        "python": platform.python_version(),
    }
    RunFolder(path).write_json(file.name, content)


def _short(path: Path) -> Path:
    """Write a path relative to where the user stands, where it lies below."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path
