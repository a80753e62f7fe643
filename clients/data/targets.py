"""Targets as files hold them: a row's cells, or an array, become what there is to learn.

`clients.tasks.question` says in what form; classes are read by `clients.data.encoding` itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from clients.data.errors import DataError
from clients.tasks.question import MULTI_LABEL, REGRESSION, SURVIVAL, UNKNOWN

if TYPE_CHECKING:
    from pathlib import Path

    from clients.data.declaration import Declaration
    from clients.data.dialect import Dialect
    from clients.data.rows import Row

#: One record's: a class number, a measurement, a row of labels, or a time and whether it is known.
Target = int | float | tuple[float, ...]
_TRUTH = ("0", "1")


def no_target(declared: Declaration) -> Target:
    """Return what stands for a target that nobody knows."""
    if declared.task == MULTI_LABEL:
        return (float(UNKNOWN),) * len(declared.labels)
    if declared.task == SURVIVAL:
        return float("nan"), float("nan")
    return float("nan") if declared.task == REGRESSION else UNKNOWN


def target_array(declared: Declaration, found: Sequence[Target]) -> NDArray[Any]:
    """Return the targets of all records, in the form of the declaration's question."""
    if declared.task == REGRESSION:
        return np.asarray(found, dtype=np.float32)
    if declared.task == SURVIVAL:
        return np.asarray(found, dtype=np.float32).reshape(len(found), 2)
    if declared.task == MULTI_LABEL:
        return np.asarray(found, dtype=np.int64).reshape(len(found), len(declared.labels))
    return np.asarray(found, dtype=np.int64)


@dataclass(frozen=True)
class TargetCells:
    """Reads the cells of a target that is no class.

    Attributes:
        declared: what is public of it.
        dialect: of the file.
        absent: whether a column's cell says nothing.
    """

    declared: Declaration
    dialect: Dialect
    absent: Callable[[str, str], bool]

    def read(self, row: Row) -> Target | str | None:
        """Return a row's target; None where there is none; else what was expected instead."""
        if self.declared.task == MULTI_LABEL:
            return self._labels(row)
        target = self.declared.target
        if self.absent(target, row[target]):
            return None
        value = self.dialect.number(row[target])
        if self.declared.task == REGRESSION:
            assert self.declared.target_range is not None
            low, high = self.declared.target_range.low, self.declared.target_range.high
            return "a number" if value is None else min(max(value, low), high)
        if self.absent(self.declared.event, row[self.declared.event]):
            return None
        seen = self.dialect.choice(row[self.declared.event], self.declared.classes or _TRUTH)
        if value is None or value < 0 or seen is None:
            return f"a time from 0 on, and {' or '.join(self.declared.classes or _TRUTH)}"
        return value, float(seen)

    def _labels(self, row: Row) -> Target | str | None:
        declared = self.declared
        if declared.label_separator:
            if self.absent(declared.target, row[declared.target]):
                return None
            named = [one.strip() for one in row[declared.target].split(declared.label_separator)]
            held = {self.dialect.choice(one, declared.labels) for one in named}
            return tuple(float(number in held) for number in range(len(declared.labels)))
        found: list[float] = []
        for name in declared.labels:
            unknown = self.absent(name, row[name]) or self.dialect.number(row[name]) == UNKNOWN
            value = UNKNOWN if unknown else self.dialect.choice(row[name], _TRUTH)
            if value is None:
                return f"1 or 0, or -1 or nothing where nobody knows, in column {name}"
            found.append(float(value))
        return None if all(one == UNKNOWN for one in found) else tuple(found)


def targets_of_arrays(
    path: Path, parts: Sequence[NDArray[Any]], declared: Declaration
) -> NDArray[Any]:
    """Return targets that are no classes from the arrays of a file's parts.

    Raises:
        DataError: `shape`: they are not of the form that the declaration says.
    """
    width = {MULTI_LABEL: len(declared.labels), SURVIVAL: 2}.get(declared.task, 0)
    expected = {
        MULTI_LABEL: f"a column for each of {', '.join(declared.labels)}",
        REGRESSION: "one number each",
        SURVIVAL: "two columns: time, and 1 where the event was seen then",
    }[declared.task]
    rows = []
    for part in parts:
        flat = part[:, None] if part.ndim == 1 and width == 1 else part
        if flat.shape[1:] != ((width,) if width else ()) or flat.dtype.kind not in "biuf":
            raise DataError(
                f"{path}: labels of shape {part.shape} and {part.dtype}, expected {expected}",
                code="shape",
            )
        rows.append(flat.astype(np.float64))
    values = np.concatenate(rows)
    if declared.task == MULTI_LABEL:
        whole = np.where(np.isnan(values), UNKNOWN, values)
        # What is none of the three leaves its record out.
        return np.where(np.isin(whole, (0, 1, UNKNOWN)), whole, 9).astype(np.int64)
    if declared.task == REGRESSION:
        assert declared.target_range is not None
        low, high = declared.target_range.low, declared.target_range.high
        values = np.clip(values, low, high)
    return values.astype(np.float32)


def masks_of_arrays(
    path: Path, parts: Sequence[NDArray[Any]], declared: Declaration, space: tuple[int, ...]
) -> NDArray[np.uint8]:
    """Return masks from the arrays of a file's parts, uint8 ``[n, *space]``; 255: of no class.

    Raises:
        DataError: `shape`: they are not of the pictures' size.
    """
    values = declared.pictures.mask_values or tuple(range(len(declared.classes)))
    made = []
    for part in parts:
        flat = part
        for axis in (-1, 1):  # a channel of its own says nothing
            if flat.ndim == len(space) + 2 and flat.shape[axis] == 1:
                flat = np.squeeze(flat, axis=axis)
        if flat.shape[1:] != tuple(space) or flat.dtype.kind not in "biu":
            raise DataError(
                f"{path}: masks of shape {part.shape} and {part.dtype}, expected whole numbers of "
                f"shape {tuple(space)} for each picture",
                code="shape",
            )
        found = np.full(flat.shape, 255, dtype=np.uint8)
        for number, value in enumerate(values):
            found[flat == value] = number
        made.append(found)
    return np.concatenate(made)
