"""What a training has achieved so far, as the server sees it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
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
    """Return the state of a training that goes on: what it took before, by its run folder.

    Only figures follow from it, so what is not there, or damaged, counts as nothing. A process that
    was killed has left no total; its rounds count then.
    """
    state, since = RunState(), 0.0
    for event in read_events(path):
        if event.get("kind") == "end":
            since = 0.0  # what was before is in the summary
        elif event.get("kind") == "round":
            with suppress(KeyError, TypeError, ValueError):
                seconds = float(event["seconds"])
                up, down = int(event["uplink_bytes"]), int(event["downlink_bytes"])
                state.carried = (
                    int(event["uplink_bytes_total"]),
                    int(event["downlink_bytes_total"]),
                )
                state.round_seconds.append(seconds)
                state.uplink_bytes.append(up)
                state.downlink_bytes.append(down)
                since += seconds
    with suppress(OSError, KeyError, TypeError, ValueError):
        told = json.loads((path / "summary.json").read_bytes())
        totals = int(told["uplink_bytes_total"]), int(told["downlink_bytes_total"])
        state.carried = max(state.carried[0], totals[0]), max(state.carried[1], totals[1])
        state.seconds = float(told["seconds"]["total"])
    state.seconds = max(state.seconds + since, sum(state.round_seconds))
    return state
