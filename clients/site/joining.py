"""How a hospital comes into a training: an offer, then keys, and its book bound to the terms first.

A training's id is bound in the book before its keys exist. Until something was spent the keys may
come again, since a leader's answer can be lost; never after. A hospital that has its keys offers
nothing any more: it signs that it is there.
"""

from __future__ import annotations

import json
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from accounting import lines
from clients.contract.binding import (
    bind_digest,
    check_training_id,
    differences,
    members_digest,
)
from clients.contract.ceremony_messages import (
    JoinReply,
    JoinRequest,
    KeysRequest,
    LeadReply,
    LeadRequest,
    Named,
    Revealed,
    RevealRequest,
)
from clients.contract.faults import Code, Fault
from clients.contract.schedule import (
    failures_allowed,
    last_place,
    permitted_events,
    spare_attempts,
    visits_of,
)
from clients.site.leftovers import forget_retired, retire_unbegun
from clients.site.own_offer import OfferFile, OwnOffer
from clients.site.own_settings import invited_offers
from clients.site.pair_file import PairFile
from crypto.ceremony import (
    BundlePublic,
    Offer,
    make_bundle,
    make_offer,
    open_bundle,
)
from crypto.committees import draw_committee, reveal_of
from crypto.headers import Header, HeaderKind, sign_header
from crypto.key_shares import seats_of
from crypto.pairs import PairKeys
from crypto.pins import known_pins

if TYPE_CHECKING:
    from accounting.lines import Line
    from clients.contract.terms import Terms
    from clients.site.door import Passage, Release
    from clients.site.hospital import Hospital
    from crypto.keys import Keys
    from crypto.plans import SealingPlan


_UNIT_REMEDY = (
    ". A patient is covered where patients are named, or where nobody has two records and that is "
    "said (one_record_each); else a run covers records, and has to say so"
)
#: Bytes of a text of terms that is looked at.
_MOST_TERMS = 2**22


def log_differences(request: JoinRequest, hospital: Hospital) -> None:
    """Say in the hospital's own log in which keys its terms are not those that it is asked on.

    What is asked on other terms is refused at the door; this is for the person who has to mend it.
    """
    if len(request.terms) > _MOST_TERMS:
        return
    # Whatever was sent, the door decides; what is no text of terms is nothing to compare with.
    with suppress(Exception):
        own = hospital.agreement(request.noise_multiplier)
        if own.digest != request.bind:
            found = differences(request.terms.decode("ascii"), own.text)
            remedy = _UNIT_REMEDY if any(one.startswith("facts.unit ") for one in found) else ""
            hospital.site.log("the terms differ: " + "; ".join(found) + remedy)


#: Requests that fix the members.
_Fixed = RevealRequest | LeadRequest | KeysRequest


