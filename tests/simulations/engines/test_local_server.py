"""Ports that are free, and servers that answer, end or say nothing."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from simulations.engines.local_server import NotHealthyError, held_port, wait_until_healthy

HEALTHY = """
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/health" else 404)
        self.end_headers()
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


@contextmanager
def started(program: str, port: int) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(port)], stderr=subprocess.DEVNULL
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def port() -> Iterator[int]:
    with held_port() as port:
        yield port


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a port cannot be held")
def test_a_held_port_is_given_to_nobody_but_the_server_that_names_it() -> None:
    with held_port() as port:
        given = set()
        for _ in range(40_000):  # more than there are
            with socket.socket() as other:
                other.bind(("127.0.0.1", 0))
                given.add(other.getsockname()[1])
        assert port not in given
        with started(HEALTHY, port) as process:
            wait_until_healthy(f"http://127.0.0.1:{port}", process)


def test_the_wait_ends_when_the_server_answers(port: int) -> None:
    with started(HEALTHY, port) as process:
        wait_until_healthy(f"http://127.0.0.1:{port}", process)
        assert process.poll() is None


def test_a_server_that_ends_is_told_with_its_code(port: int) -> None:
    with (
        started("import sys; sys.exit(7)", port) as process,
        pytest.raises(NotHealthyError, match="ended with code 7"),
    ):
        wait_until_healthy(f"http://127.0.0.1:{port}", process)


def test_a_server_that_says_nothing_is_not_waited_for_long(port: int) -> None:
    with (
        started("import time; time.sleep(60)", port) as process,
        pytest.raises(NotHealthyError, match="did not answer within 0 s"),
    ):
        wait_until_healthy(f"http://127.0.0.1:{port}", process, patience_seconds=0.3)
