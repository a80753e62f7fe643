"""Reading a run folder: finished, stopped or still being written.

`follow` yields the lines of ``metrics.jsonl`` as they come, whoever writes them: a simulation in
this process, in another one, or a server in a deployment. `Progress` folds them into where the run
is. `read_run` gives everything that the folder holds; what is not there yet is empty::

    progress = Progress()
    for event in follow(run_dir, until=stopped):
        progress.add(event)
"""

from __future__ import annotations

import json
import statistics
import threading
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from clients.contract.settings import Settings, SettingsError

METRICS = "metrics.jsonl"
COMPARISON = "comparison.json"
REPORT = "report.html"
POLL_SECONDS = 0.2
RECENT_ROUNDS = 20

Event = Mapping[str, Any]


class NoRun(Exception):
    """A path that is no run folder; the message says what was looked for."""


@dataclass(kw_only=True)
class Progress:
    """Where a run is, folded from its events.

    Attributes:
        facts: the fields of the `start` event.
        round: the last finished round.
        released: the last `release` event; empty before the first.
        epsilon: spent so far against the server (RDP); None where nothing is claimed.
        uplink_bytes: sent by all hospitals so far.
        downlink_bytes: sent to all hospitals so far.
        fault_count: faults of hospitals so far; `last_fault` is the newest.
        stage: the last `stage` event, while the run prepares; empty once it has begun.
        status: how the run ended; empty while it goes on.
        message: what its end said.
    """

    facts: dict[str, Any] = field(default_factory=dict)
    round: int = 0
    released: dict[str, Any] = field(default_factory=dict)
    epsilon: float | None = None
    uplink_bytes: float = 0
    downlink_bytes: float = 0
    fault_count: int = 0
    last_fault: dict[str, Any] = field(default_factory=dict)
    stage: dict[str, Any] = field(default_factory=dict)
    stage_since: float = 0.0
    status: str = ""
    message: str = ""
    round_times: list[float] = field(default_factory=list)

    def add(self, event: Event) -> None:
        """Fold one event in; kinds that are not known change nothing."""
        match event.get("kind"):
            case "stage":
                if event.get("stage") != self.stage.get("stage"):
                    self.stage_since = event["time"]
                self.stage = dict(event)
            case "submitted":
                self.status = self.message = ""
            case "start":
                self.facts.update(event)
                self.status = self.message = ""
                self.stage = {"stage": "agreeing on keys"}
                self.round_times = [event["time"]]
            case "round":
                if event.get("closed", True):
                    self.round = int(event["round"])
                self.epsilon = event.get("epsilon_rdp", self.epsilon)
                self.uplink_bytes = event.get("uplink_bytes_total", self.uplink_bytes)
                self.downlink_bytes = event.get("downlink_bytes_total", self.downlink_bytes)
                self.round_times = [*self.round_times[-RECENT_ROUNDS:], event["time"]]
            case "ceremony":
                self.stage = {}
                self.round_times = [event["time"]]
            case "release":
                self.released = dict(event)
            case "fault":
                self.fault_count += 1
                self.last_fault = dict(event)
            case "end":
                self.status = str(event.get("status", "finished"))
                self.message = str(event.get("message", ""))

    @property
    def rounds(self) -> int:
        """Rounds planned; 0 before the run has said so."""
        return int(self.facts.get("rounds", 0))

    @property
    def bytes_sent(self) -> float:
        """Bytes in both directions, over all hospitals."""
        return self.uplink_bytes + self.downlink_bytes

    @property
    def seconds_left(self) -> float | None:
        """Time left of the stage, or of the rounds at the pace of the last; None if unknown."""
        if done := self.stage.get("done"):
            pace = (self.stage["time"] - self.stage_since) / done
            return float(pace * (self.stage["total"] - done))
        steps = [b - a for a, b in zip(self.round_times, self.round_times[1:], strict=False)]
        if not steps or not self.rounds:
            return None
        return statistics.fmean(steps) * max(self.rounds - self.round, 0)


def fold(events: Iterable[Event]) -> Progress:
    """Return where a run is after some events."""
    progress = Progress()
    for event in events:
        progress.add(event)
    return progress


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """What a run folder holds; files that are absent are empty here.

    Attributes:
        path: the folder.
        config: every setting by dotted key, as the run was told.
        events: the lines of ``metrics.jsonl``.
        summary: ``summary.json``.
        privacy: ``privacy.json``: observers, ledger, whether seeded.
        evaluation: ``evaluation.json``: classes, confusion, calibration on the public holdout.
        split: ``split.json``: labels per hospital, only where the data are public.
        provenance: ``provenance.json``: command and versions, written by the command line.
    """

    path: Path
    config: dict[str, Any]
    events: list[dict[str, Any]]
    summary: dict[str, Any]
    privacy: dict[str, Any]
    evaluation: dict[str, Any]
    split: dict[str, Any]
    provenance: dict[str, Any]

    def of_kind(self, kind: str) -> list[dict[str, Any]]:
        """Return the events of one kind, in order."""
        return [event for event in self.events if event.get("kind") == kind]

    @property
    def progress(self) -> Progress:
        """Where the run is, or how it ended."""
        return fold(self.events)

    @property
    def settings(self) -> Settings:
        """The run's settings, checked again."""
        return Settings.from_config(self.config)


