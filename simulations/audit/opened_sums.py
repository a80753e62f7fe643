"""Opened sums, read as a hospital opens them: the total, its roster and what came with them.

Under keys for one sum nobody opens a single update, so what canaries did is read from the sums of
all that are in a roster. Nothing is opened here in a way of its own: hospitals call the same
`clients.site.unsealing.unseal`, with the holders' answers, and without noise that a sum can spare.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np

from accounting.audit_gates import Gate
from accounting.parts import part_noise
from clients.contract.kinds import Kind
from clients.contract.messages import RoundRequest
from clients.site.unsealing import SealedSum, unseal
from crypto.pairs import PairKeys
from crypto.rosters import Roster
from crypto.seeds import unpacked
from simulations.audit.gates import exact_gate, pair_gate
from simulations.audit.opened import Release, keys_of

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from clients.contract.messages import OpenedRound
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
    found = []
    for closed, roster in _closed(wire):
        sum = unseal(SealedSum.of(closed, roster), terms, keys, roster.place, wire.names)
        found.append(
            Release(
                hospital=EVERYBODY,
                round=roster.place.round,
                attempt=roster.place.attempt,
                steps=1,
                vector=sum.values,
                members=tuple(roster.names),
            )
        )
    return found


def _closed(wire: Wire) -> Iterator[tuple[OpenedRound, Roster]]:
    """Yield every closed round that hospitals were shown, once each, and its roster."""
    known = set()
    for sent in wire.sent:
        if sent.kind not in (Kind.TRAIN, Kind.CONFIRM):
            continue
        for closed in RoundRequest.read(sent.asked).closed.values():
            roster = Roster.from_bytes(closed.roster)
            if roster.place not in known:
                known.add(roster.place)
                yield closed, roster


def known_noise(wire: Wire, width: int) -> Mapping[str, NDArray[np.float64]]:
    """Return the noise that everybody knows, since its seeds are open, standard normal ``[width]``.

    It is drawn as hospitals draw it when they take it out of a sum; by whose it is, and when.
    """
    return {
        f"part {part} of {hospital}'s in round {roster.place.round}": part_noise(seed, width, 1.0)
        for closed, roster in _closed(wire)
        for (hospital, part), seed in unpacked(closed.seeds).items()
    }


def parts_gates(
    wire: Wire, left: NDArray[np.float64], names: list[str], *, shared: bool
) -> list[Gate]:
    """Return whether noise whose seeds are open tells nothing of any that stays, or of each other.

    Args:
        wire: of the run.
        left: noise of each opened sum, as a share of its standard deviation, ``[sums, d]``.
        names: of these.
        shared: whether seeds are shared, so that some must be open.
    """
    if not shared:
        return []
    known = known_noise(wire, left.shape[1])
    gates = [exact_gate("seeds of noise are opened", [] if known else ["none is"])]
    if known:
        rows = np.concatenate([left, np.stack(list(known.values()))])
        name = "correlation of noise that everybody knows with noise that stays"
        gates.append(pair_gate(rows, [*names, *known], name=name))
    return gates
