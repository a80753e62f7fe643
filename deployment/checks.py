"""Whether everything is ready for a run: one finding per line, good or not, with what to do.

Nothing here changes anything, and no private key is used but to read its public half.
"""

from __future__ import annotations

import json
import math
import socket
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from clients.contract.printable import printable
from clients.site.file_modes import open_files, unreadable_by_others
from clients.site.ledger_place import ledger_faults
from clients.site.readiness import app_faults, pin_faults
from clients.site.site_file import SiteFile, SiteFileError, read_site_file
from crypto.identity import Identity, fingerprint
from deployment.bundle import bundle_digest
from deployment.errors import DeploymentError
from deployment.superlink_folder import SuperLinkFolder, read_superlink
from deployment.validity import (
    NEW_AUTHORITY,
    NEW_SERVER,
    read_certificate,
    served_fault,
    validity_of,
)

#: Days before its end from which a certificate is called out.
EXPIRY_DAYS = 30
#: Largest difference between two clocks that node authentication bears with room, in seconds.
CLOCK_SECONDS = 5.0
VERSIONS = {"flwr": "1.42.", "torch": "2.13.", "tenseal": "0.3.18", "opacus": "1.6."}


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One line of a check.

    Attributes:
        good: None where it is no fault, and worth reading all the same.
        text: what was found.
    """

    good: bool | None
    text: str


Check = Callable[[], str]


def check_site(folder: Path) -> Iterator[Finding]:
    """Check a hospital's folder, its data, and the way to the SuperLink."""
    try:
        site = read_site_file(folder / "site.toml")
    except SiteFileError as error:
        yield from (Finding(good=False, text=text) for text in str(error).splitlines())
        return
    yield Finding(good=True, text=f"{site.path} is sound; this is {site.hospital}")
    yield from _each(
        _versions,
        lambda: _present(site.private, "node.key", "identity.key"),
        lambda: _open_files(site),
        lambda: _certificate(folder / "ca.pem", NEW_AUTHORITY),
        lambda: _pins(site),
        lambda: _limits(site),
        lambda: _bundle(site),
        lambda: _ledger(site),
        lambda: _audits(site),
        lambda: _data(site),
        lambda: _port(site.runtime_port),
        lambda: _server(site.superlink, folder / "ca.pem"),
        lambda: _clock(site.superlink, folder / "ca.pem"),
    )


def check_superlink(folder: Path) -> Iterator[Finding]:
    """Check the SuperLink's folder and, where it runs, who is connected."""
    link = read_superlink(folder)
    yield Finding(good=True, text=f"{link.folder} is the SuperLink of {len(link.hospitals)}")
    yield from _each(
        _versions,
        lambda: _private(link.folder / "server.key"),
        lambda: _certificate(link.folder / "ca.pem", NEW_AUTHORITY),
        lambda: _certificate(
            link.folder / "server.pem", NEW_SERVER, link.address.rpartition(":")[0]
        ),
        lambda: _keys(link),
        lambda: _server(link.local_address, link.folder / "ca.pem"),
        lambda: _connected(link),
    )


def _each(*checks: Check) -> Iterator[Finding]:
    """Run checks; whatever one raises is its finding."""
    for check in checks:
        try:
            yield Finding(good=True, text=check())
        except _Several as error:
            yield from (Finding(good=False, text=text) for text in error.faults)
        except Exception as error:
            text = str(error) or type(error).__name__
            yield Finding(good=False, text=text.splitlines()[0])


