"""How a hospital comes into a training: an offer, then keys, and its book bound to the terms first.

A training's id is bound in the book before its keys exist. Until something was spent the keys may
come again, since a leader's answer can be lost; never after. A hospital that has its keys offers
nothing any more: it signs that it is there.
"""

from __future__ import annotations

import json
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from accounting import lines
from clients.contract.binding import bind_digest, check_training_id, members_digest
from clients.contract.ceremony_messages import (
    JoinReply,
    JoinRequest,
    KeysRequest,
    LeadReply,
    LeadRequest,
    Named,
)
from clients.contract.faults import Code, Fault
from clients.contract.schedule import failures_allowed, last_place, spare_attempts, visits_of
from clients.site.agreement import own_part
from clients.site.membership import vouchers_needed
from clients.site.own_settings import invited_offers
from clients.site.pair_file import PairFile
from crypto.ceremony import (
    BundlePublic,
    EphemeralSecret,
    Offer,
    make_bundle,
    make_offer,
    open_bundle,
)
from crypto.headers import Header, HeaderKind, sign_header
from crypto.pairs import PairKeys

if TYPE_CHECKING:
    from accounting.lines import Line
    from clients.site.door import Passage, Release
    from clients.site.hospital import Hospital
    from crypto.keys import Keys

#: Ceremonies that may be open at once; the one that was begun longest ago is forgotten.
MOST_CEREMONIES = 16


class Joining:
    """One hospital's part in a training's ceremony."""

    def __init__(self, hospital: Hospital) -> None:
        self._hospital = hospital
        self._file = f"ceremony-{hospital.training}.key"

    def join(self, passage: Passage[JoinRequest]) -> Release:
        """Offer an ephemeral key, signed; or, once there are keys, sign that the hospital is there.

        Raises:
            Fault: the training's id does not stand for the terms.
        """
        hospital, request = self._hospital, passage.request
        site = hospital.site
        if request.nonce or not site.simulated:
            check_training_id(request.training, bytes.fromhex(request.bind), request.nonce)
        if passage.state.keys:
            return passage.answer(JoinReply(name=site.name, presence=self._presence(request)))
        kept = site.read_secret(self._file)
        if kept is None:
            offer, secret = make_offer(request.training, site.name, site.identity)
            kept = secret.to_bytes() + offer.to_bytes()
            self._forget_oldest()
            site.write_secret(self._file, kept)
        return passage.answer(JoinReply(name=site.name, offer=kept[_SECRET:]))

    def lead(self, passage: Passage[LeadRequest]) -> Release:
        """Make the training's keys and wrap them for each hospital that offered."""
        hospital, request = self._hospital, passage.request
        if not passage.state.places and hospital.site.read_secret(self._file) is None:
            # Who joined has held the training's id against its terms; nobody leads unasked.
            raise Fault(Code.KEYS_MISSING, "asked to lead a ceremony that it is not in")
        terms = hospital.agreement(request.noise_multiplier).session.terms
        offers = self._bind(request)
        site = hospital.site
        keys, bundle = make_bundle(offers, site.identity, site.name, terms.sealing, site.pins)
        self._keep(request, keys, offers)
        return passage.answer(LeadReply(public=bundle.public.to_bytes(), wrapped=bundle.wrapped))

    def receive_keys(self, passage: Passage[KeysRequest]) -> Release:
        """Unwrap the training's keys and keep them in the hospital's own folder."""
        hospital, request = self._hospital, passage.request
        site = hospital.site
        kept = site.read_secret(self._file)
        if kept is None:
            raise Fault(Code.KEYS_MISSING, "keys came for a ceremony that this hospital is not in")
        offers = self._bind(request)
        keys = open_bundle(
            BundlePublic.from_bytes(request.public),
            request.wrapped,
            offers,
            EphemeralSecret.from_bytes(kept[:_SECRET]),
            site.name,
            site.pins,
            hospital.agreement(request.noise_multiplier).session.terms.sealing,
        )
        self._keep(request, keys, offers)
        return passage.answer(Named(name=site.name))

    def forget(self) -> None:
        """Drop the offer's secret: from now on no more keys can come."""
        self._hospital.site.forget_secret(self._file)

    def _bind(self, request: LeadRequest | KeysRequest) -> list[Offer]:
        """Write what the training's id stands for, before any key is made or opened."""
        hospital = self._hospital
        offers = invited_offers(hospital.settings, request.offers)
        line = self._line(request, members_digest(offers).hex())
        hospital.book.check(line, lines.keyed(hospital.training, keys=""))
        hospital.book.append(line)
        return offers

    def _line(self, request: LeadRequest | KeysRequest, members: str) -> Line:
        hospital, settings = self._hospital, self._hospital.run_settings
        return lines.bind(
            hospital.training,
            terms=request.bind,
            own=own_part(
                hospital.site, hospital.settings, hospital.cohort.info.name, hospital.book.id
            ),
            members=members,
            code=_program(),
            rounds=last_place(settings),
            spare=spare_attempts(settings),
            failures=failures_allowed(settings),
            visits=visits_of(settings),
        )

    def _keep(self, request: LeadRequest | KeysRequest, keys: Keys, offers: list[Offer]) -> None:
        """Write keys and the others' public keys to the hospital's own folder."""
        hospital = self._hospital
        bind = bind_digest(bytes.fromhex(request.bind), members_digest(offers))
        terms = hospital.agreement(request.noise_multiplier).session.terms
        noise, pairs = terms.noise, None
        if terms.sealing.needs_pairs:
            pairs = self._pairs(offers, bind)
        kept = {
            "noise-multiplier": request.noise_multiplier,
            "vouchers": vouchers_needed(noise.hospitals, noise.dropouts, noise.colluders),
            "bind": bind.hex(),
            "pairs": pairs is not None,
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
        site.log(f"has the keys of training {training}")

    def _pairs(self, offers: list[Offer], bind: bytes) -> PairKeys:
        """Derive this hospital's keys with every other from the secret half of its offer."""
        kept = self._hospital.site.read_secret(self._file)
        if kept is None:
            raise Fault(Code.KEYS_MISSING, "the secret of this hospital's offer is gone")
        secret = EphemeralSecret.from_bytes(kept[:_SECRET])
        return PairKeys.derive(offers, secret, self._hospital.site.name, bind)

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

    def _forget_oldest(self) -> None:
        """Keep the number of open ceremonies bounded: joins fill no disk."""
        folder = self._hospital.site.folder
        found = sorted(folder.glob("ceremony-*.key"), key=lambda path: path.stat().st_mtime_ns)
        for path in found[: max(0, len(found) - MOST_CEREMONIES + 1)]:
            path.unlink(missing_ok=True)


_SECRET = 32


def _program() -> str:
    """The program's version, which may change in mid training: a fault must be mendable."""
    try:
        return version("asclepias")
    except PackageNotFoundError:
        return ""
