"""Stands where Ray starts a worker: has it forked, and lives and ends with it.

Run as a program of its own, which imports nothing that takes time, with the name of a socket, the
word without which nothing is forked, the process that made the two, and what Ray would have run as
its arguments. Where nobody forks, that is what it becomes; see `forks`.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
import struct
import sys
import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple

#: What is handed on to a fork: standard input, output and errors.
STREAMS = (0, 1, 2)
#: Letters of the word, which comes first; then as many bytes as say how many follow. A worker's
#: process id has as many.
WORD_LETTERS, NUMBER_BYTES = 32, 4
#: How long asking may take: one that forks has libraries to import first. Ray waits for a minute.
_PATIENCE_SECONDS = 30.0
#: What Ray tells the program that prepares a worker: of which language it is, and of which
#: environment, where it has one of its own.
_LANGUAGE, _OWN_ENVIRONMENT = "--language=PYTHON", "--serialized-runtime-env-context"
#: Process, user and group, as the kernel knows them of the other end.
_CREDENTIALS = "3i"


class Forking(NamedTuple):
    """Who forks, as whoever asks has been told.

    Attributes:
        name: of the socket on which workers are asked for.
        word: without which none is forked.
        maker: the process that made the socket.
    """

    name: str
    word: str
    maker: int


class Credentials(NamedTuple):
    """The other end of a connection, as the kernel knows it.

    Attributes:
        process: that connected, or that listened first; 0 where it is in a container that is not
            this process's.
        user: its.
    """

    process: int
    user: int


def stand_in(forking: Forking, command: Sequence[str]) -> int:
    """Return 0 when the worker has ended, or the raylet; or become what Ray would have run.

    Args:
        forking: whom to ask.
        command: the worker's, as Ray has it: the program that prepares one, the worker's, and its
            arguments.
    """
    with socket.socket(socket.AF_UNIX) as link:
        plain = _LANGUAGE in command and not any(_OWN_ENVIRONMENT in part for part in command)
        worker = asked(link, forking, command) if plain else 0
        if not worker:
            link.close()
            if os.getppid() != int(os.environ.get("RAY_RAYLET_PID", os.getppid())):
                return 0
            os.execv(sys.executable, [sys.executable, *command])
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, lambda number, _: os.kill(worker, number))
        link.settimeout(None)
        while link.recv(1):
            pass
    return 0


def address(name: str) -> str:
    """Return a name as an abstract socket's, which is in no folder and gone with its process."""
    return f"\0{name}"


def credentials(link: socket.socket) -> Credentials:
    """Return who is at the other end of a connection; names have no owner."""
    size = struct.calcsize(_CREDENTIALS)
    process, user, _ = struct.unpack(
        _CREDENTIALS, link.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
    )
    return Credentials(process, user)


def read(link: socket.socket, count: int, end: float) -> bytes:
    """Return so many bytes.

    Args:
        link: whose timeout this changes.
        count: of bytes.
        end: when they are to be there, by the monotonic clock.

    Raises:
        OSError: they did not come, or not in time.
    """
    found = bytearray()
    while len(found) < count:
        left = end - time.monotonic()
        if left <= 0:
            raise TimeoutError(f"{len(found)} of {count} bytes came in time")
        link.settimeout(left)
        more = link.recv(min(count - len(found), 2**16))
        if not more:
            raise ConnectionError(f"{len(found)} of {count} bytes came")
        found += more
    return bytes(found)


def request(word: str, wanted: Mapping[str, object]) -> bytes:
    """Return a message that asks for something: the word, a length, and so much JSON."""
    message = json.dumps(wanted).encode()
    return word.encode() + len(message).to_bytes(NUMBER_BYTES, "big") + message


def asked(link: socket.socket, forking: Forking, command: Sequence[str]) -> int:
    """Ask for a worker and return its process id; 0: nobody forks one.

    The environment may hold what is nobody's business, so nothing is said to whoever else has the
    name: the kernel knows which process listened first.
    """
    end = time.monotonic() + _PATIENCE_SECONDS
    umask = os.umask(0)
    os.umask(umask)
    wanted = {
        "command": [part for part in command[1:] if part != _LANGUAGE],
        "environment": dict(os.environ),
        "folder": os.getcwd(),
        "files": resource.getrlimit(resource.RLIMIT_NOFILE),
        "umask": umask,
        "nice": os.nice(0),
        "blocked": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ())),
    }
    message = request(forking.word, wanted)
    try:
        link.settimeout(_PATIENCE_SECONDS)
        link.connect(address(forking.name))
        if credentials(link) != (forking.maker, os.geteuid()):
            return 0
        sent = socket.send_fds(link, [message], STREAMS)
        link.sendall(message[sent:])
        return int.from_bytes(read(link, NUMBER_BYTES, end), "big")
    except OSError:
        return 0


if __name__ == "__main__":
    sys.exit(stand_in(Forking(sys.argv[1], sys.argv[2], int(sys.argv[3])), sys.argv[4:]))
