"""The command that attacks: what the literature names, on a run or a scenario."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from simulations.stage_bar import stage_bar

if TYPE_CHECKING:
    from clients.contract.stages import Listener
    from simulations.attacks.catalogue import Attack
    from simulations.attacks.ground import Ground
    from simulations.attacks.result import Result

EXAMPLES = "\n\n".join(
    [
        "Examples:",
        "flower-simulation attack list",
        "flower-simulation attack all default --set data.name=digits --set model.name=mlp",
        "flower-simulation attack gradient-inversion default",
        "flower-simulation attack gradient-inversion latest --epsilons 1,10",
        "flower-simulation attack gradient-inversion default --set data.name=digits "
        "--set model.name=mlp --seed 7",
        "flower-simulation attack membership default --regimes F,FSCDP --epsilons 1",
        "flower-simulation attack membership-rounds default --epsilons 1",
        "flower-simulation attack poisoning default --regimes F,FSCDP --epsilons 3 --trials 1",
    ]
)
Trials = Annotated[
    int,
    typer.Option(
        metavar="N",
        min=0,
        help="Models, trainings, seeds, picks or games: 'attack list' says of which, and how many "
        "there are unless this is given. Of one attack, not of 'all'.",
    ),
]
#: Words in an attack's place: what lists them, and what carries all of them out.
LIST, ALL = "list", "all"


def add_commands(app: typer.Typer) -> None:
    """Add the commands of this module to the command line."""
    app.command("attack", epilog=EXAMPLES)(attack)


def attack(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="An attack's name, 'all' of them, or 'list'.")
    ],
    target: Annotated[
        str,
        typer.Argument(
            metavar="RUN|SCENARIO",
            help="A simulated run's folder, its name in runs/, 'latest'; or a scenario.",
        ),
    ] = "default",
    assignments: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change a setting of a scenario."),
    ] = None,
    epsilons: Annotated[
        str, typer.Option(metavar="A,B,..", help="Targets of private regimes (1,3,10).")
    ] = "",
    regimes: Annotated[str, typer.Option(metavar="A,B,..", help="Regimes (all five).")] = "",
    seed: Annotated[int, typer.Option(min=0, help="Of all draws: the same gives the same.")] = 0,
    trials: Trials = 0,
    out: Annotated[
        Path, typer.Option(metavar="DIR", help="Where the folder of an attacked scenario is made.")
    ] = Path("runs"),
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Attack a simulated run or a scenario as the literature does, in each regime.

    Beside what an attack reaches stands what theory allows at that epsilon, and a control without
    protection in which it has to succeed. Findings go to the run's attacks.json, figures and
    report; those of a scenario to a folder of their own. A real hospital's patients are refused.
    The exit code is 1 where the control fails, or a bound does not hold.
    """
    if name == LIST:
        _list(as_json)
        return
    ground_of = partial(
        _ground,
        target,
        assignments=assignments or [],
        epsilons=epsilons,
        regimes=regimes,
        seed=seed,
        trials=trials,
    )
    _attack(name, ground_of, out, as_json, trials)


def _attack(
    name: str, ground_of: Callable[[Listener], Ground], out: Path, as_json: bool, trials: int
) -> None:
    """Carry out one attack or all, keep and show what was found, and insist that it holds."""
    from clients.contract.plain_json import json_text
    from simulations.attacks.catalogue import ATTACKS, find_attack

    rows = list(ATTACKS.values()) if name == ALL else [find_attack(name)]
    if trials and len(rows) > 1:
        raise typer.BadParameter(
            f"--trials {trials}: each attack counts something else ('attack list' says what); give "
            "it to one attack."
        )
    _check_place(ground_of(lambda stage, done, total: None), out)
    found: list[Result] = []
    faults: list[str] = []
    for number, row in enumerate(rows, start=1):
        with _quiet(), stage_bar() as listener:
            ground = ground_of(_numbered(listener, number, len(rows)))
            result = _carried_out(row, ground, faults if name == ALL else None)
        if result is not None:
            page = _kept(result, ground, out)
            found.append(result)
            if not as_json:
                _show(result, page)
    if as_json:
        content = [{"attack": one.attack, **one.to_json()} for one in found]
        typer.echo(json_text(content if name == ALL else found[0].to_json(), indent=2))
    _require(found, faults)


def _require(found: Sequence[Result], faults: Sequence[str]) -> None:
    """Insist that something was shown, that it holds, and that no attack failed to start.

    Raises:
        AttackFailed: nothing was, or a result says so.
        NotStarted: an attack could not be carried out where others were.
    """
    from simulations.attacks.result import AttackFailed
    from simulations.error_messages import NotStarted

    for one in found:
        one.require()
    if faults:
        raise NotStarted(" ".join(faults))
    if not found:
        raise AttackFailed("no attack applies here, so nothing was shown; see why above")


def _numbered(listener: Listener, number: int, attacks: int) -> Listener:
    """Say of several attacks which one it is."""

    def told(stage: str, done: int, total: int) -> None:
        listener(f"{number} of {attacks}: {stage}", done, total)

    return told if attacks > 1 else listener


