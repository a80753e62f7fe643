"""The commands that train nothing: they show scenarios, plans, accounts and finished runs."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
Hospitals = Annotated[int, typer.Option(min=1, help="Hospitals, K.")]
Dropouts = Annotated[int, typer.Option(min=0, help="Missing hospitals tolerated in a round.")]
Colluders = Annotated[int, typer.Option(min=0, help="Colluding hospitals tolerated.")]
SamplingRate = Annotated[float, typer.Option(help="Chance of a patient to be in a round, q.")]
Delta = Annotated[float, typer.Option(help="Delta.")]
Names = Annotated[
    list[str],
    typer.Argument(
        metavar="RUN...", help="Folders of runs or comparisons, names in runs/, or 'latest'."
    ),
]


def add_commands(app: typer.Typer) -> None:
    """Add the commands of this module to the command line."""
    examples: dict[Callable[..., None], str] = {
        scenarios: "flower-simulation scenarios",
        settings: "flower-simulation settings",
        sealing_plan: "flower-simulation sealing-plan --parameters 725061 --hospitals 10",
        account: "flower-simulation account --sampling-rate 0.0341297 --noise-multiplier 1.15 "
        "--rounds 3001 --delta 1e-4 --hospitals 10",
        ledger: "flower-simulation ledger latest",
        exchanges: "flower-simulation exchanges",
        figures: "flower-simulation figures latest",
        report: "flower-simulation report latest",
    }
    for command, example in examples.items():
        name = command.__name__.replace("_", "-")
        app.command(name, epilog=f"Example: {example}")(command)


def scenarios(as_json: AsJson = False) -> None:
    """List the scenarios that 'run' knows."""
    from simulations.scenario import list_scenarios

    found = list_scenarios()
    if as_json:
        _print_json({one.name: {"title": one.title, **one.config} for one in found})
        return
    print_table("Scenarios", ["name", "what it is"], [(one.name, one.title) for one in found])


def settings(as_json: AsJson = False) -> None:
    """List every setting with its default.

    --set, scenario files and Flower's --run-config take the same keys.
    """
    from clients.contract.settings import DEFAULTS, describe_keys

    if as_json:
        _print_json(DEFAULTS)
        return
    rows = [(key, json.dumps(DEFAULTS[key]), text) for key, text in describe_keys().items()]
    print_table("Settings", ["key", "default", "what it is"], rows)


def sealing_plan(
    parameters: Annotated[int, typer.Option(min=1, help="Values in a vector, d.")],
    hospitals: Hospitals,
    scheme: Annotated[str, typer.Option(help="plain, modular, bfv, ckks or one-time.")] = "bfv",
    key_mode: Annotated[str, typer.Option(help="auto, public or symmetric.")] = "auto",
    regime: Annotated[str, typer.Option(help="FSCDP, FPDP or F.")] = "FSCDP",
    noise_multiplier: Annotated[float, typer.Option(help="Sigma.")] = 1.15,
    sampling_rate: SamplingRate = 0.0341,
    patients: Annotated[int, typer.Option(min=1, help="Patients of the largest hospital.")] = 293,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds, T.")] = 3001,
    delta: Delta = 1e-4,
    l2_clip: Annotated[float, typer.Option(help="Bound on a patient's gradient norm, C.")] = 1.0,
    dropouts: Dropouts = 0,
    colluders: Colluders = 0,
    bits: Annotated[int, typer.Option(min=2, help="Bits per value where there is no noise.")] = 20,
    as_json: AsJson = False,
) -> None:
    """Show how a vector is packed and sealed, and its bytes.

    Values get the bits that the guarantee needs. Defaults are those of Dopamine's run.
    """
    from accounting.vocabulary import REGIMES, SCHEMES
    from simulations.sealing_preview import SealingPreview

    for what, name, known in (("regime", regime, REGIMES), ("scheme", scheme, SCHEMES)):
        if name not in known:
            raise typer.BadParameter(f"{name!r} is no {what}; known: {', '.join(known)}.")
    preview = SealingPreview(
        parameters=parameters,
        hospitals=hospitals,
        dropouts=dropouts,
        colluders=colluders,
        scheme=scheme,
        key_mode=key_mode,
        regime=regime,
        noise_multiplier=noise_multiplier,
        sampling_rate=sampling_rate,
        patients=patients,
        rounds=rounds,
        delta=delta,
        l2_clip=l2_clip,
        bits=bits,
    )
    with _faults_as_usage():
        described = preview.plan().describe()
    if as_json:
        _print_json(described)
        return
    rows = [(key, _cell(key, value)) for key, value in described.items()]
    print_table("Sealing plan", ["what", "value"], rows)


def account(
    sampling_rate: SamplingRate,
    rounds: Annotated[int, typer.Option(help="Rounds, T.")],
    delta: Delta = 1e-4,
    noise_multiplier: Annotated[float | None, typer.Option(help="Sigma.")] = None,
    target_epsilon: Annotated[
        float | None, typer.Option(help="Find the noise multiplier for this epsilon instead.")
    ] = None,
    regime: Annotated[str, typer.Option(help="FSCDP, FPDP, CDP, F or C.")] = "FSCDP",
    hospitals: Hospitals = 10,
    dropouts: Dropouts = 0,
    colluders: Colluders = 0,
    accountant: Annotated[str, typer.Option(help="For --target-epsilon: prv or rdp.")] = "prv",
    as_json: AsJson = False,
) -> None:
    """Say who could learn what about a patient, before a run."""
    from accounting import statement

    given = {
        "training.sampling-rate": sampling_rate,
        "training.rounds": rounds,
        "privacy.delta": delta,
        "privacy.noise-multiplier": noise_multiplier,
        "privacy.target-epsilon": target_epsilon,
        "privacy.regime": regime,
        "privacy.dropouts": dropouts,
        "privacy.colluders": colluders,
        "privacy.accountant": accountant,
        "partition.hospitals": hospitals,
    }
    _check_as_a_run(given)
    with _faults_as_usage():
        planned = statement.PlannedRun(
            sampling_rate=sampling_rate,
            rounds=rounds,
            delta=delta,
            noise_multiplier=noise_multiplier,
            target_epsilon=target_epsilon,
            accountant=accountant,
            hospitals=hospitals,
            dropouts=dropouts,
            colluders=colluders,
            regime=regime,
        )
        answer = statement.account(planned)
    if as_json:
        _print_json(answer)
        return
    _print_account(answer)


def _check_as_a_run(given: Mapping[str, Any]) -> None:
    """Refuse what a run would refuse.

    Raises:
        typer.BadParameter: with every fault.
    """
    from clients.contract.settings import Settings, SettingsError

    noise = dict.fromkeys(("privacy.noise-multiplier", "privacy.target-epsilon"), 0.0)
    told = {key: value for key, value in given.items() if value is not None}
    try:
        Settings.from_config({**noise, **told})
    except SettingsError as error:
        raise typer.BadParameter("\n".join(["no run can be so.", *error.faults])) from None


def _print_account(answer: Mapping[str, Any]) -> None:
    from rich.console import Console

    from simulations.pages.tables import observer_table, show_table
    from simulations.pages.wording import epsilon_text

    rows = [("noise multiplier", f"{answer['noise_multiplier']:.4g}")]
    for name, value in answer["epsilon"].items():
        text = value if isinstance(value, str) else epsilon_text(value)
        rows.append((f"epsilon ({name})", text))
    print_table("Of the sums that are released", ["what", "value"], rows)
    if answer["observers"]:
        console = Console()
        table = observer_table(answer["observers"])
        show_table(console, table)


def ledger(
    name: Annotated[
        str, typer.Argument(metavar="RUN|FILE", help="A run folder, or a ledger file.")
    ],
    delta: Annotated[
        float | None, typer.Option(help="Delta of the epsilon shown (the run's, else 1e-4).")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Print what was spent on patients, when, and on what."""
    from simulations.pages.account_book import overview_rows, read_statements, spending_rows

    with _faults_as_usage():
        statements = read_statements(name, delta)
    if as_json:
        _print_json(statements)
        return
    delta_text = f"{statements[0]['delta']:g}"
    title = f"Spent on patients (UTC; epsilon by RDP at delta {delta_text}, by what runs claim)"
    columns = ["whose", "entries#", "first", "last", "epsilon#"]
    print_table(title, columns, overview_rows(statements))
    first = statements[0]
    columns = ["training", "purpose", "rounds", "entries#", "mechanism"]
    print_table(f"On what: {first['site']}, {first['cohort']}", columns, spending_rows(first))


