"""Weight transfer: the model goes from hospital to hospital, and the server only carries it.

Chang et al. (2018): *cyclic* (more than one cycle may be made) and *single* (each hospital once).
Each visit is a round here: paid for, attempted, recorded and kept like any other, so a run resumes
at the visit that comes next. A hospital that is gone at its turn is skipped, and that is said, or
waited for through all attempts, as ``exchange.absent`` has it. A skipped hospital's patients taught
nothing in that visit; what a lost reply may have cost them stays paid.

Nobody but hospitals can open a model on its way. Where two of them refuse one, it opens nowhere, or
both of them lie: the model before it goes on, and its maker is named.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flwr.app import Message

from clients.contract.faults import Code
from clients.contract.kinds import Kind
from clients.contract.schedule import cycles_of, steps_of_visit
from clients.contract.terms import hospitals_expected
from clients.contract.visit_messages import Carried, JudgeRequest, VisitReply, VisitRequest
from crypto.errors import PreviousMismatchError
from crypto.headers import HeaderKind, SignedHeader, verify_header
from crypto.roles import Place
from strategies.conversation import UNREACHABLE, fault_code, listed
from strategies.errors import TrainingStopped
from strategies.replies import BadReply, one_bad_reply, read_visit
from strategies.teaching import Meter, Teaching

if TYPE_CHECKING:
    from flwr.app import RecordDict

    from clients.contract.settings import Settings
    from strategies.ceremony import Ceremony
    from strategies.teaching import TrainingContext


#: Models that are kept beside the one that goes round; hospitals whose refusals count.
_MOST_BEFORE, _ENOUGH = 4, 2


#: A model and its makers' headers, the last of which is its own.
_Made = tuple[Carried, tuple[bytes, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One planned visit: its number in the whole run, its cycle, and whose turn it is."""

    visit: int
    cycle: int
    name: str


