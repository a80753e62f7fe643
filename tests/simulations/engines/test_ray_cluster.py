"""An address of a Ray cluster is tried before Ray waits for it; nobody's is joined unasked."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from concurrent import futures

import grpc
import pytest

from simulations.engines import ray_cluster
from simulations.engines.local_server import free_port
from simulations.engines.ray_cluster import find_cluster
from simulations.error_messages import NotStarted


@pytest.fixture(name="listener")
def socket_that_says_nothing() -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture(name="stranger")
def server_of_something_else() -> Iterator[str]:
    server = grpc.server(futures.ThreadPoolExecutor(1))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None)


def test_an_address_where_nobody_listens_is_said_at_once() -> None:
    start = time.monotonic()
    with pytest.raises(NotStarted, match=r"No Ray cluster answers at 127\.0\.0\.1:\d+ \(.*refused"):
        find_cluster(f"127.0.0.1:{free_port()}")
    assert time.monotonic() - start < 5.0


def test_a_port_that_takes_calls_and_says_nothing_is_not_waited_for_long(
    listener: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ray_cluster.CONNECT_SECONDS + ray_cluster.ANSWER_SECONDS < 10.0
    monkeypatch.setattr(ray_cluster, "ANSWER_SECONDS", 0.5)
    with pytest.raises(NotStarted, match="is no Ray cluster"):
        find_cluster(listener)


def test_a_server_of_something_else_is_not_taken_for_ray(stranger: str) -> None:
    with pytest.raises(NotStarted, match="is no Ray cluster"):
        find_cluster(stranger)


@pytest.mark.parametrize("address", ["head", "head:", ":6379", "head:x", "head:0", "head:70000"])
def test_what_is_no_address_is_said(address: str) -> None:
    with pytest.raises(NotStarted, match="neither 'auto' nor host:port"):
        find_cluster(address)


def test_a_cluster_of_this_machine_is_asked_for_by_a_word_that_finds_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{free_port()}")
    with pytest.raises(NotStarted, match="No Ray cluster answers"):
        find_cluster("auto")