class Joining:
    """One hospital's part in a training's ceremony."""

    def __init__(self, hospital: Hospital) -> None:
        self._hospital = hospital
        self._file = OfferFile(hospital.site, hospital.training)

    def join(self, passage: Passage[JoinRequest]) -> Release:
        """Offer an ephemeral key, signed; or, once there are keys, sign that the hospital is there.

        Raises:
            Fault: the training's id does not stand for the terms.
        """
        hospital, request = self._hospital, passage.request
        site = hospital.site
        self._check_id(request.bind, request.nonce)
        if not site.simulated:
            forget_retired(site.folder, hospital.book)
        if passage.state.keys:
            return passage.answer(JoinReply(name=site.name, presence=self._presence(request)))
        own, public = self._file.read(), hospital.settings.data.public
        if own is None or (own.nonce, own.offer.public) != (request.nonce, public):
            offer, secret = make_offer(request.training, site.name, site.identity, public=public)
            own = OwnOffer(secret=secret, nonce=request.nonce, offer=offer)
            self._file.write(own)
        pins = json.dumps(dict(known_pins(site.pins)), sort_keys=True).encode()
        return passage.answer(JoinReply(name=site.name, offer=own.offer.to_bytes(), pins=pins))

    def reveal(self, passage: Passage[RevealRequest]) -> Release:
        """Show the number that this hospital's offer committed to, bound to the members for good.

        Raises:
            Fault: ``wrong-exchange``: no committee is to be drawn in this training.
        """
        hospital, request = self._hospital, passage.request
        offers, own = self._bind(request)
        sharing = hospital.agreement(request.noise_multiplier).session.terms.sealing.sharing
        if sharing is None or not sharing.is_drawn(len(offers)):
            raise Fault(Code.WRONG_EXCHANGE, "no committee is drawn in this training")
        return passage.answer(Revealed(name=hospital.site.name, reveal=reveal_of(own.secret)))

    def lead(self, passage: Passage[LeadRequest]) -> Release:
        """Make the training's keys, wrap them for each hospital that offered, and be ready."""
        hospital, request = self._hospital, passage.request
        offers, own = self._bind(request)
        terms = hospital.agreement(request.noise_multiplier).session.terms
        site = hospital.site
        keys, bundle = make_bundle(offers, site.identity, site.name, terms.sealing, site.pins)
        self._keep(request, keys, offers, own)
        hospital.own.look_ahead()
        return passage.answer(LeadReply(public=bundle.public.to_bytes(), wrapped=bundle.wrapped))

    def receive_keys(self, passage: Passage[KeysRequest]) -> Release:
        """Unwrap the training's keys, keep them in the hospital's own folder, and be ready."""
        hospital, request = self._hospital, passage.request
        offers, own = self._bind(request)
        site = hospital.site
        keys = open_bundle(
            BundlePublic.from_bytes(request.public),
            request.wrapped,
            offers,
            own.secret,
            site.name,
            site.pins,
            hospital.agreement(request.noise_multiplier).session.terms.sealing,
        )
        self._keep(request, keys, offers, own)
        hospital.own.look_ahead()
        return passage.answer(Named(name=site.name))

    def _check_id(self, bind: str, nonce: bytes) -> None:
        """Insist that the training's id is made of its terms; only a simulated one may be a word.

        Raises:
            Fault: it is not.
        """
        if nonce or not self._hospital.site.simulated:
            check_training_id(self._hospital.training, bytes.fromhex(bind), nonce)

    def _bind(self, request: _Fixed) -> tuple[list[Offer], OwnOffer]:
        """Write what the training's id stands for, before any key is made or opened.

        Whatever a training is bound to is checked here, where it is written: its id against its
        terms, this hospital's own offer against the one that it keeps, the members against K.

        Returns:
            The offers of all members, and this hospital's own with its secret.

        Raises:
            Fault: ``keys-missing``: the hospital is in no such ceremony; ``training-bound``: the id
                stands for other terms; ``malformed``: more or fewer members than K, or offers for
                another training.
        """
        hospital = self._hospital
        offers = invited_offers(hospital.settings, request.offers)
        line = self._line(request, members_digest(offers).hex())
        hospital.book.check(line, lines.keyed(hospital.training, keys=""))
        own = self._file.read()
        if own is None:
            # Who joined has held the training's id against its terms; nobody is bound unasked.
            raise Fault(Code.KEYS_MISSING, "asked to take keys of a ceremony that it is not in")
        self._check_id(request.bind, own.nonce)
        expected = hospital.agreement(request.noise_multiplier).session.terms.hospitals
        if len(offers) != expected:
            # A quorum is one of K: with more members two chains of sums could find one each.
            raise Fault(Code.MALFORMED, f"offers of {len(offers)} hospitals, expected {expected}")
        if {offer.training for offer in offers} != {hospital.training}:
            raise Fault(Code.MALFORMED, "offers for another training")
        if own.offer not in offers or own.offer.public != hospital.settings.data.public:
            raise Fault(Code.KEYS_MISSING, "this hospital's own offer was replaced or left out")
        hospital.witnessing.settle_in()
        hospital.book.append(line)
        return offers, own

    def _line(self, request: _Fixed, members: str) -> Line:
        hospital, settings = self._hospital, self._hospital.run_settings
        sealing = hospital.agreement(request.noise_multiplier).session.terms.sealing
        # A roster that holders answer names what was sealed first: other bytes do not fit it.
        repeats = hospital.site.simulated and settings.seeded and sealing.sharing is None
        return lines.bind(
            hospital.training,
            terms=request.bind,
            own=hospital.own_digest(),
            members=members,
            code=_program(),
            rounds=last_place(settings),
            spare=spare_attempts(settings),
            failures=failures_allowed(settings),
            visits=visits_of(settings),
            events=permitted_events(settings),
            repeats=repeats,
        )

    def _keep(
        self,
        request: LeadRequest | KeysRequest,
        keys: Keys,
        offers: list[Offer],
        own: OwnOffer,
    ) -> None:
        """Write keys and the others' public keys to the hospital's own folder.

        Raises:
            KeysError: the committee that holds shares names somebody who is not of this training.
        """
        hospital = self._hospital
        bind = bind_digest(bytes.fromhex(request.bind), members_digest(offers))
        terms = hospital.agreement(request.noise_multiplier).session.terms
        noise, pairs = terms.noise, None
        if terms.sealing.needs_pairs:
            drawn = _drawn(request, offers, terms.sealing)
            # What masks are to cancel with: the others of the sum that this hospital is in.
            masked = _of_own_sum(offers, terms, hospital.site.name)
            pairs = PairKeys.derive(masked, own.secret, hospital.site.name, bind, drawn)
        if terms.sealing.sharing is not None and pairs is not None:
            # Shares for strangers could not be dealt, once a place is paid for.
            seats_of(terms.sealing.sharing, pairs)
        kept = {
            "noise-multiplier": request.noise_multiplier,
            "colluders": noise.colluders,
            "bind": bind.hex(),
            "pairs": pairs is not None,
            "public": all(offer.public for offer in offers),
            "public-keys": {offer.name: offer.identity.hex() for offer in offers},
        }
        site, training, book = hospital.site, hospital.training, hospital.book
        line = lines.keyed(training, keys=keys.key_id.hex())
        with book.hold():  # a round that is paid for meanwhile goes on with the keys it began with
            book.check(line)
            if pairs is not None:
                PairFile(site, training).write(pairs)
            site.write_marked(f"keys-{training}.bin", keys.to_bytes(), book)
            site.write_secret(f"terms-{training}.json", json.dumps(kept).encode())
            hospital.forget_membership()
            book.append(line)
        if not site.simulated:
            retire_unbegun(site.folder, book, but=training)
        site.log(f"has the keys of training {training}")
        hospital.own.compare_counts()

    def _presence(self, request: JoinRequest) -> bytes:
        hospital = self._hospital
        header = Header(
            kind=HeaderKind.PRESENCE,
            training=request.training,
            round=0,
            attempt=0,
            sender=hospital.site.name,
            parameter_id="",
            previous="",
            payload="",
            bind=hospital.membership().bind,
            nonce=request.challenge,
            **hospital.witness(),
        )
        return sign_header(header, hospital.site.identity).to_bytes()


def _of_own_sum(offers: list[Offer], terms: Terms, hospital: str) -> list[Offer]:
    """Return the offers of those whose updates are in one sum with a hospital's own."""
    if terms.groups is None:
        return offers
    group = terms.groups.group_of(hospital, [offer.name for offer in offers])
    return [offer for offer in offers if offer.name in group]


def _drawn(
    request: LeadRequest | KeysRequest, offers: list[Offer], plan: SealingPlan
) -> tuple[str, ...]:
    """Return who holds shares, where that is drawn; else nobody.

    Raises:
        CeremonyError: a number is missing, or is another one than its hospital had committed to.
    """
    if plan.sharing is None or not plan.sharing.is_drawn(len(offers)):
        return ()
    reveals = dict(zip((offer.name for offer in offers), request.reveals, strict=False))
    return draw_committee(offers, reveals, plan.sharing.holders)


def _program() -> str:
    """The program's version, which may change in mid training: a fault must be mendable."""
    try:
        return version("asclepias")
    except PackageNotFoundError:
        return ""
