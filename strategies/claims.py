"""Whose a name is, where a node may say that it is any hospital.

The server knows no hospital's key beforehand, but hospitals know each other's: what they pin comes
with their answers to a request to join. Of several nodes that claim a name, the one stays whose key
most others pin; a lone one goes where more than half of the others pin another key. The others are
named and left out. Nothing rests on it but that a training can begin: each hospital holds offers
against its own pins before it makes or takes a key.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from crypto.identity import fingerprint
from crypto.offers import Offer


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """What one node says of itself, and of the others.

    Attributes:
        offer: signed by the key that it shows.
        pins: fingerprints by name that it knows hospitals by.
    """

    offer: Offer
    pins: Mapping[str, str]


def held_by(claims: Mapping[int, Claim], name: str) -> Iterator[int]:
    """Yield the nodes that a name may belong to: one, unless nobody can tell.

    Args:
        claims: by node.
        name: which some of them claim.
    """
    claimants = [node for node, claim in claims.items() if claim.offer.name == name]
    others = [claim.pins for node, claim in claims.items() if node not in claimants]
    votes = Counter(pins[name] for pins in others if name in pins)
    shown = {node: votes[fingerprint(claims[node].offer.identity)] for node in claimants}
    most = max(shown.values())
    if len(claimants) > 1:
        yield from (node for node, count in shown.items() if count == most)
    elif 2 * (sum(votes.values()) - most) <= len(others):
        yield from claimants
