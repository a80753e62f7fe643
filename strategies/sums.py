"""What the server keeps of closed rounds, so that hospitals that were away can catch up.

Sealed sums and rosters since the last snapshot, the snapshot, and a digest of every round before:
the digests prove that a snapshot goes on from where a hospital stands. The server computes the same
chain over them as hospitals do, so it sees on arrival who has opened other sums than it sent.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from crypto.rosters import Roster, next_chain

if TYPE_CHECKING:
    from clients.contract.messages import OpenedRound, RoundRequest
    from strategies.run.journal import Journal, Kept


@dataclass(frozen=True, kw_only=True)
class Help:
    """What a hospital that is behind is sent."""

    closed: Mapping[int, OpenedRound] = field(default_factory=dict)
    opened: Mapping[int, str] = field(default_factory=dict)
    snapshot: bytes = b""


class Sums:
    """The closed rounds of a training.

    Args:
        journal: where they are kept.
        kept: those of an earlier run of the server, which go on.
    """

    def __init__(self, journal: Journal, kept: Kept | None = None) -> None:
        self._journal = journal
        self._closed: dict[int, OpenedRound] = dict(kept.closed) if kept else {}
        self._opened: dict[int, str] = dict(kept.opened) if kept else {}
        self._snapshot = kept.snapshot if kept else b""
        self.snapshot_round = kept.snapshot_round if kept else 0
        self._rosters: dict[int, Roster] = {}
        for number, closed in self._closed.items():
            self._read(number, closed)
        self._chains = {0: ""}
        for number in sorted(self._opened):
            self._link(number)

    def chain(self, after: int) -> str:
        """Return the chain of all sums up to a round, hex; "" before the first."""
        return self._chains[after]

    def close(self, number: int, closed: OpenedRound) -> None:
        """Keep a closed round, on disk first."""
        self._journal.keep_round(number, closed)
        self._closed[number] = closed
        self._read(number, closed)
        self._link(number)

    def roster(self, number: int) -> Roster:
        """Return who is in a closed round's sum, and the attempt that it is of."""
        return self._rosters[number]

    def named(self, after: int) -> Counter[str]:
        """Return tags of the state after a round, and how many hospitals say that it is theirs."""
        if after + 1 not in self._closed:
            return Counter()
        return Counter(one.header.state for one in self.roster(after + 1).headers)

    def reopen(self, number: int) -> None:
        """Forget the last closed round, whose total hospitals refused."""
        self._journal.forget_round(number)
        for kept in (self._closed, self._opened, self._chains, self._rosters):
            del kept[number]

    def take_snapshot(self, after: int, snapshot: bytes) -> None:
        """Keep a snapshot in place of the sums that it stands for."""
        self._journal.keep_snapshot(after, snapshot, self._opened)
        self._snapshot, self.snapshot_round = snapshot, after
        self._closed = {n: one for n, one in self._closed.items() if n > after}
        self._rosters = {n: one for n, one in self._rosters.items() if n > after}

    def last(self, number: int) -> dict[int, OpenedRound]:
        """Return a round's sum for hospitals that lack only that; empty where there is none."""
        return {number: self._closed[number]} if number in self._closed else {}

    def help(self, stands_at: int) -> Help:
        """Return all that a hospital needs which has opened the sums up to a round.

        Args:
            stands_at: that round; 0 for a process that remembers none.
        """
        closed = {n: one for n, one in sorted(self._closed.items()) if n > stands_at}
        if stands_at >= self.snapshot_round:
            return Help(closed=closed)
        between = range(stands_at + 1, self.snapshot_round + 1)
        return Help(
            closed=closed,
            opened={number: self._opened[number] for number in between},
            snapshot=self._snapshot,
        )

    def filled(self, request: RoundRequest, stands_at: int) -> RoundRequest:
        """Return a request with all that a hospital needs which stands at a round."""
        help = self.help(stands_at)
        return replace(request, closed=help.closed, opened=help.opened, snapshot=help.snapshot)

    def _read(self, number: int, closed: OpenedRound) -> None:
        roster = self._rosters[number] = Roster.from_bytes(closed.roster)
        self._opened[number] = closed.digest(roster)

    def _link(self, number: int) -> None:
        before, opened = self._chains[number - 1], self._opened[number]
        self._chains[number] = next_chain(bytes.fromhex(before), bytes.fromhex(opened)).hex()
