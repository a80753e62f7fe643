"""What all ways of teaching share, once the hospitals are there and have agreed on keys.

A `Teaching` is made after the ceremony, with all that it needs: the hospitals, the public sealing
parameters, the agreed terms. It pays for attempts, asks, and records what came of them; a way of
training together says in which order, and what a hospital is asked.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from strategies.run.state import TrainingState

if TYPE_CHECKING:
    import torch
    from flwr.app import RecordDict

    from clients.contract.settings import Settings
    from clients.contract.terms import Terms
    from strategies.ceremony import Ceremony
    from strategies.conversation import Conversation
    from strategies.holdout import Holdout
    from strategies.run.budget import Budget
    from strategies.run.journal import Journal
    from strategies.run.tracking import Tracking


@dataclass(frozen=True, kw_only=True)
class TrainingContext:
    """What the server has of one training before any hospital has said a word.

    Attributes:
        training: its id.
        state: what it has achieved so far; the one part that changes.
    """

    settings: Settings
    training: str
    conversation: Conversation
    budget: Budget
    tracking: Tracking
    holdout: Holdout
    journal: Journal
    state: TrainingState = field(default_factory=TrainingState)

    @property
    def bytes_carried(self) -> tuple[int, int]:
        """Bytes (from, to) hospitals so far, the ceremony's included."""
        return self.conversation.received_bytes, self.conversation.sent_bytes


class Meter:
    """Seconds and bytes of one attempt."""

    def __init__(self, conversation: Conversation) -> None:
        self._talk = conversation
        self._start = time.perf_counter()
        self._sent, self._received = conversation.sent_bytes, conversation.received_bytes
        self._phases = dict(conversation.phases.seconds)

    @property
    def seconds(self) -> float:
        """Seconds so far."""
        return time.perf_counter() - self._start

    def bytes(self, hospitals: int) -> tuple[int, int]:
        """Return (up, down) bytes so far for each of some hospitals."""
        up = self._talk.received_bytes - self._received
        down = self._talk.sent_bytes - self._sent
        return up // hospitals, down // hospitals

    def phases(self, hospitals: int) -> dict[str, float]:
        """Return the server's own seconds by phase; ``transfer`` is a hospital's mean."""
        seconds = self._talk.phases.since(self._phases)
        if "transfer" in seconds:
            seconds["transfer"] /= hospitals
        return seconds


class Teaching(ABC):
    """A way of training together, as the server leads it from the ceremony to the last release.

    Args:
        context: what the server has.
        ceremony: who takes part, and public parameters.
        terms: what the hospitals agreed on.
    """

    def __init__(self, context: TrainingContext, ceremony: Ceremony, terms: Terms) -> None:
        self.settings = context.settings
        self.training = context.training
        self.state = context.state
        self.holdout = context.holdout
        self.terms = terms
        self._context = context
        self._conversation = context.conversation
        self._journal = context.journal
        self._tracking = context.tracking
        self._budget = context.budget
        self._nodes = ceremony.nodes

    @staticmethod
    def planned_rounds(settings: Settings) -> int:
        """Return the rounds that `metrics.jsonl` will show if all goes well."""
        return settings.training.rounds

    @staticmethod
    def message_values(settings: Settings, holdout: Holdout) -> int:
        """Return how many noised values a hospital sends in a round beside a sum."""
        return 0

    @abstractmethod
    def teach(self) -> None:
        """Train to the last round.

        Raises:
            BudgetExhausted: the next attempt would cost too much.
            TrainingStopped: the training cannot go on.
        """

    @abstractmethod
    def release_last(self) -> None:
        """Obtain the model after the last round, unless it is there already."""

    @abstractmethod
    def judge_request(self) -> tuple[str, RecordDict]:
        """Return the message with which hospitals are asked to judge the final model."""

    @abstractmethod
    def _cost(self, number: int, attempt: int) -> int:
        """Return the noised messages about one patient that an attempt costs."""

    def _private(self) -> bool:
        """Whether models may be released on the way: a noise-free one only at the end."""
        return self.settings.regime.private or self.settings.data.public

    def _attempts(self, number: int, hospital: str = "") -> Iterable[int]:
        """Yield the numbers of attempts at a round, from 1, each paid for first.

        Without a seed, an attempt that an earlier run paid for is never made again: its noise
        would be drawn anew under the same name. A seeded run repeats it to the bit.
        """
        used = 0
        if not self.settings.seeded:
            used = self._budget.attempts_of(self.training, number, hospital)
        for attempt in range(used + 1, used + self.settings.run.attempts + 1):
            self._budget.spend(
                training=self.training,
                round=number,
                attempt=attempt,
                events=self._cost(number, attempt),
                hospital=hospital,
            )
            yield attempt

    def _record_round(
        self,
        number: int,
        attempt: int,
        meter: Meter,
        *,
        asked: int,
        contributions: int,
        closed: bool,
        faults: Mapping[str, str],
        phases: Mapping[str, float],
    ) -> None:
        """Write what an attempt came to and what it took; `asked` hospitals shared the bytes."""
        for name, code in sorted(faults.items()):
            self._tracking.record("fault", round=number, attempt=attempt, hospital=name, code=code)
        uplink, downlink = meter.bytes(asked)
        received, sent = self._context.bytes_carried
        seconds, state = meter.seconds, self.state
        state.round_seconds.append(seconds)
        state.uplink_bytes.append(uplink)
        state.downlink_bytes.append(downlink)
        self._tracking.record(
            "round",
            round=number,
            attempt=attempt,
            contributions=contributions,
            closed=closed,
            seconds=seconds,
            uplink_bytes=uplink,
            downlink_bytes=downlink,
            uplink_bytes_total=received,
            downlink_bytes_total=sent,
            epsilon_rdp=self._budget.epsilon(accountant="rdp") or None,
            phases=dict(phases),
            server_phases=meter.phases(asked),
        )

    def _released(self, model: Mapping[str, torch.Tensor], rounds: int) -> None:
        """Measure a model that hospitals released, and keep it."""
        self.state.model, self.state.released = model, rounds
        with self._conversation.phases.measure("evaluate"):
            self.state.metrics = self.holdout.measure(model)
        self._record_release()

    def _record_release(self) -> None:
        self._tracking.record(
            "release",
            round=self.state.released,
            **self.state.metrics,
            epsilon_rdp=self._budget.epsilon(accountant="rdp") or None,
            epsilon_prv=self._budget.epsilon(accountant="prv") or None,
        )
