"""A hospital in a training: it opens sums, steps its replica, contributes, confirms, and releases.

No Flower in here: requests and replies are plain values, so a test can drive ten hospitals in one
process. What hospitals of one process share is a `Session`, which a `TrainingState` keeps for them
between messages; what is a hospital's own (name, keys, book, log) is its `Site`. Every answer ends
in the passage through which the request came in.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.func import functional_call

from accounting import limits, lines
from accounting.against import views_of_spend
from accounting.events import ExactEvent
from clients.contract.faults import Code, Fault
from clients.contract.layer_messages import TurnReply
from clients.contract.messages import Figures, ReleaseRequest, RoundReply, RoundRequest
from clients.contract.phases import Phases
from clients.contract.schedule import events_of_attempt
from clients.contract.terms import hospitals_expected
from clients.learning.evaluation import evaluate
from clients.models import prepare_public
from clients.models.errors import ModelError
from clients.site.agreement import Agreement, agree
from clients.site.answers import Answers
from clients.site.door import Door
from clients.site.membership import Membership
from clients.site.opening import Openings
from clients.site.own_draws import OwnDraws
from clients.site.snapshots import make_snapshot
from clients.site.witnessing import Witnessing
from crypto.errors import CapacityError, OpeningRefusedError
from crypto.headers import Header, HeaderKind, payload_digest, sign_header
from crypto.keys import Keys
from crypto.roles import Place
from crypto.rosters import quorum
from crypto.schemes import make_sealer, require_returnable

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from accounting.book import Book
    from accounting.events import Event
    from accounting.receipts import Receipt, Use
    from accounting.spending import Slack
    from clients.contract.layer_messages import Arrays, TurnRequest
    from clients.contract.settings import Settings
    from clients.contract.terms import Terms
    from clients.data import Cohort
    from clients.site.door import Passage, Release
    from clients.site.ground import Site
    from clients.site.proofs import Confirmed
    from clients.site.session import Session
    from clients.site.training_state import TrainingState


#: The least and largest sigma that a run may propose, unless it proposes none: 0.
LEAST_NOISE, MOST_NOISE = 1e-6, 1e6


@dataclass(frozen=True, slots=True, kw_only=True)
class Extras:
    """What a hospital gives beside its contribution when it is asked and a quorum has confirmed it.

    Attributes:
        model: by tensor name; empty where none is given.
        model_round: the last sum in it.
        snapshot: a sealed and signed state; ``b""`` where none is given.
        snapshot_round: the last sum in it.
        derived: the confirmed sums that both follow from.
    """

    model: Mapping[str, torch.Tensor] = field(default_factory=dict)
    model_round: int = 0
    snapshot: bytes = b""
    snapshot_round: int = 0
    derived: tuple[Confirmed, ...] = ()

    def reply(self, **more: Any) -> RoundReply:
        """Return a reply that carries them."""
        return RoundReply(
            model=self.model,
            model_round=self.model_round,
            snapshot=self.snapshot,
            snapshot_round=self.snapshot_round,
            **more,
        )


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
        state: TrainingState,
    ) -> None:
        self.site = site
        self.run_settings = run_settings
        self.settings = settings
        self.training = training
        self.cohort = cohort
        self.own = OwnDraws(site, settings, training, cohort, state)
        self._state = state
        self.witnessing = Witnessing(
            site,
            training,
            book=lambda: self.book,
            member=self.membership,
            hospitals=hospitals_expected(run_settings),
        )
        self._agreement: Agreement | None = None
        #: What observers face in this training's spendings, and what its grid charges.
        self._faced: tuple[Mapping[str, float | None], Slack | None] | None = None

    @property
    def book(self) -> Book:
        """The hospital's own book, for the cohort that the training is about."""
        return self.site.book(self.cohort.info.name)

    @property
    def door(self) -> Door:
        """The door through which everything comes in and goes out."""
        answers = Answers(self.site, self.training, self._state.answers)
        return Door(book=self.book, answers=answers, exchange=self.settings.exchange.name)

    def terms_digest(self, noise_multiplier: float | None = None) -> str:
        """Return the digest of the terms as this hospital derives them, hex.

        Args:
            noise_multiplier: as it was proposed; None for the one that came with the keys.

        Raises:
            Fault: ``keys-missing``: there are no keys, so no terms either.
        """
        if noise_multiplier is None:
            noise_multiplier = self.membership().noise_multiplier
        return self.agreement(noise_multiplier).digest

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
            return agree(self.run_settings, self.cohort, self.training, noise_multiplier)
        except (ModelError, OSError) as error:
            known = Code.TRAINING_BOUND if self.settings.model.weights else Code.SETTINGS_REFUSED
            raise Fault(known, f"{type(error).__name__}: {error}") from error
        except (ArithmeticError, CapacityError, ValueError) as error:
            raise Fault(Code.SETTINGS_REFUSED, f"{type(error).__name__}: {error}") from error

    def membership(self) -> Membership:
        """Return keys and session, from this process's cache or the hospital's folder.

        Raises:
            Fault: ``keys-missing``.
        """
        kept_here = self._state.memberships
        if self.site.folder not in kept_here:
            secret = self.site.read_marked(f"keys-{self.training}.bin")
            public = self._kept_terms()
            if secret is None:
                raise Fault(Code.KEYS_MISSING, f"no keys of training {self.training}")
            keys = Keys.from_bytes(secret)
            if keys.key_id.hex() != self.book.state(self.training).keys:
                raise Fault(Code.KEYS_MISSING, "the keys in the folder are not those of the book")
            kept_here[self.site.folder] = Membership(
                keys=keys,
                public_keys={n: bytes.fromhex(k) for n, k in public["public-keys"].items()},
                bind=bytes.fromhex(public["bind"]),
                noise_multiplier=float(public["noise-multiplier"]),
                vouchers=int(public["vouchers"]),
            )
        return kept_here[self.site.folder]

    def forget_membership(self) -> None:
        """Read keys and the others' names anew when they are next asked for."""
        self._state.memberships.pop(self.site.folder, None)

    def session(self) -> Session:
        """Return this process's session of a training whose keys this hospital has."""
        return self.agreement(self.membership().noise_multiplier).session

    def contribute(self, passage: Passage[RoundRequest]) -> Release:
        """Open what was closed, then spend, sample, clip, add noise, seal and sign.

        Raises:
            Fault: this hospital cannot take part in the round; nothing was sent.
        """
        request, phases = passage.request, Phases()
        session = self.open_closed(request, phases)
        extras = self.extras(request)
        events = events_of_attempt(self.settings, request.round, request.attempt)
        receipt = self.spend(passage.place, events)
        draws, uses = self.own.of(receipt, session.terms.grid, phases)
        update = session.exchange.contribute(session.replica, draws)
        return self.seal(passage, update, uses, phases, extras=extras)

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
        openings = self.openings()
        session = openings.session
        before, after = (session.round, session.chain), self.witnessing.stands_at()
        try:
            openings.follow(request, phases)
        finally:
            # A session that is ahead of its book, whose line was lost, is made anew next time.
            if (session.round, session.chain) != before and not self._strayed(session):
                self._save(session)
        self.witnessing.learn(request, after=after, confirmed=openings.confirmed)
        return session

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
        session = self._own_session()
        noise = session.terms.noise
        return Openings(
            name=self.site.name,
            book=self.book,
            member=self.membership(),
            session=session,
            needed=quorum(noise.hospitals, noise.dropouts, noise.colluders),
            retire=self._drop_keys,
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
        # A hospital that leads keeps its offer's secret after it made the keys, in case that its
        # answer was lost and another leads. Now that a round is asked for, no more keys can come.
        self.site.forget_secret(f"ceremony-{self.training}.key")
        session = self.session()
        session.check_computes()
        terms = session.terms
        event = terms.event(events)
        asked = self._asked(terms, event, rounds)
        return self.book.spend(
            place,
            event or ExactEvent(count=events),
            purpose=asked.purpose,
            uses=uses,
            rounds=rounds,
            views=asked.views,
            slack=asked.slack,
            check=lambda account: self.site.limits.check(asked, account),
        )

    def seal(
        self,
        passage: Passage[RoundRequest] | Passage[TurnRequest],
        update: NDArray[np.float64],
        uses: list[Use],
        phases: Phases,
        *,
        extras: Extras | None = None,
        arrays: Arrays | None = None,
    ) -> Release:
        """Seal what this hospital contributes to a sum, and sign where it belongs."""
        session, member = self.session(), self.membership()
        with phases.measure("seal"):
            sealer = make_sealer(session.terms.sealing, member.keys, self.site.name)
            sealed = sealer.seal(update, passage.place)
        header = self.header(
            HeaderKind.SUM,
            passage.place,
            payload=payload_digest(sealed.payload),
            nonce=sealed.nonce,
            previous=self.book.state(self.training).chain,
        )
        extras = extras or Extras()
        reply = extras.reply(
            sealed=sealed.payload,
            header=sign_header(header, self.site.identity).to_bytes(),
            phases=phases.seconds if self.settings.data.public else {},
        )
        return passage.answer(
            TurnReply(reply=reply, arrays=arrays) if arrays else reply,
            digest=header.payload,
            uses=uses,
            derived=extras.derived,
        )

    def header(
        self,
        kind: HeaderKind,
        place: Place,
        *,
        payload: str = "",
        nonce: bytes = b"",
        previous: str = "",
    ) -> Header:
        """Return a header of this hospital, with the state of its book."""
        return Header(
            kind=kind,
            training=self.training,
            round=place.round,
            attempt=place.attempt,
            sender=self.site.name,
            parameter_id=self.session().terms.sealing.parameter_id,
            previous=previous,
            payload=payload,
            bind=self.membership().bind,
            nonce=nonce,
            **self.witness(),
        )

    def witness(self) -> dict[str, Any]:
        """Return what every header says of the hospital's book, for its peers to remember."""
        number, head = self.book.head()
        return {
            "ledger": bytes.fromhex(self.book.id),
            "entry": number,
            "head": bytes.fromhex(head)[:16],
            "spent": self.book.spent(self.training),
        }

    def extras(self, request: RoundRequest) -> Extras:
        """Return the model and the snapshot, if this hospital is asked and they are confirmed."""
        session, confirmed = self.session(), self.openings().confirmed()
        if confirmed is None:
            return Extras()
        given: dict[str, Any] = {}
        if request.release_from == self.site.name and self._may_release_on_the_way():
            copy = session.copy_to_release(confirmed.round)
            if copy is not None:
                given |= {"model": copy.model, "model_round": copy.round}
        if request.snapshot_from == self.site.name:
            copy = session.copy_to_leave(confirmed.round)
            if copy is not None:
                sealed = self._sealed_state(copy.state, copy.round, copy.chain)
                given |= {"snapshot": sealed, "snapshot_round": copy.round}
        return Extras(**given, derived=(confirmed,)) if given else Extras()

    def confirm(self, passage: Passage[RoundRequest]) -> Release:
        """Open the last sum and sign its chain: the training ends here, at this round.

        Raises:
            Fault: as `Openings.follow`, or ``stale-place`` where that is not the last sum.
        """
        request = passage.request
        session = self.follow(request, Phases())
        state = self.book.state(self.training)
        if request.round != state.closed:
            raise Fault(
                Code.STALE_PLACE, f"asked to end at {request.round}, stands at {state.closed}"
            )
        self.book.append(lines.end(self.training, round=request.round))
        place = Place(training=self.training, round=request.round, attempt=request.attempt)
        header = self.header(HeaderKind.CONFIRM, place, previous=state.chain)
        self._save(session)
        return passage.answer(RoundReply(header=sign_header(header, self.site.identity).to_bytes()))

    def release(self, passage: Passage[ReleaseRequest]) -> Release:
        """Return the model after the last sum, which a quorum has confirmed; it opens nothing.

        Raises:
            Fault: ``release-refused``: too few have confirmed, or the scheme's openings leak.
        """
        request, openings = passage.request, self.openings()
        self._require_returnable()
        openings.restore(request)
        confirmed = openings.confirmed_by(request.headers)
        session = openings.session
        if session.round != confirmed.round:
            raise Fault(Code.BEHIND, parameter=session.round)
        reply = RoundReply(model=session.released(), model_round=confirmed.round)
        return passage.answer(reply, derived=(confirmed,))

    def evaluate(self, passage: Passage[RoundRequest]) -> Release:
        """Measure the model on the hospital's own test records, where data are public.

        Raises:
            Fault: the data are not declared public, so a figure of theirs would be a release.
        """
        inputs, labels = self.test_records()
        openings = self.openings()
        session = openings.session
        openings.restore(passage.request)
        if not len(labels):
            return passage.answer(Figures(metrics={}))
        with torch.no_grad():
            logits = functional_call(session.replica.module, session.replica.released(), (inputs,))
        ordinal = self.cohort.info.task == "ordinal"
        return passage.answer(Figures(metrics=evaluate(logits.numpy(), labels, ordinal=ordinal)))

    def test_records(self) -> tuple[torch.Tensor, NDArray[np.int64]]:
        """Return the hospital's own test records.

        Raises:
            Fault: the data are not declared public, so a figure of theirs would be a release.
        """
        if not self.settings.data.public:
            raise Fault(Code.NOT_PUBLIC)
        records = self.cohort.hospital_test(self.site.name)
        if records is None:
            return torch.zeros(0), np.zeros(0, dtype=np.int64)
        records = prepare_public(self.settings, self.cohort.info, records)
        return torch.as_tensor(np.asarray(records.inputs)), records.labels

    def _may_release_on_the_way(self) -> bool:
        """Whether a model may leave before the last sum: no exact one, nor what leaks a key."""
        try:
            self._require_returnable()
        except Fault:
            return False
        return self.settings.regime.private or self.settings.data.public

    def _require_returnable(self) -> None:
        try:
            require_returnable(self.session().terms.sealing)
        except OpeningRefusedError as error:
            raise Fault(Code.RELEASE_REFUSED, str(error)) from error

    def _sealed_state(self, state: bytes, round: int, chain: str) -> bytes:
        member = self.membership()
        return make_snapshot(
            state,
            training=self.training,
            round=round,
            chain=chain,
            parameter_id=self.session().terms.sealing.parameter_id,
            bind=member.bind,
            group_key=member.keys.group_key,
            sender=self.site.name,
            identity=self.site.identity,
        )

    def _kept_terms(self) -> dict[str, Any]:
        kept = self.site.read_secret(f"terms-{self.training}.json")
        if kept is None:
            raise Fault(Code.KEYS_MISSING, f"no keys of training {self.training} in the folder")
        return dict(json.loads(kept))

    def _drop_keys(self) -> None:
        self.site.forget_secret(f"keys-{self.training}.bin")
        self.forget_membership()

    def _own_session(self) -> Session:
        """Return the process's session with what an earlier one of a real hospital left."""
        session = self.session()
        if self._strayed(session):
            self._agreement = self._state.agreement = None
            session = self.session()
        state = self.book.state(self.training)
        if self.site.simulated or session.round >= state.closed:
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
        state = self.book.state(self.training)
        here = (session.round, session.chain)
        return not self.site.simulated and (
            session.round > state.closed
            or (session.round == state.closed and here != (state.closed, state.chain))
        )

    def _save(self, session: Session) -> None:
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
            )
            slack = self.site.limits.slack_of(terms.grid) if event is not None else None
            self._faced = (faced, slack)
        views, slack = self._faced
        return limits.SpendRequest(
            regime=settings.privacy.regime,
            event=event,
            hospitals=terms.noise.honest_contributions,
            noise_multiplier=terms.noise.multiplier_of_sum,
            delta=settings.privacy.delta if event is not None else None,
            training=self.training,
            purpose=settings.exchange.name,
            views=views,
            rounds=rounds,
            slack=slack,
        )
