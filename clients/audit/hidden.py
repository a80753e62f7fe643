"""What everybody can read of sealed vectors: turns, which show a value where nothing hides it.

A ciphertext holds ``scale*value + error`` beside what hides it, so the numbers that travel are
looked at modulo the scale, where values show with any small error, and as they are, where values
show that are small themselves. Each polynomial is looked at by itself, as the key of nought opens
it; beside others of its kind; and added up as the server adds it. No key comes in.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from accounting.audit_turns import Floats, Turns
from crypto.bfv import lattice_of, read_blocks
from crypto.frames import Content, Frame, read_frame
from crypto.lattice import SeedSum
from crypto.packing import from_planes
from crypto.plans import SealingPlan
from crypto.roles import Sealed

Residues = NDArray[np.uint64]

_HALF = np.uint64(30)
#: More points than float64 tells apart.
_MANY = 1 << 40


class Shown(NamedTuple):
    """A sealed vector as it travels.

    Attributes:
        name: whose and when, in words.
        payload: its bytes.
        sum: what it is added up in; None: in nothing that is looked at.
    """

    name: str
    payload: bytes
    sum: Hashable | None = None


def turns_of(shown: Sequence[Shown], plan: SealingPlan, *, made_up: bool = True) -> list[Turns]:
    """Return what can be read of sealed vectors without a key.

    Args:
        shown: vectors of one training.
        plan: its public parameters: of a scheme that encrypts.
        made_up: whether they are opened with the keys 1 and -1 too, as well as with nought. Seeds
            need not be expanded otherwise.
    """
    if plan.ring is not None:
        return _of_words(shown, plan)
    pairs = [_polynomials(_frame(one.payload, plan), plan, expand=made_up) for one in shown]
    first, second = (np.stack([pair[at] for pair in pairs]) for at in (0, 1))
    found = [rows_of("first polynomials", shown, first / plan.coefficient_prime)]
    if plan.key_mode == "public":
        found.append(rows_of("second polynomials", shown, second / plan.coefficient_prime))
    scale = max(plan.plain_modulus, 1)
    opened = turns_modulo(first, scale, plan.coefficient_prime)
    if plan.scheme == "bfv":
        found.append(rows_of("first polynomials modulo the scale", shown, opened))
    if made_up:
        other = turns_modulo(second, scale, plan.coefficient_prime)
        found += [
            rows_of("opened with the key 1", shown, (opened + other) % 1.0),
            rows_of("opened with the key -1", shown, (opened - other) % 1.0),
        ]
    return found


def _frame(payload: bytes, plan: SealingPlan) -> Frame:
    return read_frame(Sealed(payload=payload), plan, content=Content.SINGLE, key_id=None)


def rows_of(
    what: str, shown: Sequence[Shown], turns: Floats, *, points: int = _MANY, whole: bool = True
) -> Turns:
    """Return turns ``[vectors, polynomials, n]`` as rows, with names and sums."""
    vectors, count, degree = turns.shape
    each = [(one, number) for one in shown for number in range(count)]
    return Turns(
        what=what,
        names=[one.name if count == 1 else f"{one.name}, part {at + 1}" for one, at in each],
        rows=turns.reshape(vectors * count, degree),
        points=points,
        sums=[None if one.sum is None else (one.sum, at) for one, at in each],
        whole=whole,
    )


def turns_modulo(residues: Residues, scale: int, prime: int) -> Floats:
    """Return the turns of residues below a prime of 60 bits, times a number: to 1e-6."""
    upper = float((scale << int(_HALF)) % prime) / prime
    high, low = residues >> _HALF, residues & ((np.uint64(1) << _HALF) - np.uint64(1))
    turns = high * upper + low * (scale / prime)
    return np.asarray(turns - np.floor(turns))


def residues_of(
    frame: Frame, plan: SealingPlan, *, expand: bool = True
) -> tuple[Residues, Residues]:
    """Return both polynomials of a frame as they travel, uint64 ``[ciphertexts, n]`` below q.

    A seed is expanded by SEAL, or else the second has no rows.
    """
    total = frame.content is Content.TOTAL
    seeded = plan.key_mode == "symmetric" and not total
    read = np.empty((1 if seeded else 2, plan.ciphertexts, plan.degree), dtype=np.uint64)
    seeds = read_blocks(frame, plan, read)
    if not seeded:
        return read[0], read[1]
    if not expand:
        return read[0], read[0, :0]
    expander = SeedSum(lattice_of(plan), plan.ciphertexts)
    expander.add(seeds)
    return read[0], np.stack(expander.residues())


def _polynomials(frame: Frame, plan: SealingPlan, *, expand: bool) -> tuple[Residues, Residues]:
    """Return the coefficients of both polynomials of a frame, uint64 ``[ciphertexts, n]``."""
    first, second = residues_of(frame, plan, expand=expand)
    if plan.scheme == "ckks":
        prime = plan.coefficient_prime
        first, second = (
            np.array([coefficients(row, prime) for row in part], dtype=np.uint64)
            for part in (first, second)
        )
    return first, second


def coefficients(values: Residues, prime: int) -> Residues:
    """Return a polynomial modulo X**n + 1 from its values, as SEAL keeps those of ckks.

    The i-th is at the (2*j + 1)-th power of the smallest primitive 2n-th root of one, j being i
    with its bits in reverse; so the transform back begins with neighbours.
    """
    degree = values.size
    root = _root(2 * degree, prime)
    back = pow(root, -1, prime)
    rows, half = values.astype(object).reshape(-1, 1), 1
    while half < degree:
        step = pow(back, degree // half, prime)
        powers = np.array(_powers(step, half, prime), dtype=object)
        even, odd = rows[0::2], rows[1::2] * powers % prime
        rows = np.concatenate([(even + odd) % prime, (even - odd) % prime], axis=1)
        half *= 2
    scale = pow(degree, -1, prime)
    whole = rows.reshape(-1) * np.array(_powers(back, degree, prime), dtype=object) % prime
    return np.asarray(whole * scale % prime, dtype=np.uint64)


def _root(order: int, prime: int) -> int:
    """Return the smallest primitive root of one of an order that is a power of two."""
    exponent = (prime - 1) // order
    tried = (pow(base, exponent, prime) for base in range(2, prime))
    found = next(one for one in tried if pow(one, order // 2, prime) == prime - 1)
    square, best, power = found * found % prime, found, found
    for _ in range(order // 2):
        best, power = min(best, power), power * square % prime
    return best


def _powers(base: int, count: int, prime: int) -> list[int]:
    powers = [1]
    for _ in range(count - 1):
        powers.append(powers[-1] * base % prime)
    return powers


def words_of(shown: Sequence[Shown], plan: SealingPlan) -> Residues:
    """Return blocks under one-time keys as they travel, uint64 ``[vectors, blocks, n]``."""
    layout = plan.layout
    end = layout.blocks * layout.block_bytes
    words = np.empty((len(shown), layout.blocks, layout.degree), dtype=np.uint64)
    for one, out in zip(shown, words, strict=True):
        body = _frame(one.payload, plan).body[:end]
        from_planes(body.reshape(layout.blocks, -1), layout.wire_bits, out)
    return words


def _of_words(shown: Sequence[Shown], plan: SealingPlan) -> list[Turns]:
    """Return what can be read under one-time keys: blocks, and keys as they travel masked."""
    layout, words = plan.layout, words_of(shown, plan)
    width, room = layout.wire_bits, layout.noise_bits - layout.bits_cut
    low = (words & np.uint64(2**room - 1)) / 2.0**room
    found = [
        rows_of("blocks", shown, words / 2.0**width),
        rows_of("blocks modulo the scale", shown, low, points=2**room),
    ]
    if plan.sharing is None:
        end = 2 * layout.degree
        masked = np.stack([np.frombuffer(one.payload[-end:], dtype="<u2") for one in shown])
        found.append(rows_of("masked keys", shown, masked[:, None] / 2.0**16, points=2**16))
    return found
