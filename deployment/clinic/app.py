"""The app behind the patient's page: four requests, each within its limits.

    app = make_app(folder, origins=["http://127.0.0.1:9473"], token=new_token())

It gets one share of a picture and a sealed other one, and logs nothing of a request.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import threading
from collections.abc import Collection, Iterator

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp

from deployment.clinic.asking import asked, code_of, computed_by, introduced, sizes
from deployment.clinic.guards import Guard, Pace
from deployment.clinic.page import make_page
from deployment.inference.folders import Folder

#: Seconds for two shares to arrive; and how many questions pass in a minute.
BODY_SECONDS, MOST_ABOUTS, MOST_QUESTIONS = 30.0, 60, 12


class Fault(Exception):
    """What is wrong with a request: a status, and the word by which the page knows it."""

    def __init__(self, status: int, code: str) -> None:
        super().__init__(code)
        self.status, self.code = status, code


def new_token() -> str:
    """Return what the page must bring: 256 bits at random."""
    return secrets.token_urlsafe(32)


class Clinic:
    """What the app's four requests do.

    Args:
        folder: the patient's.
        patience: seconds that a peer may be silent.
        body_seconds: seconds for two shares to arrive.
    """

    def __init__(self, folder: Folder, *, patience: float, body_seconds: float) -> None:
        self._folder, self._patience, self._body_seconds = folder, patience, body_seconds
        # By this an open page knows its agent again: who takes the port later cannot say it.
        self._own = new_token()
        self._shapes: dict[str, list[int]] = {}
        self._turn = threading.Lock()
        self._abouts, self._questions = Pace(MOST_ABOUTS, 60.0), Pace(MOST_QUESTIONS, 60.0)
        self.page = make_page()

    async def show(self, request: Request) -> Response:
        """Return the page; there is no secret in it."""
        return Response(self.page.html, media_type="text/html")

    async def about(self, request: Request) -> Response:
        """Return what the page has to know of the model."""
        if not self._abouts.passes():
            raise Fault(429, "pace")
        try:
            said = await run_in_threadpool(introduced, self._folder, patience=self._patience)
        except Exception as error:
            raise Fault(502, code_of(error)) from None
        if "model" in said:
            self._shapes = {said["model"]: said["shape"]}
        return JSONResponse(said | {"agent": self._own})

    async def features(self, request: Request) -> Response:
        """Return the public constants by which the page computes features."""
        if not self._abouts.passes():
            raise Fault(429, "pace")
        try:
            made = await run_in_threadpool(computed_by, self._folder, patience=self._patience)
        except Exception as error:
            raise Fault(502, code_of(error)) from None
        return Response(made, media_type="application/octet-stream")

    async def predict(self, request: Request) -> Response:
        """Ask about two shares, and tell each step as it happens: a JSON object a line."""
        model = request.query_params.get("model", "")
        if model not in self._shapes:
            raise Fault(409, "model")
        if request.headers.get("content-type") != "application/octet-stream":
            raise Fault(415, "type")
        share, sealed = sizes(self._shapes[model])
        body = await self._body(request, share + sealed)
        if not self._questions.passes():
            raise Fault(429, "pace")
        lines = self._lines(model, body[:share], body[share:])
        return StreamingResponse(lines, media_type="application/x-ndjson")

    def _lines(self, model: str, share: bytes, sealed: bytes) -> Iterator[str]:
        if not self._turn.acquire(blocking=False):
            yield json.dumps({"error": "busy"}) + "\n"
            return
        try:
            for said in asked(self._folder, model, share, sealed, patience=self._patience):
                yield json.dumps(said) + "\n"
        finally:
            self._turn.release()

    async def _body(self, request: Request, size: int) -> bytes:
        if request.headers.get("content-length") != str(size):
            raise Fault(413, "size")
        body = bytearray()
        try:
            async with asyncio.timeout(self._body_seconds):
                async for piece in request.stream():
                    body += piece
        except TimeoutError:
            raise Fault(408, "slow") from None
        except ClientDisconnect:
            raise Fault(400, "size") from None
        if len(body) != size:
            raise Fault(413, "size")
        return bytes(body)


async def _told(request: Request, fault: Exception) -> Response:
    assert isinstance(fault, Fault)
    headers = {"Connection": "close"} if fault.status in (408, 413, 415) else None
    return JSONResponse({"error": fault.code}, fault.status, headers)


def make_app(
    folder: Folder,
    *,
    origins: Collection[str],
    token: str,
    patience: float,
    body_seconds: float,
) -> ASGIApp:
    """Return the app for one patient.

    Args:
        folder: the patient's.
        origins: how a browser names this agent: scheme, host and port.
        token: what every request but that for the empty page must bring.
        patience: seconds that provider or dealer may be silent.
        body_seconds: seconds for two shares to arrive.
    """
    clinic = Clinic(folder, patience=patience, body_seconds=body_seconds)
    routes = [
        Route("/", clinic.show),
        Route("/about", clinic.about),
        Route("/features", clinic.features),
        Route("/predictions", clinic.predict, methods=["POST"]),
    ]
    app = Starlette(routes=routes, exception_handlers={Fault: _told})
    return Guard(app, origins, token, clinic.page.policy)
