"""Who may ask the patient's agent by its page: this page, with its token, at this address.

A browser shows pages of strangers beside this one, and other users may be logged in on the machine.
So every request must name an address that is really the agent's (a name that a stranger's server
turned to this machine does not pass), come from no other page, and everything but the empty page
must bring the token, in a header that no other page can set. No answer allows another origin.
"""

from __future__ import annotations

import secrets
import time
from collections import deque
from collections.abc import Collection

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send


class Pace:
    """Lets so many pass in so many seconds."""

    def __init__(self, most: int, seconds: float) -> None:
        self._seconds = seconds
        self._times: deque[float] = deque(maxlen=most)

    def passes(self) -> bool:
        """Whether one more may pass now; it is counted if so."""
        now = time.monotonic()
        full = len(self._times) == self._times.maxlen
        if full and now - self._times[0] < self._seconds:
            return False
        self._times.append(now)
        return True


class Guard:
    """Stands before the app, and answers itself what may not pass.

    Args:
        app: what is guarded.
        origins: how a browser names this agent: scheme, host and port.
        token: what a request must bring.
        policy: the page's Content-Security-Policy.
    """

    def __init__(self, app: ASGIApp, origins: Collection[str], token: str, policy: str) -> None:
        self._app, self._origins = app, origins
        self._hosts = {one.partition("://")[2] for one in origins}
        self._bearer = f"Bearer {token}".encode()
        self._headers = {
            "Content-Security-Policy": policy,
            "Cache-Control": "no-store",
            "Cross-Origin-Opener-Policy": "same-origin",
            "Cross-Origin-Resource-Policy": "same-origin",
            "Referrer-Policy": "no-referrer",
            "X-Content-Type-Options": "nosniff",
            "X-Frame-Options": "DENY",
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request pass, or answer with what is wrong."""
        if scope["type"] != "http":
            raise RuntimeError(f"a connection of type {scope['type']}; expected http")

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(self._headers)
            await send(message)

        fault = self._fault(scope["path"], Headers(scope=scope))
        if fault is None:
            await self._app(scope, receive, guarded)
            return
        status, code = fault
        await JSONResponse({"error": code}, status)(scope, receive, guarded)

    def _fault(self, path: str, headers: Headers) -> tuple[int, str] | None:
        if headers.getlist("host") != [headers.get("host")] or headers["host"] not in self._hosts:
            return 421, "host"
        if "origin" in headers and headers["origin"] not in self._origins:
            return 403, "origin"
        if path == "/":
            return None
        if headers.get("sec-fetch-site", "same-origin") != "same-origin":
            return 403, "origin"
        came = headers.get("authorization", "").encode()
        return None if secrets.compare_digest(came, self._bearer) else (401, "token")
