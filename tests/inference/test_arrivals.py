"""Strangers who connect and say nothing keep nobody out, however many they are."""

from __future__ import annotations

import errno
import socket
import threading
import time
from contextlib import ExitStack

import pytest
from some_models import artefact
from three_parties import parties

from deployment.inference.arrivals import MOST_OF_AN_ADDRESS, Arrivals
from deployment.inference.identities import HANDSHAKE_SECONDS

SHAPE = (3, 4, 4)


def pairs(stack: ExitStack, count: int) -> list[tuple[socket.socket, socket.socket]]:
    made = [socket.socketpair() for _ in range(count)]
    for pair in made:
        for one in pair:
            stack.enter_context(one)
    return made


def is_ended(other: socket.socket) -> bool:
    other.settimeout(0.0)
    try:
        return other.recv(1) == b""
    except BlockingIOError:
        return False
    except ConnectionError:
        return True


def test_a_new_connection_ends_the_oldest_of_its_address_and_no_other_s():
    arrivals = Arrivals(most=6, most_of_an_address=3)
    with ExitStack() as stack:
        honest, *many = pairs(stack, 5)
        arrivals.add(honest[0], "honest")
        for one, _ in many:
            arrivals.add(one, "flood")
        assert [is_ended(other) for _, other in (honest, *many)] == [False, True] + [False] * 3


def test_many_addresses_end_those_that_have_most():
    arrivals = Arrivals(most=6, most_of_an_address=3)
    with ExitStack() as stack:
        made = pairs(stack, 9)
        addresses = ["a", "a", "a", "honest", "b", "b", "c", "c", "d"]
        for (one, _), address in zip(made, addresses, strict=True):
            arrivals.add(one, address)
        ended = [is_ended(other) for _, other in made]
        assert sum(ended) == 3 and len(arrivals) == 6
        assert not ended[addresses.index("honest")] and not ended[-1]


def test_one_that_is_known_counts_no_more():
    arrivals = Arrivals(most=1, most_of_an_address=1)
    with ExitStack() as stack:
        first, second = pairs(stack, 2)
        arrivals.add(first[0], "a")
        with arrivals.until_known(first[0]):
            assert len(arrivals) == 1
        arrivals.add(second[0], "a")
        assert not is_ended(first[1])


@pytest.mark.parametrize("role", ["provider", "dealer"])
def test_a_flood_of_strangers_keeps_no_patient_out(tmp_path, role):
    with parties(tmp_path, artefact("logistic", SHAPE)) as three, ExitStack() as held:
        server = getattr(three, role).server
        flood = [
            held.enter_context(socket.create_connection(("127.0.0.1", server.port)))
            for _ in range(2 * MOST_OF_AN_ADDRESS)
        ]
        begun = time.monotonic()
        with three.agent(patience=5.0) as agent:
            agent.prepare()
        assert time.monotonic() - begun < HANDSHAKE_SECONDS, "before a stranger's is given up"
        assert len(server._arrivals) <= MOST_OF_AN_ADDRESS
        assert sum(map(is_ended, flood)) >= MOST_OF_AN_ADDRESS, "no thread waits for these"


def test_a_machine_that_gives_no_more_files_is_asked_again(tmp_path, monkeypatch):
    with parties(tmp_path, artefact("logistic", SHAPE)) as three:
        server, refused = three.provider.server, threading.Event()

        class Full:
            """A listening socket on a machine whose files are used up for a moment."""

            def __init__(self, listening):
                self._listening = listening

            def accept(self):
                if not refused.is_set():
                    refused.set()
                    raise OSError(errno.EMFILE, "Too many open files")
                return self._listening.accept()

            def __getattr__(self, name):
                return getattr(self._listening, name)

        server._socket = Full(server._socket)
        with three.agent(patience=5.0):
            pass  # ends the wait in the real accept
        with three.agent(patience=5.0) as agent:
            assert agent.left
        assert refused.is_set()
