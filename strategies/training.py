"""One training as the server leads it, whatever is exchanged.

A ceremony, then the exchange's own way of teaching, then figures: this is what all strategies
share. What a strategy adds is `_teach`, and how a hospital is asked to judge the result.
"""

from __future__ import annotations

import statistics
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from flwr.app import Message

from clients.contract import messages
from clients.contract.terms import Terms, agree_terms, hospitals_expected
from strategies.ceremony import Ceremony, find_members, hold_ceremony
from strategies.conversation import Conversation
from strategies.errors import BudgetExhausted, TrainingStopped
from strategies.run.progress import Progress
from strategies.run.summary import Outcome

if TYPE_CHECKING:
    import torch
    from flwr.app import RecordDict
    from flwr.serverapp import Grid

    from clients.contract.settings import Settings
    from strategies.holdout import Holdout
    from strategies.run.budget import Budget
    from strategies.run.journal import Journal, Kept
    from strategies.run.tracking import Tracking


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


class Training(ABC):
    """The hospitals of one training, as the server leads them."""

    def __init__(
        self,
        grid: Grid,
        settings: Settings,
        *,
        training: str,
        budget: Budget,
        tracking: Tracking,
        holdout: Holdout,
        journal: Journal,
    ) -> None:
        self.settings = settings
        self.training = training
        self.progress = Progress()
        self._grid = grid
        self._budget = budget
        self._tracking = tracking
        self.holdout = holdout
        self.terms: Terms | None = None
        self._journal = journal
        self._conversation = Conversation(grid, timeout_seconds=settings.run.timeout)
        self._hospitals = hospitals_expected(settings)

    @property
    def planned_rounds(self) -> int:
        """Rounds that `metrics.jsonl` will show if all goes well."""
        return self.settings.training.rounds

    @property
    def bytes_carried(self) -> tuple[int, int]:
        """Bytes (from, to) hospitals so far, the ceremony's included."""
        return self._conversation.received_bytes, self._conversation.sent_bytes

    @property
    def outcome(self) -> Outcome:
        """What a run's last files are written from."""
        return Outcome(
            training=self.training,
            progress=self.progress,
            terms=self.terms,
            bytes_carried=self.bytes_carried,
            evaluation=self.holdout.judge(),
            split=self.holdout.split,
            input_shape=self.holdout.input_shape,
        )

    def run(self) -> Progress:
        """Train to the last round and release the model.

        Raises:
            TrainingStopped: the training cannot go on; `progress` holds what was achieved.
        """
        start = time.perf_counter()
        kept = self._journal.read()
        ceremony = self._begin() if kept is None else self._resume(kept)
        self._nodes = ceremony.nodes
        self.terms = self._agree(ceremony)
        self._tracking.record(
            "ceremony",
            seconds=time.perf_counter() - start,
            hospitals=list(ceremony.nodes.names),
            parameter_id=ceremony.plan.parameter_id,
        )
        try:
            self._teach(ceremony)
        except BudgetExhausted as exhausted:
            if not self.progress.round:
                raise
            self.progress.note = str(exhausted)
        self._release_last()
        if self.settings.data.public:
            self._evaluate_at_hospitals()
        return self.progress

    @abstractmethod
    def _teach(self, ceremony: Ceremony) -> None:
        """Train to the last round.

        Raises:
            BudgetExhausted: the next attempt would cost too much.
            TrainingStopped: the training cannot go on.
        """

    @abstractmethod
    def _release_last(self) -> None:
        """Obtain the model after the last round, unless it is there already."""

    @abstractmethod
    def _judge_request(self) -> tuple[str, RecordDict]:
        """Return the message with which hospitals are asked to judge the final model."""

    def _agree(self, ceremony: Ceremony) -> Terms:
        """Derive the terms as the hospitals did, and insist that they are the same."""
        terms = agree_terms(
            self.settings,
            training=self.training,
            dimensions=ceremony.plan.values,
            patients=self.holdout.patients,
            largest_hospital=self.holdout.largest_hospital,
            noise_multiplier=self._budget.noise_multiplier,
            message_values=self._message_values(),
        )
        if terms.sealing.parameter_id != ceremony.plan.parameter_id:
            raise TrainingStopped(
                f"the hospitals agreed on parameters {ceremony.plan.parameter_id[:12]}, the "
                f"server's settings give {terms.sealing.parameter_id[:12]}: their settings differ"
            )
        return terms

    def _message_values(self) -> int:
        """Return how many noised values a hospital sends in a round beside a sum."""
        return 0

    def _begin(self) -> Ceremony:
        """Hold the ceremony of a new training and keep its public part."""
        ceremony = hold_ceremony(
            self._conversation,
            training=self.training,
            hospitals=self._hospitals,
            noise_multiplier=self._budget.noise_multiplier,
            invited=self.settings.partition.invited,
        )
        self._journal.keep_ceremony(
            training=self.training,
            public_keys=ceremony.nodes.public_keys,
            plan=ceremony.plan,
            key_id=ceremony.key_id,
            noise_multiplier=self._budget.noise_multiplier,
        )
        return ceremony

    def _resume(self, kept: Kept) -> Ceremony:
        """Find the hospitals of a training again and go on after its last closed round."""
        progress = self.progress
        progress.round, progress.closed = kept.round, dict(kept.closed)
        progress.snapshot, progress.snapshot_round = kept.snapshot, kept.snapshot_round
        nodes = find_members(
            self._conversation, training=self.training, public_keys=kept.public_keys
        )
        return Ceremony(nodes=nodes, plan=kept.plan, key_id=kept.key_id)

    def _private(self) -> bool:
        """Whether models may be released on the way: a noise-free one only at the end."""
        return self.settings.regime.private or self.settings.data.public

    def _attempts(self, number: int, hospital: str = "") -> Iterable[int]:
        """Yield the numbers of attempts at a round, each paid for first.

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

    @abstractmethod
    def _cost(self, number: int, attempt: int) -> int:
        """Return the noised messages about one patient that an attempt costs."""

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
        received, sent = self.bytes_carried
        seconds, progress = meter.seconds, self.progress
        progress.round_seconds.append(seconds)
        progress.uplink_bytes.append(uplink)
        progress.downlink_bytes.append(downlink)
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
        self.progress.model, self.progress.released = model, rounds
        with self._conversation.phases.measure("evaluate"):
            self.progress.metrics = self.holdout.measure(model)
        self._record_release()

    def _record_release(self) -> None:
        progress = self.progress
        self._tracking.record(
            "release",
            round=progress.released,
            **progress.metrics,
            epsilon_rdp=self._budget.epsilon(accountant="rdp") or None,
            epsilon_prv=self._budget.epsilon(accountant="prv") or None,
        )

    def _evaluate_at_hospitals(self) -> None:
        """Collect each hospital's figures on its own test records, where these are public."""
        if self.settings.regime.pooled:
            # The curator is no hospital; the server's public records are dealt as theirs would be.
            judged = self.holdout.measure_by_hospital(self.progress.model)
            self._record_hospitals(judged)
            return
        kind, content = self._judge_request()
        asked = [Message(content, self._nodes.ids[name], kind) for name in self._nodes.names]
        figures: dict[str, dict[str, float]] = {}
        for reply in self._conversation.ask(asked):
            if not reply.has_error():
                metrics = reply.content.metric_records[messages.METRICS]
                figures[self._nodes.name_of(reply.metadata.src_node_id)] = {
                    measure: float(value)  # type: ignore[arg-type]
                    for measure, value in metrics.items()
                    if measure != messages.NUM_EXAMPLES
                }
        self._record_hospitals(figures)

    def _record_hospitals(self, figures: Mapping[str, Mapping[str, float]]) -> None:
        """Keep each hospital's figures, measure by measure."""
        by_measure: dict[str, dict[str, float]] = {}
        for name, metrics in sorted(figures.items()):
            for measure, value in metrics.items():
                by_measure.setdefault(measure, {})[name] = value
        self.progress.hospital_metrics = by_measure.get("accuracy", {})
        if by_measure:
            self._tracking.record("hospitals", round=self.progress.round, **by_measure)

    def median_round_seconds(self) -> float:
        """Return the median seconds of an attempt."""
        return statistics.median(self.progress.round_seconds or [0.0])