class Cyclic(Teaching):
    """A training in which one model visits the hospitals in turn."""

    def __init__(self, context: TrainingContext, ceremony: Ceremony) -> None:
        super().__init__(context, ceremony)
        self._parameter_id = ceremony.plan.parameter_id
        kept = context.journal.read()
        #: Models before the one that goes round, the newest last; who refuses that one.
        self._before: list[_Made] = _from_bytes(kept.snapshot if kept else b"")
        self._model, self._trail = self._before.pop() if self._before else (Carried(), ())
        self._refusing: set[str] = set()
        self._skipped: list[str] = []

    @staticmethod
    def planned_rounds(settings: Settings) -> int:
        """Return the visits, if nobody is skipped."""
        return cycles_of(settings) * hospitals_expected(settings)

    def teach(self) -> None:
        """Let the model visit one hospital after the other."""
        for turn in self._turns():
            if turn.visit > self.state.round:
                self._take(turn)
        if self._skipped:
            self.state.note = f"skipped: {', '.join(self._skipped)}"
        if not self._model:
            raise TrainingStopped(f"no hospital was there at its turn; {self.state.note}")

    def _turns(self) -> Iterator[Turn]:
        """Yield the visits in order; a random order differs from cycle to cycle and is public."""
        visit = 0
        key = self.settings.run.seed if self.settings.seeded else self.training
        for cycle in range(1, cycles_of(self.settings) + 1):
            names = sorted(self._nodes.public_keys)
            if self.settings.exchange.order == "random":
                random.Random(f"{key} {cycle}").shuffle(names)
            for name in names:
                visit += 1
                yield Turn(visit=visit, cycle=cycle, name=name)

    def _take(self, turn: Turn) -> None:
        """Have one hospital train the model, or go on without it."""
        wait = self.settings.exchange.absent == "wait"
        code = ""
        for attempt in self._attempts(turn.visit, turn.name):
            meter = Meter(self._conversation)
            code = self._visit(turn, attempt)
            self._record_round(
                turn.visit,
                attempt,
                meter,
                asked=1,
                contributions=0 if code else 1,
                closed=not code,
                faults={turn.name: code} if code else {},
                phases={},
            )
            # Whoever lost its answer to an attempt of an earlier run can still make another.
            if not code or not (wait or code == Code.STALE_PLACE):
                break
        if code and wait:
            raise TrainingStopped(
                f"visit {turn.visit}: {turn.name} was waited for in {self.settings.run.attempts} "
                f"attempts ({code}). Its own log (hospital.log) has the reason; with "
                "exchange.absent = skip the model goes on without it."
            )
        if code:
            self._skipped.append(f"{turn.name} at visit {turn.visit} ({code})")
        if code == Code.OPENING_REFUSED and self._doubt(turn.name):
            self._keep()

    def _places(self) -> int:
        return cycles_of(self.settings)

    def _cost(self, number: int, attempt: int) -> int:
        cycle = (number - 1) // len(self._nodes.public_keys) + 1
        return steps_of_visit(self.settings, cycle)

    def _visit(self, turn: Turn, attempt: int) -> str:
        """Bring the model to a hospital and take it back; returns a fault's code, or ""."""
        last = turn.visit == self.planned_rounds(self.settings)
        due = turn.visit % self.settings.training.release_every == 0 and self._private()
        request = VisitRequest(
            training=self.training,
            bind=self._agreement.bind,
            round=turn.visit,
            attempt=attempt,
            steps=steps_of_visit(self.settings, turn.cycle),
            model=self._model,
            trail=self._trail,
            carry=True,
            release=due or last,
        )
        node = self._nodes.ids.get(turn.name)
        if node is None:
            return UNREACHABLE
        asked = [Message(request.content(), node, Kind.VISIT)]
        # Where the model goes on without whoever is away, nobody is waited for twice.
        skip = self.settings.exchange.absent == "skip"
        [reply] = self._ask_again(asked, self._conversation.ask(asked), lambda: skip)
        if reply.has_error():
            return fault_code(reply)
        try:
            with one_bad_reply():
                answer = read_visit(reply.content, self._form)
                self._check(answer.model, turn, attempt)
        except BadReply as bad:
            return bad.code
        releases = bool(answer.released) and request.release
        if releases:
            # First: nobody is asked again for what a visit released once the model has gone on.
            self._keep_released(self._form.whole(answer.released), turn.visit)
        self._take_model(turn, answer)
        if releases:
            self._measure_released()
        return ""

    def _take_model(self, turn: Turn, answer: VisitReply) -> None:
        """Carry a model on, and the signature of who made it."""
        self._before = [*self._before, (self._model, self._trail)][-_MOST_BEFORE:]
        self._refusing.clear()
        self._model = answer.model
        self._trail = (*self._trail, answer.model.header)
        self._ledger_heads.see([answer.model.header])
        self.state.round = turn.visit
        self._keep()

    def _keep(self) -> None:
        """Keep the model and those before it, so that a server that is started again has them."""
        made = _to_bytes([*self._before, (self._model, self._trail)])
        self._journal.keep_snapshot(self.state.round, made)

    def _check(self, model: Carried, turn: Turn, attempt: int) -> None:
        """Refuse what is not signed by the visited hospital for this very visit.

        Raises:
            SealingError: it is not, or was not made from the model that was brought.
        """
        header = verify_header(
            SignedHeader.from_bytes(model.header),
            {turn.name: self._nodes.public_keys[turn.name]},
            kind=HeaderKind.VISIT,
            place=Place(training=self.training, round=turn.visit, attempt=attempt),
            parameter_id=self._parameter_id,
            payload=model.envelope,
            bind=self._bind,
        )
        before = self._model
        expected = hashlib.sha256(before.envelope).hexdigest() if before else ""
        if header.previous != expected:
            raise PreviousMismatchError(f"{turn.name!r} trained another model than was brought")

    def _doubt(self, name: str) -> bool:
        """Count who refuses the model; True where the one before it goes on instead."""
        if not self._before or not self._trail:
            return False
        maker = SignedHeader.from_bytes(self._trail[-1]).header
        self._refusing |= {name} - {maker.sender}
        if len(self._refusing) < max(1, min(_ENOUGH, len(self._nodes.public_keys) - 1)):
            return False
        others = ", ".join(sorted(self._refusing))
        said = f"{maker.sender} at visit {maker.round} (its model was refused by {others})"
        self._skipped.append(said)
        self._tracking.record(
            "warning",
            hospital=maker.sender,
            message=f"skipped {said}; the model before it goes on",
        )
        self._model, self._trail = self._before.pop()
        self._refusing.clear()
        return True

    def release_last(self) -> None:
        """Ask hospitals in turn to release the model, if the last visit did not."""
        if self.state.released == self.state.round:
            return
        faults: dict[str, str] = {}
        asked = list(self._nodes.names)
        while asked and self._model:
            name = asked.pop(0)
            message = Message(
                self._releasing().content(), self._nodes.ids[name], Kind.RELEASE_CARRIED
            )
            [reply] = self._settled([message])
            model, fault = self._model_in(reply)
            if not fault:
                self._record_faults(self.state.round, 1, faults)
                self._released(model, self.state.round)
                return
            faults[name] = fault
            if fault == Code.OPENING_REFUSED and self._doubt(name):
                asked = list(self._nodes.names)
                self.state.note = f"skipped: {', '.join(self._skipped)}"
        raise TrainingStopped(f"no hospital released the model ({listed(faults)})")

    def _releasing(self) -> VisitRequest:
        return VisitRequest(
            training=self.training,
            bind=self._agreement.bind,
            round=self.planned_rounds(self.settings) + 1,
            model=self._model,
            trail=self._trail,
            release=True,
        )

    def judge_request(self) -> tuple[Kind, RecordDict]:
        """Return the request to judge the model that was released."""
        request = JudgeRequest(
            training=self.training, bind=self._agreement.bind, models=(self.state.model,)
        )
        return Kind.EVALUATE_MODELS, request.content()


def _to_bytes(models: Sequence[_Made]) -> bytes:
    """Carried models and their makers' headers: of each the headers, then the envelope."""
    parts = [part for model, trail in models for part in (*trail, model.envelope)]
    counts = [len(models), *(len(trail) + 1 for _, trail in models)]
    sizes = b"".join(size.to_bytes(8, "big") for size in (*counts, *map(len, parts)))
    return sizes + b"".join(parts)


def _from_bytes(data: bytes) -> list[_Made]:
    """What `_to_bytes` wrote; none for no bytes."""
    numbers = (int.from_bytes(data[at : at + 8], "big") for at in range(0, len(data), 8))
    counts = [next(numbers) for _ in range(next(numbers, 0))]
    sizes = [[next(numbers) for _ in range(count)] for count in counts]
    at, models = 8 * (1 + len(counts) + sum(counts)), list[_Made]()
    for each in sizes:
        parts = []
        for size in each:
            parts.append(data[at : at + size])
            at += size
        *trail, envelope = parts
        header = trail[-1] if trail else b""
        models.append((Carried(header=header, envelope=envelope), tuple(trail)))
    return models
