"""``flower-simulation``: run a federation on this machine, and read what it left behind.

Nothing heavy is imported before a command needs it. Every error that a user can cause is one
paragraph that says what to do; the exit code is 2 for what was asked wrongly (nothing was started),
1 for a run that failed, 130 after Ctrl-C, 143 after SIGTERM.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import click
import typer

from simulations import describe, inspection
from simulations.attacks import commands as attack_commands
from simulations.audit import commands as audit_commands
from simulations.compare import commands as compare_commands
from simulations.error_messages import FAILED, INTERRUPTED, TERMINATED
from simulations.prediction import commands as prediction_commands
from simulations.versions import Version

if TYPE_CHECKING:
    from simulations.scenario import Scenario

EXAMPLES = "\n\n".join(
    [
        "Examples:",
        "flower-simulation",
        "flower-simulation run default --set privacy.regime=FPDP --seed 1",
        "flower-simulation run chest-xray --set data.dir=~/data",
        "flower-simulation compare regimes --jobs 2",
        "flower-simulation --app . --num-supernodes 10",
    ]
)

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)

Assignments = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change a setting; may be given repeatedly."),
]
Supernodes = Annotated[
    int | None,
    typer.Option("--num-supernodes", metavar="K", help="Hospitals (partition.hospitals)."),
]
Seed = Annotated[
    int | None, typer.Option(help="Make the run repeatable (run.seed); gives no guarantee.")
]
Out = Annotated[Path, typer.Option(metavar="DIR", help="Where run folders are made.")]
Engine = Annotated[str, typer.Option(help="ray: our own; flower: Flower's ('flwr run').")]
RayAddress = Annotated[
    str, typer.Option(help="An existing Ray cluster ('auto' or host:port); else one is started.")
]
Actors = Annotated[int, typer.Option(help="Processes of hospitals; 0: as many as fit.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Print only the run folder.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show logs, and tracebacks of errors.")]
RunName = Annotated[
    str, typer.Argument(metavar="RUN", help="A run folder, its name in runs/, or 'latest'.")
]


@app.callback(invoke_without_command=True, epilog=EXAMPLES)
def start(
    context: typer.Context,
    app_folder: Annotated[
        Path | None, typer.Option("--app", metavar="DIR", help="This app's folder (old form).")
    ] = None,
    run_config: Annotated[
        str, typer.Option(metavar="TEXT", help="Settings as Flower writes them (old form).")
    ] = "",
    num_supernodes: Supernodes = None,
    seed: Seed = None,
    out: Out = Path("runs"),
    engine: Engine = "ray",
    quiet: Quiet = False,
    as_json: AsJson = False,
    debug: Debug = False,
    version: Version = False,
) -> None:
    """Train one model across simulated hospitals, with a stated privacy guarantee.

    Without a command, the default scenario is run.
    """
    if context.invoked_subcommand is not None:
        _refuse_misplaced_options(context)
        return
    from simulations.scenario import Scenario, find_scenario, split_run_config

    if app_folder is None:
        scenario = find_scenario("default")
    else:
        _check_app(app_folder)
        scenario = Scenario(name="app", title="the app's own config table")
    _run(
        scenario,
        split_run_config(run_config),
        num_supernodes=num_supernodes,
        seed=seed,
        out=out,
        options={"engine": engine},
        output={"quiet": quiet, "as_json": as_json, "debug": debug},
    )


@app.command(epilog=EXAMPLES)
def run(
    scenario: Annotated[str, typer.Argument(help="A scenario's name, or a path to a .toml file.")],
    assignments: Assignments = None,
    num_supernodes: Supernodes = None,
    seed: Seed = None,
    out: Out = Path("runs"),
    engine: Engine = "ray",
    ray_address: RayAddress = "",
    actors: Actors = 0,
    quiet: Quiet = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Run a scenario.

    'scenarios' lists them; 'settings' lists what --set can change.
    """
    from simulations.scenario import find_scenario

    _run(
        find_scenario(scenario),
        assignments or [],
        num_supernodes=num_supernodes,
        seed=seed,
        out=out,
        options={"engine": engine, "ray_address": ray_address, "actors": actors},
        output={"quiet": quiet, "as_json": as_json, "debug": debug},
    )


