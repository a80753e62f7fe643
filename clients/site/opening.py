"""Opening sums: one total a round, committed to before it is opened, confirmed before it is used.

A hospital's own memory stops it from opening two totals of a round; it cannot stop two hospitals
from opening one each, whose difference is somebody's update. So nothing that was made from a sum
leaves before a quorum of hospitals has signed the same chain of sums, which the headers of the next
roster do, or at the end those of a confirmation.

    openings.follow(request, phases)      # commit, open, step, close: each line on disk before
    openings.confirmed()                  # what a quorum has signed by now, or None

What the hospitals of one process share, a `Session`, opens each sum once. What each commits to, and
what it may release, is its own book's. Every refusal has one code: which check failed tells nobody.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Protocol

from accounting import lines
from accounting.errors import BookError
from clients.contract.faults import Code, Fault, one_code_for_openings
from clients.site.proofs import Confirmed, make_committed, make_confirmed
from clients.site.snapshots import SignedSnapshot, SnapshotRefused
from crypto.errors import RosterError, SealingError
from crypto.roles import Place
from crypto.rosters import Roster, confirmed_round, next_chain

if TYPE_CHECKING:
    from accounting.book import Book
    from accounting.lines import Line
    from accounting.states import TrainingState
    from clients.contract.messages import OpenedRound
    from clients.contract.phases import Phases
    from clients.site.membership import Membership
    from clients.site.session import Session


class Behind(Protocol):
    """What a request holds for a hospital, or a process, that is behind."""

    @property
    def closed(self) -> Mapping[int, OpenedRound]:
        """Sealed totals by round."""

    @property
    def opened(self) -> Mapping[int, str]:
        """Digests of what was opened in earlier rounds, hex."""

    @property
    def snapshot(self) -> bytes:
        """A snapshot, or ``b""``."""


class Openings:
    """What one hospital opens in one training.

    Args:
        name: the hospital's.
        book: its own.
        member: its keys, and who the others are.
        session: what the hospitals of its process share.
        needed: hospitals that must have signed a chain before anything made from it leaves.
        most: sums that are opened for one request; who lacks more asks for the rest.
        retire: deletes the training's keys once its book has retired it.
        log: the hospital's own log.
    """

    def __init__(
        self,
        *,
        name: str,
        book: Book,
        member: Membership,
        session: Session,
        needed: int,
        most: int,
        retire: Callable[[], None],
        log: Callable[[str], None],
    ) -> None:
        self._name = name
        self._book = book
        self._member = member
        self.session = session
        self._needed = needed
        self._most = most
        self._retire = retire
        self._log = log

    def follow(self, request: Behind, phases: Phases) -> TrainingState:
        """Open what was closed since, in order, and bring the replica there.

        Returns:
            The hospital's state after it.

        Raises:
            Fault: ``behind`` with the round where it stands, also where the request holds more
                than is opened for one; ``opening-refused`` for everything
                that is wrong with a sum, a roster or a snapshot; ``ledger-behind`` where a roster
                holds this hospital's own signature over what its book does not know.
        """
        state = self._state()
        with one_code_for_openings():
            snapshot = self._snapshot(request)
            left = self._most - self._restore(request, snapshot, state)
            if snapshot is not None and snapshot.round > state.closed:
                state = self._adopt(request, snapshot, state)
            for number in sorted(request.closed):
                if number > state.closed:
                    if left <= 0:
                        raise Fault(Code.BEHIND, parameter=state.closed)
                    left -= 1
                    state = self._open(number, request.closed[number], state, phases)
        return state

    def restore(self, request: Behind) -> None:
        """Bring this process's replica to where the book stands; the book does not move.

        Raises:
            Fault: ``behind`` where the request does not hold what is missing, or holds more than is
                opened for one.
            SealingError: a total does not open.
        """
        self._restore(request, None, self._state())

    def _restore(
        self, request: Behind, snapshot: SignedSnapshot | None, state: TrainingState
    ) -> int:
        """Do so from where the book stands; returns how many sums were opened for it."""
        session = self.session
        if session.round < state.closed and snapshot is None:
            snapshot = self._snapshot(request)
        if snapshot is not None and session.round < snapshot.round <= state.closed:
            chain = self._extended(request, snapshot.chain, snapshot.round, state.closed)
            if chain != state.chain:
                raise RosterError("a snapshot came that does not lead to what this hospital opened")
            self._load(request, snapshot, session.round)
        missing = range(session.round + 1, state.closed + 1)
        if not missing:
            return 0
        if any(number not in request.closed for number in missing):
            raise Fault(Code.BEHIND, parameter=session.round)
        chain = self._extended(request, session.chain, session.round, state.closed)
        if chain != state.chain:
            raise RosterError("other sums came than those that this hospital has opened")
        for number in missing:
            if number - missing.start == self._most:
                raise Fault(Code.BEHIND, parameter=session.round)
            closed = request.closed[number]
            roster = Roster.from_bytes(closed.roster)
            committed = make_committed(
                round=number, attempt=roster.place.attempt, opened=closed.digest(roster)
            )
            session.advance(committed, closed, roster, self._member)
        return len(missing)

    def confirmed(self) -> Confirmed | None:
        """Return what a quorum has signed of this hospital's own chain, as rosters show it."""
        last = min(confirmed_round(self.session.signed, self._needed), self._state().closed)
        return make_confirmed(round=last) if last else None

    def confirmed_by(self, headers: tuple[bytes, ...]) -> Confirmed:
        """Return that a quorum has signed the last sum's chain, as confirmations show it.

        Raises:
            Fault: ``release-refused``: they are too few, or are about another chain or replica;
                ``behind``: the replica lacks sums.
        """
        state = self._state()
        if self.session.round != state.closed:
            raise Fault(Code.BEHIND, parameter=self.session.round)
        signers = self.session.confirmations(headers, self._member, state.closed, state.chain)
        if len(signers) < self._needed:
            raise Fault(
                Code.RELEASE_REFUSED,
                f"{len(signers)} hospitals confirmed round {state.closed}, needed: {self._needed}",
            )
        return make_confirmed(round=state.closed)

    def _state(self) -> TrainingState:
        return self._book.state(self.session.terms.training)

    def _snapshot(self, request: Behind) -> SignedSnapshot | None:
        if not request.snapshot:
            return None
        terms = self.session.terms
        return SignedSnapshot.read(
            request.snapshot,
            self._member.public_keys,
            training=terms.training,
            parameter_id=terms.sealing.parameter_id,
            bind=self._member.bind,
        )

    def _load(self, request: Behind, snapshot: SignedSnapshot, stands_at: int) -> None:
        """Take over a state that as many hospitals have signed as are in any sum.

        Raises:
            Fault: ``behind``: the next roster is missing, or its hospitals hold another state.
        """
        after = snapshot.round + 1
        if after not in request.closed:
            raise Fault(Code.BEHIND, f"no sum after {after - 1} came", parameter=stands_at)
        data = request.closed[after].roster
        roster = self.session.verifier.roster(data, after, snapshot.chain, self._member)
        named = {one.header.sender: one.header.state for one in roster.headers}
        try:
            least = self.session.terms.least
            state = snapshot.open(self._member.keys.group_key, named, least)
        except SnapshotRefused as refused:
            raise Fault(Code.BEHIND, str(refused), parameter=stands_at) from refused
        self.session.load(state, round=snapshot.round, chain=snapshot.chain)

    def _adopt(
        self, request: Behind, snapshot: SignedSnapshot, state: TrainingState
    ) -> TrainingState:
        """Take over a snapshot whose chain goes on from this hospital's own."""
        if self._extended(request, state.chain, state.closed, snapshot.round) != snapshot.chain:
            raise RosterError(
                f"the snapshot after round {snapshot.round} does not follow what this hospital "
                f"opened up to round {state.closed}"
            )
        session = self.session
        if session.round < snapshot.round:
            self._load(request, snapshot, state.closed)
        training = session.terms.training
        self._book.append(lines.adopt(training, round=snapshot.round, chain=snapshot.chain))
        self._log(f"took over the state after round {snapshot.round}")
        return self._state()

    def _open(
        self, number: int, closed: OpenedRound, state: TrainingState, phases: Phases
    ) -> TrainingState:
        """Commit to one total, open it, step, and close the round."""
        session, training = self.session, self.session.terms.training
        if number != state.closed + 1:
            raise Fault(Code.BEHIND, parameter=state.closed)
        with phases.measure("open"):
            known = session.verifier.verified(closed, number, state.chain, self._member)
            roster = known.roster
            check_own(roster, self._name, state)
            place = Place(training=training, round=number, attempt=roster.place.attempt)
            self._commit(lines.commit(place, roster=known.opened, total=known.total))
            committed = make_committed(round=number, attempt=place.attempt, opened=known.opened)
        try:
            chain = session.advance(committed, closed, roster, self._member, phases)
        except SealingError as error:
            self._failed(number, error)
            raise
        self._book.append(lines.close(training, round=number, chain=chain))
        for name in session.suspects:
            # No proof against it: the server and one hospital can make an honest one look so.
            self._log(f"the shares that {name} answered do not fit the sum of round {number}")
        for name, part in session.stayed:
            self._log(f"part {part} of {name}'s noise stays in the sum of round {number}: no seed")
        return self._state()

    def _commit(self, line: Line) -> None:
        """Name a total in the book; one more than may fail ends the training instead.

        A process that died between this line and the close has failed as well, without being able
        to say so.
        """
        try:
            self._book.append(line)
        except BookError as error:
            if error.code == Code.TRAINING_RETIRED:
                self._end(self._state())
            raise

    def _failed(self, number: int, error: SealingError) -> None:
        """Count a failed opening, and end the training after too many."""
        state = self._state()
        self._log(f"the sum of round {number} did not open: {error.code}: {error}")
        assert state.bind is not None
        if state.failures >= state.bind.failures:
            self._end(state)

    def _end(self, state: TrainingState) -> None:
        """Retire the training: its keys open nothing any more."""
        training = self.session.terms.training
        why = f"{state.failures} sums did not open"
        self._book.append(lines.retire(training, why=why))
        self._retire()
        self._log(f"training {training} is retired: {why}")

    @staticmethod
    def _extended(request: Behind, chain: str, start: int, end: int) -> str:
        """The chain after ``end``, from one after ``start``, by what the request says was opened.

        Raises:
            Fault: ``behind`` where the request does not say it.
        """
        for number in range(start + 1, end + 1):
            if number in request.closed:
                closed = request.closed[number]
                opened = closed.digest(Roster.from_bytes(closed.roster))
            elif number in request.opened:
                opened = request.opened[number]
            else:
                raise Fault(Code.BEHIND, parameter=start)
            chain = next_chain(bytes.fromhex(chain), bytes.fromhex(opened)).hex()
        return chain


def check_own(roster: Roster, name: str, state: TrainingState) -> None:
    """Insist that a roster fits what a hospital itself has signed and answered.

    Raises:
        RosterError: it is of an earlier place, or another one than its holder answered.
        Fault: ``ledger-behind``: it holds the hospital's own signature, which its book lacks.
    """
    place = (roster.place.round, roster.place.attempt)
    if place < state.place:
        raise RosterError(f"a roster of {place} came after this hospital's own {state.place}")
    own = [one.header for one in roster.headers if one.header.sender == name]
    if own and (place != state.place or own[0].payload != state.reply):
        raise Fault(
            Code.LEDGER_BEHIND,
            f"a roster holds this hospital's own signature at {place}, which its book does not "
            f"know: it stands at {state.place}",
        )
    answered = state.roster if place == state.place else ""
    if answered and answered != roster.fingerprint:
        raise RosterError(f"a roster of {place} came, and this hospital answered another")
