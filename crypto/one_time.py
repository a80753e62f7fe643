"""One-time keys: exact sums under keys that nobody holds and that open one sum each.

For every sum each hospital draws a secret polynomial s of its own and seals block i of its update
as ``a_i*s + e_i + 2**N*fields_i`` modulo 2**k (RLWE; Lyubashevsky, Peikert and Regev 2010), with
``a`` public and derived by all. Beside it travels s itself, masked: pairwise masks of the hospitals
cancel in the sum over *all* of them, so a sum of ciphertexts comes with the sum S of its keys, and
with nothing else that opens anything. The server adds both. A last mask under the group key keeps
S from the server too; hospitals take it off.

Formal guarantee. The masked keys of honest hospitals are uniform but for their sum, whatever the
server shows to whom and whatever up to K - 2 hospitals send: one that is missing leaves them
uniform, and a place is answered once. So nothing opens but the sum of all. Two honest hospitals'
updates in an opened sum are protected by RLWE with what S and the decoding errors give away counted
in (`crypto.security`). Keys and errors never touch a disk.
"""

from collections.abc import Mapping

import numpy as np

from crypto.blocks import (
    empty_fields,
    pack_blocks,
    quantise_blocks,
    unpack_blocks,
    write_values,
)
from crypto.coins import Coins
from crypto.errors import ContributionError, KeysError, TagMismatchError
from crypto.field_tags import PRIME, FieldWeights, Words, block_pads, read_digits, write_digits
from crypto.frames import Content, Frame, read_frame, write_frame
from crypto.keys import Keys
from crypto.one_time_plans import Layout
from crypto.packing import from_planes, write_planes
from crypto.pairs import Mask, PairKeys, stream_words
from crypto.plans import SealingPlan
from crypto.polynomials import Coefficients, Small, Spectrum
from crypto.roles import Place, Sealed, Vector
from crypto.security import COINS, FRESH_STDDEV
from crypto.shared_polynomials import SharedPolynomials, shared_polynomials
from crypto.tags import check_pads, derive_key
from crypto.vectors import check_contributors, check_vector, new_nonce

#: Keys have std 4 a coefficient; one of norm 5*sqrt(n) is drawn less than once in 2**300.
_KEY_NORM = FRESH_STDDEV + 1.0
_ADDED = 16_384  # coefficients that the server adds at once


def _pairs_of(keys: Keys, plan: SealingPlan) -> PairKeys:
    keys.require(plan)
    if keys.pairs is None or len(keys.pairs.others) != plan.hospitals - 1:
        found = "none" if keys.pairs is None else str(len(keys.pairs.others))
        raise KeysError(f"{found} pair keys, one-time keys need {plan.hospitals - 1}")
    return keys.pairs


def _key_pad(keys: Keys, place: Place, hospital: str, nonce: bytes, degree: int) -> Mask:
    """What keeps the sum of keys from the server: pseudorandom words under the group key."""
    label = keys.parameter_id.encode()
    key = derive_key(keys.group_key, b"key pad", place, hospital.encode(), nonce, label)
    return stream_words(key, degree)


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


