"""What leaves a hospital of opened sums: models, snapshots, confirmations, and public figures.

All of it follows from sums that a quorum of hospitals has confirmed, or says that this hospital has
opened them; nothing here touches a private record.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from accounting import lines
from accounting.release import public
from clients.contract.faults import Code, Fault
from clients.contract.kinds import Kind
from clients.contract.messages import Figures, ReleaseRequest, RoundReply, RoundRequest
from clients.contract.phases import Phases
from clients.site.snapshots import make_snapshot
from crypto.errors import OpeningRefusedError
from crypto.headers import HeaderKind, sign_header
from crypto.roles import Place
from crypto.schemes import require_returnable

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from clients.site.door import Passage, Release
    from clients.site.hospital import Hospital
    from clients.site.proofs import Confirmed
    from clients.site.session import Session


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


class Releasing:
    """One hospital's part in what is released of a training by sums."""

    def __init__(self, hospital: Hospital) -> None:
        self._hospital = hospital

    def extras(self, request: RoundRequest) -> Extras:
        """Return the model and the snapshot, if this hospital is asked and they are confirmed."""
        name = self._hospital.site.name
        if name not in (request.release_from, request.snapshot_from):
            return Extras()
        session, confirmed = self._hospital.session(), self._hospital.openings().confirmed()
        if confirmed is None:
            return Extras()
        given: dict[str, Any] = {}
        if request.release_from == name and self._may_release_on_the_way():
            copy = session.copy_to_release(confirmed.round)
            if copy is not None:
                given |= {"model": copy.model, "model_round": copy.round}
        if request.snapshot_from == name:
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
        session = self._hospital.follow(request, Phases())
        state = self._hospital.book.state(self._hospital.training)
        if request.round != state.closed:
            raise Fault(
                Code.STALE_PLACE, f"asked to end at {request.round}, stands at {state.closed}"
            )
        self._hospital.book.append(lines.end(self._hospital.training, round=request.round))
        self._hospital.answers.drop()
        place = Place(
            training=self._hospital.training, round=request.round, attempt=request.attempt
        )
        header = self._hospital.header(HeaderKind.CONFIRM, place, previous=state.chain)
        self._hospital.save(session)
        return passage.answer(
            RoundReply(header=sign_header(header, self._hospital.site.identity).to_bytes())
        )

    def release(self, passage: Passage[ReleaseRequest]) -> Release:
        """Return the model after the last sum, which a quorum has confirmed; it opens nothing.

        Raises:
            Fault: ``release-refused``: too few have confirmed, or the scheme's openings leak.
        """
        self._require_returnable()
        confirmed, session = self._confirmed(passage.request)
        reply = RoundReply(model=session.released(), model_round=confirmed.round)
        return passage.answer(reply, derived=(confirmed,))

    def evaluate(self, passage: Passage[ReleaseRequest]) -> Release:
        """Measure the confirmed model on the hospital's own test records, where data are public.

        A figure tells of the model, which is made of other hospitals' updates as well: so it leaves
        once a quorum has confirmed the sums, as the model itself does.

        Raises:
            Fault: ``not-public``: the data are not declared public, so a figure of theirs would be
                a release; ``release-refused``: too few have confirmed the sums.
        """
        hospital = self._hospital
        hospital.own.require_public()
        confirmed, session = self._confirmed(passage.request)
        receipt = hospital.book.show_public(
            hospital.training, purpose=Kind.EVALUATE, about=session.chain
        )

        def logits_of(inputs: torch.Tensor) -> NDArray[np.floating]:
            return session.replica.forward.logits(inputs, session.replica.released())

        use = receipt.use(0, 1)
        figures = Figures(metrics=public(hospital.own.figures(logits_of), use))
        return passage.answer(figures, uses=[use], derived=(confirmed,))

    def _confirmed(self, request: ReleaseRequest) -> tuple[Confirmed, Session]:
        """Return that a quorum confirmed the last sum, and the session, which stands there.

        Raises:
            Fault: ``release-refused``: too few have; ``behind``: the replica lacks sums.
        """
        openings = self._hospital.restored(request)
        confirmed = openings.confirmed_by(request.headers)
        return confirmed, openings.session

    def _may_release_on_the_way(self) -> bool:
        """Whether a model may leave before the last sum: no exact one, nor what leaks a key.

        An exact one is of everybody's records, so it takes that all members declared theirs public.
        """
        try:
            self._require_returnable()
        except Fault:
            return False
        return self._hospital.settings.regime.private or self._hospital.membership().public

    def _require_returnable(self) -> None:
        try:
            require_returnable(self._hospital.session().terms.sealing)
        except OpeningRefusedError as error:
            raise Fault(Code.RELEASE_REFUSED, str(error)) from error

    def _sealed_state(self, state: bytes, round: int, chain: str) -> bytes:
        member = self._hospital.membership()
        return make_snapshot(
            state,
            training=self._hospital.training,
            round=round,
            chain=chain,
            parameter_id=self._hospital.session().terms.sealing.parameter_id,
            bind=member.bind,
            group_key=member.keys.group_key,
            sender=self._hospital.site.name,
            identity=self._hospital.site.identity,
        )
