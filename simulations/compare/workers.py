"""Processes that run the trainings of a comparison, one after another, without starting anew.

A process imports torch once and keeps its data between trainings. One that dies takes one training
with it and is replaced; one that has run many is replaced as well, so that what trainings leave in
memory does not pile up. Ctrl-C ends them all; what was finished stays.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import shutil
import signal
import threading
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clients.contract.settings import ConfigValue, Settings
from simulations.error_messages import MACHINE, machine_fault

if TYPE_CHECKING:
    from clients.data import Cohorts

#: Trainings after which a process is replaced.
TRAININGS_A_PROCESS = 60
#: Seconds that a process gets to end by itself.
PATIENCE_SECONDS = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResult:
    """How a training ended: `finished`, `stopped` or `failed`, and why."""

    status: str
    message: str = ""


@dataclass(slots=True)
class _Worker:
    process: Any
    pipe: Connection
    task: int = -1
    done: int = 0


def run_trainings(
    configs: Sequence[Mapping[str, ConfigValue]], *, processes: int, command: Sequence[str] = ()
) -> Iterator[tuple[int, RunResult]]:
    """Run trainings and yield place and result of each as it ends.

    Args:
        configs: settings by dotted key; ``run.out`` names each training's folder. A folder that is
            there already holds an unfinished training, and is made anew.
        processes: how many run at a time.
        command: what the user typed; kept beside each training.
    """
    waiting = deque(range(len(configs)))
    workers = [_start(command) for _ in range(min(processes, len(configs)))]
    try:
        for worker in workers:
            _hand_over(worker, waiting, configs)
        while busy := [worker for worker in workers if worker.task >= 0]:
            ready = set(wait([worker.pipe for worker in busy]))
            for worker in [one for one in busy if one.pipe in ready]:
                task, result = worker.task, _receive(worker)
                worker.task = -1
                if result is None or worker.done >= TRAININGS_A_PROCESS:
                    workers.remove(worker)
                    _end(worker)
                    if waiting:
                        workers.append(worker := _start(command))
                _hand_over(worker, waiting, configs)
                yield task, result or RunResult(status="failed", message="its process died")
    finally:
        for worker in workers:
            _end(worker)


def _start(command: Sequence[str]) -> _Worker:
    context = multiprocessing.get_context("spawn")
    pipe, theirs = context.Pipe()
    process = context.Process(target=_work, args=(theirs, list(command)), daemon=True)
    with _deaf_to_interrupts():  # a new process inherits it: the parent answers for Ctrl-C
        process.start()
    theirs.close()
    return _Worker(process=process, pipe=pipe)


@contextmanager
def _deaf_to_interrupts() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _hand_over(
    worker: _Worker, waiting: deque[int], configs: Sequence[Mapping[str, ConfigValue]]
) -> None:
    if waiting:
        worker.task = waiting.popleft()
        with suppress(OSError):  # a process that has died is found out when its reply is read
            worker.pipe.send(dict(configs[worker.task]))


def _receive(worker: _Worker) -> RunResult | None:
    """Return what a process says of its training; None when it has died."""
    try:
        result = worker.pipe.recv()
    except (EOFError, ConnectionResetError):
        return None
    worker.done += 1
    assert isinstance(result, RunResult)
    return result


def _end(worker: _Worker) -> None:
    worker.pipe.close()
    if worker.task >= 0:
        worker.process.terminate()
    worker.process.join(PATIENCE_SECONDS)
    if worker.process.is_alive():
        worker.process.kill()
        worker.process.join()


def _work(pipe: Connection, command: list[str]) -> None:
    """Run what comes through the pipe until it is closed."""
    os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # processes, not threads, fill the machine
    threading.Thread(target=_end_with_parent, daemon=True).start()
    from clients.data import Cohorts

    cohorts = Cohorts()
    while True:
        try:
            config = pipe.recv()
        except EOFError:
            return
        result = _train(Settings.from_config(config), command, cohorts)
        try:
            pipe.send(result)
        except OSError:
            return


def _end_with_parent() -> None:
    """End at once when the command has been killed: its next one makes this training anew."""
    if (parent := multiprocessing.parent_process()) is not None:
        parent.join()
        os._exit(1)


def _train(settings: Settings, command: list[str], cohorts: Cohorts) -> RunResult:
    """Run one training; whatever ends it is a result, and the process goes on."""
    try:
        return _train_anew(settings, command, cohorts)
    except OSError as error:  # a disk that is full has no room for a log either
        return RunResult(status="failed", message=_why(error))


def _train_anew(settings: Settings, command: list[str], cohorts: Cohorts) -> RunResult:
    from simulations.engines.direct_transport import train_here
    from simulations.launch import logging_to, write_provenance
    from strategies.errors import TrainingStopped
    from strategies.run.folder import RunFolder

    path = Path(settings.run.out)
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)
    RunFolder(path).write_config(settings)
    write_provenance(path, command)
    with logging_to(path / "run.log", settings.run.log_level, terminal=False):
        try:
            train_here(settings, cohorts)
        except TrainingStopped as stopped:
            return RunResult(status="stopped", message=str(stopped))
        except Exception as error:
            logging.getLogger(__name__).exception("a training of a comparison failed")
            return RunResult(status="failed", message=_why(error))
    return RunResult(status="finished")


def _why(error: Exception) -> str:
    if isinstance(error, OSError) and error.errno in MACHINE:
        return machine_fault(error)
    return f"{type(error).__name__}: {error}"
