"""One training by sealed sums, from the ceremony to the last release.

The server's whole part: hold the ceremony, then round by round spend, ask, add blindly and pass the
sealed total on with the next request. It sees the model only where a hospital releases it.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from flwr.app import Message
from flwr.serverapp.strategy import FedAvg

from clients import messages
from clients.messages import OpenedRound, RoundReply, RoundRequest
from clients.schedule import events_of_attempt
from clients.terms import Terms, agree_terms, hospitals_expected
from strategies.ceremony import Ceremony, find_members, hold_ceremony
from strategies.conversation import Conversation, fault_code
from strategies.errors import BudgetExhausted, TrainingStopped
from strategies.secure_fedavg import SecureFedAvg

if TYPE_CHECKING:
    import torch
    from flwr.serverapp import Grid

    from clients.settings import Settings
    from strategies.budget import Budget
    from strategies.holdout import Holdout
    from strategies.journal import Journal, Kept
    from strategies.tracking import Tracking

#: Faults after which a hospital can be helped with a snapshot and the sums since.
BEHIND = "behind"


@dataclass
class Progress:
    """What a training has achieved so far.

    Attributes:
        round: last closed round.
        closed: sealed totals since the last snapshot, by round.
        snapshot: the hospitals' last sealed snapshot.
        model: the last released model, after ``released`` rounds.
        metrics: the released model's figures on the public holdout.
    """

    round: int = 0
    closed: dict[int, OpenedRound] = field(default_factory=dict)
    snapshot: bytes = b""
    snapshot_round: int = 0
    model: Mapping[str, torch.Tensor] = field(default_factory=dict)
    released: int = 0
    metrics: dict[str, float] = field(default_factory=dict)
    hospital_metrics: dict[str, float] = field(default_factory=dict)
    uplink_bytes: list[int] = field(default_factory=list)
    downlink_bytes: list[int] = field(default_factory=list)
    round_seconds: list[float] = field(default_factory=list)
    note: str = ""


class Federation:
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
        self._holdout = holdout
        self.terms: Terms | None = None
        self._journal = journal
        self._conversation = Conversation(grid, timeout_seconds=settings.run.timeout)
        self._hospitals = hospitals_expected(settings)

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
        least = self._hospitals - self.settings.privacy.dropouts
        self.strategy = SecureFedAvg(
            inner=FedAvg(
                min_train_nodes=len(ceremony.nodes.ids),
                min_evaluate_nodes=len(ceremony.nodes.ids),
                min_available_nodes=len(ceremony.nodes.ids),
            ),
            plan=ceremony.plan,
            key_id=ceremony.key_id,
            nodes=ceremony.nodes,
            least=least,
            training=self.training,
        )
        self._tracking.record(
            "ceremony",
            seconds=time.perf_counter() - start,
            hospitals=list(ceremony.nodes.names),
            parameter_id=ceremony.plan.parameter_id,
        )
        try:
            for number in range(self.progress.round + 1, self.settings.training.rounds + 1):
                self._close_round(number)
        except BudgetExhausted as exhausted:
            if not self.progress.round:
                raise
            self.progress.note = str(exhausted)
        self._release_last()
        if self.settings.data.public:
            self._evaluate_at_hospitals()
        return self.progress

    def _agree(self, ceremony: Ceremony) -> Terms:
        """Derive the terms as the hospitals did, and insist that they are the same."""
        terms = agree_terms(
            self.settings,
            training=self.training,
            dimensions=ceremony.plan.values,
            patients=self._holdout.patients,
            largest_hospital=self._holdout.largest_hospital,
            noise_multiplier=self._budget.noise_multiplier,
        )
        if terms.sealing.parameter_id != ceremony.plan.parameter_id:
            raise TrainingStopped(
                f"the hospitals agreed on parameters {ceremony.plan.parameter_id[:12]}, the "
                f"server's settings give {terms.sealing.parameter_id[:12]}: their settings differ"
            )
        return terms

    def _begin(self) -> Ceremony:
        """Hold the ceremony of a new training and keep its public part."""
        ceremony = hold_ceremony(
            self._conversation,
            training=self.training,
            hospitals=self._hospitals,
            noise_multiplier=self._budget.noise_multiplier,
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

    def _close_round(self, number: int) -> None:
        """Attempt a round until enough hospitals are in its total.

        Without a seed, an attempt that an earlier run paid for is never made again: its noise
        would be drawn anew under the same name. A seeded run repeats it to the bit.
        """
        used = 0
        if not self.settings.seeded:
            used = self._budget.attempts_of(self.training, number)
        for attempt in range(used + 1, used + self.settings.run.attempts + 1):
            events = events_of_attempt(self.settings, number, attempt)
            self._budget.spend(training=self.training, round=number, attempt=attempt, events=events)
            if self._attempt(number, attempt):
                return
        faults = self.strategy.outcome.faults
        listed = "; ".join(f"{name}: {code}" for name, code in sorted(faults.items()))
        raise TrainingStopped(
            f"round {number} closed with {self.strategy.outcome.contributions} of "
            f"{self._hospitals} hospitals in {self.settings.run.attempts} attempts ({listed}). "
            "The reasons are in those hospitals' own logs (hospital.log)."
        )

    def _attempt(self, number: int, attempt: int) -> bool:
        start = time.perf_counter()
        talk, progress = self._conversation, self.progress
        sent, received = talk.sent_bytes, talk.received_bytes
        request = self._request(number, attempt)
        self.strategy.attempt = attempt
        asked = self.strategy.configure_train(
            number, request.arrays(), request.config(), self._grid
        )
        self.strategy.aggregate_train(number, self._replies(asked, request))
        outcome = self.strategy.outcome
        for name, code in sorted(outcome.faults.items()):
            self._tracking.record("fault", round=number, attempt=attempt, hospital=name, code=code)
        seconds = time.perf_counter() - start
        uplink = (talk.received_bytes - received) // self._hospitals
        downlink = (talk.sent_bytes - sent) // self._hospitals
        progress.round_seconds.append(seconds)
        progress.uplink_bytes.append(uplink)
        progress.downlink_bytes.append(downlink)
        if outcome.snapshot:
            progress.snapshot, progress.snapshot_round = outcome.snapshot, number - 1
            progress.closed = {r: c for r, c in progress.closed.items() if r >= number - 1}
            self._journal.keep_snapshot(number - 1, outcome.snapshot)
        if outcome.model:
            self._released(outcome.model, number - 1)
        if outcome.closed is not None:
            self._journal.keep_round(number, outcome.closed)
            progress.closed[number] = outcome.closed
            progress.round = number
        self._tracking.record(
            "round",
            round=number,
            attempt=attempt,
            contributions=outcome.contributions,
            closed=outcome.closed is not None,
            seconds=seconds,
            uplink_bytes=uplink,
            downlink_bytes=downlink,
            uplink_bytes_total=talk.received_bytes,
            downlink_bytes_total=talk.sent_bytes,
            epsilon_rdp=self._budget.epsilon(accountant="rdp") or None,
            phases=outcome.phases,
        )
        return outcome.closed is not None

    def _replies(self, asked, request: RoundRequest):  # type: ignore[no-untyped-def]
        """Yield replies; a hospital that is behind is helped once, then its reply yielded."""
        behind = []
        for reply in self._conversation.ask(asked):
            if reply.has_error() and fault_code(reply) == BEHIND:
                behind.append(reply.metadata.src_node_id)
            else:
                yield reply
        if behind:
            content = self._help(request).content()
            yield from self._conversation.ask(
                Message(content, node, messages.TRAIN) for node in behind
            )

    def _request(self, number: int, attempt: int) -> RoundRequest:
        """Ask for a round; the closed total before it comes along."""
        last = self.progress.closed.get(number - 1)
        training = self.settings.training
        names = self._nodes.names
        due = number > 1 and (number - 1) % training.release_every == 0 and self._private()
        keep = number > 1 and (number - 1) % self.settings.run.snapshot_every == 0
        return RoundRequest(
            training=self.training,
            round=number,
            attempt=attempt,
            closed={number - 1: last} if last else {},
            release_from=names[number % len(names)] if due else "",
            snapshot_from=names[(number + 1) % len(names)] if keep else "",
        )

    def _help(self, request: RoundRequest) -> RoundRequest:
        """Return the request with all that a hospital needs to catch up."""
        return RoundRequest(
            training=request.training,
            round=request.round,
            attempt=request.attempt,
            closed=dict(self.progress.closed),
            snapshot=self.progress.snapshot,
        )

    def _private(self) -> bool:
        """Whether models may be released on the way: a noise-free one only at the end."""
        return self.settings.regime.private or self.settings.data.public

    def _released(self, model: Mapping[str, torch.Tensor], rounds: int) -> None:
        self.progress.model, self.progress.released = model, rounds
        self.progress.metrics = self._holdout.measure(model)
        self._tracking.record("release", round=rounds, **self.progress.metrics)

    def _release_last(self) -> None:
        """Ask hospitals in turn for the model after the last total."""
        request = self._request(self.progress.round + 1, 1)
        faults = []
        for name in self._nodes.names:
            for content in (request.content(), self._help(request).content()):
                message = Message(content, self._nodes.ids[name], messages.RELEASE)
                [reply] = self._conversation.ask([message])
                if not reply.has_error():
                    self._released(RoundReply.read(reply.content).model, self.progress.round)
                    return
                faults.append(f"{name}: {fault_code(reply)}")
        raise TrainingStopped(f"no hospital released the model ({'; '.join(faults)})")

    def _evaluate_at_hospitals(self) -> None:
        """Collect each hospital's figures on its own test records, where these are public."""
        content = self._help(self._request(self.progress.round + 1, 1)).content()
        asked = [
            Message(content, self._nodes.ids[name], messages.EVALUATE) for name in self._nodes.names
        ]
        figures: dict[str, float] = {}
        for reply in self._conversation.ask(asked):
            if not reply.has_error():
                metrics = reply.content.metric_records[messages.METRICS]
                if "accuracy" in metrics:
                    name = self._nodes.name_of(reply.metadata.src_node_id)
                    figures[name] = float(metrics["accuracy"])  # type: ignore[arg-type]
        self.progress.hospital_metrics = dict(sorted(figures.items()))

    def median_round_seconds(self) -> float:
        """Return the median seconds of an attempt."""
        return statistics.median(self.progress.round_seconds or [0.0])