@app.command(epilog="Example: flower-simulation resume latest")
def resume(
    run_name: RunName,
    engine: Engine = "ray",
    quiet: Quiet = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Take up an interrupted run at its last round.

    Its ledgers stay as they are: nothing that was spent is forgotten.
    """
    _begin_engine(engine)

    from simulations import launch
    from strategies.run.reading import find_run

    output = launch.Output(quiet=quiet, as_json=as_json, debug=debug)
    launch.resume(find_run(run_name), {"engine": engine}, output, command=_command())


@app.command(
    epilog="Examples:\n\nflower-simulation watch latest\n\nflower-simulation watch trial/superlink"
)
def watch(
    run_name: Annotated[
        str,
        typer.Argument(
            metavar="RUN",
            help="A run folder, its name in runs/, 'latest', or a SuperLink's folder (newest run).",
        ),
    ],
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Follow a running run from another terminal.

    It ends with the run, or with Ctrl-C; the run itself goes on. The exit code is 1 for a run that
    did not finish.
    """
    from simulations.launch import Output, follow_to_end
    from strategies.run.reading import find_run

    if not follow_to_end(find_run(run_name), Output(quiet=quiet, as_json=as_json)):
        raise typer.Exit(FAILED)


def _run(
    scenario: Scenario,
    assignments: Sequence[str],
    *,
    num_supernodes: int | None,
    seed: int | None,
    out: Path,
    options: dict[str, str | int],
    output: dict[str, bool],
) -> None:
    address = str(options.get("ray_address", ""))
    _begin_engine(str(options["engine"]), address)

    from simulations.launch import Output, launch, make_run_folder
    from simulations.preflight import check_run
    from simulations.scenario import check_model, resolve

    given = {"partition.hospitals": num_supernodes, "run.seed": seed}
    overrides = {key: value for key, value in given.items() if value is not None}
    settings = resolve(scenario, assignments, overrides)
    checked = check_run(settings, ray_address=address)
    check_model(settings)
    settings = make_run_folder(settings, out, option="--out")
    launch(settings, options, Output(**output), command=_command(), checked=checked)


def _begin_engine(name: str, ray_address: str = "") -> None:
    """Check which engine it is, and begin to import what our own's processes need."""
    if name not in ("ray", "flower"):
        raise typer.BadParameter(f"{name!r} is no engine; known: ray, flower.")
    if name == "ray" and not ray_address:
        from simulations.engines.forks import start_forks

        start_forks()


def _check_app(folder: Path) -> None:
    from simulations.app_folder import app_folder

    if folder.resolve() != (own := app_folder()):
        raise typer.BadParameter(
            f"--app {folder} is not this app's folder ({own}). "
            "Another app runs with 'flwr run PATH'."
        )


def _refuse_misplaced_options(context: typer.Context) -> None:
    source = click.core.ParameterSource.COMMANDLINE
    given = [name for name in context.params if context.get_parameter_source(name) is source]
    given = [name for name in given if name != "debug"]
    if given:
        option = given[0].replace("app_folder", "app").replace("_", "-")
        raise typer.BadParameter(
            f"--{option} stands before the command {context.invoked_subcommand!r}; "
            "write options after it."
        )


attack_commands.add_commands(app)
audit_commands.add_commands(app)
compare_commands.add_commands(app)
prediction_commands.add_commands(app)
inspection.add_commands(app)
app.command(epilog=describe.EXAMPLES)(describe.describe)


def _command() -> list[str]:
    return ["flower-simulation", *sys.argv[1:]]


def _takes_debug(words: Sequence[str]) -> bool:
    """Whether the command has a --debug option of its own; those that train nothing have none."""
    command = next((word for word in words if not word.startswith("-")), "run")
    looks = {one.name for one in app.registered_commands} | {"watch"}
    return command not in looks - {"compare"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    from simulations.error_messages import show_error
    from simulations.signals import heeding_sigterm

    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words
    if debug and not _takes_debug(words):
        words.remove("--debug")
    try:
        with heeding_sigterm() as sigterm:
            result = app(words, prog_name="flower-simulation", standalone_mode=False)
    except (Exception, KeyboardInterrupt) as error:
        result = show_error(error, debug=debug)
    # Click and Ray make an interrupt of their own of what was raised in them.
    if result == INTERRUPTED and sigterm.is_set():
        return TERMINATED
    return result if isinstance(result, int) else 0


if __name__ == "__main__":
    sys.exit(main())
