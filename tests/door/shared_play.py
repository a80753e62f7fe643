"""A server that a test plays, in a training in which hospitals may be missing: keys in shares."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from clients.contract.kinds import Kind
from clients.contract.share_messages import SharesReply, SharesRequest
from crypto.parcels import Parcel
from crypto.rosters import Roster
from crypto.seats import Seats
from tests.door.sites import Answer
from tests.door.world import Play, started

#: Five hospitals of whom one may be missing; four answers open a sum.
SHARED = {"sealing__scheme": "one-time", "privacy__dropouts": 1, "privacy__regime": "FPDP"}
HOSPITALS, THRESHOLD = 5, 4


class SharedPlay:
    """What a server does about shares, over a play."""

    def __init__(self, play: Play) -> None:
        self.play = play
        sharing = play.agreement.terms.sealing.sharing
        assert sharing is not None and sharing.threshold == THRESHOLD
        self.seats = Seats(sharing, play.names)

    @classmethod
    def started(cls, folder: Path, **changes: object) -> SharedPlay:
        return cls(started(folder, HOSPITALS, **{**SHARED, **changes}))

    def request(
        self, holder: str, round: int, attempt: int = 1, members: Iterable[str] = (), **changes: Any
    ) -> SharesRequest:
        """What an honest server brings a holder: the roster of some, and what is for it."""
        play = self.play
        replies = play.replies[round, attempt]
        names = sorted(members or replies)
        dealers = [name for name in names if holder in replies[name].envelopes]
        parcels = {n: Parcel.of(replies[n].sealed, replies[n].envelopes) for n in dealers}
        fields: dict[str, Any] = {
            "training": play.training,
            "bind": play.bind,
            "round": round,
            "attempt": attempt,
            "roster": play.sum(round, attempt, names).roster,
            "parcels": {name: one.to_bytes() for name, one in parcels.items()},
            "envelopes": {name: replies[name].envelopes[holder] for name in dealers},
        }
        return SharesRequest(**{**fields, **changes})

    def ask(
        self, holder: str, round: int, attempt: int = 1, members: Iterable[str] = (), **changes: Any
    ) -> Answer:
        request = self.request(holder, round, attempt, members, **changes)
        return self.play.ask(holder, Kind.ANSWER, request)

    def shares(
        self, holder: str, round: int, attempt: int = 1, members: Iterable[str] = ()
    ) -> bytes:
        return SharesReply.read(self.ask(holder, round, attempt, members).records).answer

    def close(
        self,
        round: int,
        attempt: int = 1,
        members: Iterable[str] = (),
        holders: Iterable[str] = (),
    ) -> None:
        """Close a round with the answers of some holders."""
        names = sorted(members or self.play.replies[round, attempt])
        answers = {h: self.shares(h, round, attempt, names) for h in holders or self.seats.holders}
        closed = self.play.sum(round, attempt, names)
        self.play.closed[round] = replace(closed, answers=answers)

    def roster(self, round: int, attempt: int = 1, members: Iterable[str] = ()) -> Roster:
        names = sorted(members or self.play.replies[round, attempt])
        return Roster.from_bytes(self.play.sum(round, attempt, names).roster)

    def answered(self, holder: str) -> list[tuple[int, int, str]]:
        """The rosters that a holder's book says it answered."""
        return [
            (int(line["round"]), int(line["attempt"]), str(line["roster"]))
            for line in self.play.sites.lines(holder)
            if line["kind"] == "answer"
        ]
