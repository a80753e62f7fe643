"""What all ways of teaching share, once the hospitals are there and have agreed on keys.

A `Teaching` is made after the ceremony, with all that it needs: the hospitals, the public sealing
parameters, the agreed terms. It pays for attempts, asks, and records what came of them; a way of
training together says in which order, and what a hospital is asked.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from flwr.app import Message
from safetensors.torch import save

from clients.learning.shapes import shared_parameters
from strategies.agreement import SharedPart
from strategies.conversation import UNREACHABLE, fault_code, renewed
from strategies.errors import BudgetExhausted
from strategies.replies import MALFORMED, BadReply, ModelForm, one_bad_reply, read_visit
from strategies.run.state import RunState

if TYPE_CHECKING:
    import torch
    from flwr.app import RecordDict

    from clients.contract.kinds import Kind
    from clients.contract.settings import Settings
    from strategies.agreement import Agreement
    from strategies.ceremony import Ceremony
    from strategies.conversation import Conversation
    from strategies.heads import Heads
    from strategies.holdout import Holdout
    from strategies.run.budget import Budget
    from strategies.run.journal import Journal
    from strategies.run.tracking import Tracking


@dataclass(frozen=True, kw_only=True)
class TrainingContext:
    """What the server has of one training before any hospital has said a word.

    Attributes:
        agreement: its id and its terms.
        heads: of hospitals' ledgers.
        state: what it has achieved so far; the one part that changes.
    """

    settings: Settings
    agreement: Agreement
    conversation: Conversation
    budget: Budget
    tracking: Tracking
    holdout: Holdout
    journal: Journal
    heads: Heads
    state: RunState = field(default_factory=RunState)

    @property
    def training(self) -> str:
        """Id of the training."""
        return self.agreement.training

    @property
    def bytes_carried(self) -> tuple[int, int]:
        """Bytes (from, to) hospitals so far, the ceremony's included."""
        (received, sent), talk = self.state.carried, self.conversation
        return received + talk.received_bytes, sent + talk.sent_bytes


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
    """

    def __init__(self, context: TrainingContext, ceremony: Ceremony) -> None:
        self.settings = context.settings
        self.training = context.training
        self.state = context.state
        self.holdout = context.holdout
        self.terms = context.agreement.terms
        self._agreement = context.agreement
        self._context = context
        self._conversation = context.conversation
        self._journal = context.journal
        self._tracking = context.tracking
        self._budget = context.budget
        self._ledger_heads = context.heads
        self._nodes = ceremony.nodes
        self._bind = ceremony.bind
        self._form = self.form(context.settings, context.holdout)

    @staticmethod
    def planned_rounds(settings: Settings) -> int:
        """Return the rounds that `metrics.jsonl` will show if all goes well."""
        return settings.training.rounds

    @staticmethod
    def shared(settings: Settings, holdout: Holdout) -> SharedPart:
        """Return what hospitals train together.

        Raises:
            SettingsError: the model cannot be cut as the settings ask.
        """
        classes = len(holdout.facts.classes)
        return SharedPart(parameters=shared_parameters(settings, holdout.module, classes))

    @staticmethod
    def form(settings: Settings, holdout: Holdout) -> ModelForm:
        """Return what a model looks like that a hospital releases."""
        return ModelForm.of(holdout.module)

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

    def judged(self) -> Iterator[Message]:
        """Ask all hospitals to judge the final model; yields their answers."""
        kind, content = self.judge_request()
        return self._settled(
            [Message(content, self._nodes.ids[n], kind) for n in self._nodes.names]
        )

    def _settled(self, asked: list[Message]) -> Iterator[Message]:
        """Yield answers; who waits for others to vouch for its ledger is helped first."""
        return self._ledger_heads.settled(asked, self._conversation.ask(asked))

    @abstractmethod
    def judge_request(self) -> tuple[Kind, RecordDict]:
        """Return the message with which hospitals are asked to judge the final model."""

    @abstractmethod
    def _cost(self, number: int, attempt: int) -> int:
        """Return the noised messages about one patient that an attempt costs."""

    def _private(self) -> bool:
        """Whether models may be released on the way: a noise-free one only at the end."""
        return self.settings.regime.private or self.settings.data.public

    def _attempts(self, number: int, hospital: str = "") -> Iterable[int]:
        """Yield the numbers of attempts at a round, from 1, each paid for first.

        An attempt that an earlier run of the server made is asked for once more: whoever answered
        it sends the same bytes again, which costs nothing. Further ones wait until as many
        hospitals are there as are needed.

        Raises:
            BudgetExhausted: the next attempt would cost more than was promised, or is one more than
                the noise was planned for.
        """
        purpose = hospital or "round"
        attempt, open_still = self._last_attempt(number, purpose)
        if attempt and open_still:
            yield attempt
        for left in range(self.settings.run.attempts - 1, -1, -1):
            begun = attempt or left < self.settings.run.attempts - 1
            if begun and not self._are_there(hospital):
                continue
            attempt += 1
            self._pay(number, attempt, hospital)
            yield attempt

    def _last_attempt(self, number: int, purpose: str) -> tuple[int, bool]:
        """Return the last attempt at a round, 0 for none, and whether its place may be asked for.

        It is where the server that made it was stopped before it knew what came of it.
        """
        _, last, used = self._journal.read_attempts().get(purpose, (0, 0, 0))
        return (used, True) if last == number else (0, True)

    def _are_there(self, hospital: str) -> bool:
        """Wait until those are connected without whom an attempt comes to nothing."""
        if hospital:
            node = self._nodes.ids.get(hospital)
            return node is not None and self._conversation.wait_for([node], 1)
        asked = [self._nodes.ids[name] for name in self._asked() if name in self._nodes.ids]
        return self._conversation.wait_for(asked, self._agreement.least)

    def _asked(self) -> tuple[str, ...]:
        """Return the hospitals that are asked to contribute, sorted."""
        return self._nodes.names

    def _pay(self, number: int, attempt: int, hospital: str) -> None:
        """Pay for an attempt and keep that it was made, before anybody is asked.

        Raises:
            BudgetExhausted: nothing was recorded.
        """
        purpose = hospital or "round"
        cost = {
            "training": self.training,
            "round": number,
            "attempt": attempt,
            "events": self._cost(number, attempt),
            "hospital": hospital,
        }
        self._budget.require(**cost)  # type: ignore[arg-type]
        made, _, _ = self._journal.read_attempts().get(purpose, (0, 0, 0))
        allowed = self._places() + self._agreement.spare_attempts
        if made >= allowed:
            raise BudgetExhausted(
                f"round {number}, attempt {attempt} would be one more than the {allowed} that "
                "hospitals allow (privacy.spare-attempts); stopped before it"
            )
        self._budget.spend(**cost)  # type: ignore[arg-type]
        self._journal.keep_attempt(number, attempt, purpose)

    def _places(self) -> int:
        """Return how many attempts a hospital is asked for in a run without retries."""
        return self.settings.training.rounds

    def _ask_again(
        self, asked: Iterable[Message], replies: Iterable[Message], enough: Callable[[], bool]
    ) -> Iterator[Message]:
        """Yield replies; if they are not enough, ask the silent ones once more at the same place.

        Whoever has answered sends the same bytes again; whoever was not there does the work then.
        """
        by_node = {message.metadata.dst_node_id: message for message in asked}
        silent = []
        for reply in self._ledger_heads.settled(by_node.values(), replies):
            if reply.has_error() and fault_code(reply) == UNREACHABLE:
                silent.append(reply)
            else:
                yield reply
        if silent and not enough():
            again = [by_node[reply.metadata.src_node_id] for reply in silent]
            yield from self._conversation.ask(renewed(message) for message in again)
        else:
            yield from silent

    def _model_in(self, reply: Message) -> tuple[Mapping[str, torch.Tensor], str]:
        """Return the whole model that a reply to a visit releases, or no model and a fault."""
        if reply.has_error():
            return {}, fault_code(reply)
        try:
            with one_bad_reply():
                released = read_visit(reply.content, self._form).released
        except BadReply as bad:
            return {}, bad.code
        return (self._form.whole(released), "") if released else ({}, MALFORMED)

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
        self._record_faults(number, attempt, faults)
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

    def _record_faults(self, number: int, attempt: int, faults: Mapping[str, str]) -> None:
        """Write which hospitals did not answer as they were asked to, and how."""
        for name, code in sorted(faults.items()):
            self._tracking.record("fault", round=number, attempt=attempt, hospital=name, code=code)

    def _released(self, model: Mapping[str, torch.Tensor], rounds: int) -> None:
        """Keep a model that hospitals released, and measure it."""
        self._keep_released(model, rounds)
        self._measure_released()

    def _keep_released(self, model: Mapping[str, torch.Tensor], rounds: int) -> None:
        """Keep a model that hospitals released."""
        self.state.model, self.state.released = model, rounds
        self._journal.keep_release(rounds, save({k: v.contiguous() for k, v in model.items()}))

    def _measure_released(self) -> None:
        """Measure the model that was released last."""
        with self._conversation.phases.measure("evaluate"):
            self.state.metrics = self.holdout.measure(self.state.model, self.state.released)
        self._record_release()

    def _record_release(self) -> None:
        spent = self._budget.epsilons()
        self._tracking.record(
            "release",
            round=self.state.released,
            **self.state.metrics,
            epsilon_rdp=spent.get("rdp") or None,
            epsilon_prv=spent.get("prv") or None,
        )
