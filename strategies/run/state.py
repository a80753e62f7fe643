"""What a training has achieved so far, as the server sees it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

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