class OneTimeSealer:
    """Quantises, packs, tags and encrypts under a key of its own for every vector."""

    def __init__(self, plan: SealingPlan, keys: Keys, hospital: str) -> None:
        self._pairs = _pairs_of(keys, plan)
        if self._pairs.hospital != hospital:
            raise KeysError(f"pair keys of {self._pairs.hospital!r}, not of {hospital!r}")
        self._plan, self._layout, self._keys, self._hospital = plan, plan.layout, keys, hospital

    def seal(self, values: Vector, place: Place) -> Sealed:
        """Seal float64 `[d]` for the sum of all hospitals at `place`.

        Raises:
            KeysError: The round is over for this hospital: its pair keys have moved on.
        """
        layout, plan = self._layout, self._plan
        check_vector(values, plan.values)
        nonce, coins = new_nonce(), Coins()
        masks = self._pairs.masks(place, layout.degree)
        secret = coins.binomial(layout.degree)
        shared = shared_polynomials(layout, place, plan.parameter_id, self._pairs.bind)
        body = self._blocks(values, Small(secret), coins, shared, place, nonce)
        masks += secret.astype(np.uint16)
        masks += _key_pad(self._keys, place, self._hospital, nonce, layout.degree)
        return write_frame(
            plan,
            content=Content.SINGLE,
            key_id=self._keys.key_id,
            contributions=1,
            body=[body.data, masks.data.cast("B")],
            nonce=nonce,
        )

    def _blocks(
        self,
        values: Vector,
        secret: Small,
        coins: Coins,
        shared: SharedPolynomials,
        place: Place,
        nonce: bytes,
    ) -> np.ndarray:
        """All encrypted blocks, uint8 `[blocks * block_bytes]`."""
        layout, keys, identifier = self._layout, self._keys, self._plan.parameter_id
        pads = block_pads(
            keys.group_key, place, self._hospital, nonce, identifier, layout.blocks
        ).tolist()
        weights = FieldWeights(keys.group_key, place, identifier, layout)
        body = np.empty((layout.blocks, layout.block_bytes), dtype=np.uint8)
        whole, mask = _Chunk(layout, shared.rows), np.uint64(2**layout.modulus_bits - 1)
        for first in range(0, layout.blocks, shared.rows):
            out = body[first : first + shared.rows]
            chunk = whole.of(len(out))
            quantise_blocks(values, first, layout, coins, chunk.fields)
            products = weights.products(chunk.fields)
            tags = [
                (pad + product) % PRIME
                for pad, product in zip(pads[first : first + len(out)], products, strict=True)
            ]
            pack_blocks(chunk.fields, layout, chunk.plain)
            write_digits(tags, layout, chunk.plain)
            self._encrypt(chunk, secret, coins, shared, first)
            chunk.product &= mask
            chunk.product >>= np.uint64(layout.bits_cut)
            write_planes(chunk.product, layout.wire_bits, out)
        return body.reshape(-1)

    def _encrypt(
        self, chunk: _Chunk, secret: Small, coins: Coins, shared: SharedPolynomials, first: int
    ) -> None:
        """``a*s + e + 2**N * plain`` into the chunk's product."""
        norm = _KEY_NORM * self._layout.degree**0.5
        shared.chunk(first, norm).times(secret, chunk.product, chunk.scratch)
        chunk.plain <<= np.uint64(self._layout.noise_bits)
        chunk.product += chunk.plain
        chunk.product += coins.binomial(chunk.plain.size).view(np.uint64).reshape(chunk.plain.shape)


