"""What a hospital has in a training since the ceremony: keys, and who the others are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from crypto.keys import Keys


@dataclass(frozen=True, kw_only=True)
class Membership:
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
