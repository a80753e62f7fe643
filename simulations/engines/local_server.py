"""A server process of this machine: a free port for it, and the wait until it answers there."""

from __future__ import annotations

import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

#: Longest wait for a server's first answer, in seconds.
STARTUP_SECONDS = 60.0
_PAUSE_SECONDS = 0.1


class NotHealthyError(Exception):
    """A server that was started does not answer; the message says what became of it."""


@contextmanager
def held_port() -> Iterator[int]:
    """Keep a port of the loopback interface for a server that is started within the block.

    A free port is given to the next process that asks for any, to listen or to connect, before a
    slow server takes it. On Linux one that is bound is given to nobody, and a server that names it
    still gets it where it lets a port be used again at once (``SO_REUSEADDR``), as Flower's do.
    Other systems would refuse it to that server too: there it is free, and nothing more.
    """
    with socket.socket() as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("127.0.0.1", 0))
        port = int(held.getsockname()[1])
        if sys.platform != "linux":
            held.close()
        yield port


def free_port() -> int:
    """Return a port of the loopback interface that nobody has at the moment."""
    with held_port() as port:
        return port


def wait_until_healthy(
    url: str,
    process: subprocess.Popen[bytes],
    *,
    authority: str | None = None,
    patience_seconds: float = STARTUP_SECONDS,
) -> None:
    """Return once a SuperLink says at ``<url>/health`` that it is well.

    Args:
        url: scheme, host and port.
        process: what was started; its end ends the wait.
        authority: file of the certificate to trust; None where `url` is plain http.
        patience_seconds: longest wait.

    Raises:
        NotHealthyError: the process ended, or said nothing in time.
    """
    import httpx

    trusted = ssl.create_default_context(cafile=authority) if authority else False
    end = time.monotonic() + patience_seconds
    while time.monotonic() < end:
        if process.poll() is not None:
            raise NotHealthyError(f"flower-superlink ended with code {process.returncode}")
        try:
            if httpx.get(f"{url}/health", timeout=1.0, verify=trusted).is_success:
                return
        except httpx.HTTPError:
            pass
        time.sleep(_PAUSE_SECONDS)
    raise NotHealthyError(f"flower-superlink did not answer within {patience_seconds:.0f} s")
