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
_EXACT_QUOTIENTS = 2**50


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


def unpack_blocks(
    plain: Coefficients,
    layout: Layout,
    contributions: int,
    out: Fields,
    rooms: tuple[Vector, Vector],
) -> None:
    """Undo `pack_blocks` for a sum, but for the middle ``contributions*half`` of every field.

    What quantising added to make fields non-negative is off all of a coefficient already. So its
    digits in the odd radix R are balanced, and the nearest integer to ``x/R`` is what is left of x:
    below 2**50 the quotient's error is less than the ``1/(2*R)`` to the next half.

    Args:
        plain: `[rows, n]` less `Layout.middle_of_sum`: int64 in uint64; overwritten.
        layout: How values lie.
        contributions: How many vectors were added.
        out: float64 `[rows, V, D]`; all of it is overwritten.
        rooms: float64 `[rows, n]` each, overwritten: memory that is in the caches already.

    Raises:
        TagMismatchError: A field exceeds what the contributions can sum to.
    """
    width, radix, last = layout.data_coefficients, layout.radix, layout.fields - 1
    rest, left, quotient = plain[:, :width], rooms[0][:, :width], rooms[1][:, :width]
    middle, first = contributions * layout.grid.half, 0
    if last and radix**layout.fields > _EXACT_QUOTIENTS:
        first = _split_wide(rest, layout, contributions, out)
    np.copyto(left, rest.view(np.int64))
    for field in range(first, last):
        digit = out[:, field]
        np.multiply(left, 1.0 / radix, out=quotient)
        np.rint(quotient, out=quotient)
        np.multiply(quotient, -radix, out=digit)
        digit += left
        left, quotient = quotient, left
    out[:, last] = left
    # Digits are within the radix; what is more than fewer hospitals can sum to may not be.
    suspect = left if contributions == layout.hospitals else out
    if max(float(suspect.max()), -float(suspect.min())) > middle:
        raise TagMismatchError(f"a field of an opened sum exceeds {2 * middle}")


def _split_wide(rest: Coefficients, layout: Layout, contributions: int, out: Fields) -> int:
    """Take off the lowest fields of coefficients in integers, until the others are exact as floats.

    Returns:
        The field that what is left in `rest`, centred, begins with.
    """
    radix, middle, first = layout.radix, contributions * layout.grid.half, 0
    rest += np.uint64(layout.middle_of_sum(contributions))
    rest &= np.uint64(2**layout.plain_bits - 1)
    while first < layout.fields - 1 and radix ** (layout.fields - first) > _EXACT_QUOTIENTS:
        whole = rest // np.uint64(radix)
        rest -= whole * np.uint64(radix)
        np.subtract(rest.view(np.int64), middle, out=out[:, first], casting="unsafe")
        rest[...], first = whole, first + 1
    rest -= np.uint64(middle * sum(radix**field for field in range(layout.fields - first)))
    return first


def write_values(fields: Fields, first: int, layout: Layout, out: Vector) -> None:
    """Write what `unpack_blocks` returned, times the step, into `out`, float64 `[d]`."""
    rows = len(fields)
    for field, start, taken in _pieces(layout, first, rows):
        piece, plane = out[start : start + rows * taken], fields[:, field, :taken]
        whole, rest = divmod(piece.size, taken)
        np.multiply(
            plane[:whole], layout.grid.step, out=piece[: whole * taken].reshape(whole, taken)
        )
        if rest:
            np.multiply(plane[whole, :rest], layout.grid.step, out=piece[whole * taken :])
