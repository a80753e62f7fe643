"""Encrypting the blocks of a vector under one key, and decrypting those of a sum.

A block is ``a_i*s + e_i + 2**N*fields_i`` modulo 2**k, without its lowest r bits. All of it runs
over a few blocks at a time in memory that is used again and again: whole vectors of temporaries
would cost ten times the time.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crypto.blocks import (
    Digits,
    empty_fields,
    pack_blocks,
    quantise_blocks,
    unpacked,
    write_field,
)
from crypto.coins import Coins
from crypto.field_tags import PRIME, FieldWeights, Words, block_pads, join_digits, write_digits
from crypto.keys import Keys
from crypto.one_time_plans import Layout
from crypto.packing import from_planes, write_planes
from crypto.polynomials import Coefficients, Small, Spectrum
from crypto.roles import Place, Vector
from crypto.security import COINS, FRESH_STDDEV
from crypto.shared_polynomials import SharedPolynomials, shared_polynomials
from crypto.tags import check_pads

Blocks = NDArray[np.uint8]

#: Keys have std 4 a coefficient; one of norm 5*sqrt(n) is drawn less than once in 2**300.
_KEY_NORM = FRESH_STDDEV + 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Sealing:
    """What the blocks of a place are made under.

    Attributes:
        layout: How values lie.
        keys: Of the training.
        bind: Digest of the training's terms and members.
        place: Training, round and attempt.
    """

    layout: Layout
    keys: Keys
    bind: bytes
    place: Place

    def pads(self, nonces: Mapping[str, bytes]) -> dict[str, Words]:
        """Hospitals' pads of this place's tags by name, uint64 `[blocks]` each."""
        keys, blocks = self.keys, self.layout.blocks
        return block_pads(keys.group_key, self.place, nonces, keys.parameter_id, blocks)

    def weights(self) -> FieldWeights:
        """The tags' secret weights at this place."""
        keys = self.keys
        return FieldWeights(keys.group_key, self.place, keys.parameter_id, self.layout)

    def polynomials(self) -> SharedPolynomials:
        """The public polynomials of this place."""
        return shared_polynomials(self.layout, self.place, self.keys.parameter_id, self.bind)


