"""Comparison: whether a shared number is negative, and what depends on it.

Both open c = x + 2**62 + r. Bit 62 of c - r says whether x >= 0; it is known bits of c and of r,
and a borrow out of the lower 62 bits, which a tree of pairs finds: a group of bits generates a
borrow or passes one on. The bits of r are shared bit by bit. The lowest level needs nothing of the
other party, since c is public and the dealer gives the products of neighbouring bits of r; each
higher level multiplies shared bits, with one triple for both products (Beaver 1991). Bits lie in a
word so that neighbours meet as its halves: the numbers of their places are written backwards.

The sign comes out masked by a bit of which the dealer gave products with r, so that choosing by the
sign, and dividing what is chosen, take no further round.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crypto.inference.parties import Party
from crypto.inference.sources import Source
from crypto.inference.truncation import LIFT, Quotient, divided, known_part, top_bit
from crypto.inference.words import Words

Array = NDArray[Any]
Bytes = NDArray[np.uint8]

#: Elements that are worked on at once, so that they stay in a processor's cache.
BLOCK = 1 << 14
_TOP_PAIR, _BELOW_TOP_PAIR = np.uint32(1 << 31), np.uint32((1 << 31) - 1)
_SIGN = np.uint64(62)
#: Where in a byte of the last masks each level has its bits: (bits of a half, where they begin).
_LAST_LEVELS = ((4, 0), (2, 4), (1, 6))
_HIDING = 7
_WIDTHS: tuple[type[np.unsignedinteger[Any]], ...] = (np.uint16, np.uint8)


def _exchanges() -> list[tuple[np.uint64, np.uint64]]:
    """Return shifts and masks that swap bits of the numbers of places: 0 with 5, 1 with 4, ..."""
    swaps = []
    for low, high in ((0, 5), (1, 4), (2, 3)):
        shift = (1 << high) - (1 << low)
        mask = sum(1 << place for place in range(64) if place >> low & 1 and not place >> high & 1)
        swaps.append((np.uint64(shift), np.uint64(mask)))
    return swaps


_SWAPS = _exchanges()


def backwards(words: Words) -> Words:
    """Return words with bit i at the place whose six-bit number is that of i, read backwards."""
    out = words.copy()
    for shift, mask in _SWAPS:
        moved = out >> shift
        moved ^= out
        moved &= mask
        out ^= moved
        moved <<= shift
        out ^= moved
    return out


@dataclass(frozen=True)
class Level:
    """Masks of one level of the tree, and their products, as shares of bits."""

    passing: Array
    generating: Array
    passed: Array
    by_generating: Array
    by_passed: Array


@dataclass(frozen=True)
class Comparison:
    """Material of a comparison of n numbers.

    Attributes:
        mask: r.
        bits: of r, backwards.
        pairs: products of neighbouring bits of r.
        levels: of 16 and 8 bits, then one for the last three levels together, whose masks hold in
            their highest bit what hides the sign.
        hiding: the hiding bit, as a number.
        by_mask: it times r, where nothing is divided.
        quotient: what is known of r, where the chosen is divided.
        by_quotient: the hiding bit times that.
    """

    mask: Words
    bits: Words
    pairs: NDArray[np.uint32]
    levels: tuple[Level, Level, Level]
    hiding: Words
    by_mask: Words | None = None
    quotient: Quotient | None = None
    by_quotient: Quotient | None = None


def deal_comparison(source: Source, n: int, *, choosing: bool, shift: int = 0) -> Comparison:
    """Return what comparing n numbers takes.

    Args:
        source: of randomness.
        n: how many.
        choosing: whether numbers are chosen by the sign, or the sign alone is wanted.
        shift: bits by which what is chosen is divided.
    """
    shape = (n,)
    mask = source.mask(shape)
    bits = source.derived_bits(lambda: backwards(mask), shape, np.uint64)
    pairs = source.derived_bits(lambda: np.bitwise_and(*_halves(bits, np.uint32)), shape, np.uint32)
    first, second, last = (_deal_level(source, n, kind) for kind in (np.uint16, np.uint8, np.uint8))
    coin = (last.passing >> np.uint8(_HIDING)).astype(np.uint64)
    made: dict[str, Any] = {"hiding": source.derived(lambda: coin, shape)}
    if choosing and not shift:
        made["by_mask"] = source.derived(lambda: coin * mask, shape)
    if choosing and shift:
        made["quotient"] = Quotient(
            source.derived(lambda: divided(mask, shift), shape),
            source.derived(lambda: top_bit(mask), shape, np.uint32),
        )
        made["by_quotient"] = Quotient(
            source.derived(lambda: coin * divided(mask, shift), shape),
            source.derived(lambda: coin * top_bit(mask), shape, np.uint32),
        )
    return Comparison(mask, bits, pairs, (first, second, last), **made)


def _deal_level(source: Source, n: int, kind: type[np.unsignedinteger[Any]]) -> Level:
    a, b, c = (source.bits((n,), kind) for _ in range(3))
    return Level(
        a,
        b,
        c,
        source.derived_bits(lambda: a & b, (n,), kind),
        source.derived_bits(lambda: a & c, (n,), kind),
    )


def _halves(words: Array, kind: type[np.unsignedinteger[Any]]) -> tuple[Array, Array]:
    """Return the low and high halves of words."""
    both = words.view(kind).reshape(-1, 2)
    return both[:, 0], both[:, 1]


def _masked_sign(party: Party, material: Comparison, opened: Words) -> NDArray[np.bool_]:
    """Return whether x >= 0, [n], turned round where the hiding bit is 1."""
    generating, passing = _lowest_level(party, material, opened)
    for level, kind in zip(material.levels[:2], _WIDTHS, strict=True):
        g_low, g_high = _halves(generating, kind)
        p_low, p_high = _halves(passing, kind)
        generating, passing = _joined(party, level, (g_low, g_high, p_low, p_high))
    last = material.levels[2]
    for bits, start in _LAST_LEVELS:
        generating, passing = _joined_in_bytes(party, last, generating, passing, bits, start)
    top = _halves(material.bits, np.uint32)[0] >> np.uint32(31)
    sign = (generating ^ top.astype(np.uint8) ^ (last.passing >> np.uint8(_HIDING))) & np.uint8(1)
    if party.provider:
        sign ^= (opened >> _SIGN).astype(np.uint8) & np.uint8(1)
    packed = party.open_bits(np.packbits(sign))[0]
    return np.unpackbits(packed, count=len(sign)).view(np.bool_)


def _lowest_level(party: Party, material: Comparison, opened: Words) -> tuple[Array, Array]:
    """Return which pairs of bits generate and pass a borrow, uint32 [n] each, as shares."""
    n = len(opened)
    generating, passing = np.empty(n, np.uint32), np.empty(n, np.uint32)
    for start in range(0, n, BLOCK):
        part = slice(start, start + BLOCK)
        low, high = _halves(material.bits[part], np.uint32)
        not_low, not_high = _halves(~backwards(opened[part]), np.uint32)
        crossed = not_high & low
        both: Array = material.pairs[part] ^ crossed
        made: Array = high & not_high
        made ^= not_low & both
        made &= _BELOW_TOP_PAIR
        both ^= high & not_low
        if party.provider:
            both ^= not_high & not_low
            both |= _TOP_PAIR
        else:
            both &= _BELOW_TOP_PAIR
        generating[part], passing[part] = made, both
    return generating, passing


def _joined(
    party: Party, level: Level, halves: tuple[Array, Array, Array, Array]
) -> tuple[Array, Array]:
    g_low, g_high, p_low, p_high = halves
    e, f, h = party.open_bits(
        p_high ^ level.passing, g_low ^ level.generating, p_low ^ level.passed
    )
    generating = g_high ^ level.by_generating
    generating ^= level.passing & f
    passing = level.by_passed ^ (level.passing & h)
    passing ^= e & level.passed
    generating ^= e & level.generating
    if party.provider:
        generating ^= e & f
        passing ^= e & h
    return generating, passing


def _joined_in_bytes(
    party: Party, level: Level, generating: Bytes, passing: Bytes, bits: int, start: int
) -> tuple[Bytes, Bytes]:
    """Join halves of `bits` bits that lie in one byte; what is opened is packed."""
    half, begin, keep = np.uint8(bits), np.uint8(start), np.uint8((1 << bits) - 1)
    a, b, c, ab, ac = (
        (field >> begin) & keep
        for field in (
            level.passing,
            level.generating,
            level.passed,
            level.by_generating,
            level.by_passed,
        )
    )
    e = ((passing >> half) ^ a) & keep
    f = (generating ^ b) & keep
    h = (passing ^ c) & keep
    if bits == 4:
        both, h = party.open_bits(e | (f << half), h)
        e, f = both & keep, both >> half
    else:
        (both,) = party.open_bits(e | (f << half) | (h << np.uint8(2 * bits)))
        e, f, h = both & keep, (both >> half) & keep, (both >> np.uint8(2 * bits)) & keep
    joined = (generating >> half) & keep
    joined ^= ab ^ (e & b) ^ (a & f)
    through = ac ^ (e & c) ^ (a & h)
    if party.provider:
        joined ^= e & f
        through ^= e & h
    return joined, through


def positive_part(party: Party, material: Comparison, share: Words, shift: int = 0) -> Words:
    """Return a share of max(x, 0) / 2**shift for numbers [n], rounded as `truncation` says."""
    opened = party.open(share + material.mask + party.public(LIFT))
    turned = _masked_sign(party, material, opened)
    if not shift:
        assert material.by_mask is not None
        chosen: Words = (opened - LIFT) * material.hiding - material.by_mask
        return np.where(turned, share - chosen, chosen)
    assert material.quotient is not None and material.by_quotient is not None
    base, factor = known_part(opened, shift)
    chosen = base * material.hiding + factor * material.by_quotient.top
    chosen -= material.by_quotient.divided
    whole: Words = factor * material.quotient.top - material.quotient.divided
    whole += party.public(base)
    return np.where(turned, whole - chosen, chosen)


def not_negative(party: Party, material: Comparison, share: Words) -> Words:
    """Return a share of 1 where x >= 0, else of 0, for numbers [n]."""
    opened = party.open(share + material.mask + party.public(LIFT))
    turned = _masked_sign(party, material, opened)
    one: Words = party.public(np.uint64(1)) - material.hiding
    return np.where(turned, one, material.hiding)
