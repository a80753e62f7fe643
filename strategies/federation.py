"""One training by sealed sums, from the ceremony to the last release.

The server's whole part: hold the ceremony, then round by round spend, ask, add blindly and pass the
sealed total on with the next request. It sees the model only where a hospital releases it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from flwr.app import Message
from flwr.serverapp.strategy import FedAvg

from clients.contract import messages
from clients.contract.messages import RoundReply, RoundRequest
from clients.contract.schedule import events_of_attempt
from clients.contract.terms import hospitals_expected
from crypto.errors import OpeningRefusedError
from crypto.schemes import require_returnable
from strategies.conversation import fault_code
from strategies.errors import TrainingStopped
from strategies.secure_fedavg import SecureFedAvg
from strategies.teaching import Meter, Teaching

if TYPE_CHECKING:
    from flwr.app import RecordDict

    from clients.contract.terms import Terms
    from strategies.ceremony import Ceremony
    from strategies.teaching import TrainingContext

#: Faults after which a hospital can be helped with a snapshot and the sums since.
BEHIND = "behind:"


class Federation(Teaching):
    """A training by sealed sums."""

    def __init__(self, context: TrainingContext, ceremony: Ceremony, terms: Terms) -> None:
        super().__init__(context, ceremony, terms)
        self._plan = ceremony.plan
        self._hospitals = hospitals_expected(self.settings)
        self.strategy = SecureFedAvg(
            inner=FedAvg(
                min_train_nodes=len(ceremony.nodes.ids),
                min_evaluate_nodes=len(ceremony.nodes.ids),
                min_available_nodes=len(ceremony.nodes.ids),
            ),
            plan=ceremony.plan,
            key_id=ceremony.key_id,
            nodes=ceremony.nodes,
            least=self._hospitals - self.settings.privacy.dropouts,
            training=self.training,
            phases=self._conversation.phases,
        )

    def teach(self) -> None:
        """Close one round after the other."""
        for number in range(self.state.round + 1, self.settings.training.rounds + 1):
            self._close_round(number)

    def _cost(self, number: int, attempt: int) -> int:
        return events_of_attempt(self.settings, number, attempt)

    def _close_round(self, number: int) -> None:
        """Attempt a round until enough hospitals are in its total."""
        for attempt in self._attempts(number):
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
        meter, state = Meter(self._conversation), self.state
        request = self._request(number, attempt)
        self.strategy.attempt = attempt
        self._exchange(number, request)
        outcome = self.strategy.outcome
        if outcome.snapshot:
            state.snapshot, state.snapshot_round = outcome.snapshot, number - 1
            state.closed = {r: c for r, c in state.closed.items() if r >= number - 1}
            self._journal.keep_snapshot(number - 1, outcome.snapshot)
        if outcome.model:
            self._released(outcome.model, number - 1)
        if outcome.closed is not None:
            with self._conversation.phases.measure("keep"):
                self._journal.keep_round(number, outcome.closed)
            state.closed[number] = outcome.closed
            state.round = number
        self._record_round(
            number,
            attempt,
            meter,
            asked=self._hospitals,
            contributions=outcome.contributions,
            closed=outcome.closed is not None,
            faults=outcome.faults,
            phases=outcome.phases,
        )
        if outcome.seconds:
            self._tracking.record(
                "hospitals", round=number, seconds=dict(sorted(outcome.seconds.items()))
            )
        return outcome.closed is not None

    def _exchange(self, number: int, request: RoundRequest) -> None:
        """Ask for contributions and add them as they come."""
        asked = self.strategy.configure_train(
            number, request.arrays(), request.config(), self._conversation.grid
        )
        self.strategy.aggregate_train(number, self._replies(asked, request, messages.TRAIN))

    def _replies(
        self, asked: Iterable[Message], request: RoundRequest, kind: str
    ) -> Iterator[Message]:
        """Yield replies; a hospital that is behind is helped once, then its reply yielded."""
        behind = []
        for reply in self._conversation.ask(asked):
            if reply.has_error() and fault_code(reply).startswith(BEHIND):
                behind.append(reply.metadata.src_node_id)
            else:
                yield reply
        if behind:
            content = self._help(request).content()
            yield from self._conversation.ask(Message(content, node, kind) for node in behind)

    def _request(self, number: int, attempt: int) -> RoundRequest:
        """Ask for a round; the closed total before it comes along."""
        last = self.state.closed.get(number - 1)
        training = self.settings.training
        names = self._nodes.names
        allowed = self._private() and not self._kept_home()
        due = number > 1 and (number - 1) % training.release_every == 0 and allowed
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
            closed=dict(self.state.closed),
            snapshot=self.state.snapshot,
        )

    def _kept_home(self) -> str:
        """Return why no opened model may leave the hospitals, "" where it may."""
        try:
            require_returnable(self._plan)
        except OpeningRefusedError as refused:
            return str(refused)
        return ""

    def release_last(self) -> None:
        """Ask hospitals in turn for the model after the last total."""
        if reason := self._kept_home():
            self.state.note = reason
            return
        request = self._request(self.state.round + 1, 1)
        faults = []
        for name in self._nodes.names:
            for content in (request.content(), self._help(request).content()):
                message = Message(content, self._nodes.ids[name], messages.RELEASE)
                [reply] = self._conversation.ask([message])
                if not reply.has_error():
                    self._released(RoundReply.read(reply.content).model, self.state.round)
                    return
                faults.append(f"{name}: {fault_code(reply)}")
        raise TrainingStopped(f"no hospital released the model ({'; '.join(faults)})")

    def judge_request(self) -> tuple[str, RecordDict]:
        """Return the request to judge the model after the last total, which hospitals open."""
        request = self._help(self._request(self.state.round + 1, 1))
        return messages.EVALUATE, request.content()
