"""A hospital's app processes: one per message, each forked from one that has the libraries.

Flower starts a new process for each message, and importing torch, Opacus and Flower takes it
seconds. Here one process imports them once, keeps no data and runs no app code; each message gets a
fork of it, which ends with its answer. Only third-party libraries of this environment are imported
beforehand: the app's own rooms always come out of the bundle that the SuperNode has checked.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import hashlib
import importlib
import json
import os
import shutil
import signal
import sys
import traceback
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from crypto.whole_file import write_private
from deployment.core_dumps import forbid_core_dumps
from strategies.flower_patches import shorten_fetch_pause

if TYPE_CHECKING:
    from collections.abc import Callable

    from flwr.supercore.constant import TaskType
    from flwr.supercore.superexec.executor import ExecutionSpec, LaunchResult

#: What the app imports on its way to the first gradient. Missing ones are left out.
LIBRARIES = (
    "flwr.clientapp",
    "flwr.supernode.runtime.run_clientapp",
    "numpy",
    "scipy.special",
    "pydantic",
    "cryptography.hazmat.primitives.ciphers.aead",
    "torch",
    "torch._dynamo",
    "opacus.grad_sample",
    "tenseal",
    "sklearn.datasets",
    "sklearn.metrics",
    "flwr_datasets.partitioner",
)

#: Folder of notes of what was installed, below Flower's own.
_INSTALLED = "installed"


class ForkingExecutor:
    """Hands each task to the process that forks; Flower's `Executor` protocol."""

    def __init__(self, channel: TextIO) -> None:
        self._channel = channel

    def get_eligible_capacity(
        self,
        supported_task_types: set[TaskType],
        *,
        insecure: bool = False,
        root_certificates_path: str | None = None,
    ) -> tuple[set[TaskType], set[str]]:
        """Take client tasks only, and any number of them."""
        from flwr.supercore.constant import TaskType

        return supported_task_types & {TaskType.CLIENT_APP}, set()

    def wait_for_capacity(self, *args: object, **kwargs: object) -> None:
        """Return at once."""

    def launch(self, spec: ExecutionSpec) -> LaunchResult:
        """Have a process forked for a task."""
        from flwr.supercore.superexec.executor import LaunchResult

        self._channel.write(json.dumps(asdict(spec)) + "\n")
        self._channel.flush()
        return LaunchResult.accepted()

    def close(self) -> None:
        """Let the forking process end."""
        with contextlib.suppress(BrokenPipeError):
            self._channel.close()

    def reconcile(self) -> None:
        """Do nothing: forked processes end by themselves."""


def start_forking() -> TextIO:
    """Fork the process that forks, before this one has any thread; return the pipe to it."""
    reader, writer = os.pipe()
    if os.fork() == 0:
        os.close(writer)
        with os.fdopen(reader, encoding="utf-8") as tasks:
            _fork_for_each(tasks)
        os._exit(0)
    os.close(reader)
    return os.fdopen(writer, "w", encoding="utf-8")


def _fork_for_each(tasks: TextIO) -> None:
    """Import the libraries, then fork for every line until the pipe closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    import_libraries()
    shorten_fetch_pause()
    install_once()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while line := tasks.readline():
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            os.close(tasks.fileno())
            _become_app(json.loads(line))


def import_libraries() -> None:
    """Import what each app process needs, and leave it out of all collections of garbage.

    Hundreds of thousands of objects stay for good. A fork that goes through them takes its time,
    and a copy of the memory that it touches.
    """
    gc.disable()
    for name in LIBRARIES:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    gc.freeze()
    gc.enable()


def install_once() -> None:
    """Have a bundle unpacked and checked when it is new, not for every message.

    Flower unpacks it each time, compares every file with its digest, and then finds it installed:
    half of what an app process takes. What this process installed is known by the bundle's digest;
    a loss of power may leave an earlier one's note, and not all that it notes.
    """
    from flwr.supercore.utils import get_flwr_home
    from flwr.supernode.runtime import run_clientapp

    shutil.rmtree(get_flwr_home() / _INSTALLED, ignore_errors=True)
    flower: Any = run_clientapp
    install: Callable[[bytes, Path | None, bool], Path] = flower.install_from_fab

    def install_new(fab: bytes, install_dir: Path | None = None, skip_prompt: bool = False) -> Path:
        mark = get_flwr_home() / _INSTALLED / hashlib.sha256(fab).hexdigest()
        if mark.is_file() and (found := Path(mark.read_text(encoding="utf-8"))).is_dir():
            return found
        made = install(fab, install_dir, skip_prompt)
        mark.parent.mkdir(exist_ok=True)
        write_private(mark, str(made).encode())
        return made

    flower.install_from_fab = install_new


def _become_app(spec: dict[str, object]) -> None:
    """Run one ClientApp task, as ``flwr-clientapp`` would, and end the process."""
    code = 1
    try:
        from flwr.supernode.runtime.run_clientapp import run_clientapp

        run_clientapp(
            runtime_api_address=str(spec["runtime_api_address"]),
            token=str(spec["token"]),
            insecure=bool(spec["insecure"]),
            parent_pid=int(str(spec["parent_pid"])) if spec["parent_pid"] else None,
            runtime_dependency_install=False,
        )
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def main() -> None:
    """Serve a SuperNode's tasks until it ends."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runtime-api-address", required=True)
    parser.add_argument("--secret-file", type=Path, required=True)
    parser.add_argument("--parent-pid", type=int, required=True)
    arguments = parser.parse_args()
    forbid_core_dumps()
    channel = start_forking()

    from flwr.supercore.superexec import run_superexec as loop

    loop.get_executor = lambda *args, **kwargs: ForkingExecutor(channel)  # type: ignore[attr-defined]
    loop.run_superexec(
        runtime_api_address=arguments.runtime_api_address,
        insecure=True,
        superexec_auth_secret=arguments.secret_file.read_bytes(),
        parent_pid=arguments.parent_pid,
        runtime_dependency_install=False,
    )


if __name__ == "__main__":
    main()
