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
from contextlib import suppress
from hmac import compare_digest
from importlib import import_module
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from simulations.engines.importing import importing
from simulations.engines.ray_worker import NUMBER_BYTES, STREAMS, of_this_user, read

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
#: How long one who asks may take to say for what.
_PATIENCE_SECONDS = 10.0
#: Bytes; of an environment there are some megabytes at most.
_LONGEST_REQUEST = 2**26


def serve(fileno: int, word: str) -> None:
    """Import the libraries, then fork for everyone who asks, until standard input ends.

    Args:
        fileno: the listening socket's.
        word: without which nothing is forked; the same user in a container may see the name.
    """
    with importing():
        for name in LIBRARIES:
            import_module(name)
    if _RAY in sys.modules:
        return
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with socket.socket(fileno=fileno) as listener:
        waiting = select.poll()  # `select.select` has room for the first thousand files alone
        for one in (sys.stdin, listener):
            waiting.register(one, select.POLLIN)
        while [number for number, _ in waiting.poll()] == [fileno]:
            link, _ = listener.accept()
            link.settimeout(_PATIENCE_SECONDS)
            streams, wanted = _read(link, word)
            if wanted is not None and os.fork() == 0:
                break
            link.close()
            for stream in streams:
                os.close(stream)
        else:
            return
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    link.settimeout(None)
    _draw_anew()
    if "target" in wanted:
        threading.Thread(target=_end_without, args=(os.dup(link.fileno()),), daemon=True).start()
        module, _, function = wanted["target"].partition(":")
        with Connection(link.detach()) as connection:
            getattr(import_module(module), function)(connection)
    else:
        _be_a_worker(link, streams, wanted)


def _read(link: socket.socket, word: str) -> tuple[list[int], dict[str, Any] | None]:
    """Return the streams and what is asked for; None where it is not asked as it should be."""
    streams: list[int] = []
    try:
        if not of_this_user(link):
            return streams, None
        number, streams, _, _ = socket.recv_fds(link, NUMBER_BYTES, len(STREAMS))
        length = int.from_bytes(number, "big")
        if length > _LONGEST_REQUEST:
            return streams, None
        wanted = json.loads(read(link, length))
    except (OSError, ValueError, RecursionError):
        return streams, None
    knows = isinstance(wanted, dict) and compare_digest(str(wanted.get("word")), word)
    return streams, wanted if knows else None


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
