"""From a sealed total to the sum that hospitals step on: opened, without noise that it can spare.

A sum that lacks fewer hospitals than may be missing carries more noise than was promised. With it
come the seeds of the parts that are too much (`crypto.seeds`); they are taken out here, by hospital
and by part, so all step on the same bits. Where groups of hospitals have a sum each, every group's
is opened, and checked to be of exactly its own hospitals, before they are combined.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from accounting.noising import without_parts
from clients.contract.groups import Groups, parted
from clients.learning.robust import robust_mean
from crypto.errors import RosterError
from crypto.key_shares import Answers
from crypto.roles import Sealed
from crypto.schemes import open_total
from crypto.seeds import Part, checked, parts_of, unpacked

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from clients.contract.messages import OpenedRound
    from clients.contract.terms import Terms
    from crypto.keys import Keys
    from crypto.roles import Place
    from crypto.rosters import Roster


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedSum:
    """A sealed total and all that came to open it.

    Attributes:
        total: the total; of groups, all of theirs (`clients.contract.groups.joined`).
        contributors: each contributor's nonce by name.
        answers: holders' shares of its key; None where its keys are not in shares.
        seeds: of noise that goes, by hospital and part.
        signed: digests of each contributor's seeds by name.
    """

    total: Sealed
    contributors: Mapping[str, bytes]
    answers: Answers | None = None
    seeds: Mapping[Part, bytes] = field(default_factory=dict)
    signed: Mapping[str, bytes] = field(default_factory=dict)

    @classmethod
    def of(cls, closed: OpenedRound, roster: Roster) -> SealedSum:
        """Return it of a round whose roster was verified.

        Raises:
            RosterError: the seeds are none.
        """
        answers = None
        if closed.answers:
            named = bytes.fromhex(roster.fingerprint)
            answers = Answers(roster=named, by_holder=closed.answers)
        return cls(
            total=Sealed(payload=closed.total),
            contributors=roster.nonces,
            answers=answers,
            seeds=unpacked(closed.seeds),
            signed=roster.seeds,
        )


class Unsealed(NamedTuple):
    """An opened sum.

    Attributes:
        values: float64 ``[d]``, gradient units.
        suspects: holders whose answers did not fit, sorted.
        stayed: parts of the noise that could go, but whose seeds did not come.
    """

    values: NDArray[np.float64]
    suspects: tuple[str, ...]
    stayed: tuple[Part, ...]


def unseal(
    sealed: SealedSum, terms: Terms, keys: Keys, place: Place, members: Collection[str] = ()
) -> Unsealed:
    """Open a sum and take out of it the noise that is too much for as many as are in it.

    Args:
        sealed: the sum, or those of all groups.
        terms: of the training.
        keys: of the hospital that opens.
        place: where in the training.
        members: names of all hospitals of the training, by which groups are dealt.

    Returns:
        The sum; of groups, what their sums make of the sum of all.

    Raises:
        SealingError: it does not open, or seeds came of noise that stays, or that nobody signed; or
            a group's sum lacks more hospitals than may be missing.
    """
    groups = terms.groups
    if groups is None:
        return _unsealed(sealed, terms, keys, place)
    rows = [
        _unsealed(one, terms, keys, place).values
        for one in _of_groups(sealed, groups, members, least=terms.least)
    ]
    mean = robust_mean(np.stack(rows), groups.rule, groups.liars)
    return Unsealed(mean * groups.count, (), ())


def _of_groups(
    sealed: SealedSum, groups: Groups, members: Collection[str], *, least: int
) -> list[SealedSum]:
    """Return each group's own sum, with those who must be in it."""
    present = groups.present(members, sealed.contributors, least=least)
    totals = parted(sealed.total.payload, len(present))
    return [
        replace(
            sealed,
            total=Sealed(payload=total),
            contributors={name: sealed.contributors[name] for name in names},
        )
        for names, total in zip(present, totals, strict=True)
    ]


def _unsealed(sealed: SealedSum, terms: Terms, keys: Keys, place: Place) -> Unsealed:
    """Open one sum."""
    plan, names = terms.sealing, sealed.contributors
    goes: list[Part] = []
    if plan.sharing is not None:
        goes = parts_of(plan.sharing, plan.hospitals, names)
        seeds = checked(sealed.seeds, plan.sharing, plan.hospitals, names, sealed.signed)
    elif sealed.seeds:
        raise RosterError("seeds of noise came, but none is shared in this training")
    else:
        seeds = {}
    opening = open_total(plan, keys, sealed.total, names, place, sealed.answers)
    missing = plan.hospitals - len(names)
    values = without_parts(opening.values, terms.grid, seeds, missing=missing)
    stayed = tuple(part for part in goes if part not in seeds)
    return Unsealed(values, opening.suspects, stayed)
