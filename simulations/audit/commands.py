"""The command that audits: a run, a scenario before it is run, or the app with canary data."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from simulations.stage_bar import stage_bar

if TYPE_CHECKING:
    from accounting.audit_findings import Audit
    from accounting.runs import RunDescription
    from clients.contract.settings import Settings

EXAMPLES = "\n\n".join(
    [
        "Examples:",
        "flower-simulation audit latest",
        "flower-simulation audit default --set privacy.target-epsilon=3",
        "flower-simulation audit default --set audit.canaries=50000 --json",
        "flower-simulation audit --data",
    ]
)


def add_commands(app: typer.Typer) -> None:
    """Add the commands of this module to the command line."""
    app.command(epilog=EXAMPLES)(audit)


def audit(
    name: Annotated[
        str,
        typer.Argument(
            metavar="RUN|SCENARIO",
            help="A run folder, its name in runs/, 'latest'; or a scenario that is not run.",
        ),
    ] = "latest",
    assignments: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change a setting of a scenario."),
    ] = None,
    data: Annotated[
        bool,
        typer.Option("--data", help="Send canary patients through whole trainings (a minute)."),
    ] = False,
    thorough: Annotated[
        bool, typer.Option("--thorough", help="With --data: every exchange, more patients.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
) -> None:
    """Attack what a run promises, before somebody else does.

    Made-up patients, each in or out by the toss of a coin, go through the functions that hospitals
    and server call. What each observer sees of them bounds its epsilon from below; noise and
    samples are measured as well. The findings are added to the run's files. The exit code is 1
    where something speaks against a claim that cannot be chance: one sound run in a million.
    """
    if data:
        _audit_data(thorough, as_json)
        return
    from clients.contract.printable import printable
    from simulations.run_audit import attack
    from strategies.run.audited import add_audit

    path, settings, run = _asked_for(name, assignments or [])
    with stage_bar() as listener:
        found = attack(settings, run, listener)
    if as_json:
        typer.echo(json.dumps(found.to_json(), indent=2))
    else:
        _print(found.audit, found.canaries, found.seconds)
    if path is not None:
        add_audit(path, found)
        if not as_json:
            typer.echo(printable(f"added to {path / 'privacy.json'} and its summary"))
    else:
        found.audit.require()


def _asked_for(
    name: str, assignments: Sequence[str]
) -> tuple[Path | None, Settings, RunDescription]:
    """Return a run's folder with its settings and claims; no folder for one that is planned."""
    from simulations.run_audit import planned_run
    from simulations.scenario import find_scenario, resolve
    from strategies.run.audited import run_to_audit
    from strategies.run.reading import NoRun, find_run

    try:
        path = find_run(name)
    except NoRun:
        if name == "latest":
            raise
        settings = resolve(find_scenario(name), assignments, {})
        return None, settings, planned_run(settings)
    if assignments:
        raise typer.BadParameter("--set changes a scenario; a run is audited as it was.")
    return path, *run_to_audit(path)


def _audit_data(thorough: bool, as_json: bool) -> None:
    from rich.console import Console

    from simulations.audit.data_audit import audit_data
    from simulations.audit.plans import QUICK, WHOLE
    from simulations.audit.results import require_passed, show, to_json
    from simulations.launch import logging_to
    from simulations.pages.tables import show_table

    form = WHOLE if thorough else QUICK
    with tempfile.TemporaryDirectory() as folder, stage_bar() as listener:
        log = Path(folder) / "audit.log"
        with logging_to(log, "info", terminal=False):
            found = audit_data(
                Path(folder) / "trainings", form, say=lambda text: listener(text, 0, 0)
            )
    if as_json:
        typer.echo(json.dumps(to_json(found), indent=2))
    else:
        console = Console()
        show(found, lambda table: show_table(console, table))
    require_passed(found)


_NAMES = ("family", "gaussian", "one run")


def _cells(bounds: Sequence[Any]) -> list[str]:
    values = {bound.name: f"{bound.value:.3g}" for bound in bounds}
    return [values.get(name, "-") for name in _NAMES]


def _print(audit: Audit, canaries: int, seconds: float) -> None:
    """Print what was found: claims and bounds, and gates that are shut."""
    if not audit.findings:
        typer.echo("No observer has a guarantee, so there is nothing to attack.")
        return
    rows = [
        (", ".join(one.observers), f"{one.claim:.3g}", *_cells(one.bounds))
        for one in audit.findings
    ]
    columns = ["observer", "claim#", *(f"{name}#" for name in _NAMES)]
    from simulations.inspection import print_table

    print_table("Epsilon: what is claimed, and what an attack shows (95%)", columns, rows)
    shut = sum(not gate.open(audit.error) for gate in audit.gates)
    typer.echo(
        f"{canaries:,} canaries of one hospital, {seconds:.1f} s; "
        f"{len(audit.gates) - shut} of {len(audit.gates)} gates open"
    )
    for line in audit.failures:
        typer.echo(f"failed: {line}")
