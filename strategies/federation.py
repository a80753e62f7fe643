"""One training by sealed sums, from the ceremony to the last release.

The server's whole part: hold the ceremony, then round by round spend, ask, add blindly and pass the
sealed total on with the next request. It sees the model only where a hospital releases it, and that
is once a quorum of hospitals has signed the sums that it is made of: the model after n rounds comes
with round n + 2, the last one after a confirmation.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from flwr.app import Message
from flwr.serverapp.strategy import FedAvg

from clients.contract.kinds import Kind
from clients.contract.messages import RoundRequest
from clients.contract.schedule import events_of_attempt
from crypto.errors import OpeningRefusedError
from crypto.schemes import require_returnable
from strategies.confirmation import Confirmation
from strategies.errors import TrainingStopped
from strategies.helping import catch_up
from strategies.secure_fedavg import Extras, SecureFedAvg
from strategies.sums import Sums
from strategies.teaching import Meter, Teaching

if TYPE_CHECKING:
    from flwr.app import RecordDict

    from strategies.ceremony import Ceremony
    from strategies.teaching import TrainingContext

#: Rounds between a sum and the request with which something made from it may leave.
LAG = 2


class Federation(Teaching):
    """A training by sealed sums."""

    def __init__(self, context: TrainingContext, ceremony: Ceremony) -> None:
        super().__init__(context, ceremony)
        self._plan = ceremony.plan
        self._hospitals = self.terms.hospitals
        kept = context.journal.read()
        self._sums = Sums(context.journal, kept)
        self._ended = kept.ended if kept else 0
        self._confirmation = Confirmation(
            conversation=context.conversation,
            agreement=context.agreement,
            ceremony=ceremony,
            sums=self._sums,
            form=self._form,
            ledger_heads=context.heads,
            round=0,
        )
        #: Rounds after which a release and a snapshot are due that have not come; 0: none.
        self._release_due = self._snapshot_due = 0
        self.strategy = SecureFedAvg(
            inner=FedAvg(
                min_train_nodes=len(ceremony.nodes.ids),
                min_evaluate_nodes=len(ceremony.nodes.ids),
                min_available_nodes=len(ceremony.nodes.ids),
            ),
            ceremony=ceremony,
            form=self._form,
            least=self._agreement.least,
            training=self.training,
            phases=self._conversation.phases,
            timed=self.settings.data.public,
            chain=self._sums.chain,
        )
        self._warn_of_quorum()

    def _warn_of_quorum(self) -> None:
        """Say at the start where more hospitals must confirm than a round needs."""
        needed, least = self._agreement.quorum, self._agreement.least
        if needed > least:
            self._tracking.record(
                "warning",
                message=f"rounds go on with {least} of {self._hospitals} hospitals, but a model "
                f"leaves them only once {needed} have signed the sums that it is made of",
            )

    def teach(self) -> None:
        """Close one round after the other."""
        if self._ended:
            return
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
        self.strategy.expect(
            attempt=attempt,
            release_from=request.release_from,
            snapshot_from=request.snapshot_from,
        )
        self._exchange(number, request)
        outcome = self.strategy.outcome
        self._keep_extras(outcome.extras, number)
        if outcome.closed is not None:
            with self._conversation.phases.measure("keep"):
                self._sums.close(number, outcome.closed)
                self._ledger_heads.see_roster(outcome.closed.roster, self._nodes.public_keys)
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

    def _keep_extras(self, extras: Extras, number: int) -> None:
        """Keep a model and a snapshot that came, if they are of sums that can be confirmed."""
        last = number - LAG
        if extras.snapshot and self._sums.snapshot_round < extras.snapshot_round <= last:
            self._snapshot_due = 0
            self._sums.take_snapshot(extras.snapshot_round, extras.snapshot)
        if extras.model and self.state.released < extras.model_round <= last:
            self._release_due = 0
            self._released(self._form.whole(extras.model), extras.model_round)

    def _exchange(self, number: int, request: RoundRequest) -> None:
        """Ask for contributions and add them as they come."""
        asked = list(
            self.strategy.configure_train(
                number, request.arrays(), request.config(), self._conversation.grid
            )
        )
        replies = self._ask_again(asked, self._conversation.ask(asked), self._enough)
        self.strategy.aggregate_train(number, self._helped(replies, request))

    def _enough(self) -> bool:
        return self.strategy.outcome.contributions >= self._agreement.least

    def _helped(self, replies: Iterable[Message], request: RoundRequest) -> Iterator[Message]:
        """Yield replies; a hospital that is behind is brought there first."""

        def full(stands_at: int) -> RoundRequest:
            return self._filled(request, stands_at)

        return catch_up(self._conversation, replies, request.round - 1, full)

    def _request(self, number: int, attempt: int) -> RoundRequest:
        """Ask for a round; the closed total before it comes along."""
        names, last = self._nodes.names, number - LAG
        training = self.settings.training
        if last > 0 and last % training.release_every == 0 and self._leaves_on_the_way():
            self._release_due = last
        if last > 0 and last % self.settings.run.snapshot_every == 0:
            self._snapshot_due = last
        return RoundRequest(
            training=self.training,
            bind=self._agreement.bind,
            round=number,
            attempt=attempt,
            closed=self._sums.last(number - 1),
            release_from=names[(number + attempt) % len(names)] if self._release_due else "",
            snapshot_from=names[(number + attempt + 1) % len(names)] if self._snapshot_due else "",
        )

    def _filled(self, request: RoundRequest, stands_at: int) -> RoundRequest:
        """Return the request with all that a hospital needs which stands at a round."""
        help = self._sums.help(stands_at)
        return RoundRequest(
            training=request.training,
            bind=request.bind,
            round=request.round,
            attempt=request.attempt,
            closed=help.closed,
            opened=help.opened,
            snapshot=help.snapshot,
            release_from=request.release_from,
            snapshot_from=request.snapshot_from,
        )

    def _leaves_on_the_way(self) -> bool:
        return self._private() and not self._kept_home()

    def _kept_home(self) -> str:
        """Return why no opened model may leave the hospitals, "" where it may."""
        try:
            require_returnable(self._plan)
        except OpeningRefusedError as refused:
            return str(refused)
        return ""

    def release_last(self) -> None:
        """Have the last sum confirmed, and ask hospitals in turn for the model after it."""
        confirmation = self._confirmation
        confirmation.round = self.state.round
        self._journal.keep_end(self.state.round, self.state.note)
        try:
            confirmation.collect(self.settings.run.attempts)
            self._tracking.record(
                "confirmed",
                round=self.state.round,
                hospitals=len(confirmation.headers),
                needed=self._agreement.quorum,
            )
            if reason := self._kept_home():
                self.state.note = reason
                return
            self._released(self._form.whole(confirmation.release()), self.state.round)
        finally:
            self._record_faults(self.state.round, 1, confirmation.faults)

    def judge_request(self) -> tuple[Kind, RecordDict]:
        """Return the request to judge the model after the last total, which hospitals have."""
        request = RoundRequest(
            training=self.training, bind=self._agreement.bind, round=self.state.round
        )
        return Kind.EVALUATE, self._filled(request, 0).content()
