"""Signs that a hospital's book has gone back: its own signatures, and the files beside it.

What has left is known to more than the book. A signature of the hospital's own over an entry that
the book lacks, a file that was written when the book was longer, an answer of a later place: each
proves that a book was restored, copied or deleted. A file that is not where it was may be a copy.

    signs.confront(headers)    # keep those own signatures that this book does not know
    signs.lost()               # what proves that it has gone back, "" where nothing does
    signs.has_moved()          # whether the file may be a copy
    signs.is_new()             # whether it may stand in the place of one that is gone
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING

from accounting.states import Phase
from clients.contract.header_memory import signed_by
from clients.contract.witness_messages import unpack
from clients.site.heads import Kept, Mark, judge, keep_lost, lost_proofs, marks_beside
from clients.site.home import home_of, same_home
from crypto.errors import SealingError
from crypto.rosters import Roster

if TYPE_CHECKING:
    from accounting.book import Book
    from clients.contract.messages import OpenedRound
    from clients.site.ground import Site

#: How a kept answer begins: the round and the attempt that it is for.
_PLACE, _MOST_PLACE = re.compile(rb"([0-9]{1,10}) ([0-9]{1,10})\n"), 32


class Signs:
    """What shows at one hospital, in one training, that its book has gone back.

    Args:
        site: its own ground.
        training: that is asked about.
        book: its own.
        kept: what lies beside the book.
    """

    def __init__(
        self,
        site: Site,
        training: str,
        *,
        book: Callable[[], Book],
        kept: Callable[[], Kept],
    ) -> None:
        self._site = site
        self._training = training
        self._book_of = book
        self._kept_of = kept

    def lost(self) -> str:
        """Return the proof that this book has gone back, "" where there is none."""
        for name, mark in marks_beside(self._site.folder, self._kept_of()):
            if reason := self._judge(mark):
                return f"{name}: {reason}"
        if reason := self._answered_more():
            return reason
        for signed in signed_by(self._site.identity.public, lost_proofs(self._site.folder)):
            if reason := self._judge(Mark.by(signed.header)):
                return f"its own signature: {reason}"
        return ""

    def _answered_more(self) -> str:
        """Return which kept answer is of a later place than the book knows, "" where none is."""
        state = self._book.state(self._training)
        if state.phase is Phase.RETIRED:
            return ""
        for path in self._site.folder.glob(f"reply-{self._training}-*.bin"):
            found = None
            with suppress(FileNotFoundError), path.open("rb") as file:
                found = _PLACE.match(file.read(_MOST_PLACE))
            if found and (int(found[1]), int(found[2])) > state.place:
                return f"{path.name} answers a place after {state.place}"
        return ""

    def _judge(self, mark: Mark) -> str:
        reason = judge(mark, self._book)
        return "" if reason and self._kept_of().is_another(mark, self._book) else reason

    def confront(self, headers: Iterable[bytes]) -> None:
        """Keep those own signatures that this book does not know, before anything else is done."""
        proofs = [
            signed
            for signed in signed_by(self._site.identity.public, headers)
            if any(signed.header.ledger) and self._judge(Mark.by(signed.header))
        ]
        if proofs:
            keep_lost(self._site, self._site.identity.public, proofs)
            reason = self._judge(Mark.by(proofs[0].header))
            self._site.log(f"this ledger has gone back: {reason}; see 'asclepias ledger recover'")

    def is_new(self) -> bool:
        """Whether the book was begun here and nobody has been asked about an earlier one yet."""
        return self._book.home() is None

    def has_moved(self) -> bool:
        """Whether the book's file is not the one whose home it names."""
        home = self._book.home()
        if home is None or self._site.home == "any":
            return False
        return not same_home(home, home_of(self._book.path))

    @property
    def _book(self) -> Book:
        return self._book_of()


def own_headers(request: object, name: str) -> Iterator[bytes]:
    """Yield all headers in a request that may be the hospital's own signature."""
    yield from unpack(getattr(request, "witness", b"")) if _joins(request) else ()
    yield from getattr(request, "trail", ())
    yield from getattr(request, "headers", ())
    rounds: Mapping[int, OpenedRound] = getattr(request, "closed", {})
    rosters = [closed.roster for closed in rounds.values()]
    for roster in (*rosters, getattr(request, "roster", b"")):
        with suppress(SealingError):
            for signed in Roster.from_bytes(roster).headers:
                if signed.header.sender == name:
                    yield signed.to_bytes()


def _joins(request: object) -> bool:
    return hasattr(request, "challenge")
