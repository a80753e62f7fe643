"""A whole consortium on the loopback interface: real SuperLink, real SuperNodes, TLS, free ports.

Everything is started as an engineer would start it, and ended by process id.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from clients.contract.settings import Settings
from clients.data import Cohorts
from deployment.bundle import bundle_digest
from deployment.consortium import Consortium, make_consortium
from deployment.submission import Submission, hospitals_online, settings_of, submit, wait_for_end
from deployment.superlink_folder import SuperLinkFolder, read_superlink
from simulations.engines.local_server import free_port
from tests.deployment import timed_node

ROOT = Path(__file__).resolve().parents[2]


class LocalDeployment:
    """SuperLink and SuperNodes of one test, as processes."""

    def __init__(self, folder: Path, settings: Settings) -> None:
        self.settings = settings
        self.names = Cohorts().split(settings, settings.partition.hospitals).names
        self.consortium: Consortium = make_consortium(
            folder,
            address=f"127.0.0.1:{free_port()}",
            hospitals=self.names,
            data={"name": settings.data.name, "public": True},
            partitions=True,
            test_mode=True,
            allowed_apps=[bundle_digest()],
        )
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.submissions: list[Submission] = []

    @property
    def link(self) -> SuperLinkFolder:
        return read_superlink(self.consortium.superlink)

    def asclepias(self, name: str, *words: str) -> None:
        """Start a long-running command of ours under a name."""
        self._start(name, "deployment.__main__", *words)

    def _start(self, name: str, module: str, *words: str, **surroundings: str) -> None:
        """Start a module as a process in a group of its own."""
        with (self.consortium.folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", module, *words],
                cwd=ROOT,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env={**os.environ, "FLWR_TELEMETRY_ENABLED": "0", **surroundings},
            )
        self.processes[name] = process

    def start_superlink(self) -> None:
        before = self.log("superlink").count("ready on")
        self.asclepias("superlink", "superlink", str(self.consortium.superlink))
        self.until(lambda: self.log("superlink").count("ready on") > before, "a SuperLink")

    def start_node(self, name: str, site: Path | None = None) -> None:
        self.asclepias(name, "supernode", "--site", str(site or self.consortium.site(name)))

    def start_tampering_node(self, name: str) -> None:
        """Start a node that flips one bit of every sealed sum on its way out."""
        site = self.consortium.site(name) / "site.toml"
        self._start(name, "tests.deployment.tampering_node", str(site))

    def start_timed_node(self, name: str, starts: Path) -> None:
        """Start a node that adds to a file when each process of its app starts."""
        site = self.consortium.site(name) / "site.toml"
        self._start(name, timed_node.__name__, str(site), **{timed_node.STARTS: str(starts)})

    def wait_online(self, count: int) -> None:
        self.until(lambda: len(hospitals_online(self.link)) >= count, f"{count} nodes online")

    def wait_node(self, name: str, times: int = 1) -> None:
        """Wait until a node has said, this many times since the start, that it is connected."""
        self.until(lambda: self.log(name).count("SuperNode ID") >= times, f"{name} connected")

    def start(self) -> None:
        self.start_superlink()
        for name in self.names:
            self.start_node(name)
        self.wait_online(len(self.names))

    def server_apps(self) -> list[int]:
        """Return the processes of this SuperLink's server apps."""
        home = f"FLWR_HOME={self.consortium.superlink / 'flower'}".encode()
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            try:
                ours = home in (process / "environ").read_bytes().split(b"\0")
                if ours and b"flwr-serverapp" in (process / "cmdline").read_bytes():
                    found.append(int(process.name))
            except OSError:
                continue  # it has just ended, or is not ours to look at
        return found

    def ends(self, name: str, seconds: float = 240.0) -> int:
        """Wait until a process ends by itself and return its exit code."""
        process = self.processes[name]
        self.until(lambda: process.poll() is not None, f"the end of {name}", seconds)
        del self.processes[name]
        return int(process.returncode)

    def kill(self, name: str, number: signal.Signals = signal.SIGKILL) -> None:
        """End a process and the processes that it started."""
        process = self.processes.pop(name)
        os.killpg(process.pid, number)
        process.wait(timeout=30)

    def run(self, *assignments: str, seconds: float = 600.0) -> tuple[Submission, str]:
        submission = self.submit(*assignments)
        return submission, wait_for_end(self.link, submission, seconds=seconds)

    def submit_by_command(self, *assignments: str) -> Submission:
        """Submit by the command itself, which follows the run as the process ``submit``."""
        before = set(self.link.runs.glob("*/flower-run-id"))
        changes = [word for one in assignments for word in ("--set", one)]
        link = str(self.link.folder)
        self.asclepias("submit", "submit", "default", "--superlink", link, *changes)

        def found() -> set[Path]:
            return set(self.link.runs.glob("*/flower-run-id")) - before

        self.until(lambda: bool(found()), "a submitted run")
        [file] = found()
        self.submissions.append(Submission(run_id=0, folder=file.parent))
        return self.submissions[-1]

    def wait(self, submission: Submission, seconds: float = 600.0) -> str:
        return wait_for_end(self.link, submission, seconds=seconds)

    def submit(self, *assignments: str) -> Submission:
        settings = settings_of("default", assignments, {})
        self.submissions.append(submit(self.link, settings))
        return self.submissions[-1]

    def log(self, name: str) -> str:
        file = self.consortium.folder / f"{name}.log"
        return file.read_text(errors="replace") if file.exists() else ""

    def hospital_log(self, name: str) -> str:
        file = self.consortium.site(name) / "private" / "hospital.log"
        return file.read_text() if file.exists() else ""

    def until(self, true: Callable[[], bool], what: str, seconds: float = 240.0) -> None:
        end = time.monotonic() + seconds
        while not true():
            if time.monotonic() > end:
                logs = "\n".join(f"== {n}\n{self.log(n)[-2000:]}" for n in self.processes)
                raise AssertionError(f"not within {seconds:.0f} s: {what}\n{logs}")
            time.sleep(0.1)

    def end(self) -> None:
        for name in list(self.processes):
            self.kill(name, signal.SIGTERM if name == "superlink" else signal.SIGKILL)
        for process in self.server_apps():
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)


@contextmanager
def local_deployment(folder: Path, settings: Settings) -> Iterator[LocalDeployment]:
    """Prepare a consortium; end whatever of it still runs."""
    deployment = LocalDeployment(folder, settings)
    try:
        yield deployment
    finally:
        deployment.end()


def rounds(submission: Submission) -> list[dict]:
    """Return the run's `round` events."""
    return [e for e in events(submission) if e["kind"] == "round"]


def events(submission: Submission) -> list[dict]:
    """Return the run's events."""
    file = submission.folder / "metrics.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def ledger_rounds(deployment: LocalDeployment, name: str) -> Sequence[dict]:
    """Return what a hospital has spent, line by line."""
    file = deployment.consortium.site(name) / "private" / "ledger.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
