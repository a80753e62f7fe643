"""What the commands print: green, yellow and red lines, a consortium's table, how runs stand."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from clients.contract.printable import printable
from deployment.errors import DeploymentError

if TYPE_CHECKING:
    from deployment.consortium import Consortium
    from deployment.recover import Recovery
    from deployment.submission import Submission
    from deployment.superlink_folder import SuperLinkFolder

#: Pause between two questions whether a run's process is still there.
WATCH_SECONDS = 5.0
#: So many answers one after the other make sure that a run has gone.
WATCH_MISSES = 3
_console = Console(soft_wrap=True, highlight=False)
_MARKS = {True: "[green]ok  [/green]", False: "[red]FAIL[/red]"}


def line(good: bool | None, text: str) -> None:
    """Print one line, marked by colour, and by a word where there is none.

    Args:
        good: False is for what ends a command with another exit code than 0; None for what is worth
            reading and ends nothing.
        text: what to say.
    """
    mark = "[yellow]note[/yellow]" if good is None else _MARKS[good]
    _console.print(mark, end=" ")
    _console.print(printable(text), markup=False)


def show_consortium(consortium: Consortium) -> None:
    """Say what was made and what to do with it."""
    from clients.site.site_file import read_site_file

    table = Table("hospital", "identity (pinned by all others)", box=None)
    for name in consortium.hospitals:
        site = read_site_file(consortium.site(name) / "site.toml")
        table.add_row(_cell(name), _cell(site.pins[name]))
    _console.print(table)
    folder = consortium.folder
    for text in (
        f"{folder / 'superlink'} goes to the machine at {consortium.address}.",
        f"{folder / 'sites'}/<hospital> goes to that hospital alone.",
        f"{folder / 'authority'} signs certificates: keep it off every server.",
    ):
        _console.print(printable(text), markup=False)


def show_status(link: SuperLinkFolder) -> None:
    """Print the nodes and the newest runs of a SuperLink."""
    from deployment.control import control_of
    from strategies.run.reading import read_run

    with control_of(link) as control:
        nodes, runs = control.nodes(), control.runs()
    table = Table("hospital", "node", "status", box=None)
    for node in nodes:
        colour = "green" if node.status == "online" else "red"
        table.add_row(_cell(node.name), str(node.node_id), _cell(node.status, colour))
    _console.print(table)
    folders = {
        int(file.read_text(encoding="ascii")): file.parent
        for file in link.runs.glob("*/flower-run-id")
    }
    table = Table("run", "Flower says", "round", "the run says", "in runs/", box=None)
    for column in table.columns:
        column.overflow = "fold"
    for run_id, status in runs.items():
        folder = folders.get(run_id)
        progress = read_run(folder).progress if folder else None
        table.add_row(
            str(run_id),
            _cell(status),
            f"{progress.round}/{progress.rounds}" if progress else "",
            _cell((progress.status or "running") if progress else ""),
            _cell(folder.name if folder else ""),
        )
    _console.print(table)


def _cell(text: str, style: str = "") -> Text:
    """Return a text of others as it stands in a table: nothing in it is obeyed."""
    return Text(printable(text), style=style)


def follow_run(link: SuperLinkFolder, submission: Submission) -> bool:
    """Show a run's progress until it ends, by itself or with its process; say if it finished."""
    from simulations.launch import Output, illustrate, print_results
    from simulations.progress import Display

    display, until, gone = Display(Console(stderr=True)), threading.Event(), [""]

    def watch() -> None:
        misses = 0
        while misses < WATCH_MISSES and not until.wait(WATCH_SECONDS):
            gone[0] = _gone(link, submission.run_id)
            misses = misses + 1 if gone[0] else 0
        until.set()

    watcher = threading.Thread(target=watch, daemon=True, name="run-watch")
    watcher.start()
    try:
        display.show(submission.folder, until=until, stop_at_end=True)
    finally:
        until.set()
    progress = display.progress
    if (submission.folder / "summary.json").is_file():
        illustrate(submission.folder)
    print_results(submission.folder, Output())
    if not progress.status:
        line(False, f"{gone[0]}; 'asclepias resume {submission.folder}' goes on")
    elif progress.status != "finished":
        line(False, f"{progress.status}: {progress.message}")
    return progress.status == "finished"


def show_recovery(recovery: Recovery) -> None:
    """Say what recovering a ledger will do."""
    own, seen = recovery.own, recovery.witnessed
    line(True, f"this ledger is {own.ledger} and ends at entry {own.entry}, head {own.head}")
    if seen is not None:
        line(None, f"witnessed: ledger {seen.ledger}, entry {seen.entry}, head {seen.head}")
    table = Table("training", "spent here", "witnessed beside it", "will be charged", box=None)
    for name in sorted({*recovery.spent, *(one for one, _ in recovery.charges)}):
        here, witnessed = recovery.spent.get(name, (0, 0))
        charges = ", ".join(str(event) for one, event in recovery.charges if one == name)
        table.add_row(name, str(here), str(witnessed), charges)
    _console.print(table)
    for name in recovery.retired:
        _console.print(f"Training {name} ends here: which places it has answered is unknown.")


def _gone(link: SuperLinkFolder, run_id: int) -> str:
    """Say why nothing more will come of a run, "" while something may."""
    from deployment.submission import run_status

    try:
        status = run_status(link, run_id)
    except DeploymentError as error:
        return str(error)
    ended = status.startswith("finished")
    return f"the run ended ({status}); read {link.folder / 'superlink.log'}" if ended else ""
