"""The commands that compare ways of training together, and that publish what came of it."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from simulations.scenario import Scenario

COMPARE_EXAMPLES = "\n\n".join(
    [
        "Examples:",
        "flower-simulation compare regimes --jobs 2",
        "flower-simulation compare default --regimes C,CDP,F,FPDP,FSCDP --epsilons 0.5,1,3,10",
        "flower-simulation compare default --partitions iid,dirichlet:0.1 --set training.rounds=20",
        "flower-simulation compare default --tune training.learning-rate=0.3,1,3 --seeds 10",
    ]
)
#: A list is written with commas.
Listed = str
Regimes = Annotated[Listed, typer.Option(metavar="A,B,..", help="Of C, CDP, F, FPDP, FSCDP.")]
Exchanges = Annotated[
    Listed, typer.Option(metavar="A,B,..", help="As gradients:adam, weights:5, cyclic:3.")
]
Partitions = Annotated[
    Listed, typer.Option(metavar="A,B,..", help="As iid, dirichlet:0.1, pathological:1.")
]
Epsilons = Annotated[Listed, typer.Option(metavar="A,B,..", help="Targets.")]
Hospitals = Annotated[Listed, typer.Option(metavar="A,B,..", help="Numbers, K.")]
Seeds = Annotated[
    int | None, typer.Option(min=1, help="Trainings of each setup (5, or the scenario's).")
]
Measure = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        help="What is compared and tuned by: accuracy, balanced_accuracy, auc, dice, ... "
        "(accuracy; balanced where classes are uneven; of other tasks their first figure).",
    ),
]
Tune = Annotated[
    list[str] | None,
    typer.Option(metavar="KEY=A,B,..", help="Choose by --measure; may be given repeatedly."),
]
TuningSeeds = Annotated[
    int | None, typer.Option(min=1, help="Trainings a combination, on other seeds (5).")
]
Assignments = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change a setting of every training."),
]
Jobs = Annotated[int, typer.Option(min=1, help="Trainings at a time, a process each.")]
Out = Annotated[Path | None, typer.Option(metavar="DIR", help="Folder (runs/compare-SCENARIO).")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Print only the folder.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print comparison.json.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show tracebacks of errors.")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Printing:
    """What a comparison leaves on the terminal: tables, its folder alone, or its content."""

    quiet: bool = False
    as_json: bool = False

    @property
    def silent(self) -> bool:
        """Whether nothing is said before the end."""
        return self.quiet or self.as_json


def add_commands(app: typer.Typer) -> None:
    """Add the commands of this module to the command line."""
    app.command("compare", epilog=COMPARE_EXAMPLES)(compare)
    example = "Example: flower-simulation results-page runs/compare-regimes"
    app.command("results-page", epilog=example)(results_page)


def compare(
    scenario: Annotated[str, typer.Argument(help="A scenario's name, or a path to a .toml file.")],
    regimes: Regimes = "",
    exchanges: Exchanges = "",
    partitions: Partitions = "",
    epsilons: Epsilons = "",
    hospitals: Hospitals = "",
    seeds: Seeds = None,
    tune: Tune = None,
    tuning_seeds: TuningSeeds = None,
    measure: Measure = "",
    assignments: Assignments = None,
    jobs: Jobs = 1,
    out: Out = None,
    quiet: Quiet = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Compare ways of training together, on the same seeds.

    Every combination of what is listed is trained once a seed; what is not listed is as the
    scenario says. The same command again goes on where it was stopped.
    """
    from simulations.scenario import find_scenario

    found = find_scenario(scenario)
    given = {
        "regimes": _words(regimes),
        "exchanges": _words(exchanges),
        "partitions": _words(partitions),
        "epsilons": _numbers("--epsilons", epsilons, float),
        "hospitals": _numbers("--hospitals", hospitals, int),
        "seeds": seeds,
        "tune": _tuning(tune or []) or None,
        "tuning_seeds": tuning_seeds,
        "measure": measure,
        "assignments": tuple(assignments or ()),
    }
    folder = out or Path("runs") / f"compare-{found.name}"
    _compare(found, given, folder, jobs, Printing(quiet=quiet, as_json=as_json))


def _compare(
    scenario: Scenario, given: Mapping[str, Any], folder: Path, jobs: int, printing: Printing
) -> None:
    """Run what was asked for and print what came of it; exit with 1 if a training failed."""
    from rich.console import Console

    from clients.contract.plain_json import json_text
    from clients.contract.printable import printable
    from simulations.compare.comparison import Comparison, axes_of
    from simulations.error_messages import interrupted

    comparison = Comparison(
        out=folder,
        jobs=jobs,
        command=["flower-simulation", *sys.argv[1:]],
        console=None if printing.silent else Console(stderr=True),
    )
    try:
        content = comparison.run(scenario, axes_of(scenario, given))
    except KeyboardInterrupt as error:
        text = f"finished trainings are in {folder}. The same command goes on from there."
        raise interrupted(f"Interrupted; {text}", error) from None
    _illustrate(content, folder)
    if printing.as_json:
        typer.echo(json_text(content, indent=2))
    elif printing.quiet:
        typer.echo(printable(str(folder)))
    else:
        _print(content, folder)
    if content["failed"]:
        raise typer.Exit(1)


def results_page(
    folders: Annotated[
        list[Path] | None, typer.Argument(metavar="[FOLDER]...", help="Folders of comparisons.")
    ] = None,
    into: Annotated[Path, typer.Option(metavar="DIR", help="Where the page lies.")] = Path("docs"),
) -> None:
    """Write docs/results.md from comparisons; those added before stay on it."""
    from simulations.compare.folder import read_comparison
    from simulations.compare.page import write_results_page

    contents = [read_comparison(folder) for folder in folders or ()]
    typer.echo(write_results_page(contents, into))


def _illustrate(content: dict[str, Any], folder: Path) -> None:
    from simulations.compare.figures import draw_comparison
    from simulations.compare.report import write_comparison_report

    draw_comparison(content, folder / "figures")
    write_comparison_report(content, folder)


def _print(content: dict[str, Any], folder: Path) -> None:
    from rich.console import Console

    from clients.contract.printable import printable
    from simulations.compare.tables import terminal_tables
    from simulations.pages.tables import show_table

    console = Console()
    for part in terminal_tables(content):
        show_table(console, part)
    for name, path in (("comparison", folder), ("report", folder / "report.html")):
        text = printable(f"{name}: {path}")
        console.print(text, soft_wrap=True, markup=False, highlight=False)


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())


def _numbers(option: str, text: str, kind: type[float] | type[int]) -> tuple[float, ...]:
    try:
        return tuple(kind(word) for word in _words(text))
    except ValueError:
        noun = "whole numbers" if kind is int else "numbers"
        raise typer.BadParameter(f"{option} {text!r}: write {noun} with commas.") from None


def _tuning(texts: list[str]) -> dict[str, tuple[Any, ...]]:
    """Read ``key=a,b`` texts."""
    from simulations.scenario import read_assignments

    found: dict[str, tuple[Any, ...]] = {}
    for text in texts:
        key, equals, listed = text.partition("=")
        if not equals or not _words(listed):
            raise typer.BadParameter(f"--tune {text!r}: write key=value,value.")
        read = [read_assignments([f"{key}={word}"])[0][key.strip()] for word in _words(listed)]
        found[key.strip()] = tuple(read)
    return found