class _Several(Exception):
    """A check that found several faults, each a line of its own."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("; ".join(faults))
        self.faults = faults


def _require_none(faults: list[str]) -> None:
    if faults:
        raise _Several(faults)


def _versions() -> str:
    found = {}
    for name, wanted in VERSIONS.items():
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            raise DeploymentError(
                f"{name} is not installed; install with constraints.txt"
            ) from None
        if not found[name].startswith(wanted):
            raise DeploymentError(f"{name} {found[name]} is installed, tested is {wanted}x")
    return "versions: " + ", ".join(f"{name} {number}" for name, number in found.items())


def _audits(site: SiteFile) -> str:
    """Whether an audit of this hospital's own has found what cannot be chance."""
    found = {file: json.loads(file.read_bytes()) for file in site.private.glob("audit-*.json")}
    _require_none(
        [
            f"{file}: the audit of training {one['training']} failed: {one['failures'][0]}; find "
            "out why before this hospital takes part again, then move the file away"
            for file, one in found.items()
            if not one["passed"]
        ]
    )
    asked = "" if site.audit else " (audit = true in site.toml asks for it)"
    return f"{len(found)} trainings were audited here, none failed{asked}"


def _present(folder: Path, *names: str) -> str:
    files = [folder / name for name in names]
    _require_none([f"{file} is missing" for file in files if not file.is_file()])
    return f"{folder} holds {', '.join(names)}"


def _private(file: Path) -> str:
    _present(file.parent, file.name)
    _require_none(unreadable_by_others([file]))
    return f"only the owner can read {file.name}"


def _open_files(site: SiteFile) -> str:
    _require_none(open_files(site))
    return f"nobody else can use {site.private} or change {site.path.name}"


def _certificate(file: Path, mend: str, host: str = "") -> str:
    certificate = read_certificate(file)
    validity, now = validity_of(certificate), datetime.now(UTC)
    if fault := validity.fault(str(file), mend, now):
        raise DeploymentError(fault)
    end, days = validity.end, (validity.end - now).days
    if days < EXPIRY_DAYS:
        raise DeploymentError(f"{file} ends in {days} days ({end:%Y-%m-%d}); {mend}")
    if host:
        from cryptography import x509

        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        known = [str(name.value) for name in names]
        if host not in known:
            raise DeploymentError(f"{file} is for {', '.join(known)}, not for {host}")
    return f"{file.name} is valid until {end:%Y-%m-%d}"


def _pins(site: SiteFile) -> str:
    if not (site.private / "identity.key").is_file():
        raise DeploymentError("this hospital has no identity; 'asclepias keys' makes one")
    own = fingerprint(Identity.load_or_create(site.private / "identity.key").public)
    if faults := pin_faults(site):
        _require_none([f"{faults[0]}; this one is {own}"])
    if site.trust_on_first_use:
        return f"the first keys seen are pinned in {site.private}; this one is {own}"
    if site.pins.get(site.hospital) != own:
        raise DeploymentError(f"[pins] {site.hospital} is not this identity, {own}")
    return f"{len(site.pins)} identities are pinned, this one is {own}"


def _limits(site: SiteFile) -> str:
    limits, real = site.limits, site.simulated_partition is None
    if site.test_mode and real:
        raise DeploymentError("test-mode = true over real records: seeded runs are not private")
    if site.data_public and real:
        raise DeploymentError("[data] public = true over real records: displays would leak")
    if limits.max_epsilon is None and real:
        raise DeploymentError("[limits] max-epsilon is not set: nothing bounds what runs may cost")
    bound = "no bound on epsilon (benchmark data)"
    if limits.max_epsilon is not None:
        bound = (
            f"epsilon at most {limits.max_epsilon:g} at delta {limits.delta:g} "
            f"against {limits.against.title}"
        )
    return f"limits: {bound}, at least {limits.min_hospitals} hospitals"


def _bundle(site: SiteFile) -> str:
    _require_none(app_faults(site))
    if site.any_app:
        return "any-app = true: every bundle that the SuperLink sends runs here"
    digest = bundle_digest()
    if digest not in site.allowed_apps:
        raise DeploymentError(f"allowed-apps does not hold the app installed here, {digest}")
    return f"the app installed here is allowed ({digest[:16]}...)"


