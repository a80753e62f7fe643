"""Rosters whose signatures are verified, each once for all hospitals of a process."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from crypto.roles import Place
from crypto.rosters import Roster

if TYPE_CHECKING:
    from clients.contract.messages import OpenedRound
    from clients.contract.terms import Terms
    from clients.site.membership import Membership


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """A total whose roster is sound, and what follows from both.

    Attributes:
        closed: the total and the roster, as they came.
        chain: of all sums before it, hex.
        roster: read.
        opened: digest of roster and total, hex.
        total: SHA-256 of the total, hex.
    """

    closed: OpenedRound
    chain: str
    roster: Roster
    opened: str
    total: str


class Verifier:
    """Checks rosters of one training, and remembers the last one that was sound.

    Args:
        terms: of the training.
    """

    def __init__(self, terms: Terms) -> None:
        self._terms = terms
        self._roster: tuple[bytes, str, Roster] | None = None
        self._verified: Verified | None = None

    def roster(self, data: bytes, number: int, chain: str, member: Membership) -> Roster:
        """Return a round's roster, its signatures checked; once for all of this process.

        Raises:
            SealingError: it is none of this round, or its hospitals opened other sums before.
        """
        known = self._roster
        if known is not None and known[:2] == (data, chain) and known[2].place.round == number:
            return known[2]
        roster = Roster.from_bytes(data)
        place = Place(training=self._terms.training, round=number, attempt=roster.place.attempt)
        roster.verify(
            member.public_keys,
            place,
            least=self._terms.least,
            parameter_id=self._terms.sealing.parameter_id,
            bind=member.bind,
            previous=chain,
        )
        self._roster = data, chain, roster
        return roster

    def verified(
        self, closed: OpenedRound, number: int, chain: str, member: Membership
    ) -> Verified:
        """Return a total's roster, its signatures checked; once for all of this process.

        Raises:
            SealingError: it is no roster of this round, or its hospitals opened other sums before.
        """
        known = self._verified
        if known is not None and (known.chain, known.closed) == (chain, closed):
            return known
        roster = self.roster(closed.roster, number, chain, member)
        self._verified = Verified(
            closed=closed,
            chain=chain,
            roster=roster,
            opened=closed.digest(roster),
            total=hashlib.sha256(closed.total).hexdigest(),
        )
        return self._verified
