"""Truncation: dividing a shared number by a power of two, without a chance to fail.

Both open c = x + 2**62 + r with a mask r that the dealer knows. As 0 <= x + 2**62 < 2**63, whether
the sum ran over follows from the top bits of c and r alone, and what is added for it is linear in
the shared top bit of r. So the quotient is x / 2**shift rounded down or up, up with the probability
of the fraction: off by less than one unit, always, for every |x| < 2**62. (Truncating shares one by
one, as Mohassel and Zhang 2017 do, fails grossly with probability |x| / 2**63.)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crypto.inference.parties import Party
from crypto.inference.sources import Source
from crypto.inference.words import Shape, Words, word

#: Shared numbers lie between -2**RANGE_BITS and 2**RANGE_BITS.
RANGE_BITS = 62
#: Up to so many bits, the top bit's correction is a 32-bit number.
MOST_BITS = 31
LIFT = np.uint64(1 << RANGE_BITS)
TOP, ONE = np.uint64(63), np.uint64(1)
BELOW_TOP = np.uint64(2**63 - 1)


@dataclass(frozen=True)
class Quotient:
    """What is known of a mask: its own low bits divided, and its top bit, as shares."""

    divided: Words
    top: NDArray[Any]


def divided(mask: Words, shift: int) -> Words:
    """Return a mask without its top bit, divided."""
    return (mask & BELOW_TOP) >> np.uint64(shift)


def top_bit(mask: Words) -> Words:
    """Return a mask's top bit."""
    return mask >> TOP


def known_part(opened: Words, shift: int) -> tuple[Words, Words]:
    """Return what the opened number alone adds to the quotient, and to the top bit's factor.

    The quotient is the first - divided + second * top.
    """
    over = opened >> TOP
    unit = word(1 << 63 - shift)
    base = ((opened & BELOW_TOP) >> np.uint64(shift)) - word(1 << RANGE_BITS - shift) + over * unit
    return base, unit - (over * unit << ONE)


@dataclass(frozen=True)
class Division:
    """Material of a truncation: a mask's share, and shares of what is known of it."""

    mask: Words
    quotient: Quotient


def deal_division(source: Source, shape: Shape, shift: int) -> Division:
    """Return what dividing numbers of a shape takes."""
    assert 0 < shift < RANGE_BITS
    mask, kind = source.mask(shape), np.uint32 if shift <= MOST_BITS else np.uint64
    return Division(
        mask,
        Quotient(
            source.derived(lambda: divided(mask, shift), shape),
            source.derived(lambda: top_bit(mask), shape, kind),
        ),
    )


def divide(party: Party, material: Division, share: Words, shift: int) -> Words:
    """Return a share of share / 2**shift, in one round."""
    opened = party.open(share + material.mask + party.public(LIFT))
    base, factor = known_part(opened, shift)
    out: Words = factor * material.quotient.top - material.quotient.divided
    out += party.public(base)
    return out
