"""What hospitals are asked for beside a sum, in turn: the model, and a snapshot of their state.

Either is due after every so many rounds and stays so until it has come. It is made of sums that a
quorum has signed, so it is asked for with the second request after the last of them.
"""

from __future__ import annotations

from collections.abc import Sequence

#: Rounds between a sum and the request with which something made from it may leave.
LAG = 2


class ExtrasDue:
    """Who is asked for a model and for a snapshot in which round.

    Args:
        release_every: rounds between two models.
        snapshot_every: rounds between two snapshots.
    """

    def __init__(self, *, release_every: int, snapshot_every: int) -> None:
        self._release_every, self._snapshot_every = release_every, snapshot_every
        self._release = self._snapshot = False

    def ask(
        self, names: Sequence[str], number: int, attempt: int, *, models_leave: bool
    ) -> tuple[str, str]:
        """Return the hospital asked for a model and the one for a snapshot, "" for none.

        Args:
            names: hospitals that are asked for the round, in order.
            number: the round.
            attempt: at it; another one asks others.
            models_leave: whether a model may leave the hospitals before the end.
        """
        last, turn = number - LAG, number + attempt
        if last > 0:
            self._release |= models_leave and last % self._release_every == 0
            self._snapshot |= last % self._snapshot_every == 0
        release = names[turn % len(names)] if self._release else ""
        return release, names[(turn + 1) % len(names)] if self._snapshot else ""

    def model_came(self) -> None:
        """Ask for no model before the next is due."""
        self._release = False

    def snapshot_came(self) -> None:
        """Ask for no snapshot before the next is due."""
        self._snapshot = False