def _ledger(site: SiteFile) -> str:
    from accounting.accountants import epsilon
    from accounting.book import read_spent
    from accounting.ledger import read_ledger

    _require_none(ledger_faults(site.ledger))
    if not site.ledger.exists():
        return f"{site.ledger.name} will be made with the first run; nothing is spent"
    held, limits = read_ledger(site.ledger), site.limits
    if held.site != site.hospital:
        raise DeploymentError(f"{site.ledger} is the ledger of {printable(held.site)}")
    found = f"{site.ledger.name}: {len(held.entries)} entries"
    if limits.delta is None:
        return found
    spendings, plans = read_spent(site.ledger)
    if limits.max_epsilon is None:
        spent = epsilon([one.event for one in spendings], limits.delta)
        return f"{found}, epsilon {spent:.3f} spent, by what runs claim"
    spent = limits.counted(spendings, plans)
    whom = limits.against.title
    if not math.isfinite(spent):
        raise DeploymentError(
            f"{found}, and nothing bounds what they tell {whom}: lower [limits] against by hand, "
            "or begin a new cohort"
        )
    return f"{found}, epsilon {spent:.3f} of {limits.max_epsilon:g} counted against {whom}"


def _data(site: SiteFile) -> str:
    from clients.data import load_dataset

    own = site.simulated_partition is None
    dataset = load_dataset(site.data_name, site.data_dir, declared=own and not site.data_public)
    if not own:
        return f"{site.data_name} can be read; part {site.simulated_partition} of it stands in here"
    patients = len(dataset.train.patient_ids)
    known = "" if dataset.info.has_patient_ids else " (no patient column: each row counts as one)"
    odd = "; 'asclepias check-data' shows what could not be read" if dataset.log else ""
    return f"{site.data_name} can be read: {len(dataset.train)} records of {patients}{known}{odd}"


def _port(port: int) -> str:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            raise DeploymentError(f"[node] runtime-port {port} is in use on this machine") from None
    return f"port {port} is free" if port else "any free port serves the app processes"


def _server(address: str, authority: Path) -> str:
    host, _, port = address.rpartition(":")
    context = ssl.create_default_context(cafile=str(authority))
    try:
        with (
            socket.create_connection((host.strip("[]"), int(port)), timeout=5.0) as plain,
            context.wrap_socket(plain, server_hostname=host.strip("[]")) as secure,
        ):
            return f"{address} answers with this consortium's certificate ({secure.version()})"
    except ssl.SSLCertVerificationError as error:
        if fault := served_fault(address, authority):
            raise DeploymentError(fault) from None
        raise DeploymentError(f"{address} shows another certificate: {error.reason}") from None
    except (OSError, ValueError) as error:
        raise DeploymentError(f"{address} does not answer ({error})") from None


def _clock(address: str, authority: Path) -> str:
    import httpx

    context = ssl.create_default_context(cafile=str(authority))
    try:
        answer = httpx.get(f"https://{address}/health", verify=context, timeout=5.0)
    except httpx.HTTPError:
        raise DeploymentError(f"clocks are not compared: {address} does not answer") from None
    theirs = parsedate_to_datetime(answer.headers["date"])
    apart = abs((datetime.now(UTC) - theirs).total_seconds())
    if apart > CLOCK_SECONDS:
        raise DeploymentError(
            f"clocks are {apart:.0f} s apart; node authentication needs them within "
            f"{CLOCK_SECONDS:.0f} s: synchronise both (chrony, ntpd)"
        )
    return f"clock within {CLOCK_SECONDS:.0f} s of the SuperLink's"


def _keys(link: SuperLinkFolder) -> str:
    from deployment.control import read_public_key

    names = sorted(file.stem for file in (link.folder / "nodes").glob("*.pub"))
    for name in names:
        read_public_key(link.folder / "nodes" / f"{name}.pub")
    if missing := sorted(set(link.hospitals) - set(names)):
        raise DeploymentError(f"nodes/ holds no key of {', '.join(missing)}")
    return f"node keys of {', '.join(names)}"


def _connected(link: SuperLinkFolder) -> str:
    from deployment.control import control_of

    with control_of(link) as control:
        nodes = control.nodes()
    if away := [node.name for node in nodes if node.status != "online"]:
        raise DeploymentError(f"not connected: {', '.join(away)}")
    return f"{len(nodes)} of {len(link.hospitals)} hospitals are connected"
