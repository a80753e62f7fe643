"""Vectors as blocks of mixed-radix coefficients, and back: the plaintexts of one-time keys.

Value ``(v*blocks + b)*D + j`` of a vector is field v of coefficient j of block b, but that the last
D - S .. D of the last field of every block hold S numbers of salt. So every step runs over
neighbours, a few blocks at a time.
"""

import numpy as np
from numpy.typing import NDArray

from crypto.coins import Coins
from crypto.errors import TagMismatchError
from crypto.one_time_plans import Layout
from crypto.packing import quantise
from crypto.roles import Vector

#: Fields of some blocks: whole numbers as float64 `[rows, V, D]`.
Fields = NDArray[np.float64]
Coefficients = NDArray[np.uint64]

_EXACT = 2**53


def empty_fields(layout: Layout, rows: int) -> Fields:
    """Room for the fields of `rows` blocks."""
    return np.zeros((rows, layout.fields, layout.data_coefficients))


def _pieces(layout: Layout, first: int, rows: int) -> list[tuple[int, int, int]]:
    """(field, first value, values a row) of every field of blocks `first .. first+rows-1`."""
    width, pieces = layout.data_coefficients, []
    for field in range(layout.fields):
        taken = width - layout.salts if field == layout.fields - 1 else width
        pieces.append((field, field * layout.blocks * width + first * taken, taken))
    return pieces


def quantise_blocks(values: Vector, first: int, layout: Layout, coins: Coins, out: Fields) -> None:
    """Quantise what blocks from `first` on hold of float64 `[d]`, and draw their salt.

    Args:
        values: The whole vector.
        first: The first block.
        layout: How values lie.
        coins: Where the salt comes from.
        out: float64 `[rows, V, D]`; all of it is overwritten, unused fields with 0.
    """
    rows = len(out)
    for field, start, taken in _pieces(layout, first, rows):
        piece, plane = values[start : start + rows * taken], out[:, field, :taken]
        whole, rest = divmod(piece.size, taken)
        quantise(piece[: whole * taken].reshape(whole, taken), layout.grid, plane[:whole])
        plane[whole:] = 0.0
        if rest:
            quantise(piece[whole * taken :], layout.grid, plane[whole, :rest])
    salt = coins.below(layout.grid.levels, rows * layout.salts)
    out[:, -1, layout.data_coefficients - layout.salts :] = salt.reshape(rows, -1)


def pack_blocks(fields: Fields, layout: Layout, out: Coefficients) -> None:
    """Join fields into the data coefficients of uint64 `[rows, n]`; those of the tag are left."""
    radix, joined = layout.radix, fields[:, -1].copy()
    field = layout.fields - 2
    while field >= 0 and radix ** (layout.fields - field) <= _EXACT:
        joined *= radix
        joined += fields[:, field]
        field -= 1
    data = out[:, : layout.data_coefficients]
    data[...] = joined.astype(np.int64).view(np.uint64)
    for left in range(field, -1, -1):
        data *= np.uint64(radix)
        data += fields[:, left].astype(np.int64).view(np.uint64)


def unpack_blocks(plain: Coefficients, layout: Layout, contributions: int, out: Fields) -> None:
    """Undo `pack_blocks` for a sum.

    Args:
        plain: uint64 `[rows, n]` below 2**w; overwritten.
        layout: How values lie.
        contributions: How many vectors were added.
        out: float64 `[rows, V, D]`; all of it is overwritten.

    Raises:
        TagMismatchError: A field exceeds what the contributions can sum to.
    """
    rest, radix = plain[:, : layout.data_coefficients], np.uint64(layout.radix)
    most, highest = contributions * (layout.grid.levels - 1), 0
    for field in range(layout.fields - 1):
        quotient = rest // radix
        rest -= quotient * radix
        highest = max(highest, int(rest.max()) if most < layout.radix - 1 else 0)
        out[:, field] = rest.view(np.int64)
        rest = quotient
    out[:, -1] = rest.view(np.int64)
    if max(highest, int(rest.max())) > most:
        raise TagMismatchError(f"a field of an opened sum exceeds {most}")


def write_values(
    fields: Fields, first: int, layout: Layout, contributions: int, out: Vector
) -> None:
    """Write the exact integer sums times the step into `out`, float64 `[d]`; `fields` are spent."""
    rows = len(fields)
    for field, start, taken in _pieces(layout, first, rows):
        piece, plane = out[start : start + rows * taken], fields[:, field, :taken]
        # The offset that made fields non-negative goes before the step comes in: exact.
        plane -= contributions * layout.grid.half
        whole, rest = divmod(piece.size, taken)
        np.multiply(
            plane[:whole], layout.grid.step, out=piece[: whole * taken].reshape(whole, taken)
        )
        if rest:
            np.multiply(plane[whole, :rest], layout.grid.step, out=piece[whole * taken :])
