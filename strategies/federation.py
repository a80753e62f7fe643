"""One training by sealed sums, from the ceremony to the last release.

The server's whole part: hold the ceremony, then round by round spend, ask, add blindly and pass the
sealed total on with the next request. It sees the model only where a hospital releases it, and that
is once a quorum of hospitals has signed the sums that it is made of: the model after n rounds comes
with round n + 2, the last one after a confirmation.

What is asked for a round shows who opens the sum of the round before. A sum that hospitals refuse
is void: its round is done again, without those whose updates may have spoiled it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any

from flwr.app import Message
from flwr.serverapp.strategy import FedAvg

from clients.contract.faults import Code
from clients.contract.kinds import Kind
from clients.contract.messages import RoundRequest
from clients.contract.schedule import events_of_attempt
from crypto.errors import OpeningRefusedError
from crypto.schemes import require_returnable
from strategies.confirmation import Confirmation
from strategies.conversation import UNREACHABLE, fault_code, listed
from strategies.culprits import Culprits, Verdict, judge, refused_by, who_opened
from strategies.errors import BudgetExhausted, TrainingStopped
from strategies.extras_due import LAG, ExtrasDue
from strategies.helping import catch_up
from strategies.holders import Holders
from strategies.secure_fedavg import Extras, RoundOutcome, SecureFedAvg
from strategies.sums import Sums
from strategies.teaching import Meter, Teaching

if TYPE_CHECKING:
    from flwr.app import RecordDict

    from strategies.ceremony import Ceremony
    from strategies.teaching import TrainingContext


class Federation(Teaching):
    """A training by sealed sums."""

    #: What a hospital is asked first in a round; with it, it opens the sum of the round before.
    first_turn = Kind.TRAIN

    def __init__(self, context: TrainingContext, ceremony: Ceremony) -> None:
        super().__init__(context, ceremony)
        self._plan = ceremony.plan
        self._hospitals = self.terms.hospitals
        kept = context.journal.read()
        self._sums = Sums(context.journal, kept)
        dropouts = self.terms.noise.dropouts
        self._culprits = Culprits(sorted(self._nodes.public_keys), dropouts, self._journal)
        self.state.left_out = self._left_out()
        self._forget_void()
        self._ended = kept.ended if kept and kept.ended == self.state.round else 0
        self._confirmation = Confirmation(
            conversation=context.conversation,
            agreement=context.agreement,
            ceremony=ceremony,
            sums=self._sums,
            form=self._form,
            ledger_heads=context.heads,
            round=0,
        )
        self._extras_due = ExtrasDue(
            release_every=self.settings.training.release_every,
            snapshot_every=self.settings.run.snapshot_every,
        )
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
            sums=self._sums,
            groups=self.terms.groups,
            holders=Holders.of(context, ceremony),
        )
        if note := self._agreement.quorum_note:
            self._tracking.record("warning", message=note)

    def _forget_void(self) -> None:
        """Forget a sum that an earlier run of the server found void, but was stopped before."""
        number = self.state.round
        if number > self._sums.snapshot_round and self._culprits.is_void(
            number, self._sums.roster(number).place.attempt
        ):
            self._sums.reopen(number)
            self.state.round -= 1

    def teach(self) -> None:
        """Close one round after the other."""
        if self._ended:
            return
        while self.state.round < self.settings.training.rounds:
            self._close_round(self.state.round + 1)

    def _cost(self, number: int, attempt: int) -> int:
        return events_of_attempt(self.settings, number, attempt)

    def _asked(self) -> tuple[str, ...]:
        return tuple(name for name in self._culprits.asked if name in self._nodes.ids)

    def _last_attempt(self, number: int, purpose: str) -> tuple[int, bool]:
        """Return the last attempt at a round; one whose sum was void may not be asked for again."""
        known, open_still = super()._last_attempt(number, purpose)
        attempt = known or self._culprits.last_attempt(number)
        return attempt, open_still and not self._culprits.is_void(number, attempt)

    def _close_round(self, number: int) -> None:
        """Attempt a round until enough hospitals are in its total, or the one before it is void."""
        self._bring_back(number)
        for attempt in self._attempts(number):
            if self._attempt(number, attempt) is not Verdict.AWAY:
                return
        outcome = self.strategy.outcome
        what = "found too few answers of holders of shares" if self._enough() else "closed"
        raise TrainingStopped(
            f"round {number} {what} with {outcome.contributions} of {self._hospitals} hospitals in "
            f"{self.settings.run.attempts} attempts ({listed(outcome.faults)})."
            + who_opened(number - 1, outcome.contributors, outcome.faults)
            + " The reasons are in those hospitals' own logs (hospital.log)."
        )

    def _bring_back(self, number: int) -> None:
        """Ask a suspect again where a spare attempt is left in case that it spoils the sum."""
        made, last, _ = self._journal.read_attempts().get("round", (0, 0, 0))
        left = self._places() + self._agreement.spare_attempts - made
        begun = last >= number or self._culprits.last_attempt(number)
        if begun or left <= self.settings.training.rounds - self.state.round:
            return
        if name := self._culprits.bring_back(number):
            self._tracking.record("asked-again", round=number, hospital=name)
            self._note_left_out()

    def _attempt(self, number: int, attempt: int) -> Verdict:
        """Ask for a round once.

        Returns:
            ``STANDS``: it is closed. ``VOID``: so is the total before it, whose round is to be done
            again. ``AWAY``: too few answered.

        Raises:
            TrainingStopped: hospitals do not agree about the total before it, or nobody can be left
                out of one that is void.
        """
        meter, state = Meter(self._conversation), self.state
        request = self._request(number, attempt)
        self.strategy.expect(
            attempt=attempt,
            release_from=request.release_from,
            snapshot_from=request.snapshot_from,
        )
        asked = len(self._asked())
        verdict = self._shown_first(number, request)
        if verdict is Verdict.STANDS:
            self._exchange(number, request)
            verdict = self._judged(number)
        outcome = self.strategy.outcome
        if verdict is Verdict.STANDS and outcome.closed is not None:
            self._keep_extras(outcome.extras, number)
            with self._conversation.phases.measure("keep"):
                self._sums.close(number, outcome.closed)
                self._ledger_heads.see_roster(outcome.closed.roster)
            state.round = number
        self._record_round(
            number,
            attempt,
            meter,
            asked=asked,
            contributions=outcome.contributions,
            closed=verdict is Verdict.STANDS and outcome.closed is not None,
            faults=outcome.faults,
            phases=outcome.phases,
        )
        if outcome.seconds:
            self._tracking.record(
                "hospitals", round=number, seconds=dict(sorted(outcome.seconds.items()))
            )
        if verdict is Verdict.VOID:
            self._void(number - 1, ahead=attempt, opened=outcome.contributors)
        elif verdict is Verdict.STANDS:
            self._stands(number - 1)
            verdict = Verdict.STANDS if outcome.closed else self._without_key(number, attempt)
        return verdict

    def _without_key(self, number: int, attempt: int) -> Verdict:
        """Leave somebody out where too few holders answered since members' shares were none.

        Raises:
            TrainingStopped: nobody is left who could be left out.
        """
        outcome = self.strategy.outcome
        if not outcome.accused:
            return Verdict.AWAY
        self._leave_out(number, attempt, names=outcome.contributors, first=outcome.accused)
        return Verdict.VOID

    def _shown_first(self, number: int, request: RoundRequest) -> Verdict:
        """Show a total that came of a search to few hospitals; ``STANDS`` where all may see it."""
        if not self._culprits.searching(number - 1):
            return Verdict.STANDS
        content = request.content()

        def ask(name: str) -> str:
            if name not in self._nodes.ids:
                return UNREACHABLE
            asked = [Message(content, self._nodes.ids[name], self.first_turn)]
            settled = self._ledger_heads.settled(asked, self._conversation.ask(asked))
            replies = self._helped(settled, request)
            return next((fault_code(reply) for reply in replies if reply.has_error()), "")

        verdict, faults = self._culprits.show_first(ask, self.settings.run.attempts)
        self.strategy.outcome = RoundOutcome(faults=faults)
        # Who answered an earlier run of the server, and has lost its answer, can make another.
        if verdict is Verdict.AWAY and Code.STALE_PLACE not in faults.values():
            raise TrainingStopped(
                f"too few hospitals answered to tell whether the sum of round {number - 1} opens "
                f"({listed(faults)})"
            )
        return verdict

    def _judged(self, number: int) -> Verdict:
        """Return what the answers to a round say of it, and of the total before it.

        Raises:
            TrainingStopped: as many opened that total as refused it.
        """
        outcome = self.strategy.outcome
        verdict = judge(outcome.contributors, refused_by(outcome.faults), self._agreement.least)
        if number == 1 and verdict is not Verdict.STANDS:
            return Verdict.AWAY
        if verdict is Verdict.TIE:
            raise TrainingStopped(
                f"hospitals do not agree whether the sum of round {number - 1} opens."
                + who_opened(number - 1, outcome.contributors, outcome.faults)
            )
        return verdict

    def _stands(self, number: int) -> None:
        """Take down that hospitals opened a round's total."""
        if number <= self._sums.snapshot_round:
            return
        for name in self._culprits.stands(number, self._sums.roster(number).names):
            self._tracking.record("returned", round=number, hospital=name)
        self._note_left_out()

    def _void(self, number: int, *, ahead: int, opened: Iterable[str]) -> None:
        """Go back before a round whose total hospitals refused, and leave somebody out.

        Raises:
            TrainingStopped: nobody is left who could be left out.
        """
        roster = self._sums.roster(number)
        self.state.round = number - 1
        self._leave_out(
            number, roster.place.attempt, names=roster.names, ahead=ahead, opened=tuple(opened)
        )
        self._sums.reopen(number)
        self._step_back(number - 1)

    def _leave_out(self, number: int, attempt: int, **about: Any) -> None:
        """Decide who is left out when an attempt at a round is done again, and record it."""
        try:
            self._culprits.void(number, attempt, **about)
        finally:
            self._note_left_out()
        self._tracking.record("void", round=number, attempt=attempt, asked=list(self._asked()))

    def _step_back(self, number: int) -> None:
        """Bring what the server itself trains to where it stood after a round."""

    def _left_out(self) -> list[dict[str, object]]:
        return [asdict(one) for one in self._culprits.left_out]

    def _note_left_out(self) -> None:
        """Put into the summary who is left out, and whoever is new into the records."""
        before = self.state.left_out
        self.state.left_out = self._left_out()
        for row in self.state.left_out:
            if row not in before:
                self._tracking.record("left-out", **row)

    def _keep_extras(self, extras: Extras, number: int) -> None:
        """Keep a model and a snapshot that came, if they are of sums that can be confirmed."""
        last = number - LAG
        if extras.snapshot and self._sums.snapshot_round < extras.snapshot_round <= last:
            self._extras_due.snapshot_came()
            self._sums.take_snapshot(extras.snapshot_round, extras.snapshot)
        if extras.model and self.state.released < extras.model_round <= last:
            self._extras_due.model_came()
            self._released(self._form.whole(extras.model), extras.model_round)

    def _exchange(self, number: int, request: RoundRequest) -> None:
        """Ask for contributions and add them as they come."""
        asked = list(
            self.strategy.configure_train(
                number, request.arrays(), request.config(), self._conversation.grid
            )
        )
        nodes = {self._nodes.ids[name] for name in self._asked()}
        asked = [message for message in asked if message.metadata.dst_node_id in nodes]
        replies = self._ask_again(asked, self._conversation.ask(asked), self._enough)
        self.strategy.aggregate_train(number, self._helped(replies, request))

    def _enough(self) -> bool:
        return self.strategy.outcome.contributions >= self._agreement.least

    def _helped(self, replies: Iterable[Message], request: RoundRequest) -> Iterator[Message]:
        """Yield replies; a hospital that is behind is brought there first."""
        filled = partial(self._sums.filled, request)
        return catch_up(self._conversation, replies, request.round - 1, filled)

    def _request(self, number: int, attempt: int) -> RoundRequest:
        """Ask for a round; the closed total before it comes along."""
        models_leave = self._private() and not self._kept_home()
        release_from, snapshot_from = self._extras_due.ask(
            self._asked(), number, attempt, models_leave=models_leave
        )
        return RoundRequest(
            training=self.training,
            bind=self._agreement.bind,
            round=number,
            attempt=attempt,
            closed=self._sums.last(number - 1),
            release_from=release_from,
            snapshot_from=snapshot_from,
        )

    def _kept_home(self) -> str:
        """Return why no opened model may leave the hospitals, "" where it may."""
        try:
            require_returnable(self._plan)
        except OpeningRefusedError as refused:
            return str(refused)
        return ""

    def release_last(self) -> None:
        """Have the last sum confirmed, and ask hospitals in turn for the model after it."""
        while not self._confirmed():
            try:
                self.teach()
            except BudgetExhausted as exhausted:
                if not self.state.round:
                    raise
                self.state.note = str(exhausted)
        confirmation = self._confirmation
        try:
            if reason := self._kept_home():
                self.state.note = reason
                return
            self._released(self._form.whole(confirmation.release()), self.state.round)
        finally:
            self._record_faults(self.state.round, 1, confirmation.faults)

    def _confirmed(self) -> bool:
        """Have the last sum confirmed; False where it is void and its round is to be done again."""
        confirmation, number = self._confirmation, self.state.round
        confirmation.begin(number)
        self._journal.keep_end(number, self.state.note)
        try:
            first = self._culprits if self._culprits.searching(number) else None
            verdict = confirmation.collect(self.settings.run.attempts, first)
        except TrainingStopped:
            self._record_faults(number, 1, confirmation.faults)
            raise
        if verdict is Verdict.VOID:
            self._record_faults(number, 1, confirmation.faults)
            self._void(number, ahead=0, opened=confirmation.headers)
            self._ended = 0
            self._journal.keep_end(0, "")
            return False
        self._stands(number)
        self._tracking.record(
            "confirmed",
            round=number,
            hospitals=len(confirmation.headers),
            needed=self._agreement.quorum,
        )
        return True

    def judge_request(self) -> tuple[Kind, RecordDict]:
        """Return the request to judge the model after the last total, which hospitals have."""
        return Kind.EVALUATE, self._confirmation.releasing().content()

    def _settled(self, asked: list[Message]) -> Iterator[Message]:
        return self._confirmation.settled(asked)
