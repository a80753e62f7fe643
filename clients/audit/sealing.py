"""How updates of an audit are sealed, added and opened: as in a training, under its own keys."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from clients.site.chances import sealed_contribution
from crypto.ceremony import make_offer
from crypto.identity import Identity
from crypto.pairs import PairKeys
from crypto.roles import Sealed
from crypto.schemes import make_adder, make_keys, make_opener

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from clients.contract.terms import Terms
    from crypto.keys import Keys
    from crypto.roles import Place

    Vector = NDArray[np.float64]


class AuditSealing:
    """Fresh keys of all hospitals of an audit, and what is done with them.

    Args:
        terms: of the audit.
        names: of its hospitals.
    """

    def __init__(self, terms: Terms, names: Sequence[str]) -> None:
        self._terms = terms
        self._names = list(names)
        self._keys = _keys_of(terms, self._names)

    def opened(
        self, updates: Sequence[Vector], place: Place, alone: int
    ) -> tuple[Vector, list[Vector]]:
        """Seal, add and open.

        Args:
            updates: each hospital's, float64 ``[d]``.
            place: of the round.
            alone: how many of the first are opened by themselves too, as the server could with a
                key holder's help. Where a scheme lets nobody, all others take off their own.

        Returns:
            The sum of all, and those updates.
        """
        if self._terms.sealing.needs_pairs:
            self._keys = [
                keys.with_pairs(keys.pairs.at(place.round)) if keys.pairs else keys
                for keys in self._keys
            ]
        sealed = [
            sealed_contribution(update, self._terms, keys, name, place)
            for update, keys, name in zip(updates, self._keys, self._names, strict=True)
        ]
        total = self._sum_of(sealed, range(len(sealed)), place)
        if self._terms.sealing.needs_pairs:
            others = [np.sum(updates, axis=0) - updates[number] for number in range(alone)]
            return total, [total - theirs for theirs in others]
        return total, [self._sum_of(sealed, [number], place) for number in range(alone)]

    def _sum_of(self, sealed: Sequence[Sealed], chosen: Sequence[int], place: Place) -> Vector:
        """The opened sum of some contributions: added at a server, opened at the last hospital."""
        keys = self._keys[-1]
        adder = make_adder(self._terms.sealing, keys.key_id)
        for number in chosen:
            adder.add(Sealed(payload=sealed[number].payload))
        nonces = {self._names[number]: sealed[number].nonce for number in chosen}
        return make_opener(self._terms.sealing, keys).open(adder.total(), nonces, place)


def _keys_of(terms: Terms, names: Sequence[str]) -> list[Keys]:
    """Each hospital's keys: one set for all, and with every other where the scheme needs it."""
    keys = make_keys(terms.sealing)
    if not terms.sealing.needs_pairs:
        return [keys] * len(names)
    made = [make_offer(terms.training, name, Identity.generate()) for name in names]
    offers = [offer for offer, _ in made]
    return [
        keys.with_pairs(PairKeys.derive(offers, secret, name, bytes(32)))
        for name, (_, secret) in zip(names, made, strict=True)
    ]
