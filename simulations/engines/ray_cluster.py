"""The Ray that a run's hospitals work on: one of its own, or one that was asked for by its address.

Nobody's cluster is joined unasked: without an address a Ray of this run's own is started, whatever
``RAY_ADDRESS`` says and whatever else runs on the machine. An address that was asked for is tried
first, because Ray itself would wait for a minute where nobody answers.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from simulations.engines.forks import start_forks
from simulations.engines.ray_processes import only_what_a_run_needs
from simulations.error_messages import NotStarted
from simulations.signals import Terminated

#: Longest wait for a word of a cluster, in seconds, by socket and by message.
CONNECT_SECONDS, ANSWER_SECONDS = 3.0, 5.0
#: Largest object that goes from one process to another at once, not by Ray's object store, which
#: costs more than it saves where what is sent is read once, as an update is.
DIRECT_BYTES = 4 * 2**20
#: How long Ray tries to reach its own object store while that starts, and between two tries. Ray
#: would wait a whole second after the first, which comes too soon where the machine is busy.
_STORE_SECONDS, _STORE_PAUSE_MS = 10, 10
_CONFIG = {
    "max_direct_call_object_size": DIRECT_BYTES,
    # Or Ray is not there before workers are, which are not asked for yet.
    "prestart_worker_first_driver": False,
    "raylet_client_connect_timeout_milliseconds": _STORE_PAUSE_MS,
    "raylet_client_num_connect_attempts": 1000 * _STORE_SECONDS // _STORE_PAUSE_MS,
}
#: Bytes of the longest name that a socket may have, and what Ray makes of its folder's name.
_LONGEST_SOCKET = 103 if sys.platform == "darwin" else 107
_SOCKET = "ray/session_2000-01-01_00-00-00_000000_{process}/sockets/plasma_store"
#: What any of Ray's head nodes answers.
_ALIVE = "/ray.rpc.NodeInfoGcsService/CheckAlive"
_GIVE_ADDRESS = "Give host:port of a running one, or leave --ray-address out: then one is started."


def check_folder() -> None:
    """Refuse a folder for temporary files whose name is too long for Ray's sockets.

    Raises:
        NotStarted: it is.
    """
    name = "RAY_TMPDIR" if "RAY_TMPDIR" in os.environ else "TMPDIR"
    folder = os.environ.get(name) or "/tmp"
    longest = os.path.join(folder, _SOCKET.format(process=os.getpid()))
    if (over := len(os.fsencode(longest)) - _LONGEST_SOCKET) > 0:
        raise NotStarted(
            f"{name} = {folder} is too long for the sockets that Ray makes in it, by {over} "
            f"letters: set {name} to a folder with a shorter name, such as /tmp."
        )


def start_ray(address: str) -> bool:
    """Start a Ray of this process's own, or join the one at an address.

    Args:
        address: ``host:port``, or ``auto`` for the one that this machine knows; empty: none.

    Returns:
        Whether this call did; False where the process has a Ray already.

    Raises:
        NotStarted: nobody answers there as a Ray of this version does, or none starts here.
    """
    import ray

    if ray.is_initialized():
        return False
    # Ray gives its processes way to all others; here they are the work, not the background.
    os.environ.setdefault("RAY_worker_niceness", "0")
    common: dict[str, Any] = {
        "logging_level": logging.ERROR,
        "log_to_driver": False,
        "configure_logging": True,
    }
    with _ending_kept():
        if not address:
            _start_here(common)
            return True
        found = find_cluster(address)
        try:
            ray.init(address=found, **common)
        except (RuntimeError, ConnectionError, ValueError) as error:
            said = str(error).strip().splitlines() or [type(error).__name__]
            raise NotStarted(f"The Ray cluster at {found} cannot be joined: {said[0]}") from error
    return True


def _start_here(common: dict[str, Any]) -> None:
    """Start a Ray of this process's own.

    Raises:
        NotStarted: it does not come up in the half minute that Ray gives itself.
        OSError: the machine refuses it something.
    """
    import ray

    start_forks()
    try:
        with only_what_a_run_needs():
            ray.init(
                address="local",
                include_dashboard=False,
                _system_config=_CONFIG,
                **common,
            )
    except OSError:
        raise
    except Exception as error:  # Ray has no class of its own for it
        ray.shutdown()
        said = str(error).partition(". ")[0].strip().rstrip(".") or type(error).__name__
        raise NotStarted(
            f"Ray did not start on this machine ({said}): it is too busy, or has too little "
            "memory left. Try again when other work is done."
        ) from error


def actors_that_fit(cpus: float, hospitals: int) -> int:
    """Return how many processes of hospitals have room, at most one a hospital.

    Raises:
        NotStarted: none has.
    """
    import ray

    processors = ray.cluster_resources().get("CPU", 1)
    fit = int(processors // cpus)
    if fit < 1:
        raise NotStarted(
            f"no process of hospitals fits: each needs {cpus:g} processors, the machine has "
            f"{processors:g}. Lower run.threads."
        )
    return min(fit, hospitals)


def processes_of_a_machine(cpus: float) -> int:
    """Return how many processes that need so many processors the largest machine has room for."""
    import ray

    machines = [one["Resources"].get("CPU", 1) for one in ray.nodes() if one["Alive"]]
    return max(1, int(max(machines, default=1) // cpus))


def where_to_look() -> str:
    """Return where Ray keeps what its processes say on this machine, as a part of a sentence."""
    from ray._private import worker

    node = worker._global_node
    folder = node.get_logs_dir_path() if node else "the logs of its session"
    return f"why, may stand in {folder} (raylet.out, worker-*.err)"


def find_cluster(address: str) -> str:
    """Return host and port of a Ray cluster that answers.

    Args:
        address: ``host:port``, or ``auto``.

    Raises:
        NotStarted: nobody answers in seconds, or it is no Ray.
    """
    if address == "auto":
        address = _known_here()
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 2**16:
        raise NotStarted(f"--ray-address {address!r} is neither 'auto' nor host:port.")
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS).close()
    except OSError as error:
        why = error.strerror or str(error) or "no answer"
        raise NotStarted(
            f"No Ray cluster answers at {address} ({why.lower()}). {_GIVE_ADDRESS}"
        ) from None
    if not _answers(address):
        raise NotStarted(f"What listens at {address} is no Ray cluster. {_GIVE_ADDRESS}")
    return address


def _known_here() -> str:
    from ray._private.services import canonicalize_bootstrap_address

    try:
        return str(canonicalize_bootstrap_address("auto"))
    except (ConnectionError, ValueError):
        raise NotStarted(f"No Ray cluster runs on this machine. {_GIVE_ADDRESS}") from None


def _answers(address: str) -> bool:
    """Whether a Ray answers; where only it may say so itself (behind TLS), it is left to."""
    if os.environ.get("RAY_USE_TLS", "0") not in ("", "0"):
        return True
    import grpc

    with grpc.insecure_channel(address) as channel:
        try:
            channel.unary_unary(_ALIVE)(b"", timeout=ANSWER_SECONDS)
        except grpc.RpcError as error:
            silent = (
                grpc.StatusCode.UNAVAILABLE,
                grpc.StatusCode.DEADLINE_EXCEEDED,
                grpc.StatusCode.UNIMPLEMENTED,
            )
            return error.code() not in silent
    return True


@contextmanager
def _ending_kept() -> Iterator[None]:
    """Keep what SIGTERM means to this process, which Ray takes over when it starts.

    Ray's own handler raises wherever the process is. In the middle of an import that leaves the
    lock of all imports taken, and who else imports waits for ever; ours waits for an import's end.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    from ray._private import utils

    before, take = signal.getsignal(signal.SIGTERM), getattr(utils, "set_sigterm_handler", None)
    if take is not None:
        utils.set_sigterm_handler = _left_alone
    try:
        yield
    except SystemExit as end:
        if end.code == signal.SIGTERM:
            raise Terminated from None
        raise
    finally:
        if take is not None:
            utils.set_sigterm_handler = take
        signal.signal(signal.SIGTERM, before)


def _left_alone(handler: Any) -> None:
    """Take no handler."""
