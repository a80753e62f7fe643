"""Adding by groups at the server: one adder for each, and one payload of all their totals.

Like the adders that it is made of, it holds public parameters alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from clients.contract.groups import joined
from crypto.schemes import make_adder

if TYPE_CHECKING:
    from collections.abc import Collection

    from clients.contract.groups import Groups
    from crypto.plans import SealingPlan
    from crypto.roles import Sealed


class GroupAdders:
    """Adds each hospital's vector to the sum of its own group; without groups, to the one of all.

    Args:
        plan: public parameters of one sum.
        key_id: the ceremony's public key id.
        groups: of the training; None: all hospitals are in one sum.
        members: names of all hospitals.
    """

    def __init__(
        self,
        plan: SealingPlan,
        key_id: bytes | None,
        groups: Groups | None,
        members: Collection[str],
    ) -> None:
        dealt = groups.dealt(members) if groups is not None else (tuple(members),)
        self._home = {name: number for number, group in enumerate(dealt) for name in group}
        self._adders = [make_adder(plan, key_id) for _ in dealt]

    def add(self, hospital: str, sealed: Sealed) -> None:
        """Fold in one hospital's vector; on an error all sums are as before."""
        self._adders[self._home[hospital]].add(sealed)

    def total(self) -> bytes:
        """Return the totals so far, of each group that has one, in the order of the groups."""
        return joined([one.total().payload for one in self._adders if one.contributions])