def exchanges(as_json: AsJson = False) -> None:
    """Show which exchange is sound with which noise and sealing.

    Everything else is refused.
    """
    from clients.contract.soundness import SOUND

    rows = [
        (exchange, noise, ", ".join(row.schemes), row.accounting)
        for (exchange, noise), row in SOUND.items()
    ]
    columns = ["exchange", "noise", "schemes", "accounting"]
    if as_json:
        _print_json([dict(zip(columns, row, strict=True)) for row in rows])
        return
    print_table("Sound combinations", columns, rows)


def figures(names: Names) -> None:
    """Draw the figures of runs and comparisons anew, from their files alone."""
    from simulations.compare.figures import draw_comparison
    from simulations.compare.folder import read_comparison
    from simulations.pages.figures import draw_figures
    from strategies.run.reading import read_run

    for path, is_comparison in _found(names):
        if is_comparison:
            files = draw_comparison(read_comparison(path), path / "figures")
        else:
            files = draw_figures(read_run(path))
        for file in files:
            _print_path(file)


def report(names: Names) -> None:
    """Write report.html: a page to read, send or print.

    It needs no network and no other file.
    """
    from simulations.compare.folder import read_comparison
    from simulations.compare.report import write_comparison_report
    from simulations.pages.report import write_report
    from strategies.run.reading import read_run

    for path, is_comparison in _found(names):
        if is_comparison:
            _print_path(write_comparison_report(read_comparison(path), path))
        else:
            _print_path(write_report(read_run(path)))


