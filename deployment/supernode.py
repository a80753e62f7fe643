"""A hospital's SuperNode: Flower's own, which here runs checked bundles only.

A stock SuperNode runs whatever bundle the SuperLink sends, the code that checks the hospital's
limits included. Flower can demand that bundles are signed by trusted entities, but open SuperLinks
pass no signatures on. So this process puts a notary between download and check: a bundle whose
SHA-256 is in the site's ``allowed-apps`` is signed with a key made at start, and that key is the
only entity that Flower is told to trust. Every other bundle meets Flower's own refusal, before any
of its code runs.

It also asks the SuperLink more often than every three seconds while a run is on.
"""

from __future__ import annotations

import base64
import hashlib
import json
import logging
import os
import secrets
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx

from clients.contract.printable import printable
from clients.site.readiness import site_faults
from crypto.whole_file import write_private
from deployment.core_dumps import forbid_core_dumps
from deployment.errors import DeploymentError
from deployment.flower_home import environment
from deployment.validity import NEW_AUTHORITY, require_valid, served_fault
from simulations.app_folder import import_root
from simulations.engines.local_server import held_port
from strategies.flower_patches import shorten_fetch_pause

if TYPE_CHECKING:
    from flwr.supercore.fab import Fab

    from clients.site.site_file import SiteFile

logger = logging.getLogger("flwr")

#: The versions of Flower whose inner parts this module has been read against.
FLOWER = "1.42."
#: The module that runs app processes.
EXECUTOR = "deployment.executor"
IDLE_SECONDS = 3.0
HEARTBEAT_SECONDS = 10
COME_BACK_SECONDS = 75.0
_STILL_CONNECTED = "2004"
_PAUSE_GROWTH = 1.25
_NOTARY = "fpk_asclepias_site"


class Notary:
    """Signs bundles that the site allows, with a key that lives as long as this process.

    Args:
        allowed: SHA-256 of the bundles that may run.
        any_app: whether every bundle may, as long as it is the one it is called.
    """

    def __init__(self, allowed: frozenset[str], *, any_app: bool = False) -> None:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

        self._allowed = allowed
        self._any_app = any_app
        self._key = Ed25519PrivateKey.generate()
        public = self._key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
        self.entities = {_NOTARY: public.decode()}

    def certify(self, fab: Fab) -> Fab:
        """Return the bundle with this site's verdict in place of whatever came with it."""
        digest = hashlib.sha256(fab.content).hexdigest()
        allowed = self._any_app or digest in self._allowed
        if not allowed or fab.hash_str != digest:
            logger.error(
                "bundle %s, called %s, is not in allowed-apps of site.toml; refused",
                digest,
                printable(fab.hash_str),
            )
            return replace(fab, verifications={})
        signed_at = int(time.time())
        message = signed_at.to_bytes(8, "big") + bytes.fromhex(digest)
        signature = base64.urlsafe_b64encode(self._key.sign(message)).decode()
        verdict = json.dumps({"signed_at": signed_at, "signature": signature})
        return replace(fab, verifications={"valid_license": "site", _NOTARY: verdict})


class Pauses:
    """Stands for the module `time` in Flower's loop: short pauses at work, long ones when idle.

    Flower pauses 3 s after an empty answer and 0.5 s while the app works. Here a pause after an
    empty answer starts at ``shortest`` and grows by a quarter, up to Flower's own 3 s; work resets
    it. So waiting adds at most a quarter to whatever is waited for.
    """

    def __init__(self, shortest: float) -> None:
        self._shortest = shortest
        self._next = shortest

    def sleep(self, seconds: float) -> None:
        """Pause for less than Flower would."""
        if seconds >= IDLE_SECONDS:
            time.sleep(min(self._next, seconds))
            self._next = min(self._next * _PAUSE_GROWTH, IDLE_SECONDS)
        else:
            self._next = self._shortest
            time.sleep(min(seconds, 0.05))


def run_supernode(site: SiteFile) -> None:
    """Become this hospital's SuperNode; returns when it ends.

    Raises:
        DeploymentError: Flower is of another version, the site's files are not complete or open to
            others, or a certificate is not valid now.
    """
    forbid_core_dumps()
    _require_ready(site)
    os.umask(0o077)
    os.environ.update(environment(site.private / "flower", threads=site.threads))
    os.chdir(site.private)
    notary = Notary(site.allowed_apps, any_app=site.any_app)
    secret, entities = site.private / "executor.secret", site.private / "notary.json"
    write_private(secret, secrets.token_bytes(32))
    write_private(entities, json.dumps(notary.entities).encode())
    _adapt_flower(notary, site.poll_seconds)
    with nullcontext(site.runtime_port) if site.runtime_port else held_port() as port:
        _start_executor(f"127.0.0.1:{port}", secret)
        sys.argv = ["flower-supernode", *_arguments(site, port, secret, entities)]
        from flwr.supernode.cli.flower_supernode import flower_supernode

        flower_supernode()


