"""Quantised values, several per slot by exact radix packing, and residues as planes of bytes.

A *field* is the place that one value has in a slot: a digit of the slot's number in radix R. With
K hospitals and values in `0 .. levels-1`, a field of a sum is at most `K*(levels-1)`, so the radix
`R = K*(levels-1) + 1` wastes no guard bit: a slot holds `sum_v q_v * R**v`, and as long as the
plain modulus is at least `R**V` no field can overflow into its neighbour. Example, K=2, 3 levels
(R=5), V=2: (1, 2) and (2, 2) pack to 11 and 12; 23 unpacks to (3, 4).
"""

import numpy as np
from numpy.typing import NDArray

from crypto.errors import FrameError
from crypto.roles import Quantiser, Vector

Slots = NDArray[np.uint64]


def quantise(values: Vector, grid: Quantiser, out: Vector | None = None) -> Vector:
    """Clamp finite float64 `[..]` to the bound and round once to the grid.

    Returns:
        Whole numbers in `0 .. levels-1`, as float64 `[..]`, which holds them exactly; in `out`
        where that is given.
    """
    with np.errstate(over="ignore"):  # infinite steps are clamped like any other number of them
        scaled = np.multiply(values, 1.0 / grid.step, out=out)
    np.clip(scaled, -grid.half, grid.half, out=scaled)
    scaled += grid.half
    return np.rint(scaled, out=scaled)


def pack_row(
    values: Vector, row: int, *, grid: Quantiser, radix: int, per_slot: int, slots: int, rows: int
) -> Slots:
    """Quantise and pack what row `row` of `rows` holds of float64 `[d]` into uint64 `[slots]`.

    Value `(v*rows + row)*slots + s` is field v of slot s, so that every step runs over neighbours,
    in a cache-sized piece. Slots stay below 2**52, exact in float64.
    """
    packed = np.zeros(slots)
    for field in reversed(range(per_slot)):
        start = (field * rows + row) * slots
        piece = values[start : start + slots]
        packed *= radix
        if piece.size:
            packed[: piece.size] += quantise(piece, grid)
    return packed.astype(np.uint64)


def unpack_row(
    packed: Slots,
    row: int,
    out: Vector,
    *,
    grid: Quantiser,
    radix: int,
    per_slot: int,
    rows: int,
    contributions: int,
) -> None:
    """Undo `pack_row` for a sum: write exact integer sums times the step into `out`.

    Raises:
        FrameError: A slot exceeds what the contributions can sum to.
    """
    slots, rest = packed.size, packed.view(np.int64)
    most = contributions * (grid.levels - 1)
    for field in range(per_slot):
        quotient = rest // radix if field < per_slot - 1 else np.zeros_like(rest)
        fields = rest - quotient * radix
        rest = quotient
        if int(fields.max()) > most:
            raise FrameError(f"a field of an opened sum exceeds {most}")
        start = (field * rows + row) * slots
        piece = out[start : start + slots]
        # The offset that made fields non-negative goes before the step comes in: exact.
        fields -= contributions * grid.half
        np.multiply(fields[: piece.size], grid.step, out=piece)


def plane_bytes(count: int, width: int) -> int:
    """Bytes that `count` residues of `width` bits take; `count` is even."""
    return count * width // 8


def _planes(width: int) -> list[tuple[int, int, str]]:
    """Planes of a width: (first byte within a residue, bytes taken, dtype); a nibble is apart."""
    planes, at = [(0, 4, "<u4")], 4
    for size, dtype in ((4, "<u4"), (2, "<u2"), (1, "|u1")):
        if width // 8 - at >= size:
            planes.append((at, size, dtype))
            at += size
    return planes


def write_planes(residues: Slots, width: int, out: NDArray[np.uint8]) -> None:
    """Write residues below `2**width` as planes of whole words, little-endian, a block a row.

    All low words of a block come first, then the next bytes of all, then nibbles in pairs. Planes,
    unlike 7-byte items, are written and read by strided vector moves.

    Args:
        residues: uint64 `[rows, n]`, little-endian, n even.
        width: 32 to 64, a multiple of 4.
        out: uint8 `[rows, n*width/8]`; all of it is overwritten.
    """
    count, start = residues.shape[1], 0
    for at, size, dtype in _planes(width):
        end = start + size * count
        out[:, start:end].view(dtype)[...] = residues.view(dtype)[:, at // size :: 8 // size]
        start = end
    if width & 4:
        last = residues.view(np.uint8)[:, width // 8 :: 8]
        np.left_shift(last[:, 1::2], 4, out=out[:, start:])
        out[:, start:] |= last[:, 0::2]


def to_planes(residues: Slots, width: int) -> bytes:
    """The planes of one block, uint64 `[n]`; see `write_planes`."""
    out = np.empty((1, plane_bytes(residues.size, width)), dtype=np.uint8)
    write_planes(residues.astype("<u8", copy=False)[None], width, out)
    return out.tobytes()


def from_planes(blocks: NDArray[np.uint8], width: int, out: Slots) -> None:
    """Read what `write_planes` wrote.

    Args:
        blocks: uint8 `[rows, n*width/8]`.
        width: 32 to 64, a multiple of 4.
        out: uint64 `[rows, n]`, little-endian, last axis contiguous; all of it is overwritten.

    Raises:
        FrameError: `blocks` have not exactly the expected size.
    """
    rows, count = out.shape
    if blocks.shape != (rows, plane_bytes(count, width)):
        raise FrameError(f"blocks of shape {blocks.shape}, expected {rows} of {count} residues")
    start, words = 0, out.view("<u4")
    for at, size, dtype in _planes(width):
        end = start + size * count
        plane = blocks[:, start:end].view(dtype)
        if at % 4:
            out.view(dtype)[:, at // size :: 8 // size] = plane
        else:  # the first of a word's planes takes the whole word, the others find it zeroed
            words[:, at // 4 :: 2] = plane
        start = end
    if width < 40:
        words[:, 1::2] = 0
    if width & 4:
        nibbles, octets = blocks[:, start:], out.view(np.uint8)
        octets[:, width // 8 :: 16] = nibbles & np.uint8(15)
        octets[:, width // 8 + 8 :: 16] = nibbles >> np.uint8(4)
