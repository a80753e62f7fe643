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
    empty_fields,
    pack_blocks,
    quantise_blocks,
    unpack_blocks,
    write_values,
)
from crypto.coins import Coins
from crypto.field_tags import PRIME, FieldWeights, Words, block_pads, read_digits, write_digits
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
        self.fields = empty_fields(layout, rows)
        self.plain: Coefficients = np.empty((rows, layout.degree), dtype=np.uint64)
        self.product: Coefficients = np.empty_like(self.plain)
        self.scratch: Spectrum = np.empty((rows, layout.degree // 2), dtype=np.complex128)

    def of(self, rows: int) -> "_Chunk":
        """Its first `rows` rows."""
        if rows == len(self.plain):
            return self
        part = object.__new__(_Chunk)
        part.fields, part.plain = self.fields[:rows], self.plain[:rows]
        part.product, part.scratch = self.product[:rows], self.scratch[:rows]
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
        whole, mask = _Chunk(layout, self._rows), np.uint64(2**layout.modulus_bits - 1)
        for first in range(0, layout.blocks, self._rows):
            product = blocks[first : first + self._rows]
            chunk = whole.of(len(product))
            quantise_blocks(values, first, layout, self._coins, chunk.fields)
            products = self._weights.products(chunk.fields)
            own = self._pads[first : first + len(product)].tolist()
            tags = [(pad + one) % PRIME for pad, one in zip(own, products, strict=True)]
            pack_blocks(chunk.fields, layout, chunk.plain)
            write_digits(tags, layout, chunk.plain)
            chunk.plain <<= np.uint64(layout.noise_bits)
            product += chunk.plain
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
    layout, weights, shared = sealing.layout, sealing.weights(), sealing.polynomials()
    contributions, tags = len(pads), _Tags(pads)
    opened = np.empty(layout.values)
    whole = _Chunk(layout, shared.rows)
    for first in range(0, layout.blocks, shared.rows):
        part = blocks[first : first + shared.rows]
        chunk = whole.of(len(part))
        from_planes(part, layout.wire_bits, chunk.plain)
        shared.chunk(first, secret.norm).times(
            secret, chunk.product, chunk.scratch, plus=-_rounding(layout, contributions)
        )
        _decode(chunk, layout)
        rooms = chunk.product.view(np.float64), chunk.scratch.view(np.float64)
        unpack_blocks(chunk.plain, layout, contributions, chunk.fields, rooms)
        products = weights.products(chunk.fields, contributions * layout.grid.half)
        digits = read_digits(chunk.plain, layout, contributions)
        tags.check([found - known for found, known in zip(digits, products, strict=True)])
        write_values(chunk.fields, first, layout, opened)
    return opened


class _Tags:
    """The tags of a sum, held against its contributors' pads some blocks at a time.

    Args:
        pads: By contributor, one a block.
    """

    def __init__(self, pads: Mapping[str, Words]) -> None:
        self._pads = pads
        # Up to 1023 pads below 2**48 add without overflow.
        summed: Words = sum(pads.values(), start=np.zeros(1, dtype=np.uint64))
        self._expected: list[int] = summed.tolist()
        self._observed: list[int] = []
        self._wrong = 0

    def check(self, observed: list[int]) -> None:
        """Take what the next blocks' tags say of their pads.

        With a wrong key or roster no block is right: the first of them say so, and cost little. Of
        blocks that were changed one by one all are counted.

        Raises:
            TagMismatchError: The sum is not of exactly these contributors at this place.
        """
        start = len(self._observed)
        self._observed += observed
        seen = len(self._observed)
        pairs = zip(observed, self._expected[start:seen], strict=True)
        self._wrong += sum((found - pad) % PRIME != 0 for found, pad in pairs)
        if self._wrong == seen or (self._wrong and seen == len(self._expected)):
            theirs = {name: one[:seen].tolist() for name, one in self._pads.items()}
            check_pads(self._observed, theirs, PRIME)


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
