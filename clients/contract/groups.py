"""Groups of hospitals whose sums are opened apart, so that one that lies spoils one sum of several.

A sum of all hospitals is whatever any one of them makes it. Where hospitals are dealt to groups,
one total is opened for each, and the opened sums are combined by a rule that a few of them cannot
move far (`clients.learning.robust`). Who is in a group follows from the names of all members, to
which every header is bound: they are dealt out in turn, in the order of their names.

    >>> groups = Groups(hospitals=6, size=2, rule="median", liars=1)
    >>> groups.dealt(["f", "e", "d", "c", "b", "a"])
    (('a', 'd'), ('b', 'e'), ('c', 'f'))

Formal guarantee: a patient of one hospital is in one group's sum, so all sums together cost what
that one does. It carries the noise of its own group alone, which is planned for so many hospitals.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from crypto.errors import RosterError

if TYPE_CHECKING:
    from clients.contract.setting_tree import SettingTree

#: Rule -> how many groups it takes where f of them may lie: a times f and b.
NEEDED = {"median": (2, 1), "trimmed-mean": (2, 1), "krum": (2, 3), "bulyan": (4, 3)}
#: What a training without groups is told.
ONE_SUM: dict[str, int | str] = {
    "exchange.group-size": 0,
    "exchange.robust": "mean",
    "exchange.liars": 1,
}
#: What pooled data are told, which are exchanged with nobody.
NO_EXCHANGE: dict[str, int | str] = {"exchange.name": "gradients", **ONE_SUM}


@dataclass(frozen=True, slots=True, kw_only=True)
class Groups:
    """How hospitals are dealt to groups, and how what these open is combined.

    Attributes:
        hospitals: K, a multiple of `size`.
        size: hospitals of each group.
        rule: a key of `NEEDED`.
        liars: f, groups that may lie.
    """

    hospitals: int
    size: int
    rule: str
    liars: int

    @property
    def count(self) -> int:
        """How many groups there are."""
        return self.hospitals // self.size

    def dealt(self, members: Iterable[str]) -> tuple[tuple[str, ...], ...]:
        """Return the names of each group, sorted; the same for whoever knows all members.

        Raises:
            RosterError: there are more or fewer members than K.
        """
        names = sorted(set(members))
        if len(names) != self.hospitals:
            raise RosterError(f"{len(names)} members in groups of {self.hospitals} hospitals")
        return tuple(tuple(names[first :: self.count]) for first in range(self.count))

    def group_of(self, hospital: str, members: Iterable[str]) -> tuple[str, ...]:
        """Return the names of a hospital's group, its own among them.

        Raises:
            RosterError: it is no member.
        """
        found = [group for group in self.dealt(members) if hospital in group]
        if not found:
            raise RosterError(f"{hospital!r} is in no group: it is no member")
        return found[0]

    def present(
        self, members: Iterable[str], contributors: Collection[str], *, least: int
    ) -> tuple[tuple[str, ...], ...]:
        """Return the contributors of each group that has any, in the order of the groups.

        Args:
            members: all.
            contributors: who is in the round's sums.
            least: of all hospitals, as many as the noise needs, K - d.

        Raises:
            RosterError: of a group more are missing than there may be in all, so its sum would
                carry less noise than was promised; or too few groups are left to outvote liars.
        """
        missing = self.hospitals - least
        found = []
        for group in self.dealt(members):
            there = tuple(name for name in group if name in contributors)
            if self.size > 1 and len(there) < self.size - missing:
                raise RosterError(
                    f"{len(there)} contributors of the group {', '.join(group)}, expected at least "
                    f"{self.size - missing}"
                )
            if there:
                found.append(there)
        if len(found) < self.needed:
            raise RosterError(
                f"sums of {len(found)} groups, {self.rule} needs {self.needed} where {self.liars} "
                "may lie"
            )
        return tuple(found)

    @property
    def needed(self) -> int:
        """How many groups the rule takes."""
        return groups_needed(self.rule, self.liars)


def groups_needed(rule: str, liars: int) -> int:
    """Return how many groups a rule takes where so many may lie."""
    times, more = NEEDED[rule]
    return times * liars + more


def joined(totals: Sequence[bytes]) -> bytes:
    """Return the totals of all groups as the one that travels; they are of one size."""
    return b"".join(totals)


def parted(total: bytes, count: int) -> list[bytes]:
    """Undo `joined`.

    Raises:
        RosterError: so many totals of one size do not make it up.
    """
    size, rest = divmod(len(total), count)
    if rest or not size:
        raise RosterError(f"{len(total)} bytes are no totals of {count} groups")
    return [total[at : at + size] for at in range(0, len(total), size)]


def groups_of(settings: SettingTree) -> Groups | None:
    """Return the groups of a training; None where all hospitals are in one sum."""
    exchange = settings.exchange
    if not exchange.group_size:
        return None
    return Groups(
        hospitals=settings.partition.hospitals,
        size=exchange.group_size,
        rule=exchange.robust,
        liars=exchange.liars,
    )
