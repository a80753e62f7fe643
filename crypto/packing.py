"""Quantised values, several a slot by exact radix packing, and residues as planes of bytes.

With K hospitals and values in `0 .. levels-1`, a field of a sum is at most `K*(levels-1)`, so the
radix `R = K*(levels-1) + 1` wastes no guard bit: a slot holds `sum_v q_v * R**v`, and as long as
the plain modulus is at least `R**V` no field can overflow into its neighbour. Example, K=2, 3
levels (R=5), V=2: (1, 2) and (2, 2) pack to 11 and 12; 23 unpacks to (3, 4).
"""

import numpy as np
from numpy.typing import NDArray

from crypto.errors import FrameError, SealError
from crypto.roles import Grid, Vector

Fields = NDArray[np.int64]
Slots = NDArray[np.uint64]


def quantise(values: Vector, grid: Grid) -> Fields:
    """Clamp to the bound and round once to the grid; int64 `[d]` in `0 .. levels-1`.

    Raises:
        SealError: A value is not finite (it would become an arbitrary integer).
    """
    if not np.isfinite(values).all():
        raise SealError("values hold NaN or infinity, expected finite numbers")
    scaled = np.multiply(values, 1.0 / grid.step)
    np.clip(scaled, -grid.half, grid.half, out=scaled)
    scaled += grid.half
    np.rint(scaled, out=scaled)
    return scaled.astype(np.int64)


def pack(fields: Fields, *, radix: int, per_slot: int, slots: int) -> Slots:
    """Pack int64 `[d]` fields into uint64 `[slots]`: value `v*slots + s` is field v of slot s."""
    packed = np.zeros(slots, dtype=np.uint64)
    view = packed.view(np.int64)
    for index in reversed(range(per_slot)):
        view *= radix
        part = fields[index * slots : (index + 1) * slots]
        view[: part.size] += part
    return packed


def unpack(packed: Slots, *, radix: int, per_slot: int, values: int) -> Fields:
    """Undo `pack` for a sum; int64 `[values]`.

    Raises:
        FrameError: A slot exceeds what honest sums can reach.
    """
    slots = packed.size
    fields = np.zeros(slots * per_slot, dtype=np.uint64)
    rest = packed
    for index in range(per_slot):
        quotient = rest // np.uint64(radix)
        np.subtract(
            rest, quotient * np.uint64(radix), out=fields[index * slots : (index + 1) * slots]
        )
        rest = quotient
    if rest.any():
        raise FrameError("an opened slot exceeds radix**values_per_slot")
    return fields[:values].view(np.int64)


_PLANES = ((16, np.uint16), (8, np.uint8))


def plane_bytes(count: int, width: int) -> int:
    """Bytes that `count` residues of `width` bits take; `count` is even."""
    return count * width // 8


def to_planes(residues: Slots, width: int) -> bytes:
    """Write residues below `2**width` as planes of 32, 16, 8 and 4 bits, little-endian.

    Planes, unlike 7-byte items, are written and read by wide vector instructions.

    Args:
        residues: uint64 `[n]`, n even.
        width: 32 to 64, a multiple of 4.
    """
    out = [residues.astype("<u4").tobytes()]
    shift = 32
    for bits, dtype in _PLANES:
        if (width - 32) & bits:
            high = residues >> np.uint64(shift)
            out.append(high.astype(np.dtype(dtype).newbyteorder("<")).tobytes())
            shift += bits
    if width == 64:
        out.append((residues >> np.uint64(32)).astype("<u4").tobytes())
    elif width & 4:
        nibbles = (residues >> np.uint64(shift)).astype(np.uint8)
        out.append((nibbles[0::2] | (nibbles[1::2] << np.uint8(4))).tobytes())
    return b"".join(out)


def from_planes(data: memoryview, count: int, width: int) -> Slots:
    """Read what `to_planes` wrote; uint64 `[count]`, every one below `2**width`.

    Raises:
        FrameError: `data` is not of exactly the expected length.
    """
    if len(data) != plane_bytes(count, width):
        raise FrameError(
            f"{len(data)} bytes of residues, expected {plane_bytes(count, width)} for {count}"
        )
    residues = np.frombuffer(data[: 4 * count], dtype="<u4").astype(np.uint64)
    at, shift = 4 * count, 32
    for bits, dtype in _PLANES:
        if (width - 32) & bits:
            end = at + count * bits // 8
            plane = np.frombuffer(data[at:end], dtype=np.dtype(dtype).newbyteorder("<"))
            residues |= plane.astype(np.uint64) << np.uint64(shift)
            at, shift = end, shift + bits
    if width == 64:
        plane = np.frombuffer(data[at:], dtype="<u4")
        residues |= plane.astype(np.uint64) << np.uint64(32)
    elif width & 4:
        nibbles = np.frombuffer(data[at:], dtype=np.uint8)
        residues[0::2] |= (nibbles & np.uint8(15)).astype(np.uint64) << np.uint64(shift)
        residues[1::2] |= (nibbles >> np.uint8(4)).astype(np.uint64) << np.uint64(shift)
    return residues
