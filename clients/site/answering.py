"""A holder's answer: shares of the key of one sum, for one roster of a place and never another.

It was paid for with the members' updates, and its book remembers the roster before it leaves: a
second roster of the place is refused for ever. A holder that has no update in the place gives the
place up by its answer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from clients.contract.faults import Code, Fault
from clients.contract.share_messages import SharesReply
from clients.site.opening import check_own
from crypto.errors import RosterError, ShareError
from crypto.key_shares import ShareRequest, answer
from crypto.parcels import Parcel

if TYPE_CHECKING:
    from clients.contract.share_messages import SharesRequest
    from clients.site.door import Passage, Release
    from clients.site.hospital import Hospital
    from crypto.rosters import Roster


class Answering:
    """One holder's part in opening sums under keys in shares."""

    def __init__(self, hospital: Hospital) -> None:
        self._hospital = hospital

    def answer(self, passage: Passage[SharesRequest]) -> Release:
        """Add up this holder's shares of the keys of a roster's members.

        Raises:
            Fault: ``share-refused`` with the number of the member in the roster whose envelope is
                none; ``ledger-behind`` where the roster holds this hospital's own signature over
                what its book does not know.
            SealingError: it is no roster of this place.
        """
        request, place, state = passage.request, passage.place, passage.state
        session, member = self._hospital.session(), self._hospital.membership()
        plan = session.terms.sealing
        if plan.sharing is None:
            raise Fault(Code.WRONG_EXCHANGE, "the keys of this training are not in shares")
        roster = session.verifier.roster(request.roster, place.round, state.chain, member)
        if roster.place != place:
            raise RosterError(f"a roster of {roster.place} came for {place}")
        check_own(roster, self._hospital.site.name, state)
        asked = ShareRequest(
            place=place,
            roster=bytes.fromhex(roster.fingerprint),
            contributors=roster.nonces,
            parcels=_signed_parcels(request, roster),
            envelopes=request.envelopes,
        )
        try:
            given = answer(asked, plan, member.keys)
        except ShareError as error:
            number = 1 + roster.names.index(error.culprit) if error.culprit else 0
            raise Fault(Code.SHARE_REFUSED, str(error), parameter=number) from error
        reply = SharesReply(answer=given.answer, seeds=given.seeds)
        return passage.answer(reply, digest=roster.fingerprint)


def _signed_parcels(request: SharesRequest, roster: Roster) -> dict[str, Parcel]:
    """Return what members signed of what they sent.

    Raises:
        SealingError: it is not what their headers name.
    """
    signed = {one.header.sender: one.header.payload for one in roster.headers}
    parcels = {name: Parcel.from_bytes(data) for name, data in request.parcels.items()}
    for name, parcel in parcels.items():
        if signed.get(name) != parcel.digest:
            raise RosterError(f"what {name!r} signed is something else than what came of it")
    return parcels
