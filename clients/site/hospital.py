"""A hospital in a training: it opens sums, steps its replica, contributes, confirms, and releases.

No Flower in here: requests and replies are plain values, so a test can drive ten hospitals in one
process. What hospitals of one process share is a `Session`, which a `SharedState` keeps for them
between messages; what is a hospital's own (name, keys, book, log) is its `Site`. Every answer ends
in the passage through which the request came in.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from accounting import limits
from accounting.against import views_of_spend
from accounting.events import ExactEvent
from clients.contract.faults import Code, Fault, one_code_for_openings
from clients.contract.messages import ReleaseRequest, RoundRequest
from clients.contract.phases import Phases
from clients.contract.terms import sums_alone_for
from clients.models.errors import ModelError
from clients.site.agreement import Agreement, agree, own_part
from clients.site.answers import Answers
from clients.site.door import Door
from clients.site.heads import shown_of
from clients.site.leftovers import forget_trainings
from clients.site.membership import Membership, read_membership
from clients.site.opening import Openings
from clients.site.own_draws import OwnDraws
from clients.site.own_offer import OfferFile
from clients.site.pair_file import PairFile
from clients.site.witnessing import Witnessing
from crypto.errors import CapacityError
from crypto.headers import Header, HeaderKind
from crypto.roles import Place
from crypto.rosters import quorum

if TYPE_CHECKING:
    from accounting.book import Book
    from accounting.events import Event
    from accounting.receipts import Receipt
    from accounting.spending import Slack
    from clients.contract.settings import Settings
    from clients.contract.terms import Terms
    from clients.data import Cohort
    from clients.site.ground import Site
    from clients.site.session import Session
    from clients.site.shared_state import SharedState

#: The least and largest sigma that a run may propose, unless it proposes none: 0.
LEAST_NOISE, MOST_NOISE = 1e-6, 1e6
_UNDERIVED = (ModelError, OSError, ArithmeticError, CapacityError, ValueError)


class Hospital:
    """One hospital's part in one training.

    Args:
        site: its own ground.
        run_settings: the run's settings, from which the terms follow.
        settings: the same with what the hospital itself says about its data.
        training: id of the training.
        cohort: the hospitals and what each holds, as far as this one knows.
        state: what its process keeps of the training.
    """

    def __init__(
        self,
        site: Site,
        run_settings: Settings,
        settings: Settings,
        training: str,
        cohort: Cohort,
        state: SharedState,
    ) -> None:
        self.site = site
        self.run_settings = run_settings
        self.settings = settings
        self.training = training
        self.cohort = cohort
        self.own = OwnDraws(site, settings, training, cohort, state)
        self._state = state
        self.witnessing = Witnessing(site, training, book=lambda: self.book, member=self.membership)
        self.answers = Answers(site, training, state.answers)
        self._pair_file = PairFile(site, training)
        self._agreement: Agreement | None = None
        self._own_digest: tuple[str, str] | None = None
        #: What observers face in this training's spendings, and what its grid charges.
        self._faced: tuple[Mapping[str, float | None], Slack | None] | None = None

    @property
    def book(self) -> Book:
        """The hospital's own book, for the cohort that the training is about."""
        return self.site.book(self.cohort.info.name)

    @property
    def door(self) -> Door:
        """The door through which everything comes in and goes out."""
        name, head = self.settings.exchange.name, self.witnessing.head
        return Door(book=self.book, answers=self.answers, exchange=name, head=head)

    def terms_digest(self, noise_multiplier: float | None = None) -> str:
        """Return the digest of the terms as this hospital derives them, hex.

        Raises:
            Fault: ``keys-missing``: none was proposed, and no keys are there, which it came with.
        """
        if noise_multiplier is None:
            noise_multiplier = self.membership().noise_multiplier
        return self.agreement(noise_multiplier).digest

    def own_digest(self) -> str:
        """Return the digest of what this hospital says for itself, hex: bound as the terms are."""
        ledger = self.book.id
        if self._own_digest is None or self._own_digest[0] != ledger:
            digest = own_part(self.site, self.settings, self.cohort.info.name, ledger)
            self._own_digest = ledger, digest
        return self._own_digest[1]

    def agreement(self, noise_multiplier: float) -> Agreement:
        """Return the terms; the first hospital of this process that asks derives them.

        Whoever asks with other settings derives their own, which no other hospital sees.

        Raises:
            Fault: ``malformed`` for a sigma that is none; ``settings-refused`` where the settings
                give no training; ``training-bound`` where the weights to begin with are not there,
                whatever is: a path that a run names must not tell what is in a hospital's files.
        """
        own = self._agreement
        if own is not None and own.noise_multiplier == noise_multiplier:
            return own
        kept = self._state.agreement
        if kept is None or not kept.fits(self.run_settings, noise_multiplier):
            made = self._derive(noise_multiplier)
            if kept is None:
                self._state.agreement = made
            kept = made
        self._agreement = kept
        return kept

    def _derive(self, noise_multiplier: float) -> Agreement:
        if noise_multiplier != 0.0 and not LEAST_NOISE <= noise_multiplier <= MOST_NOISE:
            raise Fault(Code.MALFORMED, f"a noise multiplier of {noise_multiplier}")
        try:
            return agree(self.run_settings, self.cohort, self.training, noise_multiplier, self.site)
        except Exception as error:
            if not (self.settings.model.weights or isinstance(error, _UNDERIVED)):
                raise
            # Where weights are named, how far it came would tell what lies at their path.
            known = Code.TRAINING_BOUND if self.settings.model.weights else Code.SETTINGS_REFUSED
            raise Fault(known, f"{type(error).__name__}: {error}") from error

    def membership(self) -> Membership:
        """Return keys and session, from this process's cache or the hospital's folder.

        Raises:
            Fault: ``keys-missing``.
        """
        kept_here = self._state.memberships
        if self.site.folder not in kept_here:
            named = self.book.state(self.training).keys
            kept_here[self.site.folder] = read_membership(self.site, self.training, named)
            self._past_rounds()  # an earlier process may have died before it could
        return kept_here[self.site.folder]

    def _past_rounds(self) -> None:
        """Let go of the pair keys of all rounds that the book has left: what they masked is shut.

        The offer's secret would make them anew: it goes once no more keys can come. (Until then a
        leader's answer may be lost, and another leads.) The book stays as it is meanwhile.
        """
        member = self.membership()
        if member.keys.pairs is None:
            return
        with self.book.hold():
            state = self.book.state(self.training)
            if not state.takes_keys:
                OfferFile(self.site, self.training).forget()
            keys = self._pair_file.past(member.keys, max(state.closed + 1, state.place[0]))
        self._state.memberships[self.site.folder] = replace(member, keys=keys)

    def forget_membership(self) -> None:
        """Read keys and the others' names anew when they are next asked for."""
        self._state.memberships.pop(self.site.folder, None)

    def session(self) -> Session:
        """Return this process's session of a training whose keys this hospital has."""
        return self.agreement(self.membership().noise_multiplier).session

    def open_closed(self, request: RoundRequest, phases: Phases) -> Session:
        """Open what was closed and insist that the round asked for is the next one.

        Raises:
            Fault: as `Openings.follow`, or ``stale-place``.
        """
        session = self.follow(request, phases)
        closed = self.book.state(self.training).closed
        if request.round != closed + 1 or session.round != closed:
            raise Fault(
                Code.STALE_PLACE,
                f"asked for round {request.round}, next is {closed + 1}; the replica is at "
                f"{session.round}",
            )
        self.witnessing.require_room()
        return session

    def follow(self, request: RoundRequest, phases: Phases) -> Session:
        """Bring book and replica to the last sum that a request holds."""
        openings, closed = self.openings(), self.book.state(self.training).closed
        with self._kept(openings.session):
            state = openings.follow(request, phases)
        self.witnessing.learn(request, after=closed)
        if state.closed > closed:
            self.answers.drop()
            self._past_rounds()
        return openings.session

    def restored(self, request: ReleaseRequest) -> Openings:
        """Bring the replica to where the book stands, from what a request holds; it opens nothing.

        Raises:
            Fault: as `Openings.restore`.
        """
        openings = self.openings()
        with self._kept(openings.session), one_code_for_openings():
            openings.restore(request)
        return openings

    @contextmanager
    def _kept(self, session: Session) -> Iterator[None]:
        """Keep a replica that has moved for a later process, whatever comes of the block."""
        before = session.round, session.chain
        try:
            yield
        finally:
            # A session that is ahead of its book, whose line was lost, is made anew next time.
            if (session.round, session.chain) != before and not self._strayed(session):
                self.save(session)

    def session_at_place(self) -> Session:
        """Return the session for a later turn of a place, whose first turn opened what it needs.

        Raises:
            Fault: ``behind``: this process lost it; the place begins anew at a higher attempt.
        """
        session = self._own_session()
        if session.round != self.book.state(self.training).closed:
            raise Fault(Code.BEHIND, parameter=session.round)
        return session

    def openings(self) -> Openings:
        """Return what this hospital opens in the training, from where its book stands."""
        session, member = self._own_session(), self.membership()
        noise = session.terms.noise
        return Openings(
            name=self.site.name,
            book=self.book,
            member=member,
            session=session,
            needed=quorum(len(member.public_keys), noise.dropouts, noise.colluders),
            most=self.settings.run.snapshot_every + 1,
            retire=self.forget_training,
            log=self.site.log,
        )

    def spend(self, place: Place, events: int, *, rounds: int = 1, uses: int = 0) -> Receipt:
        """Write a place's cost to the book, within the limits, before any record is touched.

        Args:
            place: what is paid for.
            events: noised messages about one patient.
            rounds: rounds that it covers, from the place's on.
            uses: noised messages in all; 0: one for each event.

        Raises:
            LimitRefused: the hospital's own limits forbid it.
            BookError: the place cannot be paid for.
        """
        session = self.session()
        session.check_computes()
        terms = session.terms
        event = terms.event(events)
        asked = self._asked(terms, event, rounds)
        receipt = self.book.spend(
            place,
            event or ExactEvent(count=events),
            purpose=asked.purpose,
            uses=uses,
            rounds=rounds,
            views=asked.views,
            slack=asked.slack,
            check=lambda account: self.site.limits.check(asked, account),
        )
        self._past_rounds()
        return receipt

    def header(
        self,
        kind: HeaderKind,
        place: Place,
        *,
        payload: str = "",
        nonce: bytes = b"",
        previous: str = "",
    ) -> Header:
        """Return a header of this hospital, with the state of its replica and of its book."""
        session, member = self.session(), self.membership()
        return Header(
            kind=kind,
            training=self.training,
            round=place.round,
            attempt=place.attempt,
            sender=self.site.name,
            parameter_id=session.terms.sealing.parameter_id,
            previous=previous,
            payload=payload,
            bind=member.bind,
            nonce=nonce,
            state=session.state(member.keys),
            **self.witness(),
        )

    def witness(self) -> dict[str, Any]:
        """Return what every header says of the hospital's book, for its peers to remember."""
        return shown_of(self.book, self.training, milestones=not self.site.simulated)

    def forget_training(self) -> None:
        """Remove keys and answers of a training that is over for this hospital."""
        if not self.site.simulated:  # an auditor reads a simulation's wire with its keys
            forget_trainings(self.site.folder, {self.training})
        self.forget_membership()
        self.answers.drop()

    def _own_session(self) -> Session:
        """Return the process's session with what an earlier one of a real hospital left."""
        session = self.session()
        if self._strayed(session):
            self._agreement = self._state.agreement = None
            session = self.session()
        if self.site.simulated:
            return session
        state = self.book.state(self.training)
        if session.round >= state.closed:
            return session
        kept = self.site.read_marked(f"replica-{self.training}.bin")
        if kept is not None:
            try:
                session.restore(kept, closed=state.closed, chain=state.chain)
            except Exception as error:  # only a cache: the server has what it was made of
                self.site.log_exception(error)
        return session

    def _strayed(self, session: Session) -> bool:
        """Whether a real hospital's session opened what its book does not know.

        A simulated one's is shared, and ahead of the hospitals that are asked later.
        """
        if self.site.simulated:
            return False
        state, here = self.book.state(self.training), (session.round, session.chain)
        return session.round > state.closed or (
            session.round == state.closed and here != (state.closed, state.chain)
        )

    def save(self, session: Session) -> None:
        """Keep a real hospital's replica for its next process."""
        if not self.site.simulated:
            self.site.write_marked(f"replica-{self.training}.bin", session.to_bytes(), self.book)

    def _asked(self, terms: Terms, event: Event | None, rounds: int) -> limits.SpendRequest:
        """Say what a place asks of this hospital, in the terms that its limits are stated in."""
        settings = self.run_settings
        if self._faced is None:
            faced = views_of_spend(
                terms.noise,
                regime=settings.privacy.regime,
                exchange=settings.exchange.name,
                scheme=settings.sealing.scheme,
                held=terms.held,
            )
            slack = None
            if event is not None:
                slack = self.site.limits.slack_of(terms.grid, terms.noise.colluders)
            self._faced = (faced, slack)
        return limits.SpendRequest(
            regime=settings.privacy.regime,
            event=event,
            hospitals=terms.noise.honest_contributions,
            noise_multiplier=terms.noise.multiplier_of_sum,
            delta=settings.privacy.delta if event is not None else None,
            training=self.training,
            purpose=settings.exchange.name,
            views=self._faced[0],
            rounds=rounds,
            slack=self._faced[1],
            held=sums_alone_for(settings),
        )
