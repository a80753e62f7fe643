"""Receipts of what a book has on disk, and their uses: the only way to a private value.

    receipt = book.spend(place, event, ...)   # on disk now
    use = receipt.use(round=3, turn=1)        # once
    noised(value, grid, stream, use)          # once

A receipt covers a known number of noised messages; each is one use.
"""

from __future__ import annotations

from collections.abc import Set
from typing import TypeVar

from accounting.errors import BookError
from accounting.events import Event
from accounting.lines import Place
from accounting.private import Made, Maker, Private

T = TypeVar("T")


class Use(Made):
    """The right to release one private value, paid for.

    Attributes:
        place: of the spending.
        round: of the message; another than the place's in a later round of a pass.
        turn: which message of the round, from 1.
        event: what the spending costs, all its uses together.
    """

    __slots__ = ("event", "place", "round", "turn")
    place: Place
    round: int
    turn: int
    event: Event


class Receipt(Made):
    """Proof that an event is in the book.

    Attributes:
        place: what was paid for.
        event: what it costs.
        rounds: rounds covered, from the place's on; more than one for a pass.
        uses: messages covered, the same number in each round.
    """

    __slots__ = ("_asked", "event", "place", "rounds", "uses")
    place: Place
    event: Event
    rounds: int
    uses: int
    _asked: set[tuple[int, int]]

    def use(self, round: int, turn: int) -> Use:
        """The use of one message of one round, once.

        Raises:
            BookError: the receipt does not cover it, or it was asked for before.
            TypeError: the receipt was not made by a book.
        """
        _RECEIPTS.check(self)
        first = self.place.round
        covered = first <= round < first + self.rounds and 1 <= turn <= self.uses // self.rounds
        if not covered or (round, turn) in self._asked:
            why = "was used before" if covered else "is not covered by its receipt"
            raise BookError("stale-place", f"message {turn} of round {round} {why}")
        self._asked.add((round, turn))
        return _UNUSED.make(place=self.place, round=round, turn=turn, event=self.event)


_RECEIPTS = Maker(Receipt)
_UNUSED = Maker(Use)
_REDEEMED = Maker(Use)


def issue_receipt(
    place: Place, event: Event, *, uses: int, rounds: int, gone: Set[tuple[int, int]] = frozenset()
) -> Receipt:
    """A receipt of what is on disk: for `accounting.book` alone.

    Args:
        place: what was paid for.
        event: what it costs.
        uses: messages covered.
        rounds: rounds covered.
        gone: (round, turn) of messages that are used up.
    """
    return _RECEIPTS.make(place=place, event=event, uses=uses, rounds=rounds, _asked=set(gone))


def taken_out(value: Private[T], use: Use) -> T:
    """A private value itself, for the mechanism that is about to release it; the use is gone.

    Raises:
        TypeError: the use was not given by a receipt, or it is gone.
    """
    _REDEEMED.adopt(_UNUSED.take(use))
    return value._value


def is_redeemed(use: object) -> bool:
    """Whether a value was taken out with this use, which a book's receipt gave."""
    return _REDEEMED.knows(use)
