"""The numbers of an array of pictures, volumes or series, as a model sees them.

Which axis is which, and what the numbers can be, is declared, or follows from shape and type alone:

    uint8 [n, 28, 28]                  grey pictures, 0 to 255
    uint8 [n, 28, 28, 3]               coloured ones; [n, 3, 28, 28] too
    uint8 [n, 28, 28, 28]              volumes
    uint16 [n, 28, 28]                 with [ranges] values = [0, 4095] declared
    float [n, 12, 5]                   series in [-1, 1], unless [pictures] axes says "hw"
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clients.data.declaration import Declaration
from clients.data.errors import DataError
from clients.data.files import Location
from clients.data.ranges import Range
from clients.data.reading_log import ReadingLog
from clients.data.records import ArrayStore, Floats, Ints, PixelStore, Store

_CHANNELS = (1, 3, 4)
#: Axes of one record -> where its channels stand; None: it has one channel, not written down.
_CHANNEL_OF = {"hw": None, "dhw": None, "hwc": -1, "chw": 1, "dhwc": -1, "cdhw": 1}
#: Rows that are looked at together.
_BLOCK = 256


class ScaledStore:
    """Pictures or volumes of any type of number, read as [0, 1] by a public range.

    Values beyond the range are cut to it; what is no number is the middle.
    """

    def __init__(self, values: NDArray[Any], axes: str, range_: Range) -> None:
        self._values = values
        self._channel = _CHANNEL_OF[axes]
        self._range = range_

    @property
    def shape(self) -> tuple[int, ...]:
        """Rows, channels, then space."""
        n, *space = self._values.shape
        if self._channel is None:
            return (n, 1, *space)
        return (n, space[-1], *space[:-1]) if self._channel == -1 else self._values.shape

    def read(self, rows: Ints) -> Floats:
        """Return the rows as float32 in [0, 1], channels first."""
        chosen = self._values[rows].astype(np.float64)
        if self._channel is None:
            chosen = chosen[:, None]
        elif self._channel == -1:
            chosen = np.moveaxis(chosen, -1, 1)
        low, high = self._range.low, self._range.high
        scaled = np.clip((chosen - low) / (high - low), 0.0, 1.0)
        return np.ascontiguousarray(np.nan_to_num(scaled, nan=0.5), dtype=np.float32)


def values_store(path: Path, values: NDArray[Any], declared: Declaration, where: Location) -> Store:
    """Return the store of an array's values.

    Args:
        path: of its file, for errors.
        values: [n, ...].
        declared: axes and range, where they are declared.
        where: whose records they are: of a hospital's own none may be refused.

    Raises:
        DataError: type or shape need a declaration, or contradict it.
    """
    range_ = declared.ranges.get("values")
    axes: str = declared.pictures.axes
    if axes and len(axes) != values.ndim - 1:
        raise DataError(
            f'{path}: images of shape {values.shape}, but [pictures] axes = "{axes}" has '
            f"{len(axes)} axes of each image",
            code="shape",
        )
    if values.dtype == np.bool_:
        values = values.astype(np.uint8) * np.uint8(255)
    _check_type(path, values.dtype, ranged=range_ is not None)
    if values.dtype.kind == "f" and not axes:
        if values.ndim == 3:
            where.log.note(
                "floats of two axes are read as series",
                f'{path}: if they are pictures, declare [pictures] axes = "hw"',
            )
        return _as_they_are(path, values, range_, where)
    axes = axes or _axes_of(path, values.shape)
    _check_channels(path, axes, values.shape)
    if values.dtype == np.uint8 and range_ is None and _CHANNEL_OF[axes] != 1:
        return PixelStore(values, channels_last=_CHANNEL_OF[axes] == -1)
    known = range_ or (
        Range(low=0.0, high=255.0) if values.dtype == np.uint8 else Range(low=-1.0, high=1.0)
    )
    _note_outside(path, values, known, where.log)
    return ScaledStore(values, axes, known)


def _check_type(path: Path, dtype: np.dtype[Any], *, ranged: bool) -> None:
    if dtype.kind in "iu" and dtype != np.uint8 and not ranged:
        raise DataError(
            f"{path}: images of type {dtype}: declare what their numbers can be, as in "
            "[ranges] values = [0, 4095]",
            code="declaration",
        )
    if dtype.kind not in "iuf":
        raise DataError(
            f"{path}: images of type {dtype}, expected uint8, other whole numbers or float",
            code="shape",
        )


def _axes_of(path: Path, shape: tuple[int, ...]) -> str:
    """Return the axes that a shape shows.

    Raises:
        DataError: it may mean two things, or none.
    """
    space = shape[1:]
    first, last = space[0] in _CHANNELS, space[-1] in _CHANNELS
    if len(space) == 2:
        return "hw"
    if len(space) in (3, 4) and not (first and last):
        if len(space) == 3:
            return "hwc" if last else ("chw" if first else "dhw")
        if last or first:
            return "dhwc" if last else "cdhw"
    what = "may be read in two ways" if len(space) in (3, 4) else "is none of pictures or volumes"
    known = ", ".join(f'"{one}"' for one in _CHANNEL_OF)
    raise DataError(
        f"{path}: images of shape {shape}, which {what}: say which axis is which with "
        f"[pictures] axes, one of {known}",
        code="shape",
    )


def _check_channels(path: Path, axes: str, shape: tuple[int, ...]) -> None:
    place = _CHANNEL_OF[axes]
    if place is not None and shape[place] not in _CHANNELS:
        raise DataError(
            f'{path}: images of shape {shape} have {shape[place]} channels by axes "{axes}", '
            "expected 1, 3 or 4",
            code="shape",
        )


def _note_outside(path: Path, values: NDArray[Any], range_: Range, log: ReadingLog) -> None:
    """Count images with values beyond the range, or that are no number."""
    for start in range(0, len(values), _BLOCK):
        block = _flat(values[start : start + _BLOCK])
        outside = (block < range_.low) | (block > range_.high)
        _note(path, outside, start, "values outside the declared range: cut to it", log)
        if block.dtype.kind == "f":
            _note(path, np.isnan(block), start, "a value that is no number: the middle", log)


def _as_they_are(path: Path, values: NDArray[Any], range_: Range | None, where: Location) -> Store:
    """Return floats in [-1, 1]: tables, series, or pictures with their channels first.

    What is no number becomes the middle, 0. What lies outside is cut in a hospital's own records;
    in others it is a mistake that is better said.
    """
    low, high = (range_.low, range_.high) if range_ else (-1.0, 1.0)
    flat = _flat(values)
    _note(path, np.isnan(flat), 0, "a value that is no number: a missing value", where.log)
    outside = (flat < low) | (flat > high)
    rows = _note(path, outside, 0, f"a value outside [{low:g}, {high:g}]: cut to it", where.log)
    if rows and range_ is None and not where.declared:
        raise DataError(
            f"{path}: images row {rows[0]} holds a value outside [-1, 1]; declare what the numbers "
            "can be, as in [ranges] values = [-1000, 3000]",
            code="bad-value",
        )
    if range_ is None:
        return ArrayStore(np.clip(np.nan_to_num(values), -1, 1).astype(np.float32, copy=False))
    scaled = np.clip(2 * (values - low) / (high - low) - 1, -1, 1)
    return ArrayStore(np.nan_to_num(scaled).astype(np.float32))


def _flat(values: NDArray[Any]) -> NDArray[Any]:
    """Return one row an image, also where there is none."""
    return values.reshape(len(values), math.prod(values.shape[1:]))


def _note(path: Path, odd: NDArray[np.bool_], start: int, kind: str, log: ReadingLog) -> list[int]:
    """Note the rows of which something is odd, and return them."""
    rows: list[int] = (start + np.flatnonzero(odd.any(axis=1))).tolist()
    if rows:
        log.note(kind, f"{path}: images row {rows[0]}", count=len(rows))
    return rows
