"""A hospital's book: what it spent, opened and sent in all trainings, before it does so.

One chained file of a site and a cohort, with a state machine for each training. Whatever may leave
the hospital has a line here first, and a move that the training's state does not allow is refused.

    book = Book(path, site="hospital-3", cohort="kermany-2018", flush=Flush.DISK)
    book.append(lines.bind(...), lines.keyed(...))
    receipt = book.spend(place, event, purpose="gradients", check=within_limits)
    noised(value, grid, stream, receipt.use(place.round, 1))     # and only now is data touched
    book.append(lines.seal(place, reply=digest))                 # and only then does it leave
    book.append(lines.commit(...))                               # and only now is a sum opened
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from typing import NamedTuple

from accounting import lines
from accounting.chain import Flush, read_chain
from accounting.errors import BookError, LedgerError
from accounting.events import Event, PublicEvent
from accounting.ledger import PAYING, Account, event_of, rounds_of, spending_of
from accounting.lines import Line, Place
from accounting.links import Record
from accounting.receipts import Receipt, issue_receipt
from accounting.spending import DeclaredPlan, Slack, Spending
from accounting.states import NEW, Bind, Phase, TrainingState, step


class _Whole(NamedTuple):
    """A training as a whole, where a message belongs to none of its places."""

    training: str
    round: int = 0
    attempt: int = 0


class Book(Account):
    """The book of one site and one cohort. Safe for several processes, threads and forks.

    Attributes:
        receipts: how many this process was given; no record is touched without one.
    """

    def __init__(
        self, path: str | os.PathLike[str], *, site: str, cohort: str, flush: Flush = Flush.DISK
    ) -> None:
        """Open the book, or begin it where there is no file.

        A ledger of format 1 is continued: all it spent counts, and its trainings are retired.

        Args:
            path: the file; its folder must exist.
            site: the hospital's name.
            cohort: the name of the data it spends.
            flush: `Flush.WRITE` is for simulations.

        Raises:
            LedgerError: the file is damaged, no ledger, another site's or cohort's, or holds a
                forbidden move.
        """
        self._states: dict[str, TrainingState] = {}
        self._paid: dict[str, Event] = {}
        self._first: dict[str, tuple[Event, int]] = {}
        self._home: int | None = None
        self._recovered: dict[str, int] = {}
        self._composed: dict[tuple[int, Event, float], float] = {}
        self.receipts = 0
        super().__init__(path, site=site, cohort=cohort, flush=flush)

    @property
    def id(self) -> str:
        """The book's own id, hex of 8 bytes; no other book has it."""
        return self._chain.id

    def head(self) -> tuple[int, str]:
        """The last line's number and the head after it, hex of 32 bytes."""
        self._chain.look()
        return self._chain.number, self._chain.head

    def line(self, number: int) -> tuple[Line, str]:
        """The line of a number, and the head after it.

        Raises:
            LedgerError: there is no such line, or it is older than the chain.
        """
        record, head = self._chain.line(number)
        return Line.from_json({"kind": "ledger", **record}), head

    def heads(self, numbers: Iterable[int]) -> dict[int, str]:
        """The heads after the lines of these numbers, hex; of those that the chain has."""
        return self._chain.heads(numbers)

    def home(self) -> int | None:
        """The inode that the last "moved" line names."""
        self._chain.look()
        return self._home

    def recovered(self, ledger: str) -> int:
        """The last entry of a book up to which what was lost of it is charged here; -1 for none."""
        self._chain.look()
        return self._recovered.get(ledger, -1)

    def state(self, training: str) -> TrainingState:
        """Where a training stands."""
        self._chain.look()
        return self._states.get(training, NEW)

    def trainings(self) -> tuple[str, ...]:
        """Every training that the book knows, in order."""
        with self.hold():
            return tuple(self._states)

    def spent(self, training: str) -> int:
        """Events of a training, counted."""
        return self.state(training).spent

    def plans(self) -> Mapping[str, DeclaredPlan]:
        """What each training that has spent may cost at most: its first event, in every place.

        A training's line "bind" fixes its terms and its places before it spends, and its first
        spending is before its first release.
        """
        with self.hold():
            return {
                training: DeclaredPlan(event=event, places=self.places(training, rounds))
                for training, (event, rounds) in self._first.items()
            }

    def places(self, training: str, rounds: int = 1) -> int:
        """Places that a training may have if each covers so many rounds; 0: it is not bound."""
        bind = self.state(training).bind
        if bind is None:
            return 0
        return _places(bind, rounds)

    def composed(self, whole: Event, delta: float) -> float:
        """Epsilon of a declared training as a whole, computed once in the book's life.

        To compose takes seconds in a new process, and a limit is asked before every place.

        Raises:
            OSError: the disk refuses the line that would remember it.
        """
        from accounting.totals import COMPOSED_BY

        with self.hold():
            known = self._composed.get((COMPOSED_BY, whole, delta))
            if known is None:
                known = super().composed(whole, delta)
                if math.isfinite(known):
                    line = lines.composed(whole, delta=delta, epsilon=known, by=COMPOSED_BY)
                    self._append([line])
            return known

    def append(self, *new: Line) -> None:
        """Write lines in one write, if each is allowed after those before it.

        A line that says nothing new, such as the same bind again, is allowed and not written.
        Spending has a method of its own.

        Raises:
            BookError: a move is forbidden; nothing was written.
            LedgerError: the file was damaged meanwhile.
            OSError: the disk refuses; some of the first lines may be there.
        """
        if any(line.kind == "spend" for line in new):
            raise BookError("malformed", "events are spent by Book.spend, which gives a receipt")
        with self.hold():
            self._append(new)

    def check(self, *new: Line) -> None:
        """Refuse lines that `append` would refuse; nothing is written.

        Raises:
            BookError: a move is forbidden.
        """
        with self.hold():
            self._allowed(new)

    def spend(
        self,
        place: Place,
        event: Event,
        *,
        purpose: str,
        uses: int = 0,
        rounds: int = 1,
        views: Mapping[str, float | None] | None = None,
        slack: Slack | None = None,
        check: Callable[[Account], None] | None = None,
    ) -> Receipt:
        """Pay for a place. Touch the data only after this has returned.

        A place that was paid for and follows from a seed is not paid for again; a line says that it
        is computed once more.

        Guarantee: when it returns the event is in the file (with `Flush.DISK`, on the disk); when
        it raises, or never returns, it may or may not be there: the book never under-counts.

        Args:
            place: what is paid for; higher than any place of the training before.
            event: what it costs; one at least, without noise too.
            purpose: a word for it, for example the exchange.
            uses: noised messages that it covers; 0: one for each event.
            rounds: rounds that it covers from the place's on, as many messages in each: a pass.
            views: noise multiplier that each observer has to face; None: no noise.
            slack: what the training's grid charges (`accounting.limits.SiteLimits.slack_of`).
            check: raises where the site's limits forbid it; nobody spends between it and the line.

        Raises:
            BookError: the place cannot be paid for.
            LimitRefused: by `check`.
            LedgerError: the file was damaged meanwhile.
            OSError: the disk refuses; the event may be there.
        """
        uses = uses or event.count
        line = lines.spend(
            place, event, purpose=purpose, uses=uses, rounds=rounds, views=views, slack=slack
        )
        with self.hold():
            state = self._states.get(place.training, NEW)
            if state.repeats and (place.round, place.attempt) == state.place:
                self._append([lines.again(place)])
                return self.receipt(place)
            allowed = self._allowed([line])
            if check is not None:
                check(self)
            self._write(*allowed)
            return self._issue(place, event, uses=uses, rounds=rounds)

    def show_public(self, training: str, *, purpose: str, about: str) -> Receipt:
        """Note that figures of records which are declared public are about to leave.

        They cost nothing; the receipt is good for one answer, message 1 of round 0. What was asked
        about last says nothing new, so asking for it again writes no line.

        Args:
            training: its id.
            purpose: a word for the figures.
            about: digest of the model or models that they are of, hex.

        Raises:
            BookError: the training has no keys, or as many answers as it has places were given.
        """
        with self.hold():
            self._append([lines.public(training, purpose=purpose, about=about)])
            return self._issue(_Whole(training), PublicEvent(), uses=1, rounds=1)

    def receipt(self, place: Place) -> Receipt:
        """The receipt that covers a place's messages, for what is still to be shown of it.

        It lets a later process go on with a place, and a pass with its next round. What was shown
        or sealed is used up, and nothing leaves without a line that says so, so no message can be
        released twice.

        Raises:
            BookError: nothing that was paid for is left at that place.
        """
        with self.hold():
            state, turn = self._states.get(place.training, NEW), 0
            if (
                state.phase in (Phase.SPENT, Phase.SHOWN)
                and (place.round, place.attempt) == state.place
            ):
                turn = state.turn
            else:
                state = step(state, lines.show(place, turn=1))
            gone = {(place.round, shown) for shown in range(1, turn + 1)}
            event = self._paid[place.training]
            return self._issue(place, event, uses=state.turns, rounds=1, gone=gone)

    def _issue(
        self,
        place: Place,
        event: Event,
        *,
        uses: int,
        rounds: int,
        gone: Set[tuple[int, int]] = frozenset(),
    ) -> Receipt:
        self.receipts += 1
        return issue_receipt(place, event, uses=uses, rounds=rounds, gone=gone)

    def _append(self, new: Sequence[Line]) -> None:
        self._write(*self._allowed(new))

    def _allowed(self, new: Sequence[Line]) -> tuple[list[Line], dict[str, TrainingState]]:
        """The lines that say something new, and the states after them."""
        states: dict[str, TrainingState] = {}
        kept = []
        for line in new:
            if line.kind not in lines.OF_THE_SITE:
                before = states.get(line.training) or self._states.get(line.training, NEW)
                after = states[line.training] = step(before, line)
                if after is before:
                    continue
            kept.append(line)
        return kept, states

    def _write(self, new: Sequence[Line], states: Mapping[str, TrainingState]) -> None:
        super()._append(new)
        self._states.update(states)

    def _take(self, record: Record) -> None:
        line = Line.from_json(record)
        if line.kind != "entry" and line.kind not in lines.OF_THE_SITE:
            try:
                state = self._states.get(line.training, NEW)
                self._states[line.training] = step(state, line)
            except LedgerError as error:
                raise LedgerError(f"{self.path} line {record['n']}: {error}") from error
        self._count(line)

    def _count(self, line: Line) -> None:
        super()._count(line)
        if line.kind == "spend":
            event = self._paid[line.training] = event_of(line)
            if line.training not in self._first:
                self._first[line.training] = event, rounds_of(line)
        elif line.kind == "composed":
            key = line.whole("by"), event_of(line), line.number("delta")
            self._composed[key] = line.number("epsilon")
        elif line.kind == "moved":
            self._home = line.whole("inode")
        elif line.kind == "recovered":
            ledger = line.text("ledger")
            self._recovered[ledger] = max(self._recovered.get(ledger, -1), line.whole("entry"))


def read_spent(
    path: str | os.PathLike[str],
) -> tuple[tuple[Spending, ...], dict[str, DeclaredPlan]]:
    """What `Book.spendings` and `Book.plans` say, without locking or changing the file.

    Raises:
        LedgerError: the file is damaged or no ledger.
    """
    counts: dict[Spending, int] = {}
    binds: dict[str, Bind] = {}
    plans: dict[str, DeclaredPlan] = {}
    for record in read_chain(path).records:
        line = Line.from_json(record)
        if line.kind == "bind":
            bound = step(NEW, line).bind
            assert bound is not None
            binds.setdefault(line.training, bound)
        if line.kind in PAYING:
            spending, count = spending_of(line)
            counts[spending] = counts.get(spending, 0) + count
        if line.kind == "spend" and line.training in binds and line.training not in plans:
            places = _places(binds[line.training], rounds_of(line))
            plans[line.training] = DeclaredPlan(event=event_of(line), places=places)
    return tuple(one.counted(count) for one, count in counts.items() if count), plans


def _places(bind: Bind, rounds: int) -> int:
    return math.ceil((bind.visits or bind.rounds) / rounds) + bind.spare
