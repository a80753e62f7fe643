"""How updates of an audit are sealed, added and opened: as in a training, under its own keys."""

from __future__ import annotations

import secrets
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from accounting.audit_turns import turn_gates
from clients.audit.hidden import Shown, turns_of
from clients.site.chances import prepared_sealing, sealed_contribution
from clients.site.unsealing import SealedSum, unseal
from crypto.ceremony import make_offer
from crypto.identity import Identity
from crypto.key_shares import Answers, ShareRequest, answer, seats_of
from crypto.pairs import PairKeys
from crypto.parcels import Parcel
from crypto.roles import Sealed
from crypto.schemes import make_adder, make_keys
from crypto.seeds import Part, parts_of, recovered

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from accounting.audit_gates import Gate
    from accounting.parts import Seeds
    from clients.contract.terms import Terms
    from crypto.keys import Keys
    from crypto.roles import Place

    Vector = NDArray[np.float64]


class AuditSealing:
    """Fresh keys of all hospitals of an audit, and what is done with them.

    Args:
        terms: of the audit.
        members: all hospitals that the terms expect.
        names: of those that contribute.
    """

    def __init__(self, terms: Terms, members: Sequence[str], names: Sequence[str]) -> None:
        self._terms = terms
        self._names = list(names)
        self._keys = _keys_of(terms, members)
        self._sent: list[Shown] = []

    def opened(
        self,
        made: Sequence[tuple[Vector, Sequence[Seeds]]],
        updates: Sequence[Vector],
        place: Place,
        alone: int,
    ) -> tuple[Vector, list[Vector]]:
        """Seal, add and open.

        Args:
            made: each hospital's update, float64 ``[d]``, and seeds of its noise.
            updates: the same without noise that is taken out of the sum.
            place: of the round.
            alone: how many of the first are opened by themselves too, as the server could with a
                key holder's help. Where a scheme lets nobody, all others take off their own.

        Returns:
            The sum of all, and those updates.
        """
        if self._terms.sealing.needs_pairs:
            self._keys = {
                name: keys.with_pairs(keys.pairs.at(place.round)) if keys.pairs else keys
                for name, keys in self._keys.items()
            }
        sealed = [
            sealed_contribution(
                update, prepared_sealing(self._terms, self._keys[name], name, place), seeds
            )
            for (update, seeds), name in zip(made, self._names, strict=True)
        ]
        if self._terms.sealing.encrypts:
            self._sent += [
                Shown(f"{name}, round {place.round}", one.payload, place.round)
                for name, one in zip(self._names, sealed, strict=True)
            ]
        total = self._sum_of(sealed, range(len(sealed)), place)
        if self._terms.sealing.needs_pairs:
            others = [np.sum(updates, axis=0) - updates[number] for number in range(alone)]
            return total, [total - theirs for theirs in others]
        return total, [self._sum_of(sealed, [number], place) for number in range(alone)]

    def gates(self) -> list[Gate]:
        """What everybody could read of what was sealed, without a key."""
        if not self._sent:
            return []
        return turn_gates(turns_of(self._sent, self._terms.sealing, made_up=False))

    def _sum_of(self, sealed: Sequence[Sealed], chosen: Sequence[int], place: Place) -> Vector:
        """The opened sum of some contributions: added at a server, opened at the last hospital."""
        plan, keys = self._terms.sealing, self._keys[self._names[-1]]
        adder = make_adder(plan, keys.key_id)
        for number in chosen:
            adder.add(Sealed(payload=sealed[number].payload))
        members = {self._names[number]: sealed[number] for number in chosen}
        total = SealedSum(
            total=adder.total(),
            contributors={name: one.nonce for name, one in members.items()},
            signed={name: one.seeds for name, one in members.items()},
        )
        if plan.sharing is not None:
            answers, seeds = self._answers(members, place)
            total = replace(total, answers=answers, seeds=seeds)
        return unseal(total, self._terms, keys, place).values

    def _answers(
        self, members: Mapping[str, Sealed], place: Place
    ) -> tuple[Answers, dict[Part, bytes]]:
        """What all holders answer to a roster of these hospitals, and the seeds that then open."""
        plan, roster = self._terms.sealing, secrets.token_bytes(32)
        assert plan.sharing is not None
        pairs = self._keys[self._names[-1]].pairs
        assert pairs is not None
        given = {}
        for holder in seats_of(plan.sharing, pairs).holders:
            request = ShareRequest(
                place=place,
                roster=roster,
                contributors={name: one.nonce for name, one in members.items()},
                parcels={n: Parcel.of(one.payload, one.envelopes) for n, one in members.items()},
                envelopes={
                    name: one.envelopes[holder]
                    for name, one in members.items()
                    if holder in one.envelopes
                },
            )
            given[holder] = answer(request, plan, self._keys[holder])
        opened = recovered(
            {point: one.seeds for point, one in enumerate(given.values(), start=1)},
            parts_of(plan.sharing, plan.hospitals, members),
            {name: one.seeds for name, one in members.items()},
            plan.sharing.threshold,
        )
        by_holder = {name: one.answer for name, one in given.items()}
        return Answers(roster=roster, by_holder=by_holder), opened


def _keys_of(terms: Terms, members: Sequence[str]) -> dict[str, Keys]:
    """Each hospital's keys: one set for all, and with every other where the scheme needs it."""
    keys = make_keys(terms.sealing)
    if not terms.sealing.needs_pairs:
        return dict.fromkeys(members, keys)
    made = [make_offer(terms.training, name, Identity.generate()) for name in members]
    offers = [offer for offer, _ in made]
    return {
        name: keys.with_pairs(PairKeys.derive(offers, secret, name, bytes(32)))
        for name, (_, secret) in zip(members, made, strict=True)
    }
