"""What a training has achieved so far, as the server sees it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from strategies.run.events import read_events

if TYPE_CHECKING:
    import torch


@dataclass
class RunState:
    """What a training has achieved so far.

    Attributes:
        round: last closed round.
        model: the last released model, after ``released`` rounds.
        metrics: the released model's figures on the public holdout.
        alone: accuracy of each hospital's own model on its own test records; public data only.
        left_out: hospitals that are not asked any more: name, round and why.
        carried: bytes (from, to) hospitals before this process led the training.
        seconds: that it took before.
    """

    round: int = 0
    model: Mapping[str, torch.Tensor] = field(default_factory=dict)
    released: int = 0
    metrics: dict[str, float] = field(default_factory=dict)
    hospital_metrics: dict[str, float] = field(default_factory=dict)
    alone: dict[str, float] = field(default_factory=dict)
    uplink_bytes: list[int] = field(default_factory=list)
    downlink_bytes: list[int] = field(default_factory=list)
    round_seconds: list[float] = field(default_factory=list)
    note: str = ""
    left_out: list[dict[str, object]] = field(default_factory=list)
    carried: tuple[int, int] = (0, 0)
    seconds: float = 0.0


def state_so_far(path: Path) -> RunState:
    """Return the state of a training that goes on: what its rounds took before, by its run folder.

    A process that was killed has left no total of its seconds; those of its rounds count then.
    """
    state = RunState()
    for event in read_events(path):
        if event.get("kind") != "round":
            continue
        state.round_seconds.append(event["seconds"])
        state.uplink_bytes.append(event["uplink_bytes"])
        state.downlink_bytes.append(event["downlink_bytes"])
        state.carried = (event["uplink_bytes_total"], event["downlink_bytes_total"])
    summary = path / "summary.json"
    told = json.loads(summary.read_bytes())["seconds"]["total"] if summary.is_file() else 0.0
    state.seconds = max(told, sum(state.round_seconds))
    return state
