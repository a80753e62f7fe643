"""Opened sums, read as a hospital opens them: the total, its roster and what came with them.

Under keys for one sum nobody opens a single update, so what canaries did is read from the sums of
all that are in a roster. Nothing is opened here in a way of its own: hospitals call the same
`clients.site.unsealing.unseal`, with the holders' answers, and without noise that a sum can spare.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from clients.contract.kinds import Kind
from clients.contract.messages import RoundRequest
from clients.site.unsealing import SealedSum, unseal
from crypto.pairs import PairKeys
from crypto.rosters import Roster
from simulations.audit.opened import Release, keys_of

if TYPE_CHECKING:
    from pathlib import Path

    from clients.contract.terms import Terms
    from crypto.keys import Keys
    from simulations.audit.wire import Wire

#: Whose an opened sum is.
EVERYBODY = "all in the roster"


def opener_keys(out: Path, training: str) -> Keys:
    """Return the keys of a simulated training with those of a pair, as a hospital opens sums."""
    keys = keys_of(out, training)
    files = sorted((out / "sites").glob(f"*/pairs-{training}.bin"))
    return keys.with_pairs(PairKeys.from_bytes(files[0].read_bytes())) if files else keys


def opened_sums(wire: Wire, terms: Terms, keys: Keys) -> list[Release]:
    """Return every sum that hospitals were shown, once each, opened.

    Args:
        wire: of the run.
        terms: its terms.
        keys: as `opener_keys`.
    """
    found: dict[tuple[int, int], Release] = {}
    for sent in wire.sent:
        if sent.kind not in (Kind.TRAIN, Kind.CONFIRM):
            continue
        for number, closed in RoundRequest.read(sent.asked).closed.items():
            roster = Roster.from_bytes(closed.roster)
            at = (number, roster.place.attempt)
            if at not in found:
                sum = unseal(SealedSum.of(closed, roster), terms, keys, roster.place)
                found[at] = Release(
                    hospital=EVERYBODY,
                    round=number,
                    attempt=roster.place.attempt,
                    steps=1,
                    vector=sum.values,
                    members=tuple(roster.names),
                )
    return list(found.values())
