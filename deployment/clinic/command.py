"""``asclepias clinic``: the patient's page, on the patient's own machine."""

from __future__ import annotations

import hashlib
import signal
import ssl
import threading
import webbrowser
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from crypto.whole_file import write_private

if TYPE_CHECKING:
    from deployment.inference.folders import Folder


def clinic(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The patient's folder.")],
    listen: Annotated[
        str,
        typer.Option(
            metavar="ADDRESS:PORT",
            help="Where the page is served: by default on this machine alone. Another address of "
            "it, for a telephone in the same network, is served by TLS.",
        ),
    ] = "127.0.0.1:9473",
    show: Annotated[bool, typer.Option("--open", help="Open the page in the browser.")] = False,
) -> None:
    """Serve a page on which a patient asks about a picture that leaves the browser in shares only.

    Provider and dealer have to run. The address that is printed holds a token: whoever has it can
    ask in the patient's name as long as this command runs.
    """
    from deployment.clinic.serving import ClinicServer, Place
    from deployment.core_dumps import forbid_core_dumps
    from deployment.inference.folders import read_folder
    from deployment.inference.identities import CERTIFICATE
    from deployment.report import line

    forbid_core_dumps()
    patient = read_folder(folder, "patient")
    place = Place.bound(listen)
    server = ClinicServer(patient, place)
    if place.secure:
        der = ssl.PEM_cert_to_DER_cert((folder / CERTIFICATE).read_text(encoding="ascii"))
        line(True, "the browser asks whether to trust it; go on if it shows this SHA-256:")
        line(True, hashlib.sha256(der).hexdigest().upper())
    done = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: done.set())
    server.start()
    line(True, f"clinic: ready at {server.url}")
    with redirection(patient, server.url) as file:
        if show:
            webbrowser.open(file.as_uri())
        done.wait()
    server.close()


@contextmanager
def redirection(folder: Folder, url: str) -> Iterator[Path]:
    """Yield a file that leads to an address, as long as it is needed.

    A browser is started with what it opens among its arguments, which everybody on the machine
    sees: so it is a file that the patient alone can read, and not the token.
    """
    file = folder.own("page").resolve() / "open.html"
    write_private(file, f'<meta http-equiv="refresh" content="0; url={url}">'.encode())
    try:
        yield file
    finally:
        file.unlink(missing_ok=True)