def _require_ready(site: SiteFile) -> None:
    """Insist that a site can take part, as far as it can be told before it is connected."""
    if not version("flwr").startswith(FLOWER):
        raise DeploymentError(
            f"flwr {version('flwr')} is installed, this launcher knows {FLOWER}x; "
            "install the pinned version."
        )
    for file in (site.path.parent / "ca.pem", site.private / "node.key"):
        if not file.is_file():
            raise DeploymentError(f"{file} is missing; 'asclepias keys' makes keys.")
    if not site.superlink:
        raise DeploymentError(f"{site.path}: superlink is missing; set it to host:port.")
    try:
        faults = site_faults(site)
    except OSError as error:
        raise DeploymentError(f"{site.ledger.parent} cannot be used ({error.strerror}).") from None
    if faults:
        raise DeploymentError("\n".join(faults))
    authority = site.path.parent / "ca.pem"
    require_valid(authority, NEW_AUTHORITY)
    if fault := served_fault(site.superlink, authority):
        raise DeploymentError(fault)


def _arguments(site: SiteFile, port: int, secret: Path, entities: Path) -> list[str]:
    return [
        "--root-certificates", str(site.path.parent / "ca.pem"),
        "--superlink", site.superlink,
        "--auth-supernode-private-key", str(site.private / "node.key"),
        "--host", "127.0.0.1",
        "--port", str(port),
        "--isolation", "process",
        "--superexec-auth-secret-file", str(secret),
        "--trusted-entities", str(entities),
        "--node-config", f"site={json.dumps(str(site.path))}",
    ]  # fmt: skip


def _adapt_flower(notary: Notary, poll_seconds: float) -> None:
    """Put the notary and the pauses into Flower's loop."""
    from flwr.supernode import start_client_internal as loop

    connect: Callable[..., Any] = loop._init_connection

    @contextmanager
    def connect_with_notary(*args: Any, **kwargs: Any) -> Iterator[tuple[Any, ...]]:
        with connect(*args, **kwargs) as parts:
            node_id, receive, send, get_run, get_fab, *rest = parts

            def get_certified(fab_hash: str, run_id: int) -> Fab:
                return notary.certify(get_fab(fab_hash, run_id))

            yield (node_id, receive, send, get_run, get_certified, *rest)

    loop._init_connection = connect_with_notary
    shorten_fetch_pause()
    _wait_to_be_readmitted()
    loop.time = Pauses(poll_seconds)  # type: ignore[assignment, attr-defined]


def _wait_to_be_readmitted() -> None:
    """Have a node that was killed let in again after 20 s at most, and wait that long.

    A SuperLink takes a node for connected until two heartbeats are missing, and lets nobody in
    with the same key before. Flower's heartbeat is 30 s and its SuperNode gives up at once.
    """
    from flwr.supercore import heartbeat
    from flwr.supernode import fleet_http_connection as connection

    class PatientClient(connection.FleetHttpClient):  # type: ignore[name-defined, misc]
        def ActivateNode(self, request: Any) -> Any:
            end = time.monotonic() + COME_BACK_SECONDS
            while True:
                try:
                    return super().ActivateNode(request)
                except httpx.HTTPStatusError as error:
                    refused = _STILL_CONNECTED in error.response.text
                    if not refused or time.monotonic() > end:
                        raise
                logger.info("not let in yet: connected a moment ago, or the key is not registered")
                time.sleep(2.0)

    for module in (heartbeat, connection):
        module.HEARTBEAT_DEFAULT_INTERVAL = HEARTBEAT_SECONDS  # type: ignore[attr-defined]
    connection.FleetHttpClient = PatientClient  # type: ignore[attr-defined]


def _start_executor(address: str, secret: Path) -> None:
    """Start the process that runs app tasks, and end with it."""
    process = subprocess.Popen(
        [
            sys.executable, "-m", EXECUTOR,
            "--runtime-api-address", address,
            "--secret-file", str(secret),
            "--parent-pid", str(os.getpid()),
        ],
        env={**os.environ, "PYTHONPATH": str(import_root())},
    )  # fmt: skip

    def watch() -> None:
        code = process.wait()
        logger.error("the app executor ended with code %s; so does the SuperNode", code)
        os._exit(1)

    threading.Thread(target=watch, daemon=True, name="executor-watch").start()
