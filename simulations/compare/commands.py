"""The commands that compare ways of training together, and that publish what came of it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

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


def add_commands(app: typer.Typer) -> None:
    """Add the commands of this module to the command line."""
    app.command("compare", epilog=COMPARE_EXAMPLES)(compare)
    example = "Example: flower-simulation results-page runs/compare-regimes"
    app.command("results-page", epilog=example)(results_page)


def compare(
    scenario: Annotated[str, typer.Argument(help="A scenario's name, or a path to a .toml file.")],
    regimes: Annotated[
        Listed, typer.Option(metavar="A,B,..", help="Of C, CDP, F, FPDP, FSCDP.")
    ] = "",
    exchanges: Annotated[
        Listed, typer.Option(metavar="A,B,..", help="As gradients:adam, weights:5, cyclic:3.")
    ] = "",
    partitions: Annotated[
        Listed, typer.Option(metavar="A,B,..", help="As iid, dirichlet:0.1, pathological:1.")
    ] = "",
    epsilons: Annotated[Listed, typer.Option(metavar="A,B,..", help="Targets.")] = "",
    hospitals: Annotated[Listed, typer.Option(metavar="A,B,..", help="Numbers, K.")] = "",
    seeds: Annotated[
        int | None, typer.Option(min=1, help="Trainings of each setup (5, or the scenario's).")
    ] = None,
    tune: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=A,B,..", help="Choose by accuracy; may be given repeatedly."),
    ] = None,
    tuning_seeds: Annotated[
        int | None, typer.Option(min=1, help="Trainings a combination, on other seeds (3).")
    ] = None,
    assignments: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change a setting of every training."),
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Trainings at a time, a process each.")] = 1,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder (runs/compare-SCENARIO).")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print only the folder.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print comparison.json.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks of errors.")] = False,
) -> None:
    """Compare ways of training together, on the same seeds.

    Every combination of what is listed is trained once a seed; what is not listed is as the
    scenario says. The same command again goes on where it was stopped.
    """
    import json

    from rich.console import Console

    from simulations.compare.comparison import Comparison, axes_of
    from simulations.launch import Interrupted
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
        "assignments": tuple(assignments or ()),
    }
    folder = out or Path("runs") / f"compare-{found.name}"
    silent = quiet or as_json
    comparison = Comparison(
        out=folder,
        jobs=jobs,
        command=["flower-simulation", *sys.argv[1:]],
        console=None if silent else Console(stderr=True),
    )
    try:
        content = comparison.run(found, axes_of(found, given))
    except KeyboardInterrupt:
        raise Interrupted(
            f"Interrupted; finished trainings are in {folder}. The same command goes on from there."
        ) from None
    _illustrate(content, folder)
    if as_json:
        typer.echo(json.dumps(content, indent=2))
    elif quiet:
        typer.echo(folder)
    else:
        _print(content, folder)
    if comparison.failed:
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

    from simulations.compare.tables import terminal_tables
    from simulations.pages.tables import WIDTH

    console = Console()
    for part in terminal_tables(content):
        console.print(part, width=min(WIDTH, console.width))
    for name, path in (("comparison", folder), ("report", folder / "report.html")):
        console.print(f"{name}: {path}", soft_wrap=True, markup=False, highlight=False)


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
