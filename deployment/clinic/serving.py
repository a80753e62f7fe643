"""Serving the patient's page: on this machine's own address, or, with TLS, on one of its network.

Loopback is the default: what is sent never leaves the machine. For a telephone in the same house
another address can be named; then the page comes by TLS with the agent's own certificate, whose
fingerprint is compared once.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import threading
from dataclasses import dataclass
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

from deployment.clinic.app import BODY_SECONDS, make_app, new_token
from deployment.errors import DeploymentError
from deployment.inference.folders import Folder
from deployment.inference.identities import CERTIFICATE, HANDSHAKE_SECONDS, KEY

#: Connections at once, and seconds that an idle one is kept.
_MOST_GUESTS, _KEEP_SECONDS = 16, 5


@dataclass(frozen=True)
class Place:
    """Where the page is served: an address of this machine, bound.

    Attributes:
        listening: the bound socket.
        origins: how a browser names it.
        secure: whether by TLS: everywhere but on loopback.
    """

    listening: socket.socket
    origins: tuple[str, ...]
    secure: bool

    @classmethod
    def bound(cls, address: str) -> Place:
        """Return a place at "address:port"; port 0 for a free one.

        Raises:
            DeploymentError: it is none, names no one address, or cannot be had.
        """
        host, _, port = address.rpartition(":")
        host = host.strip("[]")
        try:
            ip = ipaddress.ip_address("127.0.0.1" if host == "localhost" else host)
        except ValueError:
            raise DeploymentError(f"{address}: expected an IP address and a port") from None
        if ip.is_unspecified:
            raise DeploymentError(
                f"{address} is every address of this machine; name the one that the telephone uses"
            )
        family = socket.AF_INET6 if ip.version == 6 else socket.AF_INET
        try:
            listening = socket.create_server((str(ip), int(port)), family=family)
        except (OSError, ValueError, OverflowError) as error:
            raise DeploymentError(f"cannot listen on {address}: {error}") from None
        port = str(listening.getsockname()[1])
        shown = f"[{ip}]" if ip.version == 6 else str(ip)
        names = [shown, "localhost"] if ip.is_loopback else [shown]
        scheme = "http" if ip.is_loopback else "https"
        origins = tuple(f"{scheme}://{name}:{port}" for name in names)
        return cls(listening, origins, not ip.is_loopback)


class _Prompt(H11Protocol):
    """A connection that ends where no request comes in time, and none is being answered.

    uvicorn waits for ever for a first request, and for the rest of one that has begun, and refuses
    everybody where there are many: whoever can connect, without a token, would keep the patient
    out. So a new one ends the oldest that asks nothing.
    """

    _answered: RequestResponseCycle | None = None
    _began = 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._began = self.loop.time()
        others = (one for one in self.connections if one is not self and isinstance(one, _Prompt))
        idle = [one for one in others if one._is_idle()]
        if len(self.connections) >= _MOST_GUESTS and idle:
            oldest = min(idle, key=lambda one: one._began)
            self.connections.discard(oldest)
            oldest.transport.abort()
        self.loop.call_later(_KEEP_SECONDS, self._end_idle)

    def _is_idle(self) -> bool:
        return self.cycle is None or bool(self.cycle.response_complete)

    def _end_idle(self) -> None:
        last = self.cycle
        if self.transport.is_closing():
            return
        if last is self._answered and (last is None or last.response_complete):
            self.transport.abort()
            return
        self._answered = last
        self.loop.call_later(_KEEP_SECONDS, self._end_idle)


class _Loop(asyncio.SelectorEventLoop):
    """A loop whose servers give a stranger's handshake as long as other parties do."""

    async def create_server(self, *args: Any, ssl: Any = None, **options: Any) -> asyncio.Server:
        if ssl is not None:
            options["ssl_handshake_timeout"] = HANDSHAKE_SECONDS
        return await super().create_server(*args, ssl=ssl, **options)


class ClinicServer:
    """Serves the page of one patient.

    Args:
        folder: the patient's.
        place: where.
        patience: seconds that provider or dealer may be silent.
        body_seconds: seconds for two shares to arrive.

    Attributes:
        url: what the patient opens; the token is in it, behind "#", which browsers send to nobody.
    """

    def __init__(
        self,
        folder: Folder,
        place: Place,
        *,
        patience: float = 60.0,
        body_seconds: float = BODY_SECONDS,
    ) -> None:
        token = new_token()
        self.url = f"{place.origins[0]}/#{token}"
        self._place = place
        app = make_app(
            folder,
            origins=place.origins,
            token=token,
            patience=patience,
            body_seconds=body_seconds,
        )
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._server = uvicorn.Server(
            uvicorn.Config(
                app,
                access_log=False,
                log_config=None,
                log_level="error",
                lifespan="off",
                interface="asgi3",
                http=_Prompt,
                ws="none",
                server_header=False,
                proxy_headers=False,
                limit_concurrency=_MOST_GUESTS,
                timeout_keep_alive=_KEEP_SECONDS,
                timeout_graceful_shutdown=_KEEP_SECONDS,
                ssl_keyfile=folder.path / KEY if place.secure else None,
                ssl_certfile=folder.path / CERTIFICATE if place.secure else None,
            )
        )

    def start(self) -> ClinicServer:
        """Begin to serve, in a thread of its own."""
        self._thread.start()
        return self

    def close(self) -> None:
        """End serving; what is under way has a few seconds to end."""
        self._server.should_exit = True
        self._thread.join()
        self._place.listening.close()

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=_Loop) as runner:
            runner.run(self._server.serve(sockets=[self._place.listening]))
