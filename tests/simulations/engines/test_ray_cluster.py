"""An address of a Ray cluster is tried before Ray waits for it; nobody's is joined unasked."""

from __future__ import annotations

import errno
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path

import grpc
import pytest
import ray

from simulations.engines import ray_cluster
from simulations.engines.local_server import free_port
from simulations.engines.ray_cluster import find_cluster, start_ray
from simulations.error_messages import NotStarted
from tests.simulations.engine_runs import environment


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


def test_a_ray_that_does_not_come_up_is_a_sentence_and_leaves_none_behind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A busy machine: Ray waits half a minute for its own process, then raises a bare exception."""
    ended = []

    def never_up(**_: object) -> None:
        raise Exception(
            "The current node timed out during startup. This could happen because some of the "
            "raylet failed to startup or the GCS has become overloaded."
        )

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", never_up)
    monkeypatch.setattr(ray, "shutdown", lambda: ended.append(1))
    with pytest.raises(NotStarted) as failed:
        start_ray("")
    assert str(failed.value).startswith(
        "Ray did not start on this machine (The current node timed out during startup): it is too "
    )
    assert ended


def test_what_the_machine_refuses_ray_keeps_its_own_sentence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(**_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "/tmp/ray")

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", full)
    with pytest.raises(OSError, match="No space left"):
        start_ray("")


def test_what_sigterm_means_stays_the_same_while_ray_starts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Ray's handler would raise in the middle of an import, and leave the lock of all taken."""
    from ray._private import utils

    before, met = signal.getsignal(signal.SIGTERM), []

    def init(**_: object) -> None:
        utils.set_sigterm_handler(lambda number, frame: sys.exit(number))
        met.append(signal.getsignal(signal.SIGTERM))

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", init)
    assert start_ray("")
    assert [*met, signal.getsignal(signal.SIGTERM)] == [before, before]


def test_updates_of_a_million_values_go_to_the_server_at_once_and_not_by_the_store() -> None:
    # That an object lies in the store is told of a moment after it is ready.
    script = """
import time
import ray
from simulations.engines.ray_cluster import start_ray

def held():
    places = ray.experimental.get_object_locations(sent)
    return [len(places[one]["node_ids"]) for one in sent]

start_ray("")
sent = [ray.remote(lambda size: bytes(size)).remote(size) for size in (4_000_000, 5_000_000)]
ray.wait(sent, num_returns=2)
until = time.monotonic() + 20
while not held()[1] and time.monotonic() < until:
    time.sleep(0.05)
print(held())
ray.shutdown()
"""
    asked = [sys.executable, "-c", script]
    said = subprocess.run(asked, check=True, capture_output=True, text=True, timeout=120).stdout
    assert said == "[0, 1]\n"


def test_a_run_leaves_nothing_in_the_store_when_it_ends_its_ray(tmp_path: Path) -> None:
    """What a driver leaves there has Ray answer whoever waits for it while it is torn down: 139."""
    script = """
import sys, time
import ray
from simulations.cli import main

def used():
    parts = ray.cluster_resources(), ray.available_resources()
    return [part["object_store_memory"] for part in parts]

def end(shut_down=ray.shutdown):
    until = time.monotonic() + 5
    while len(set(used())) > 1 and time.monotonic() < until:
        time.sleep(0.1)
    print("all and free:", *used(), file=sys.stderr)
    shut_down()

ray.shutdown = end
main()
"""
    parts = ("training.rounds=2", "partition.hospitals=3", "audit.enabled=false")
    settings = [word for part in parts for word in ("--set", part)]
    asked = [sys.executable, "-c", script, "run", "default", "--out", str(tmp_path), *settings]
    ended = subprocess.run(
        asked, check=True, capture_output=True, text=True, timeout=240, env=environment()
    )
    [said] = [one for one in ended.stderr.splitlines() if one.startswith("all and free: ")]
    _, every, free = said.rsplit(maxsplit=2)
    assert float(every) == float(free) > 0
