"""The SuperLink: Flower's own server, with TLS, node authentication and a database.

Flower serves three interfaces on one port: Fleet for the hospitals, Control for submitting runs and
registering nodes, Runtime for the server's app. Only Fleet asks for a key. So this process answers
Control and Runtime on the loopback interface alone: who may submit is who may log in to the
machine.
"""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

from clients.site.file_modes import unreadable_by_others
from deployment.control import control_of, read_public_key
from deployment.core_dumps import forbid_core_dumps
from deployment.errors import DeploymentError, DeploymentFailed
from deployment.superlink_folder import SuperLinkFolder
from deployment.validity import NEW_AUTHORITY, NEW_SERVER, require_valid
from simulations.app_folder import import_root
from simulations.engines.local_server import NotHealthyError, wait_until_healthy
from strategies.heads import keep_heads_in

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

_OPEN = ("/v1/fleet/", "/health")
_LOOPBACK = ("127.0.0.1", "::1")


def start_superlink(link: SuperLinkFolder, *, host: str) -> subprocess.Popen[bytes]:
    """Start a SuperLink and wait until it answers.

    Raises:
        DeploymentError: a certificate is not valid now, others can read the server's key, or it
            does not start; what it said is in ``superlink.log``.
    """
    folder = link.folder
    require_valid(folder / "ca.pem", NEW_AUTHORITY)
    require_valid(folder / "server.pem", NEW_SERVER)
    if faults := unreadable_by_others([folder / "server.key"]):
        raise DeploymentError("\n".join(faults))
    keep_heads_in(link.runs)
    arguments = [
        "--ssl-ca-certfile", str(folder / "ca.pem"),
        "--ssl-certfile", str(folder / "server.pem"),
        "--ssl-keyfile", str(folder / "server.key"),
        "--enable-supernode-auth",
        "--disable-runtime-dependency-installation",
        "--host", host,
        "--port", str(link.port),
        "--database", str(folder / "superlink.db"),
    ]  # fmt: skip
    with (folder / "superlink.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "deployment.superlink", *arguments],
            env={**link.flower(), "PYTHONPATH": str(import_root())},
            cwd=folder,
            stdout=log,
            stderr=log,
        )
    (folder / "superlink.db").touch(mode=0o600)
    try:
        wait_until_healthy(
            f"https://{link.local_address}", process, authority=str(folder / "ca.pem")
        )
    except NotHealthyError as error:
        process.terminate()
        raise DeploymentFailed(f"{error}; read {folder / 'superlink.log'}.") from error
    return process


def register_nodes(link: SuperLinkFolder) -> tuple[list[str], list[str]]:
    """Let exactly the keys in ``nodes/`` connect: register new ones, unregister others.

    Returns:
        The names registered, and the names unregistered.
    """
    wanted = {file.stem: read_public_key(file) for file in (link.folder / "nodes").glob("*.pub")}
    with control_of(link) as control:
        nodes = control.nodes()
        gone = [node for node in nodes if node.public_key not in wanted.values()]
        for node in gone:
            control.unregister(node)
        known = {node.public_key for node in nodes}
        new = sorted(name for name, key in wanted.items() if key not in known)
        for name in new:
            control.register(name, wanted[name])
    return new, [node.name for node in gone]


class LocalOnly:
    """ASGI middleware: everything but the hospitals' interface is for this machine alone."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it with 403."""
        if scope["type"] == "http" and not self._allowed(scope):
            await send({"type": "http.response.start", "status": 403, "headers": []})
            await send({"type": "http.response.body", "body": b"on this machine only"})
            return
        await self._app(scope, receive, send)

    @staticmethod
    def _allowed(scope: Scope) -> bool:
        client = scope.get("client")
        local = client is not None and client[0].removeprefix("::ffff:") in _LOOPBACK
        path = str(scope["path"])
        return local or (path.startswith(_OPEN) and ".." not in path)


def main() -> None:
    """Become Flower's SuperLink, with `LocalOnly` around it."""
    from flwr.superlink import extensions
    from flwr.superlink.cli.flower_superlink import flower_superlink
    from starlette.middleware import Middleware

    forbid_core_dumps()
    os.umask(0o077)
    before = extensions.get_middleware()
    extensions.get_middleware = lambda: (Middleware(LocalOnly), *before)
    flower_superlink()


if __name__ == "__main__":
    main()
