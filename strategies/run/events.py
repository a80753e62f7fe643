"""A run's events: the lines of ``metrics.jsonl``, as they come, and where they say the run is.

`follow` yields events as they are written, whoever writes them: a simulation in this process, in
another one, or a server in a deployment. `RunProgress` folds them into where the run is::

    progress = RunProgress()
    for event in follow(run_dir, until=stopped):
        if event is not None:
            progress.add(event)
"""

from __future__ import annotations

import json
import statistics
import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

METRICS = "metrics.jsonl"
POLL_SECONDS = 0.1
RECENT_ROUNDS = 20

Event = Mapping[str, Any]


@dataclass(kw_only=True)
class RunProgress:
    """Where a run is, folded from its events.

    Attributes:
        facts: the fields of the `start` event.
        round: the last finished round.
        released: the last `release` event; empty before the first.
        epsilon: spent against the server after `epsilon_round`, by the accountant that the target
            is for; None where nothing is claimed, or not known yet.
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
    epsilon_round: int = 0
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
                self._take_epsilon(event)
                self.uplink_bytes = event.get("uplink_bytes_total", self.uplink_bytes)
                self.downlink_bytes = event.get("downlink_bytes_total", self.downlink_bytes)
                self.round_times = [*self.round_times[-RECENT_ROUNDS:], event["time"]]
            case "ceremony":
                self.stage = {}
                self.round_times = [event["time"]]
            case "release":
                self.released = dict(event)
                self._take_epsilon(event)
            case "fault":
                self.fault_count += 1
                self.last_fault = dict(event)
            case "end":
                self.status = str(event.get("status", "finished"))
                self.message = str(event.get("message", ""))

    @property
    def accountant(self) -> str:
        """The accountant that the target is for; of runs that do not say, the default one."""
        return str(self.facts.get("accountant", "prv"))

    def _take_epsilon(self, event: Event) -> None:
        """Take over what is spent, by the accountant that binds; of PRV, releases alone tell."""
        spent = event.get(f"epsilon_{self.accountant}")
        if spent is not None:
            # A release tells of rounds that it has no part in, since they were paid for before it.
            self.epsilon, self.epsilon_round = float(spent), max(int(event["round"]), self.round)

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


def fold(events: Iterable[Event]) -> RunProgress:
    """Return where a run is after some events."""
    progress = RunProgress()
    for event in events:
        progress.add(event)
    return progress


def run_progress(path: Path) -> RunProgress:
    """Return where the run of a folder is, reading nothing but its events."""
    return fold(read_events(path))


def is_finished(path: Path) -> bool:
    """Whether the run of a folder came to its end; one that was interrupted has a summary too."""
    return run_progress(path).status == "finished"


def last_change(path: Path) -> float:
    """Return when a run last wrote an event, in unix seconds; 0 before its first."""
    try:
        return (path / METRICS).stat().st_mtime
    except OSError:
        return 0.0


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
