"""``asclepias``: the same app at real hospitals.

One command for each thing that an engineer does: make a consortium, run its SuperLink, run a
hospital's SuperNode, submit a scenario, see how things stand, check that all is well.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deployment import model_commands
from deployment.clinic.command import clinic
from deployment.deidentify import EPILOG, deidentify
from deployment.inference.commands import infer
from deployment.ledger_commands import ledgers
from simulations.versions import Version

if TYPE_CHECKING:
    from clients.contract.settings import Settings

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)

Superlink = Annotated[
    Path, typer.Argument(metavar="DIR", help="The SuperLink's folder, or the consortium's.")
]
SuperlinkOption = Annotated[
    Path, typer.Option("--superlink", metavar="DIR", help="The SuperLink's folder.")
]
Site = Annotated[Path, typer.Option(metavar="DIR", help="The hospital's folder.")]
Assignments = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change a setting; may be given repeatedly."),
]

Wait = Annotated[
    float,
    typer.Option(metavar="SECONDS", min=0.0, help="How long to wait for hospitals to connect."),
]

app.add_typer(ledgers, name="ledger")
app.add_typer(infer, name="infer")
app.command("clinic", epilog="Example: asclepias clinic clinic/patients/ada --open")(clinic)
app.command("deidentify", epilog=EPILOG)(deidentify)
model_commands.add_commands(app)


@app.callback()
def start(version: Version = False) -> None:
    """Run the app at real hospitals: keys, SuperLink, SuperNodes, runs, checks."""


@app.command(
    epilog="\n\n".join(
        [
            "Examples:",
            "asclepias init consortium --address fl.example.org:9092 --hospital lyon "
            "--hospital turin --hospital berlin --data csv:visits.csv",
            "asclepias init consortium --hospital a --hospital b --hospital c --hospital d "
            "--hospital e --dropouts 1",
            "asclepias init consortium --benchmark default --set partition.hospitals=3",
        ]
    )
)
def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A new folder.")],
    hospital: Annotated[list[str] | None, typer.Option(help="A hospital's name.")] = None,
    address: Annotated[
        str, typer.Option(metavar="HOST:PORT", help="Where hospitals reach the SuperLink.")
    ] = "127.0.0.1:9092",
    data: Annotated[str, typer.Option(help="data.name in each site.toml.")] = "csv:patients.csv",
    data_dir: Annotated[str, typer.Option(help="data.dir in each site.toml.")] = "data",
    benchmark: Annotated[
        str, typer.Option(metavar="SCENARIO", help="Stand-in hospitals of a public benchmark.")
    ] = "",
    scheme: Annotated[
        str, typer.Option(help="Sealing of the drafted run: one-time, whose keys nobody holds.")
    ] = "",
    dropouts: Annotated[
        int, typer.Option(min=0, help="Hospitals that may be missing in a round of it.")
    ] = 0,
    assignments: Assignments = None,
    test_mode: Annotated[
        bool, typer.Option("--test-mode", help="Sites allow seeded runs (benchmark data only).")
    ] = False,
) -> None:
    """Make a consortium's folder: authority, server certificate, every hospital's keys and file."""
    from deployment.bundle import bundle_digest
    from deployment.consortium import make_consortium
    from deployment.errors import DeploymentError
    from deployment.report import show_consortium

    values: dict[str, str | bool] = {"name": data, "dir": data_dir}
    names = hospital or []
    if benchmark:
        if hospital:
            raise DeploymentError("--benchmark names the hospitals itself; leave --hospital out.")
        if scheme or dropouts:
            raise DeploymentError("--benchmark takes the sealing from its scenario and --set.")
        names, values, scheme, dropouts = _benchmark(benchmark, assignments or [])
    elif test_mode:
        raise DeploymentError("--test-mode is for --benchmark: seeded runs give no privacy.")
    consortium = make_consortium(
        folder,
        address=address,
        hospitals=names,
        data=values,
        partitions=bool(benchmark),
        test_mode=test_mode,
        allowed_apps=[bundle_digest()],
        scheme=scheme or "one-time",
        dropouts=dropouts,
    )
    show_consortium(consortium)


def _benchmark(
    scenario: str, assignments: list[str]
) -> tuple[list[str], dict[str, str | bool], str, int]:
    from clients.data import Cohorts
    from deployment.errors import DeploymentError
    from deployment.submission import settings_of

    settings = settings_of(scenario, assignments, {})
    if not settings.data.public:
        raise DeploymentError(f"{scenario} is not of public data, so no part of it stands in.")
    values: dict[str, str | bool] = {"name": settings.data.name, "public": True}
    if settings.data.dir:
        values["dir"] = settings.data.dir
    names = list(Cohorts().split(settings, settings.partition.hospitals).names)
    return names, values, settings.sealing.scheme, settings.privacy.dropouts


@app.command(epilog="Example: asclepias superlink consortium/superlink")
def superlink(
    folder: Superlink = Path("consortium/superlink"),
    host: Annotated[str, typer.Option(help="Interface to listen on.")] = "0.0.0.0",
) -> None:
    """Run the SuperLink in the foreground, with TLS and node authentication.

    The keys in its folder nodes/, and no others, may connect. Ctrl-C or SIGTERM ends it; its
    database stays.
    """
    from deployment.report import line
    from deployment.superlink import register_nodes, start_superlink
    from deployment.superlink_folder import read_superlink

    link = read_superlink(folder)
    process = start_superlink(link, host=host)

    def end(number: int, frame: object) -> None:
        process.terminate()

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    try:
        added, removed = register_nodes(link)
        for name in added:
            line(True, f"registered {name}")
        for name in removed:
            line(True, f"unregistered {name}: its key is no longer in nodes/")
        line(True, f"ready on {link.address}; log: {link.folder / 'superlink.log'}")
    except BaseException:
        process.terminate()
        raise
    code = process.wait()
    if code not in (0, -signal.SIGTERM, -signal.SIGINT):
        raise typer.Exit(1)


@app.command(epilog="Example: asclepias supernode --site consortium/sites/lyon")
def supernode(site: Site = Path()) -> None:
    """Run a hospital's SuperNode in the foreground; it runs allowed bundles only."""
    from clients.site.site_file import read_site_file
    from deployment.supernode import run_supernode

    run_supernode(read_site_file(site / "site.toml"))


