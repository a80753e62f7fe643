"""A hospital in a training: it joins, gets keys, contributes, opens sums and steps its replica.

No Flower in here: requests and replies are plain values, so a test can drive ten hospitals in one
process. What hospitals of one process share is a `Session`, which a `TrainingState` keeps for them
between messages; what is a hospital's own (name, keys, ledger, log) is its `Site`.
"""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.func import functional_call

from accounting import limits
from accounting.events import ExactEvent
from accounting.grid import noised_unpaid as noised
from accounting.randomness import Stream
from clients.contract.binding import UNBOUND
from clients.contract.faults import Code, Fault, one_code_for_openings
from clients.contract.messages import KeysRequest, LeadReply, LeadRequest, RoundReply, RoundRequest
from clients.contract.phases import Phases
from clients.contract.schedule import events_of_attempt
from clients.contract.terms import hospitals_expected
from clients.data.noisy_inputs import training_records
from clients.learning.augmentation import augmented
from clients.learning.dp_sgd import Batch
from clients.learning.draws import Draws
from clients.learning.evaluation import evaluate
from clients.models import prepare, prepare_public
from clients.site.ground import invited_offers
from clients.site.session import make_session
from clients.site.training_state import Membership
from crypto.ceremony import (
    BundlePublic,
    EphemeralSecret,
    Offer,
    make_bundle,
    make_offer,
    open_bundle,
)
from crypto.envelope import unwrap, wrap
from crypto.headers import Header, HeaderKind, payload_digest, sign_header
from crypto.keys import Keys
from crypto.roles import Place
from crypto.schemes import make_sealer, require_returnable

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from accounting.events import Event
    from clients.contract.settings import Settings
    from clients.contract.terms import Terms
    from clients.data import Cohort, Records
    from clients.learning.dp_sgd import GradientSum
    from clients.site.ground import Site
    from clients.site.session import Session
    from clients.site.training_state import TrainingState