class _Chunk:
    """Working memory for some blocks, used again and again so that it stays in the caches."""

    def __init__(self, layout: Layout, rows: int) -> None:
        self.plain: Coefficients = np.empty((rows, layout.degree), dtype=np.uint64)
        self.product: Coefficients = np.empty_like(self.plain)
        self.scratch: Spectrum = np.empty((rows, layout.degree // 2), dtype=np.complex128)

    def of(self, rows: int) -> "_Chunk":
        """Its first `rows` rows."""
        if rows == len(self.plain):
            return self
        part = object.__new__(_Chunk)
        part.plain, part.product = self.plain[:rows], self.product[:rows]
        part.scratch = self.scratch[:rows]
        return part


class EmptyBlocks:
    """The blocks of one vector before it is there: ``a_i*s + e_i``, encryptions of nought.

    The vector is added to them where they lie, so of what hid it nothing is left but what is sent.

    Args:
        secret: The key of this vector.
        coins: For errors and salt.
        sealing: What it is sealed under.
        pads: Of the hospital's tags.
    """

    def __init__(self, secret: Small, coins: Coins, sealing: Sealing, pads: Words) -> None:
        layout, shared = sealing.layout, sealing.polynomials()
        self._coins, self._sealing, self._pads, self._rows = coins, sealing, pads, shared.rows
        self._weights = sealing.weights()
        self._blocks: Coefficients = np.empty((layout.blocks, layout.degree), dtype=np.uint64)
        scratch: Spectrum = np.empty((shared.rows, layout.degree // 2), dtype=np.complex128)
        norm = _KEY_NORM * layout.degree**0.5
        for first in range(0, layout.blocks, shared.rows):
            out = self._blocks[first : first + shared.rows]
            # Errors are centred: what they are too large by goes with the product's own constant.
            shared.chunk(first, norm).times(secret, out, scratch[: len(out)], plus=-(COINS // 2))
            out += coins.heads(out.size).astype(np.uint64).reshape(out.shape)

    def filled(self, values: Vector) -> Blocks:
        """Quantise, tag and add float64 `[d]`, finite; once, as the blocks are gone then.

        Returns:
            uint8 `[blocks, block_bytes]`.
        """
        layout, blocks = self._sealing.layout, self._blocks
        del self._blocks
        body = np.empty((layout.blocks, layout.block_bytes), dtype=np.uint8)
        mask = np.uint64(2**layout.modulus_bits - 1)
        all_fields = empty_fields(layout, self._rows)
        all_plain: Coefficients = np.empty((self._rows, layout.degree), dtype=np.uint64)
        for first in range(0, layout.blocks, self._rows):
            product = blocks[first : first + self._rows]
            fields, plain = all_fields[: len(product)], all_plain[: len(product)]
            quantise_blocks(values, first, layout, self._coins, fields)
            own = self._pads[first : first + len(product)].tolist()
            products = self._weights.products(fields)
            tags = [(pad + one) % PRIME for pad, one in zip(own, products, strict=True)]
            pack_blocks(fields, layout, plain)
            write_digits(tags, layout, plain)
            plain <<= np.uint64(layout.noise_bits)
            product += plain
            product &= mask
            product >>= np.uint64(layout.bits_cut)
            write_planes(product, layout.wire_bits, body[first : first + self._rows])
        return body

    def __repr__(self) -> str:
        return "EmptyBlocks(hidden)"


def decrypt_blocks(
    blocks: Blocks, secret: Small, sealing: Sealing, pads: Mapping[str, Words]
) -> Vector:
    """Decrypt the blocks of a sum, uint8 `[blocks, block_bytes]`, and check every tag.

    Args:
        blocks: The sum of what its contributors sealed.
        secret: The sum of their keys.
        sealing: What they sealed under.
        pads: Theirs, by name.

    Returns:
        The exact integer sum times the step, float64 `[d]`.

    Raises:
        TagMismatchError: The sum is not of exactly these contributors at this place.
    """
    layout, shared, contributions = sealing.layout, sealing.polynomials(), len(pads)
    tags = _Tags(sealing.weights(), layout, pads)
    opened = np.empty(layout.values)
    whole, rounding = _Chunk(layout, shared.rows), _rounding(layout, contributions)
    for first in range(0, layout.blocks, shared.rows):
        part = blocks[first : first + shared.rows]
        chunk = whole.of(len(part))
        from_planes(part, layout.wire_bits, chunk.plain)
        polynomials = shared.chunk(first, secret.norm)
        polynomials.times(secret, chunk.product, chunk.scratch, plus=-rounding)
        _decode(chunk, layout)
        tags.begin(first, chunk.plain)
        rooms = chunk.product.view(np.float64), chunk.scratch.view(np.float64)
        for field, digits in enumerate(unpacked(chunk.plain, layout, contributions, rooms)):
            tags.add(digits, field)
            write_field(digits, field, first, layout, opened)
        tags.check()
    return opened


class _Tags:
    """The tags of a sum, held against its fields and its contributors' pads.

    Args:
        weights: Of the fields.
        layout: How values lie.
        pads: By contributor, one a block.
    """

    def __init__(self, weights: FieldWeights, layout: Layout, pads: Mapping[str, Words]) -> None:
        self._weights, self._layout, self._pads = weights, layout, pads
        self._sums = np.zeros((layout.blocks, weights.columns))
        self._digits: Words = np.empty((layout.blocks, layout.tag_coefficients), dtype=np.uint64)
        self._rows = slice(0)

    def begin(self, first: int, plain: Coefficients) -> None:
        """Take what blocks from `first` on hold beside their fields."""
        self._rows = slice(first, first + len(plain))
        self._digits[self._rows] = plain[:, self._layout.data_coefficients :]

    def add(self, digits: Digits, field: int) -> None:
        """Take the next field of these blocks."""
        first = field * self._layout.data_coefficients
        self._sums[self._rows] += self._weights.sums(digits, first)

    def check(self) -> None:
        """Hold the tags so far against the pads, after the first blocks and after the last.

        With a wrong key or roster no block is right: the first of them say so, and cost little. Of
        blocks that were changed one by one all are counted.

        Raises:
            TagMismatchError: The sum is not of exactly these contributors at this place.
        """
        seen, whole = self._rows.stop, self._rows.stop == self._layout.blocks
        if not whole and self._rows.start:
            return
        contributions = len(self._pads)
        digits = join_digits(self._digits[:seen], self._layout, contributions)
        middle = contributions * self._layout.grid.half
        products = self._weights.joined(self._sums[:seen], middle)
        observed = [found - known for found, known in zip(digits, products, strict=True)]
        # Up to 1023 pads below 2**48 add without overflow.
        summed: Words = sum(self._pads.values(), start=np.zeros(1, dtype=np.uint64))
        pairs = zip(observed, summed[:seen].tolist(), strict=True)
        wrong = sum((found - pad) % PRIME != 0 for found, pad in pairs)
        if wrong == seen or (wrong and whole):
            theirs = {name: one[:seen].tolist() for name, one in self._pads.items()}
            check_pads(observed, theirs, PRIME)


def _rounding(layout: Layout, contributions: int) -> int:
    """What is added to sums of coefficients before their noise is cut off.

    Half of the room for noise, so that it is rounded off; what cutting r bits off took from the
    contributions on average, ``(2**r - 1)/2`` from each; and less the middle of all fields, so
    that what is left is centred.
    """
    mean_cut = contributions * ((1 << layout.bits_cut) - 1) // 2
    middle = layout.middle_of_sum(contributions) << layout.noise_bits
    return mean_cut + (1 << (layout.noise_bits - 1)) - middle


def _decode(chunk: _Chunk, layout: Layout) -> None:
    """Turn sums of coefficients into centred plaintexts, in place: numbers of w bits with a sign.

    The product with the key, which comes less what `_rounding` adds, is taken off.
    """
    chunk.plain <<= np.uint64(layout.bits_cut)
    chunk.plain -= chunk.product
    chunk.plain <<= np.uint64(64 - layout.modulus_bits)
    signed = chunk.plain.view(np.int64)
    signed >>= 64 - layout.plain_bits
