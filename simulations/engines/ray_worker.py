"""Stands where Ray starts a worker: has it forked, and lives and ends with it.

Run as a program of its own, which imports nothing that takes time, with the name of a socket, the
word without which nothing is forked, and what Ray would have run as its arguments. Where nobody
forks, that is what it becomes; see `forks`.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
import struct
import sys
from collections.abc import Mapping, Sequence

#: What is handed on to a fork: standard input, output and errors.
STREAMS = (0, 1, 2)
#: Before a message, as many bytes say how many follow; a worker's process id has as many.
NUMBER_BYTES = 4
#: What Ray tells the program that prepares a worker: of which language it is, and of which
#: environment, where it has one of its own.
_LANGUAGE, _OWN_ENVIRONMENT = "--language=PYTHON", "--serialized-runtime-env-context"
#: Process, user and group, as the kernel knows them of the other end.
_CREDENTIALS = "3i"


def stand_in(name: str, word: str, command: Sequence[str]) -> int:
    """Return 0 when the worker has ended, or the raylet; or become what Ray would have run.

    Args:
        name: of the socket on which workers are asked for.
        word: without which none is forked.
        command: the worker's, as Ray has it: the program that prepares one, the worker's, and its
            arguments.
    """
    with socket.socket(socket.AF_UNIX) as link:
        plain = _LANGUAGE in command and not any(_OWN_ENVIRONMENT in part for part in command)
        worker = _asked(link, name, word, command) if plain else 0
        if not worker:
            link.close()
            if os.getppid() != int(os.environ.get("RAY_RAYLET_PID", os.getppid())):
                return 0
            os.execv(sys.executable, [sys.executable, *command])
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, lambda number, _: os.kill(worker, number))
        while link.recv(1):
            pass
    return 0


def address(name: str) -> str:
    """Return a name as an abstract socket's, which is in no folder and gone with its process."""
    return f"\0{name}"


def of_this_user(link: socket.socket) -> bool:
    """Whether the other end of a connection is a process of the same user; names have no owner."""
    size = struct.calcsize(_CREDENTIALS)
    there = link.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
    return bool(struct.unpack(_CREDENTIALS, there)[1] == os.geteuid())


def read(link: socket.socket, count: int) -> bytes:
    """Return so many bytes.

    Raises:
        OSError: they did not come.
    """
    found = bytearray()
    while len(found) < count:
        more = link.recv(min(count - len(found), 2**16))
        if not more:
            raise ConnectionError(f"{len(found)} of {count} bytes came")
        found += more
    return bytes(found)


def request(wanted: Mapping[str, object]) -> bytes:
    """Return a message that asks for something, after its length."""
    message = json.dumps(wanted).encode()
    return len(message).to_bytes(NUMBER_BYTES, "big") + message


def _asked(link: socket.socket, name: str, word: str, command: Sequence[str]) -> int:
    """Ask for a worker and return its process id; 0: nobody forks one."""
    own = [part for part in command[1:] if part != _LANGUAGE]
    wanted = {
        "word": word,
        "command": own,
        "environment": dict(os.environ),
        "folder": os.getcwd(),
        "files": resource.getrlimit(resource.RLIMIT_NOFILE),
    }
    message = request(wanted)
    try:
        link.connect(address(name))
        if not of_this_user(link):
            return 0
        sent = socket.send_fds(link, [message], STREAMS)
        link.sendall(message[sent:])
        return int.from_bytes(read(link, NUMBER_BYTES), "big")
    except OSError:
        return 0


if __name__ == "__main__":
    sys.exit(stand_in(sys.argv[1], sys.argv[2], sys.argv[3:]))