@app.command(
    epilog="Example: asclepias submit default --superlink consortium/superlink "
    "--set partition.hospitals=3"
)
def submit(
    scenario: Annotated[str, typer.Argument(help="A scenario's name, or a path to a .toml file.")],
    folder: SuperlinkOption = Path("consortium/superlink"),
    assignments: Assignments = None,
    seed: Annotated[int | None, typer.Option(help="Repeatable (sites in test mode only).")] = None,
    follow: Annotated[bool, typer.Option(help="Show progress until the run ends.")] = True,
    wait: Wait = 0.0,
) -> None:
    """Submit a scenario to the SuperLink; on its own machine only."""
    from deployment import submission as submissions

    overrides = {} if seed is None else {"run.seed": seed}
    settings = submissions.settings_of(scenario, assignments or [], overrides)
    _submit(folder, settings, follow, wait)


@app.command(
    epilog="Example: asclepias resume consortium/superlink/runs/20260101-120000-default "
    "--superlink consortium/superlink"
)
def resume(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The run's folder.")],
    folder: SuperlinkOption = Path("consortium/superlink"),
    follow: Annotated[bool, typer.Option(help="Show progress until the run ends.")] = True,
    wait: Wait = 0.0,
) -> None:
    """Go on with a training that stopped: same settings, same ledgers, from its last round."""
    from simulations.launch import training_to_resume

    _submit(folder, training_to_resume(run), follow, wait)


def _submit(folder: Path, settings: Settings, follow: bool, wait: float) -> None:
    from deployment import submission as submissions
    from deployment.report import follow_run, line
    from deployment.superlink_folder import read_superlink
    from simulations.launch import write_provenance

    link = read_superlink(folder)
    made = submissions.submit(link, settings, wait_seconds=wait)
    write_provenance(made.folder, ["asclepias", *sys.argv[1:]])
    line(True, f"run {made.run_id} is submitted; its folder is {made.folder}")
    if follow and not follow_run(link, made):
        raise typer.Exit(1)


