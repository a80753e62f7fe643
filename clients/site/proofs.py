"""What a hospital can show for what it does with sums: that it committed to one, that many signed.

`clients.site.opening` alone makes them: a `Committed` once its line is on disk, a `Confirmed` once
a quorum's signatures are verified.
"""

from __future__ import annotations

from accounting.private import Made, Maker


class Committed(Made):
    """A total that this hospital's book names as the one it opens.

    Attributes:
        round: of the sum.
        attempt: that was closed.
        opened: digest of roster and total, hex.
    """

    __slots__ = ("attempt", "opened", "round")
    round: int
    attempt: int
    opened: str


class Confirmed(Made):
    """A chain of sums that a quorum of hospitals has signed.

    Attributes:
        round: the last of its sums.
    """

    __slots__ = ("round",)
    round: int


_COMMITTED = Maker(Committed)
_CONFIRMED = Maker(Confirmed)


def make_committed(*, round: int, attempt: int, opened: str) -> Committed:
    """A proof that the book names a total; for `clients.site.opening` alone."""
    return _COMMITTED.make(round=round, attempt=attempt, opened=opened)


def make_confirmed(*, round: int) -> Confirmed:
    """A proof that a quorum has signed; for `clients.site.opening` alone."""
    return _CONFIRMED.make(round=round)


def check_committed(proof: Committed) -> None:
    """Refuse a total that no book names.

    Raises:
        TypeError: the proof was not made by `make_committed`.
    """
    _COMMITTED.check(proof)


def is_confirmed(thing: object) -> bool:
    """Whether an object says that a quorum has signed, and was made by `make_confirmed`."""
    return _CONFIRMED.knows(thing)
