"""Processes of a run, forked from one that has the libraries.

Ray starts a worker as a new process, which imports Ray twice and then what hospitals work with:
seconds of a processor, each time. Here one process imports that once, while the run prepares
(`forking`), and each worker is a fork of it. What Ray starts in a worker's place (`ray_worker`)
hands its arguments, environment and streams to the fork, and each of the two ends with the other.
Work of the run's own can be done in a fork as well, which is asked for by a connection that no
other process has.

For Linux. Elsewhere, and where the process is gone, Ray starts its workers itself and work is done
where it is wanted.
"""

from __future__ import annotations

import atexit
import fcntl
import os
import secrets
import socket
import struct
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from multiprocessing.connection import Connection
from pathlib import Path

from simulations.engines.ray_worker import STREAMS, WORD_LETTERS, address

#: What Ray starts in a worker's place.
_STAND_IN = Path(__file__).with_name("ray_worker.py")
_COMMAND = "--python_worker_command="
#: Ray's own program that prepares a worker's environment and then runs it.
_PREPARES = "setup_worker.py"
#: How long a fork may take to read what it is given, and to say the rest of what it has begun to.
_PATIENCE_SECONDS = 60
_AT_ONCE = socket.MSG_DONTWAIT
_PROGRAM = """import sys
sys.path[:] = {path!r}
from simulations.engines.forking import serve
serve({listener}, {leader}, {word!r})
"""


class Forks:
    """The process that forks; it ends with the process that made it.

    Attributes:
        name: of the abstract socket on which it is asked for Ray's workers.
        word: without which it forks none of them.
        pid: its process id.
    """

    def __init__(self) -> None:
        self.name = f"asclepias-forks-{secrets.token_hex(16)}"
        self.word = secrets.token_hex(WORD_LETTERS // 2)
        with ExitStack() as stack:
            listener = stack.enter_context(_apart(socket.socket(socket.AF_UNIX)))
            listener.bind(address(self.name))
            listener.listen()
            here, there = map(_apart, socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET))
            self._leads = here
            stack.enter_context(there)
            numbers = {"listener": listener.fileno(), "leader": there.fileno()}
            program = _PROGRAM.format(path=sys.path, word=self.word, **numbers)
            # Libraries read it when they are imported; Ray has it so for whom it gives a processor.
            threads = {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", program],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=numbers.values(),
                env=os.environ | threads,
                process_group=0,
            )
        self.pid = self._process.pid
        atexit.register(self.end)

    def work(self, target: str, first: object) -> Connection | None:
        """Have a fork call a function with its end of a connection.

        Args:
            target: module:function.
            first: what the function receives first.

        Returns:
            This end, which finds the end of file where the fork has ended, and an `OSError` where
            it stops in the middle of a message; None: nobody forks.
        """
        here, there = socket.socketpair()
        limit = struct.pack("ll", _PATIENCE_SECONDS, 0)
        for option in (socket.SO_SNDTIMEO, socket.SO_RCVTIMEO):
            here.setsockopt(socket.SOL_SOCKET, option, limit)
        connection = Connection(here.detach())
        try:
            with there:
                socket.send_fds(self._leads, [target.encode()], [there.fileno()], _AT_ONCE)
            connection.send(first)
        except OSError:
            connection.close()
            return None
        return connection

    def end(self) -> None:
        """End it; its forks go on."""
        self._process.kill()
        self._process.wait()
        self._leads.close()


def _apart(one: socket.socket) -> socket.socket:
    """Return a socket whose number is none of a new process's streams, as a daemon's may be."""
    with one:
        return socket.socket(
            fileno=fcntl.fcntl(one.fileno(), fcntl.F_DUPFD_CLOEXEC, max(STREAMS) + 1)
        )


_forks: list[Forks] = []


def start_forks() -> None:
    """Begin to import what forks need; a Ray that this process starts has its workers forked."""
    if sys.platform == "linux" and not _forks:
        with suppress(OSError):  # Ray starts its workers itself then
            _forks.append(Forks())


def work_in_a_fork(target: str, first: object) -> Connection | None:
    """Do as `Forks.work` does, if this process has begun any."""
    return _forks[0].work(target, first) if _forks else None


def with_forks(command: Sequence[str]) -> list[str]:
    """Return a raylet's command that has it ask for workers; any other one as it is."""
    found = [part for part in command if part.startswith(_COMMAND) and _PREPARES in part]
    python = f"{_COMMAND}{subprocess.list2cmdline([sys.executable])} "
    if not _forks or len(found) != 1 or not found[0].startswith(python):
        return list(command)
    stand_in = [sys.executable, "-I", "-S", os.fspath(_STAND_IN)]
    stand_in += [_forks[0].name, _forks[0].word, str(os.getpid())]
    asks = f"{_COMMAND}{subprocess.list2cmdline(stand_in)} {found[0].removeprefix(python)}"
    return [asks if part == found[0] else part for part in command]