class Hospital:
    """One hospital's part in one training.

    Args:
        site: its own ground.
        settings: the run's settings, as the hospital accepts them.
        training: id of the training.
        cohort: the hospitals and what each holds, as far as this one knows.
        state: what its process keeps of the training.
    """

    def __init__(
        self, site: Site, settings: Settings, training: str, cohort: Cohort, state: TrainingState
    ) -> None:
        self.site = site
        self.settings = settings
        self.training = training
        self.cohort = cohort
        self._state = state

    def join(self) -> Offer:
        """Offer an ephemeral key for the ceremony, signed with the hospital's identity."""
        offer, secret = make_offer(self.training, self.site.name, self.site.identity)
        self.site.write_secret(f"ceremony-{self.training}.key", secret.to_bytes())
        return offer

    def lead(self, request: LeadRequest) -> LeadReply:
        """Make the training's keys and wrap them for each hospital that offered."""
        terms = self._session(request.noise_multiplier).terms
        offers = invited_offers(self.settings, request.offers)
        keys, bundle = make_bundle(
            offers, self.site.identity, self.site.name, terms.sealing, self.site.pins
        )
        self._keep(keys, offers, request.noise_multiplier)
        return LeadReply(public=bundle.public.to_bytes(), wrapped=bundle.wrapped)

    def receive_keys(self, request: KeysRequest) -> None:
        """Unwrap the training's keys and keep them in the hospital's own folder."""
        offers = invited_offers(self.settings, request.offers)
        secret = self.site.read_secret(f"ceremony-{self.training}.key")
        if secret is None:
            raise Fault(Code.KEYS_MISSING, "keys came for a ceremony that this hospital is not in")
        keys = open_bundle(
            BundlePublic.from_bytes(request.public),
            request.wrapped,
            offers,
            EphemeralSecret.from_bytes(secret),
            self.site.name,
            self.site.pins,
            self._session(request.noise_multiplier).terms.sealing,
        )
        self._keep(keys, offers, request.noise_multiplier)
        self.site.forget_secret(f"ceremony-{self.training}.key")

    def _keep(self, keys: Keys, offers: list[Offer], noise_multiplier: float) -> None:
        """Write keys and the others' public keys to the hospital's own folder."""
        kept = {
            "noise-multiplier": noise_multiplier,
            "public-keys": {offer.name: offer.identity.hex() for offer in offers},
        }
        self.site.write_secret(f"keys-{self.training}.bin", keys.to_bytes())
        self.site.write_secret(f"terms-{self.training}.json", json.dumps(kept).encode())
        self._state.memberships.pop(self.site.folder, None)
        self.site.log(f"has the keys of training {self.training}")

    def contribute(self, request: RoundRequest) -> RoundReply:
        """Open what was closed, then spend, sample, clip, add noise, seal and sign.

        Raises:
            Fault: this hospital cannot take part in the round; nothing was sent.
        """
        phases = Phases()
        session = self.open_closed(request, phases)
        place = Place(training=self.training, round=request.round, attempt=request.attempt)
        events = events_of_attempt(self.settings, request.round, request.attempt)
        self.spend(session.terms, place, events)
        update = session.exchange.contribute(
            session.replica, self.draws(session.terms, place, phases)
        )
        sealed = self.seal(session, update, place, phases)
        extras = self.extras(session, request)
        return replace(sealed, model=extras.model, snapshot=extras.snapshot)

    def open_closed(self, request: RoundRequest, phases: Phases) -> Session:
        """Open what was closed and insist that the round asked for is the next one."""
        session = self._catch_up(request, phases)
        if request.round != session.replica.round + 1:
            raise Fault(
                Code.STALE_PLACE,
                f"asked for round {request.round}, next is {session.replica.round + 1}",
            )
        return session

    def seal(
        self, session: Session, update: NDArray[np.float64], place: Place, phases: Phases
    ) -> RoundReply:
        """Quantise and seal what this hospital contributes, and sign where it belongs."""
        terms = session.terms
        with phases.measure("seal"):
            sealer = make_sealer(terms.sealing, self.membership().keys, self.site.name)
            sealed = sealer.seal(update, place)
        header = Header(
            kind=HeaderKind.SUM,
            training=self.training,
            round=place.round,
            attempt=place.attempt,
            sender=self.site.name,
            parameter_id=terms.sealing.parameter_id,
            previous=session.replica.digest,
            payload=payload_digest(sealed.payload),
            bind=UNBOUND,
            nonce=sealed.nonce,
        )
        return RoundReply(
            sealed=sealed.payload,
            header=sign_header(header, self.site.identity).to_bytes(),
            phases=phases.seconds if self.settings.data.public else {},
        )

    def extras(self, session: Session, request: RoundRequest) -> RoundReply:
        """Return the model and the snapshot, if it is this hospital's turn to give them."""
        return RoundReply(
            model=self._released(session) if request.release_from == self.site.name else {},
            snapshot=self._snapshot(session) if request.snapshot_from == self.site.name else b"",
        )

    def release(self, request: RoundRequest) -> RoundReply:
        """Open what was closed and return the model, which post-processes opened sums only."""
        session = self._catch_up(request, Phases())
        return RoundReply(model=self._released(session))

    def evaluate(self, request: RoundRequest) -> dict[str, float]:
        """Measure the model on the hospital's own test records, where data are public.

        Raises:
            Fault: the data are not declared public, so a figure of theirs would be a release.
        """
        inputs, labels = self.test_records()
        session = self._catch_up(request, Phases())
        if not len(labels):
            return {}
        with torch.no_grad():
            logits = functional_call(session.replica.module, session.replica.released(), (inputs,))
        return evaluate(logits.numpy(), labels, ordinal=self.cohort.info.task == "ordinal")

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

    def _released(self, session: Session) -> dict[str, torch.Tensor]:
        """Return the model where a server may have it.

        Raises:
            OpeningRefusedError: the scheme's openings leak its key.
            Fault: without noise every model on the way would be an exact sum; only the last goes.
        """
        require_returnable(session.terms.sealing)
        shielded = self.settings.regime.private or self.settings.data.public
        if not shielded and session.replica.round < session.terms.rounds:
            raise Fault(Code.RELEASE_REFUSED)
        away = session.ends.away if session.ends else frozenset()
        return {n: tensor for n, tensor in session.replica.released().items() if n not in away}

    def membership(self) -> Membership:
        """Return keys and session, from this process's cache or the hospital's folder."""
        kept_here = self._state.memberships
        if self.site.folder not in kept_here:
            secret = self.site.read_secret(f"keys-{self.training}.bin")
            kept = self.site.read_secret(f"terms-{self.training}.json")
            if secret is None or kept is None:
                raise Fault(Code.KEYS_MISSING, f"no keys of training {self.training} in the folder")
            public = json.loads(kept)
            kept_here[self.site.folder] = Membership(
                keys=Keys.from_bytes(secret),
                public_keys={n: bytes.fromhex(k) for n, k in public["public-keys"].items()},
                session=self._session(float(public["noise-multiplier"])),
            )
        return kept_here[self.site.folder]

    def session(self) -> Session:
        """Return this process's session of a training whose keys this hospital has."""
        return self.membership().session

    def _session(self, noise_multiplier: float) -> Session:
        """Return the session that hospitals of this process share; the first of them makes it."""
        if self._state.session is None:
            self._state.session = make_session(
                self.settings, self.cohort, self.training, noise_multiplier
            )
        return self._state.session

    def _catch_up(self, request: RoundRequest, phases: Phases) -> Session:
        """Bring the replica to the round before the requested one."""
        member = self.membership()
        session = member.session
        kept = self._kept_session(session)
        if request.snapshot and min(request.closed, default=1) > session.replica.round + 1:
            context = f"snapshot {self.training}".encode()
            with one_code_for_openings():
                state = unwrap(member.keys.group_key, request.snapshot, context)
            session.replica.restore(state)
            session.opened = ""
        session.open_rounds(request.closed, member.keys, member.public_keys, phases)
        if not self.site.simulated and (session.replica.digest, session.opened) != kept:
            self.site.write_secret(f"replica-{self.training}.bin", session.to_bytes())
        return session

    def _kept_session(self, session: Session) -> tuple[str, str]:
        """Take over what a real hospital's earlier process opened; say where it stands."""
        if not self.site.simulated and session.replica.round == 0:
            kept = self.site.read_secret(f"replica-{self.training}.bin")
            if kept is not None:
                session.restore(kept)
        return session.replica.digest, session.opened

    def _snapshot(self, session: Session) -> bytes:
        """Seal the replica for the other hospitals; the server only keeps it."""
        key = self.membership().keys.group_key
        return wrap(key, session.replica.to_bytes(), f"snapshot {self.training}".encode())

    def spend(self, terms: Terms, place: Place, events: int = 1) -> None:
        """Write an attempt's cost to the ledger, before any patient's record is touched."""
        # A hospital that leads keeps its offer's secret after it made the keys, in case that its
        # answer was lost and another leads. Now that a round is asked for, no more keys can come.
        self.site.forget_secret(f"ceremony-{self.training}.key")
        event = terms.event(events)
        ledger = self.site.ledger(self.cohort.info.name)
        with ledger.hold():
            self.site.limits.check(self._asked(terms, event), ledger)
            ledger.spend(
                event or ExactEvent(count=events),
                training=place.training,
                round=place.round,
                attempt=place.attempt,
                purpose=self.settings.exchange.name,
            )

    def _asked(self, terms: Terms, event: Event | None) -> limits.SpendRequest:
        """Say what a round asks of this hospital, in the terms that its limits are stated in."""
        return limits.SpendRequest(
            regime=self.settings.privacy.regime,
            event=event,
            hospitals=terms.noise.honest_contributions,
            noise_multiplier=terms.noise.multiplier_of_sum,
            delta=self.settings.privacy.delta if event is not None else None,
        )

    def draws(self, terms: Terms, place: Place, phases: Phases) -> Draws:
        """Return this hospital's draws in one attempt."""

        def batch(step: int) -> Batch:
            with phases.measure("sample"):
                return self._sample(place, step)

        def with_noise(gradient: GradientSum, step: int) -> NDArray[np.float64]:
            if gradient.discarded:
                self.site.log(
                    f"round {place.round}: {gradient.discarded} of {gradient.patients} patients "
                    "had a gradient that is not finite; it counts as zero"
                )
            with phases.measure("noise"):
                return noised(gradient.total, terms.grid, self.stream(place, "noise", step))

        return Draws(batch=batch, noised=with_noise, patients=self._patients(), phases=phases)

    def _patients(self) -> float:
        """Return N_k: as the hospital declares it, else N/K as the run does, else the cohort's."""
        if self.site.patients:
            return float(self.site.patients)
        if self.settings.data.patients:
            return self.settings.data.patients / hospitals_expected(self.settings)
        return float(self.cohort.patients_by_hospital[self.site.name])

    def most_patients(self) -> float:
        """Return a public bound on this hospital's patients: declared, or the cohort's own N_k."""
        return float(self.settings.data.largest_hospital or self._patients())

    def _sample(self, place: Place, step: int = 0) -> Batch:
        """Draw each of the hospital's patients with probability q, all records of each."""
        records = self.records()
        patients = records.patient_ids
        stream = self.stream(place, "sampling", step)
        chosen = patients[stream.bernoulli(len(patients), self.settings.training.sampling_rate)]
        drawn = records.of_patients(chosen)
        batch = Batch(
            inputs=torch.as_tensor(np.asarray(drawn.inputs)),
            labels=torch.as_tensor(drawn.labels),
            patients=torch.as_tensor(drawn.patients),
        )
        copies = self.settings.training.augmentations
        altered = self.stream(place, "augmentation", step)
        return augmented(batch, copies=copies, stream=altered) if copies else batch

    def records(self) -> Records:
        """Return what this hospital trains on, as the model wants it."""
        records = self.cohort.hospital(self.site.name)
        return training_records(
            self.settings,
            self.cohort.info,
            records,
            prepare=partial(prepare, self.settings, self.cohort.info),
            folder=self.site.folder,
            kept=self._state.noisy_records,
            streams=lambda noise: self.site.input_noise(
                noise, self.cohort.info, self.settings, self.training
            ),
        )

    def stream(self, place: Place, purpose: str, step: int = 0) -> Stream:
        """Return the random stream of one purpose in one step of an attempt at this hospital."""
        if not self.settings.seeded:
            return Stream.fresh()
        labels = (self.site.name, str(place.round), str(place.attempt), purpose)
        return Stream.from_seed(self.settings.run.seed, *labels, *([str(step)] if step else []))
