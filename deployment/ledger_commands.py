"""``asclepias ledger``: what an operator does about a hospital's ledger."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Site = Annotated[Path, typer.Option(metavar="DIR", help="The hospital's folder.")]
ledgers = typer.Typer(
    no_args_is_help=True, help="Look at a hospital's ledger, recover it, or end a training."
)


@ledgers.command("verify", epilog="Example: asclepias ledger verify --site consortium/sites/lyon")
def verify_ledger(site: Site = Path()) -> None:
    """Read a hospital's ledger line by line, and look for signs that it has gone back."""
    from clients.site.site_file import read_site_file
    from deployment.recover import findings, verify
    from deployment.report import line

    file = read_site_file(site / "site.toml")
    found = verify(file.ledger)
    line(True, f"{file.ledger} is whole: ledger {found.id} of {found.site}, {found.cohort}")
    line(True, f"it ends at entry {found.entry}, head {found.head[:32]}")
    for name, state in found.trainings.items():
        line(True, f"training {name}: {state.phase.value}, {state.spent} messages spent")
    signs = findings(file)
    for sign in signs:
        line(False, sign)
    if signs:
        line(False, "'asclepias ledger recover' charges what is missing, and goes on")
        raise typer.Exit(1)


@ledgers.command(
    "recover",
    epilog="\n\n".join(
        [
            "Examples:",
            "asclepias ledger recover --site consortium/sites/lyon --evidence witness.json",
            "asclepias ledger recover --site consortium/sites/lyon "
            "--also gaussian:sampling-rate=0.1,noise-multiplier=2.0,count=40",
        ]
    ),
)
def recover_ledger(
    site: Site = Path(),
    evidence: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE",
            help="witness.json of the SuperLink's runs, or a peer's peers.json; repeatable.",
        ),
    ] = None,
    also: Annotated[
        list[str] | None,
        typer.Option(metavar="EVENT", help="Charge this too: what left and nobody witnessed."),
    ] = None,
    cohort: Annotated[
        str, typer.Option(metavar="NAME", help="Begin a new ledger for these data.")
    ] = "",
) -> None:
    """Charge what a ledger lacks that was restored, copied or lost, and let its hospital go on.

    Trainings that were open end here. Asks before it writes; end the SuperNode first.
    """
    from clients.site.site_file import read_site_file
    from deployment import recover
    from deployment.errors import DeploymentError
    from deployment.report import line, show_recovery

    file = read_site_file(site / "site.toml")
    headers = [one for path in evidence or [] for one in recover.read_evidence(path)]
    events = [recover.read_event(text) for text in also or []]
    planned = recover.plan(file, headers, also=events, cohort=cohort)
    show_recovery(planned)
    if typer.prompt("Write this to the ledger, for ever? Type yes") != "yes":
        raise DeploymentError("Nothing was written.")
    number = recover.carry_out(file, planned, cohort)
    line(True, f"{file.ledger} goes on after entry {number}")


@ledgers.command(
    "end", epilog="Example: asclepias ledger end --site consortium/sites/lyon 4xk3...q7"
)
def end_training(
    training: Annotated[str, typer.Argument(help="Its id, as 'asclepias ledger verify' shows it.")],
    site: Site = Path(),
) -> None:
    """End a training at this hospital for ever, and delete its keys.

    The server does so when a training is over; this is for one that never said it.
    """
    from clients.site.site_file import read_site_file
    from deployment.recover import end
    from deployment.report import line

    file = read_site_file(site / "site.toml")
    end(file, training)
    line(True, f"training {training} has ended here; its keys are deleted")