def _found(names: Sequence[str]) -> list[tuple[Path, bool]]:
    """Return each folder that was named, all found first, and whether it is a comparison's."""
    from simulations.compare.folder import find_comparison
    from strategies.run.reading import find_run

    found = []
    for name in names:
        comparison = find_comparison(name)
        found.append((comparison or find_run(name), comparison is not None))
    return found


@contextmanager
def _faults_as_usage() -> Iterator[None]:
    """Turn a parameter that accounting or crypto refuses into an error of usage."""
    from accounting.errors import AccountingError, LedgerError
    from crypto.errors import SealingError

    try:
        yield
    except (AccountingError, LedgerError, SealingError) as error:
        raise typer.BadParameter(str(error)) from error


def _cell(key: str, value: int | float | str) -> str:
    if key.startswith("bytes") and isinstance(value, int):
        from simulations.pages.wording import bytes_text

        return f"{value:,} ({bytes_text(value)})"
    if isinstance(value, float):
        return f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) else value


def _print_path(path: Path) -> None:
    from clients.contract.printable import printable

    typer.echo(printable(str(path)))


def _print_json(content: Mapping[str, Any] | Sequence[Any]) -> None:
    from clients.contract.plain_json import json_text

    typer.echo(json_text(content, indent=2))


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table of texts; columns whose name ends in ``#`` hold numbers."""
    from rich.console import Console

    from simulations.pages.tables import plain_table, show_table

    console = Console()
    show_table(console, plain_table(title, columns, rows))