def _carried_out(row: Attack, ground: Ground, faults: list[str] | None) -> Result | None:
    """Attack; of all attacks, say which one does not apply or cannot be carried out, and go on.

    Args:
        row: the attack.
        ground: what is attacked.
        faults: takes why one of several cannot be carried out; None: it is the only one.
    """
    from clients.contract.settings import SettingsError
    from simulations.error_messages import NotStarted

    try:
        return row.carry_out(ground)
    except SettingsError as error:
        if faults is None:
            raise
        typer.echo(f"left out, {row.title}: {'; '.join(error.faults)}", err=True)
    except NotStarted as error:
        if faults is None:
            raise
        faults.append(f"Not carried out, {row.title}: {error}")
        typer.echo(faults[-1], err=True)
    return None


def _list(as_json: bool) -> None:
    from simulations.attacks.catalogue import ATTACKS
    from simulations.inspection import print_table

    if as_json:
        rows = {
            name: {
                "title": one.title,
                "source": one.source,
                "trials": one.trials,
                "own_trials": one.own_trials,
            }
            for name, one in ATTACKS.items()
        }
        typer.echo(json.dumps(rows, indent=2))
        return
    columns = ["name", "what it tries", "--trials", "source"]
    print_table(
        "Attacks",
        columns,
        [
            (name, a.title, f"{a.trials} ({a.own_trials})" if a.trials else "-", a.source)
            for name, a in ATTACKS.items()
        ],
    )


def _ground(
    target: str,
    tell: Listener,
    *,
    assignments: Sequence[str],
    epsilons: str,
    regimes: str,
    seed: int,
    trials: int,
) -> Ground:
    """Return what is attacked: a run as it was, or a scenario as it is asked for."""
    from simulations.attacks.ground import EPSILONS, Ground, ground_of_run
    from simulations.scenario import find_scenario, resolve
    from strategies.run.reading import NoRun, find_run

    given: dict[str, Any] = {"seed": seed, "trials": trials, "listener": tell}
    if regimes:
        given["regimes"] = tuple(one.strip() for one in regimes.split(","))
    path = None
    try:
        path = find_run(target)
    except NoRun:
        if target == "latest":
            raise
        settings = resolve(find_scenario(target), assignments, {})
    else:
        if assignments:
            raise typer.BadParameter("--set changes a scenario; a run is attacked as it was.")
        settings = ground_of_run(path)
    own = settings.privacy.target_epsilon
    alone = path is not None and settings.regime.private and own
    given["epsilons"] = _numbers(epsilons) or ((own,) if alone else EPSILONS)
    return Ground(settings=settings, path=path, **given)


def _numbers(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(one) for one in text.split(",") if one.strip())
    except ValueError:
        raise typer.BadParameter(f"--epsilons {text}: write numbers, as in 1,3,10.") from None


def _kept(found: Result, ground: Ground, out: Path) -> Path:
    """Write a result where it belongs, with its figures and its page; return the page."""
    from simulations.attacks.result import keep_result
    from simulations.error_messages import asked_of_the_machine
    from simulations.launch import illustrate
    from simulations.pages.attack_page import write_attack_page
    from simulations.pages.template import REPORT

    if ground.path is not None:
        keep_result(ground.path, found)
        illustrate(ground.path)
        return ground.path / REPORT
    path = _place_of(ground, out)
    with asked_of_the_machine(path, "--out"):
        path.mkdir(parents=True, exist_ok=True)
    keep_result(path, found)
    return write_attack_page(path)


def _place_of(ground: Ground, out: Path) -> Path:
    """Return the folder that results go to."""
    return ground.path or out / f"attack-{ground.settings.run.scenario}"


def _check_place(ground: Ground, out: Path) -> None:
    """Refuse a folder in which results could not be kept, before anything is attacked.

    Raises:
        NotStarted: it cannot be written, or results that are there are damaged.
    """
    from simulations.attacks.result import kept_results
    from simulations.error_messages import asked_of_the_machine

    path = _place_of(ground, out)
    kept_results(path)
    there = next(one for one in (path.absolute(), *path.absolute().parents) if one.exists())
    with asked_of_the_machine(there, "--out"), tempfile.TemporaryFile(dir=there):
        pass


def _show(found: Result, page: Path) -> None:
    from rich.console import Console

    from clients.contract.printable import printable
    from simulations.pages.attacks import attack_columns, attack_rows
    from simulations.pages.tables import plain_table, show_table

    content = found.to_json()
    show_table(Console(), plain_table(found.title, attack_columns(content), attack_rows(content)))
    typer.echo(printable(f"control: {found.control.text}"))
    typer.echo(printable(f"attacked: {found.facts}; seed {found.seed}, {found.seconds:.1f} s"))
    typer.echo(printable(f"page: {page}"))


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep libraries' warnings, and logs of trainings, out of the terminal."""
    from simulations.launch import logging_to

    with (
        tempfile.TemporaryDirectory() as folder,
        logging_to(Path(folder) / "attack.log", "warning", terminal=False),
    ):
        yield
