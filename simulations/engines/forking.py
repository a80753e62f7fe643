"""The process that others are forked from: it imports what they need, and forks.

It knows of no data and does no work, and has one thread. A fork becomes what Ray would have started
as a worker: Ray's own program, with the arguments, environment, folder and streams that Ray gave;
or it calls a function.
"""

from __future__ import annotations

import json
import os
import resource
import runpy
import secrets
import select
import signal
import socket
import sys
import threading
import time
from contextlib import suppress
from hmac import compare_digest
from importlib import import_module
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

from simulations.engines.importing import importing
from simulations.engines.ray_worker import (
    NUMBER_BYTES,
    STREAMS,
    WORD_LETTERS,
    credentials,
    read,
)

#: What takes forks time to import, but for Ray.
LIBRARIES = (
    "simulations.engines.actors",
    "clients.client_app",
    "clients.site.hospital",
    "clients.models.opacus_parts",
    "tenseal",
    "clients.audit.conduct",
)
#: It reads the environment when it is imported, and keeps what it read: no worker's.
_RAY = "ray._raylet"
_FIRST_TO_END = "1000"
#: How long one who asks may take to say the word, and then for what.
_WORD_SECONDS, _PATIENCE_SECONDS = 1.0, 10.0
#: Bytes; of an environment there are some megabytes at most.
_LONGEST_REQUEST = 2**26
_LONGEST_NAME = 2**10


class _Work(NamedTuple):
    """What a fork is to be.

    Attributes:
        link: to whoever asked.
        streams: a worker's.
        worker: what Ray wants of it; None: it calls a function.
        target: the function.
    """

    link: socket.socket
    streams: list[int]
    worker: dict[str, Any] | None
    target: str = ""

    def close(self) -> None:
        """Let go of what it has."""
        self.link.close()
        for stream in self.streams:
            os.close(stream)


def serve(listens: int, leads: int, word: str) -> None:
    """Import the libraries, then fork for everyone who asks, until the leading process ends.

    Args:
        listens: the number of the socket on which Ray's workers are asked for.
        leads: that of the connection to the leading process, which asks for functions to be called.
        word: without which no worker is forked; the same user in a container may see the name.
    """
    with importing():
        for name in LIBRARIES:
            import_module(name)
    if _RAY in sys.modules:
        return
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with socket.socket(fileno=listens) as listener, socket.socket(fileno=leads) as leader:
        waiting = select.poll()  # `select.select` has room for the first thousand files alone
        for one in (leader, listener):
            waiting.register(one, select.POLLIN)
        while True:
            led = leads in [number for number, _ in waiting.poll()]
            work = _told(leader) if led else _asked(listener, word)
            if work is None and led:
                return
            if work is not None:
                if os.fork() == 0:
                    break
                work.close()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    work.link.settimeout(None)
    _draw_anew()
    if work.worker is not None:
        _be_a_worker(work.link, work.streams, work.worker)
        return
    gone = threading.Thread(target=_end_without, args=(os.dup(work.link.fileno()),), daemon=True)
    gone.start()
    module, _, function = work.target.partition(":")
    with Connection(work.link.detach()) as connection:
        getattr(import_module(module), function)(connection)


def _told(leader: socket.socket) -> _Work | None:
    """Return what the leading process wants called; None where it has ended."""
    target, [*link], _, _ = socket.recv_fds(leader, _LONGEST_NAME, 1)
    return _Work(socket.socket(fileno=link[0]), [], None, target.decode()) if link else None


def _asked(listener: socket.socket, word: str) -> _Work | None:
    """Return which worker is wanted; None where it is not asked for well, or not any more."""
    link, _ = listener.accept()
    work = _Work(link, *_read(link, word))
    if work.worker is None or _given_up(link):
        work.close()
        return None
    return work


def _read(link: socket.socket, word: str) -> tuple[list[int], dict[str, Any] | None]:
    """Return the streams and what is wanted; None where it is not asked for as it should be."""
    streams: list[int] = []
    now = time.monotonic()
    try:
        process, user = credentials(link)
        if process == 0 or user != os.geteuid():
            return streams, None
        link.settimeout(_WORD_SECONDS)
        said, streams, _, _ = socket.recv_fds(link, WORD_LETTERS, len(STREAMS))
        said += read(link, WORD_LETTERS - len(said), now + _WORD_SECONDS)
        if not compare_digest(said, word.encode()):
            return streams, None
        end = now + _PATIENCE_SECONDS
        length = int.from_bytes(read(link, NUMBER_BYTES, end), "big")
        if length > _LONGEST_REQUEST or len(streams) != len(STREAMS):
            return streams, None
        wanted = json.loads(read(link, length, end))
    except (OSError, ValueError, RecursionError):
        return streams, None
    return streams, wanted if isinstance(wanted, dict) else None


def _given_up(link: socket.socket) -> bool:
    """Whether who asked has gone, as to have Ray start the worker itself."""
    link.settimeout(0)
    try:
        return not link.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return False
    except OSError:
        return True


def _draw_anew() -> None:
    """Have all global generators draw what no other fork does; Python's does so by itself."""
    import numpy as np
    import torch

    np.random.seed()
    torch.default_generator.manual_seed(secrets.randbits(63))


def _be_a_worker(link: socket.socket, streams: list[int], wanted: dict[str, Any]) -> None:
    """Be the worker that Ray wants, until it or what stands in its place ends."""
    for stream, number in zip(streams, STREAMS, strict=True):
        os.dup2(stream, number)
        os.close(stream)
    signal.pthread_sigmask(signal.SIG_SETMASK, wanted["blocked"])
    os.umask(wanted["umask"])
    os.nice(max(0, wanted["nice"] - os.nice(0)))
    os.chdir(wanted["folder"])
    # Ray's start allows more open files than there were when this one's parent began.
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, wanted["files"])
    # The kernel is to look here first when memory is short, as Ray has it for what it started.
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(_FIRST_TO_END)
    given = wanted["environment"]
    for name in os.environ.keys() - given.keys():
        del os.environ[name]
    # What is the same stays where it is in memory: by its place, Ray finds the title of a process.
    os.environ.update(given.items() - os.environ.items())
    link.sendall(os.getpid().to_bytes(NUMBER_BYTES, "big"))
    threading.Thread(target=_end_with, args=(link,), daemon=True).start()
    sys.argv = wanted["command"]
    runpy.run_path(sys.argv[0], run_name="__main__")


def _end_with(link: socket.socket) -> None:
    link.recv(1)
    os._exit(1)


def _end_without(fileno: int) -> None:
    """End this process when the other end of a connection is gone, whatever it does."""
    gone = select.poll()
    gone.register(fileno, select.POLLRDHUP | select.POLLHUP)
    gone.poll()
    os._exit(1)