def find_run(name: str, parent: Path = Path("runs")) -> Path:
    """Return a run folder by its path, by its name in `parent`, or the newest for ``latest``.

    A folder that holds run folders, as a SuperLink's or a whole consortium's does in a deployment,
    stands for the newest of them.

    Raises:
        NoRun: nothing of that name is a run folder.
    """
    if name == "latest":
        if (found := _newest(parent)) is None:
            raise NoRun(f"There is no run in {parent.absolute()} yet; start one with 'run'.")
        return found
    for path in (Path(name), parent / name):
        if any((path / file).is_file() for file in ("config.toml", METRICS)):
            return path
    # What is called runs/ comes first: Flower keeps a config.toml of its own beside it.
    for runs in (Path(name) / "superlink" / "runs", Path(name) / "runs", Path(name)):
        if (found := _newest(runs)) is not None:
            return found
    raise NoRun(
        f"{name} is no run folder: neither {Path(name).absolute()} nor {parent / name} holds a "
        f"config.toml or {METRICS}. 'latest' names the newest run in {parent.absolute()}."
    )


def _newest(parent: Path) -> Path | None:
    """Return the run folder in `parent` that was begun last."""
    found = [path for path in parent.glob("*/config.toml") if path.is_file()]
    return max(found, key=lambda path: path.stat().st_mtime).parent if found else None


def find_comparison(name: str, parent: Path = Path("runs")) -> Path | None:
    """Return a comparison's folder by its path or its name in `parent`, or None if it is none."""
    folders = (Path(name), parent / name)
    return next((path for path in folders if (path / COMPARISON).is_file()), None)


def read_comparison(path: Path) -> dict[str, Any]:
    """Read a comparison's folder, or its file.

    Raises:
        NoRun: there is none.
    """
    file = path / COMPARISON if path.is_dir() else path
    try:
        content = json.loads(file.read_bytes())
    except OSError as error:
        raise NoRun(f"{file} cannot be read: {error.strerror}; 'compare' writes it.") from None
    except ValueError as error:
        raise NoRun(f"{file} is no JSON: {error}.") from None
    if not isinstance(content, dict) or "rows" not in content:
        raise NoRun(f"{file} is no comparison.")
    return content


def read_run(path: Path) -> RunResult:
    """Read a run folder as it is now.

    Raises:
        NoRun: a file is there and cannot be read as what it should be.
    """
    return RunResult(
        path=path,
        config=_read_config(path / "config.toml"),
        events=list(read_events(path)),
        summary=_read_json(path / "summary.json"),
        privacy=_read_json(path / "privacy.json"),
        evaluation=_read_json(path / "evaluation.json"),
        split=_read_json(path / "split.json"),
        provenance=_read_json(path / "provenance.json"),
    )


def run_progress(path: Path) -> Progress:
    """Return where the run of a folder is, reading nothing but its events."""
    return fold(read_events(path))


def last_change(path: Path) -> float:
    """Return when a run last wrote an event, in unix seconds; 0 before its first."""
    try:
        return (path / METRICS).stat().st_mtime
    except OSError:
        return 0.0


def read_settings(path: Path) -> Settings:
    """Return the settings that a run was told.

    Raises:
        NoRun: the folder holds no settings, or such as this version does not accept.
    """
    config = _read_config(path / "config.toml")
    if not config:
        raise NoRun(f"{path} holds no config.toml; it cannot be resumed.")
    try:
        return Settings.from_config(config)
    except SettingsError as error:
        raise NoRun(f"{path / 'config.toml'} does not fit this version: {error}") from None


def read_events(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the whole lines that are in ``metrics.jsonl`` now; none where there is no file."""
    file = path / METRICS
    if file.is_file():
        for line in file.read_bytes().splitlines():
            if event := _event(line):
                yield event


def follow(
    path: Path, *, until: threading.Event, poll_seconds: float = POLL_SECONDS
) -> Iterator[dict[str, Any] | None]:
    """Yield events as they are written; None whenever nothing new is there.

    Half-written last lines wait for their end. After `until` is set, what is left is read once
    more, and the iterator ends.
    """
    file, offset = path / METRICS, 0
    while True:
        last = until.is_set()
        if file.is_file():
            with file.open("rb") as lines:
                lines.seek(offset)
                for line in lines:
                    if not line.endswith(b"\n"):
                        break
                    offset += len(line)
                    if event := _event(line):
                        yield event
        if last:
            return
        yield None
        until.wait(poll_seconds)


def _event(line: bytes) -> dict[str, Any] | None:
    """Parse one line; a torn one, left by a killed process, is nothing."""
    try:
        event = json.loads(line)
    except ValueError:
        return None
    return event if isinstance(event, dict) else None


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_bytes())
    except ValueError as error:
        raise NoRun(f"{path} is no JSON: {error}.") from None
    return content if isinstance(content, dict) else {"rows": content}


def _read_config(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise NoRun(f"{path} is no TOML: {error}.") from None
    return {
        f"{group}.{key}": value
        for group, table in tables.items()
        if isinstance(table, dict)
        for key, value in table.items()
    }
