"""Vectors as blocks of mixed-radix coefficients, and back: the plaintexts of one-time keys.

Value ``(v*blocks + b)*D + j`` of a vector is field v of coefficient j of block b, but that the last
D - S .. D of the last field of every block hold S numbers of salt. So every step runs over
neighbours, a few blocks at a time.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from crypto.coins import Coins
from crypto.errors import TagMismatchError
from crypto.one_time_plans import Layout
from crypto.packing import quantise
from crypto.roles import Vector

#: Fields of some blocks: whole numbers as float64 `[rows, V, D]`.
Fields = NDArray[np.float64]
#: One field of some blocks' data coefficients: whole numbers as float64 `[rows, D]`.
Digits = NDArray[np.float64]
Coefficients = NDArray[np.uint64]

_EXACT = 2**53
_EXACT_QUOTIENTS = 2**50


def empty_fields(layout: Layout, rows: int) -> Fields:
    """Room for the fields of `rows` blocks."""
    return np.zeros((rows, layout.fields, layout.data_coefficients))


def _piece(layout: Layout, field: int, first: int, rows: int) -> tuple[slice, int]:
    """Where a field's values of blocks `first .. first+rows-1` lie, and how many a row has."""
    width = layout.data_coefficients
    taken = width - layout.salts if field == layout.fields - 1 else width
    start = field * layout.blocks * width + first * taken
    return slice(start, start + rows * taken), taken


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
    for field in range(layout.fields):
        where, taken = _piece(layout, field, first, rows)
        piece, plane = values[where], out[:, field, :taken]
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


def unpacked(
    plain: Coefficients, layout: Layout, contributions: int, rooms: tuple[Vector, Vector]
) -> Iterator[Digits]:
    """Undo `pack_blocks` for a sum, but for the middle ``contributions*half`` of every field.

    What quantising added to make fields non-negative is off all of a coefficient already. So its
    digits in the odd radix R are balanced, and the nearest integer to ``x/R`` is what is left of x:
    below 2**50 the quotient's error is less than the ``1/(2*R)`` to the next half.

    Args:
        plain: `[rows, n]` less `Layout.middle_of_sum`: int64 in uint64; its data coefficients are
            overwritten.
        layout: How values lie.
        contributions: How many vectors were added.
        rooms: float64 `[rows, n]` each, overwritten: memory that is in the caches already.

    Yields:
        Every field in turn, float64 `[rows, D]`; overwritten by the next.

    Raises:
        TagMismatchError: A field exceeds what the contributions can sum to.
    """
    width, radix, last = layout.data_coefficients, layout.radix, layout.fields - 1
    rest, left, quotient = plain[:, :width], rooms[0][:, :width], rooms[1][:, :width]
    most, first = contributions * layout.grid.half, 0
    while first < last and radix ** (layout.fields - first) > _EXACT_QUOTIENTS:
        yield _bounded(_lowest(rest, first, layout, contributions, quotient), most)
        first += 1
    np.copyto(left, rest.view(np.int64))
    digits = rest.view(np.float64)
    for _ in range(first, last):
        np.multiply(left, 1.0 / radix, out=quotient)
        np.rint(quotient, out=quotient)
        np.multiply(quotient, -radix, out=digits)
        digits += left
        # Balanced digits are within the radix, which is more than fewer hospitals can sum to.
        yield digits if contributions == layout.hospitals else _bounded(digits, most)
        left, quotient = quotient, left
    left += 0.0  # there is a nought below nought, of another bit, among rounded numbers
    yield _bounded(left, most)


def _bounded(digits: Digits, most: int) -> Digits:
    if max(float(digits.max()), -float(digits.min())) > most:
        raise TagMismatchError(f"a field of an opened sum exceeds {2 * most}")
    return digits


def _lowest(
    rest: Coefficients, field: int, layout: Layout, contributions: int, out: Digits
) -> Digits:
    """Take the lowest field off centred coefficients, in integers: too wide to be exact as floats.

    Args:
        rest: What is left from `field` on; overwritten.
        field: Which it is.
        layout: How values lie.
        contributions: How many vectors were added.
        out: Overwritten.
    """
    radix, half = layout.radix, contributions * layout.grid.half
    middle = half * (radix ** (layout.fields - field) - 1) // (radix - 1)
    rest += np.uint64(middle)
    rest &= np.uint64(2**layout.plain_bits - 1)
    whole = rest // np.uint64(radix)
    rest -= whole * np.uint64(radix)
    np.subtract(rest.view(np.int64), half, out=out, casting="unsafe")
    np.subtract(whole, np.uint64((middle - half) // radix), out=rest)
    return out


def write_field(digits: Digits, field: int, first: int, layout: Layout, out: Vector) -> None:
    """Write a field that `unpacked` gave, times the step, to its place in `out`, float64 `[d]`."""
    where, taken = _piece(layout, field, first, len(digits))
    piece = out[where]
    whole, rest = divmod(piece.size, taken)
    np.multiply(
        digits[:whole, :taken], layout.grid.step, out=piece[: whole * taken].reshape(whole, taken)
    )
    if rest:
        np.multiply(digits[whole, :rest], layout.grid.step, out=piece[whole * taken :])