class OneTimeAdder:
    """Adds coefficients modulo 2**64 and masked keys modulo 2**16; holds public parameters only.

    Its memory is that of one vector of words, whatever K.
    """

    def __init__(self, plan: SealingPlan, key_id: bytes | None) -> None:
        self._plan, self._layout, self._key_id = plan, plan.layout, key_id
        self._sum = np.zeros((plan.ciphertexts, plan.degree), dtype=np.uint64)
        self._keys = np.zeros(plan.degree, dtype=np.uint16)
        self._contributions = 0

    @property
    def contributions(self) -> int:
        """Vectors in the sum."""
        return self._contributions

    def add(self, sealed: Sealed) -> None:
        """Fold in one vector; on an error the sum is as before."""
        plan, layout = self._plan, self._layout
        frame = read_frame(sealed, plan, content=Content.SINGLE, key_id=self._key_id)
        if self._contributions >= plan.hospitals:
            raise ContributionError(f"more than the planned {plan.hospitals} contributions")
        blocks, masked = _parts(frame, layout)
        rows = max(1, _ADDED // layout.degree)
        incoming = np.empty((rows, layout.degree), dtype=np.uint64)
        for first in range(0, layout.blocks, rows):
            part = blocks[first : first + rows]
            from_planes(part, layout.wire_bits, incoming[: len(part)])
            self._sum[first : first + rows] += incoming[: len(part)]
        self._keys += masked
        self._key_id = frame.key_id
        self._contributions += 1

    def total(self) -> Sealed:
        """The sum so far."""
        layout = self._layout
        if not self._contributions or self._key_id is None:
            raise ContributionError("a sum of no contributions")
        body = np.empty((layout.blocks, layout.block_bytes), dtype=np.uint8)
        self._sum &= np.uint64(2**layout.wire_bits - 1)
        write_planes(self._sum, layout.wire_bits, body)
        return write_frame(
            self._plan,
            content=Content.TOTAL,
            key_id=self._key_id,
            contributions=self._contributions,
            body=[body.reshape(-1).data, self._keys.data.cast("B")],
        )


class OneTimeOpener:
    """Opens the sum of all hospitals with the sum of their keys, and checks every block's tag."""

    def __init__(self, plan: SealingPlan, keys: Keys) -> None:
        self._bind = _pairs_of(keys, plan).bind
        self._plan, self._layout, self._keys = plan, plan.layout, keys

    def open(self, total: Sealed, contributors: Mapping[str, bytes], place: Place) -> Vector:
        """Return the exact integer sum times the step, float64 `[d]`.

        Raises:
            ContributionError: Not the sum of all hospitals; nothing else can be opened.
            TagMismatchError: The sum is not of exactly these contributors at this place.
        """
        plan, layout = self._plan, self._layout
        frame = read_frame(total, plan, content=Content.TOTAL, key_id=self._keys.key_id)
        check_contributors(contributors, frame.contributions, plan.hospitals)
        if len(contributors) != plan.hospitals:
            raise ContributionError(
                f"a sum of {len(contributors)}, but keys of all {plan.hospitals} open sums alone"
            )
        blocks, masked = _parts(frame, layout)
        pads = self._pads(contributors, place)
        secret = self._secret(masked, contributors, place)
        shared = shared_polynomials(layout, place, plan.parameter_id, self._bind)
        opened, observed = np.empty(plan.values), []
        weights = FieldWeights(self._keys.group_key, place, plan.parameter_id, layout)
        whole = _Chunk(layout, shared.rows)
        for first in range(0, layout.blocks, shared.rows):
            part = blocks[first : first + shared.rows]
            chunk = whole.of(len(part))
            from_planes(part, layout.wire_bits, chunk.plain)
            shared.chunk(first, secret.norm).times(secret, chunk.product, chunk.scratch)
            _decode(chunk, layout, len(contributors))
            unpack_blocks(chunk.plain, layout, len(contributors), chunk.fields)
            products = weights.products(chunk.fields)
            digits = read_digits(chunk.plain, layout)
            observed += [found - known for found, known in zip(digits, products, strict=True)]
            write_values(chunk.fields, first, layout, len(contributors), opened)
        _check_tags(observed, pads)
        return opened

    def _secret(self, masked: Mask, contributors: Mapping[str, bytes], place: Place) -> Small:
        """The sum of all keys: their masks cancel, their pads are taken off."""
        total = masked.copy()
        for name, nonce in contributors.items():
            total -= _key_pad(self._keys, place, name, nonce, self._layout.degree)
        secret = total.view(np.int16).astype(np.int64)
        if int(np.abs(secret).max()) > COINS // 2 * len(contributors):
            raise TagMismatchError(
                "the masked keys do not add up to a key: the sum is not of exactly these "
                "contributors at this place"
            )
        return Small(secret)

    def _pads(self, contributors: Mapping[str, bytes], place: Place) -> dict[str, Words]:
        group_key, identifier = self._keys.group_key, self._plan.parameter_id
        blocks = self._layout.blocks
        return {
            name: block_pads(group_key, place, name, nonce, identifier, blocks)
            for name, nonce in contributors.items()
        }


def _check_tags(observed: list[int], pads: Mapping[str, Words]) -> None:
    # Up to 1023 pads below 2**48 add without overflow.
    expected = np.zeros(len(observed), dtype=np.uint64)
    for one in pads.values():
        expected += one
    if any((found - pad) % PRIME for found, pad in zip(observed, expected.tolist(), strict=True)):
        check_pads(observed, {name: one.tolist() for name, one in pads.items()}, PRIME)


def _parts(frame: Frame, layout: Layout) -> tuple[np.ndarray, Mask]:
    """The blocks of a frame, uint8 `[blocks, bytes]`, and its masked key, uint16 `[n]`."""
    end = layout.blocks * layout.block_bytes
    return frame.body[:end].reshape(layout.blocks, -1), frame.body[end:].view("<u2")


def _decode(chunk: _Chunk, layout: Layout, contributions: int) -> None:
    """Turn sums of coefficients into plaintexts, in place: take off the key, round off the noise.

    Cutting r bits off took ``(2**r - 1)/2`` on average from each contribution; that comes back.
    """
    mean_cut = contributions * (2**layout.bits_cut - 1) // 2
    chunk.plain <<= np.uint64(layout.bits_cut)
    chunk.plain -= chunk.product
    chunk.plain += np.uint64(mean_cut + 2 ** (layout.noise_bits - 1))
    chunk.plain &= np.uint64(2**layout.modulus_bits - 1)
    chunk.plain >>= np.uint64(layout.noise_bits)
