"""Who holds shares of one-time keys, at which point, and which shares are derived instead of sent.

Every dealer's t - 1 shares, turning with its name, are derived by their holders; the others travel
in envelopes. All of it is public and follows from the plan and the members' names.

    seats = Seats(plan.sharing, members)
    seats.holders                 # holder i's point is i + 1
    seats.enveloped("lyon")       # who gets an envelope of lyon's
"""

from collections.abc import Iterable

from crypto.errors import KeysError
from crypto.one_time_plans import Sharing


class Seats:
    """The holders of one training's shares.

    Attributes:
        members: All hospitals, sorted.
        holders: Those who hold shares, sorted; holder i's point is i + 1.
    """

    def __init__(
        self, sharing: Sharing, members: Iterable[str], drawn: tuple[str, ...] = ()
    ) -> None:
        """Seat the holders.

        Args:
            sharing: Of the plan.
            members: All hospitals.
            drawn: Who was drawn in the ceremony, where the plan says so.

        Raises:
            KeysError: The committee names somebody who is not of this training, or none was drawn.
        """
        self.members = tuple(sorted(members))
        committee = sharing.committee or drawn
        strangers = set(committee) - set(self.members)
        if strangers:
            raise KeysError(
                f"the committee names {sorted(strangers)}, who are not of this training"
            )
        self.holders = committee or self.members
        if len(self.holders) != sharing.holders:
            raise KeysError(f"{len(self.holders)} holders are seated, expected {sharing.holders}")
        self._derived = sharing.threshold - 1
        self._number = {name: index for index, name in enumerate(self.members)}

    def derives(self, dealer: str, point: int) -> bool:
        """Whether the share of a dealer at a point is derived; the points turn with its name."""
        return (point - 1 - self._number[dealer]) % len(self.holders) < self._derived

    def enveloped(self, dealer: str) -> tuple[str, ...]:
        """Who gets an envelope of a dealer's, sorted."""
        return tuple(
            holder
            for point, holder in enumerate(self.holders, start=1)
            if not self.derives(dealer, point)
        )
