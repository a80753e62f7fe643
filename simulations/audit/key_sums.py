"""What seals sums under one-time keys: read with the hospitals' group key, place by place.

A hospital's masked key says nothing by itself; those of all hospitals at a place add up to the sum
of their keys, which opens the sum of their vectors. Every place must have a sum of its own, one
that was given up as well: where a single hospital uses a key again, the sums of two places are
correlated, and with one of them the other can be opened, or told apart.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

import numpy as np

from accounting.audit_gates import Gate, spread_gate
from clients.contract.kinds import Kind
from clients.contract.messages import RoundReply
from crypto.headers import Header, SignedHeader
from crypto.one_time_plans import DEGREES
from crypto.pairs import stream_sum
from crypto.security import COINS, FRESH_STDDEV
from crypto.tags import derive_key
from simulations.audit.gates import exact_gate, pair_gate

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from crypto.keys import Keys
    from crypto.roles import Place
    from simulations.audit.wire import Wire


def key_gates(wire: Wire, keys: Keys) -> list[Gate]:
    """Return whether every place of a training under one-time keys has keys of its own.

    Args:
        wire: what left.
        keys: of the training.
    """
    sums, faults = _key_sums(wire, keys)
    gates = [exact_gate("masked keys of a place add up to a sum of keys", faults)]
    if len(sums) < 2:
        return [*gates, exact_gate("two places have sums of keys", ["fewer were answered by all"])]
    rows = np.stack(list(sums.values())) / (FRESH_STDDEV * np.sqrt(len(wire.names)))
    names = [f"round {place.round}, attempt {place.attempt}" for place in sums]
    return [
        *gates,
        pair_gate(rows, names, name="correlation of the one-time keys of two places"),
        spread_gate(
            "one-time keys, as a share of what is stated",
            "all places",
            squares=float((rows**2).sum()),
            count=rows.size,
            stddev=1.0,
        ),
    ]


def _key_sums(wire: Wire, keys: Keys) -> tuple[dict[Place, NDArray[np.int64]], list[str]]:
    """Return the sum of keys of each place that all hospitals answered, and where there is none."""
    answers: dict[Place, dict[str, tuple[Header, bytes]]] = defaultdict(dict)
    for sent in wire.sent:
        if sent.kind is Kind.TRAIN and sent.content is not None:
            reply = RoundReply.read(sent.content)
            header = SignedHeader.from_bytes(reply.header).header
            answers[header.place][header.sender] = header, reply.sealed
    sums, faults = {}, []
    for place, given in answers.items():
        if len(given) < len(wire.names):
            continue
        found = [
            one for degree in DEGREES if (one := _unmasked(given, place, keys, degree)) is not None
        ]
        if len(found) == 1:
            sums[place] = found[0]
        else:
            faults.append(f"round {place.round}, attempt {place.attempt}: none is found")
    return sums, faults


def _unmasked(
    given: dict[str, tuple[Header, bytes]], place: Place, keys: Keys, degree: int
) -> NDArray[np.int64] | None:
    """Return the sum of keys of one degree, int64 ``[n]``; None where what is found is none."""
    label = keys.parameter_id.encode()
    total = np.zeros(degree, dtype=np.uint16)
    for name, (header, payload) in given.items():
        pad = derive_key(keys.group_key, b"key pad", place, name.encode(), header.nonce, label)
        total += np.frombuffer(payload[-2 * degree :], dtype="<u2")
        total -= stream_sum([(pad, True)], degree)
    found = total.view(np.int16).astype(np.int64)
    return found if int(np.abs(found).max()) <= COINS // 2 * len(given) else None
