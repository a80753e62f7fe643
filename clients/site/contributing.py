"""A hospital's contribution to a sum: opened, paid, sampled, clipped, noised, sealed, signed."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from clients.contract.layer_messages import TurnReply
from clients.contract.phases import Phases
from clients.contract.schedule import events_of_attempt
from clients.site.ahead import Ahead, ahead_of
from clients.site.chances import prepared_sealing, sealed_contribution
from clients.site.releasing import Extras, Releasing
from crypto.headers import HeaderKind, sign_header
from crypto.parcels import Parcel

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from accounting.parts import Seeds
    from accounting.randomness import Stream
    from accounting.receipts import Receipt, Use
    from clients.contract.layer_messages import Arrays, TurnRequest
    from clients.contract.messages import RoundRequest
    from clients.site.door import Passage, Release
    from clients.site.hospital import Hospital
    from crypto.roles import OneSealing, Place


class Contributing:
    """One hospital's part in a training by sums."""

    def __init__(self, hospital: Hospital) -> None:
        self._hospital = hospital

    def contribute(self, passage: Passage[RoundRequest]) -> Release:
        """Open what was closed, then spend, sample, clip, add noise, seal and sign.

        Raises:
            Fault: this hospital cannot take part in the round; nothing was sent.
        """
        request, phases = passage.request, Phases()
        session = self._hospital.open_closed(request, phases)
        extras = Releasing(self._hospital).extras(request)
        events = events_of_attempt(self._hospital.settings, request.round, request.attempt)
        receipt = self._hospital.spend(passage.place, events)
        with self.ahead() as ahead:
            drawn = self._drawing(receipt, ahead)
            prepared = self.preparing(passage.place, ahead)
            draws, taken = self._hospital.own.of(receipt, session.terms.grid, phases, drawn)
            update = session.exchange.contribute(session.replica, draws)
            return self.seal(
                passage,
                update,
                taken.uses,
                phases,
                prepared=prepared,
                seeds=taken.seeds,
                extras=extras,
            )

    def ahead(self) -> Ahead:
        """Return what makes things while this hospital's gradient is being computed."""
        return ahead_of(self._hospital.site, self._hospital.session().replica.device)

    def _drawing(self, receipt: Receipt, ahead: Ahead) -> Callable[[], Stream] | None:
        """Begin with the noise of a place's first sum, where there is a thread for it."""
        if not ahead.beside:
            return None
        terms, chances = self._hospital.session().terms, self._hospital.own.chances
        values = terms.sealing.values
        make = partial(chances.noise_ahead, terms.grid, receipt.place, values)
        return ahead.begin(make, size=12 * values, discard=lambda stream: stream.forget_ahead())

    def preparing(self, place: Place, ahead: Ahead) -> Callable[[], OneSealing]:
        """Begin with what sealing at a paid place takes; returns what waits for it.

        Args:
            place: where in the training.
            ahead: of the block in which the vector is computed and sealed.
        """
        session, site = self._hospital.session(), self._hospital.site
        keys = self._hospital.membership().keys
        # What is more in all is worth it where one hospital's gradient takes longer than that.
        early = ahead.beside and not site.simulated
        make = partial(prepared_sealing, session.terms, keys, site.name, place, ahead=early)
        # Words of 64 bits that travel with half of them or more.
        size = 2 * session.terms.sealing.bytes_up
        return ahead.begin(make, size=size, discard=lambda made: made.discard())

    def seal(
        self,
        passage: Passage[RoundRequest] | Passage[TurnRequest],
        update: NDArray[np.float64],
        uses: list[Use],
        phases: Phases,
        *,
        prepared: Callable[[], OneSealing],
        seeds: Sequence[Seeds] = (),
        extras: Extras | None = None,
        arrays: Arrays | None = None,
    ) -> Release:
        """Seal what this hospital contributes to a sum, and sign where it belongs."""
        with phases.measure("seal"):
            sealed = sealed_contribution(update, prepared(), seeds)
        plain = self._hospital.header(
            HeaderKind.SUM,
            passage.place,
            payload=Parcel.of(sealed.payload, sealed.envelopes).digest,
            nonce=sealed.nonce,
            previous=self._hospital.book.state(self._hospital.training).chain,
        )
        header = replace(plain, seeds=sealed.seeds) if sealed.seeds else plain
        extras = extras or Extras()
        reply = extras.reply(
            sealed=sealed.payload,
            envelopes=sealed.envelopes,
            header=sign_header(header, self._hospital.site.identity).to_bytes(),
            phases=phases.seconds if self._hospital.settings.data.public else {},
        )
        return passage.answer(
            TurnReply(reply=reply, arrays=arrays) if arrays else reply,
            digest=header.payload,
            uses=uses,
            derived=extras.derived,
        )
