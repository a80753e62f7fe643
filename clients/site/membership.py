"""What a hospital has in a training since the ceremony: keys, and who the others are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from accounting.private import Unreleased
from crypto.keys import Keys


@dataclass(frozen=True, kw_only=True)
class Membership(Unreleased):
    """What a hospital has in a training.

    Attributes:
        keys: of the training.
        public_keys: signing keys of all members by name.
        bind: digest of terms and members, to which every header is bound.
        noise_multiplier: sigma, as it came with the keys.
        vouchers: how many of the others must vouch for its book where that is asked for.
    """

    keys: Keys
    public_keys: Mapping[str, bytes]
    bind: bytes
    noise_multiplier: float
    vouchers: int = 0


def vouchers_needed(hospitals: int, dropouts: int, colluders: int) -> int:
    """Return how many peers must vouch for a hospital's book: min(K-1, max(c+1, K-d-1))."""
    return min(hospitals - 1, max(colluders + 1, hospitals - dropouts - 1))
