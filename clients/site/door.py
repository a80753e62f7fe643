"""The one way out of a hospital: whatever leaves was paid for, is remembered, or is a refusal.

    passage = door.admit(kind, request, derive, own)   # or what this place was answered with before
    release = HANDLERS[kind](passage, hospital)   # can only end in passage.answer(...)
    leave(release, message)                       # the only place that makes a Flower reply

A handler returns a `Release`, and only a passage makes one. It takes the uses that were paid for
what is in the reply, or the confirmed sums that it follows from, and writes a line into the
hospital's book before it lets the reply go. A place, which is a round and an attempt at it, is
answered once: asked again, the hospital sends the same bytes and reads nothing else of the request.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from accounting import lines
from accounting.events import PublicEvent
from accounting.private import Made, Maker
from accounting.receipts import Use, is_redeemed
from accounting.states import Phase
from clients.contract.faults import Code, Fault
from clients.contract.kinds import KINDS, Kind
from clients.contract.messages import Reply
from clients.contract.witness_messages import Witnessed
from clients.site.proofs import Confirmed, is_confirmed
from crypto.roles import Place

if TYPE_CHECKING:
    from accounting.book import Book
    from accounting.states import TrainingState
    from clients.site.answers import Answers


class Request(Protocol):
    """What every request says: which training it is about, and on which terms."""

    @property
    def training(self) -> str:
        """Id of the training."""

    @property
    def bind(self) -> str:
        """Digest of the terms, hex."""


class Release(Made):
    """An answer that may leave.

    Attributes:
        reply: what leaves.
    """

    __slots__ = ("reply",)
    reply: Reply


@dataclass(frozen=True, slots=True)
class Refusal:
    """A code in the place of an answer; there is nothing else that a refusal could say."""

    code: str


_RELEASES = Maker(Release)


def let_go(release: Release) -> Reply:
    """Return what leaves, once; for `clients.site.leave` alone.

    Raises:
        TypeError: no passage made the release, or it has left before.
    """
    return _RELEASES.take(release).reply


#: Kinds that are asked for at a place, with the turn of the place that each is.
TURNS: Mapping[Kind, int] = {
    Kind.TRAIN: 1,
    Kind.VISIT: 1,
    Kind.FORWARD: 1,
    Kind.HEAD: 2,
    Kind.BACKWARD: 3,
}
#: Turns that another turn of the same place follows.
_SHOWN = frozenset({Kind.FORWARD, Kind.HEAD})
#: Kinds whose answer is sent again where their place is asked for again.
_KEPT = frozenset({*TURNS, Kind.ANSWER})
#: Kinds that answer with figures of public records, for a line that says so.
_PUBLIC = frozenset({Kind.EVALUATE, Kind.EVALUATE_MODELS})
#: Kinds whose answers follow from confirmed sums, always.
_DERIVED = frozenset({Kind.RELEASE, Kind.EVALUATE})
#: Kinds that a hospital answers whatever has become of the training.
_EVER = frozenset({Kind.WITNESS, Kind.VOUCH})

R = TypeVar("R", bound=Request)


class Passage(Generic[R]):
    """One admitted request, on its way to an answer.

    Attributes:
        kind: of the message.
        request: what was asked.
        state: where the hospital stood when it was admitted.
    """

    def __init__(self, door: Door, kind: Kind, request: R, state: TrainingState) -> None:
        self._door = door
        self.kind = kind
        self.request = request
        self.state = state
        #: The book's last line then; what adds to it leaves with a signed head.
        self._entry = door.book.head()[0]
        self._receipts = door.book.receipts

    @property
    def paid(self) -> bool:
        """Whether a receipt was given since: records may have been touched."""
        return self._door.book.receipts > self._receipts

    @property
    def place(self) -> Place:
        """The place that is asked for."""
        return place_of(self.request)

    def answer(
        self,
        reply: Reply,
        *,
        digest: str = "",
        uses: Sequence[Use] = (),
        derived: Sequence[Confirmed] = (),
    ) -> Release:
        """Let a reply go, once its line is in the book.

        Args:
            reply: what leaves.
            digest: of what is sealed in it, hex; asked for where a place is answered for good. For
                shares of a sum's key: of the roster that they are for.
            uses: all that was paid for what is in it, each taken out.
            derived: confirmed sums that a model or a snapshot in it follows from.

        Raises:
            TypeError: a use that no receipt gave or nothing was taken out with, another place's, or
                derived values that nobody confirmed.
            BookError: the place is not this hospital's to answer any more.
        """
        self._check(uses, derived)
        book = self._door.book
        if self.kind in TURNS:
            place = self.place
            if self.kind in _SHOWN:
                book.append(lines.show(place, turn=TURNS[self.kind]))
            else:
                book.append(lines.seal(place, reply=digest))
        elif self.kind is Kind.ANSWER:
            book.append(lines.answer(self.place, roster=digest))
        if book.head()[0] > self._entry and (head := self._door.head()):
            reply = Witnessed(reply=reply, head=head)
        if self.kind in _KEPT:
            reply = self._door.answers.keep(self.place, self.kind, reply)
        return _RELEASES.make(reply=reply)

    def _check(self, uses: Sequence[Use], derived: Sequence[Confirmed]) -> None:
        if (self.kind in TURNS or self.kind in _PUBLIC) != bool(uses):
            raise TypeError(f"an answer to {self.kind} with {len(uses)} paid uses")
        for use in uses:
            if not is_redeemed(use) or use.place.training != self.request.training:
                raise TypeError("an answer needs uses that its own receipt gave")
            if isinstance(use.event, PublicEvent) != (self.kind in _PUBLIC):
                raise TypeError(f"a use of {use.event} in an answer to {self.kind}")
            if self.kind in TURNS and use.round != self.place.round:
                raise TypeError(f"a use of round {use.round} in an answer to {self.place}")
        if self.kind in _DERIVED and not derived:
            raise TypeError(f"an answer to {self.kind} follows from no confirmed sum")
        for one in derived:
            if not is_confirmed(one):
                raise TypeError("a model or a snapshot follows from confirmed sums only")


def place_of(request: Request) -> Place:
    """The place that a request is about.

    Raises:
        Fault: ``malformed``: rounds and attempts are counted from 1.
    """
    round, attempt = getattr(request, "round", 0), getattr(request, "attempt", 0)
    if round < 1 or attempt < 1:
        raise Fault(Code.MALFORMED, f"place ({round}, {attempt}), expected 1 or more of each")
    return Place(training=request.training, round=round, attempt=attempt)


class Door:
    """The door of one hospital in one training.

    Args:
        book: the hospital's own.
        answers: what it answered last.
        exchange: the run's.
        head: signs where the book stands; b"" where nobody witnesses it.
    """

    def __init__(
        self,
        *,
        book: Book,
        answers: Answers,
        exchange: str,
        head: Callable[[], bytes] = bytes,
    ) -> None:
        self.book = book
        self.answers = answers
        self.head = head
        self._exchange = exchange

    def admit(
        self, kind: Kind, request: R, derive: Callable[[], str], own: Callable[[], str]
    ) -> Passage[R] | Release:
        """Let a request in, or answer it with what was answered before.

        Args:
            kind: of the message.
            request: as it was read.
            derive: returns the digest of the terms as this hospital derives them, hex.
            own: returns the digest of what this hospital says for itself, hex.

        Raises:
            Fault: the exchange has no such message, the training stands for other terms or the
                hospital says something else for itself than when it was bound, the training has
                retired, or the place is not to be answered any more.
        """
        if kind not in KINDS[self._exchange]:
            raise Fault(Code.WRONG_EXCHANGE, f"{kind} in an exchange of {self._exchange}")
        state = self.book.state(request.training)
        if kind in _EVER:
            return Passage(self, kind, request, state)
        if state.phase is Phase.RETIRED:
            raise Fault(Code.TRAINING_RETIRED)
        try:
            terms = derive()
        except Fault as fault:
            if fault.code == Code.SETTINGS_REFUSED and state.bind is not None:
                # What was bound could be derived, so these are other settings.
                raise Fault(Code.TRAINING_BOUND, fault.detail) from fault
            raise
        if request.bind != terms or (state.bind is not None and state.bind.terms != terms):
            raise Fault(
                Code.TRAINING_BOUND,
                f"asked on terms {request.bind[:16]}, this hospital derives {terms[:16]}"
                + (f" and bound {state.bind.terms[:16]}" if state.bind else ""),
            )
        if state.bind is not None and state.bind.own != own():
            raise Fault(
                Code.TRAINING_BOUND,
                "the site.toml says something else of the data (name, public, patients, "
                "simulated partition, test mode) than when this training began here: set it back, "
                "or leave the training to the others",
            )
        if kind in _KEPT and (stored := self._stored(kind, request, state)) is not None:
            return _RELEASES.make(reply=stored)
        return Passage(self, kind, request, state)

    def _stored(self, kind: Kind, request: Request, state: TrainingState) -> Reply | None:
        """Return what a place was answered with before; None where it may be answered now.

        A second roster of a place is refused, for ever: shares for two would tell single keys.
        """
        place = place_of(request)
        if kind is Kind.ANSWER:
            self.book.check(lines.answer(place, roster=getattr(request, "fingerprint", "")))
        stored = self.answers.find(place, kind)
        if stored is None and kind in TURNS:
            self._check_place(kind, place, state)
        return stored

    @staticmethod
    def _check_place(kind: Kind, place: Place, state: TrainingState) -> None:
        """Refuse what the book would refuse, before a sum is opened for it."""
        asked, turn = (place.round, place.attempt), TURNS[kind]
        if state.bind is None:
            raise Fault(Code.KEYS_MISSING, "the training has not begun here")
        if turn == 1:
            passed = asked < state.place or (asked == state.place and not state.repeats)
            if passed or place.round > state.bind.rounds:
                raise Fault(Code.STALE_PLACE, f"{asked} after {state.place}")
        elif asked != state.place or state.phase is not Phase.SHOWN or state.turn >= turn:
            raise Fault(Code.STALE_PLACE, f"turn {turn} of {asked} at {state.place}, {state.turn}")