@app.command(epilog="Example: asclepias status consortium/superlink")
def status(folder: Superlink = Path("consortium/superlink")) -> None:
    """Show which hospitals are connected and how the last runs stand."""
    from deployment.report import show_status
    from deployment.superlink_folder import read_superlink

    show_status(read_superlink(folder))


@app.command(
    epilog="Examples:\n\nasclepias check --site consortium/sites/lyon\n\n"
    "asclepias check --superlink consortium/superlink"
)
def check(
    site: Annotated[Path | None, typer.Option(metavar="DIR", help="A hospital's folder.")] = None,
    folder: Annotated[
        Path | None, typer.Option("--superlink", metavar="DIR", help="The SuperLink's folder.")
    ] = None,
) -> None:
    """Check certificates, keys, ports, clock, versions, data and limits: green or red lines."""
    from deployment.checks import check_site, check_superlink
    from deployment.errors import DeploymentError
    from deployment.report import line

    if (site is None) == (folder is None):
        raise DeploymentError("say what to check: --site DIR or --superlink DIR.")
    found = check_site(site) if site is not None else check_superlink(folder or Path())
    sound = True
    for finding in found:
        line(finding.good, finding.text)
        sound &= finding.good is not False
    if not sound:
        raise typer.Exit(1)


@app.command(name="check-data", epilog="Example: asclepias check-data --site consortium/sites/lyon")
def check_data(site: Site = Path()) -> None:
    """Read a hospital's own records: what is in them, and whether they fit what it declares.

    A note counts what could not be read: a missing value, or no record, in training too.
    """
    from deployment.check_data import check_data as findings
    from deployment.report import line

    for finding in findings(site):
        line(finding.good, finding.text)


@app.command(epilog="Example: asclepias keys --site /srv/asclepias/lyon")
def keys(site: Site = Path()) -> None:
    """Make a hospital's keys on its own machine, in place of none; nothing is overwritten."""
    from deployment.consortium import make_keys
    from deployment.errors import DeploymentError
    from deployment.report import line

    try:
        fingerprint, public = make_keys(site)
    except FileExistsError as error:
        raise DeploymentError(f"{error.filename} exists already; move it away first.") from None
    line(True, f"for the SuperLink's folder nodes/: {public.decode().strip()}")
    line(True, f"for every hospital's [pins]: {fingerprint}")


@app.command(epilog="Example: asclepias renew consortium")
def renew(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The consortium's folder.")],
    authority: Annotated[
        bool, typer.Option("--authority", help="The authority's own; hospitals get a new ca.pem.")
    ] = False,
) -> None:
    """Sign a new server certificate with the consortium's authority; hospitals notice nothing."""
    from deployment.consortium import Consortium, renew_authority, renew_server_certificate
    from deployment.report import line
    from deployment.superlink_folder import read_superlink

    link = read_superlink(folder)
    consortium = Consortium(folder=folder, address=link.address, hospitals=link.hospitals)
    if authority:
        for file in renew_authority(consortium):
            line(True, f"new certificate of the authority in {file}")
        return
    renew_server_certificate(consortium)
    line(True, f"new certificate in {link.folder}; restart the SuperLink to use it")


@app.command(epilog="Example: asclepias bundle")
def bundle() -> None:
    """Print the SHA-256 of this app's bundle, for allowed-apps."""
    from deployment.bundle import bundle_digest

    typer.echo(bundle_digest())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code; ``--debug`` anywhere shows tracebacks."""
    from simulations.error_messages import show_error

    given = list(sys.argv[1:] if arguments is None else arguments)
    words = [word for word in given if word != "--debug"]
    try:
        result = app(words, prog_name="asclepias", standalone_mode=False)
    except (Exception, KeyboardInterrupt) as error:
        return show_error(error, debug=words != given)
    return result if isinstance(result, int) else 0
