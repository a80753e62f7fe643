"""Rows of records that are made only as they are asked for, some at a time.

How many patients are sampled, how large their pictures are and how many altered copies there are of
each must not decide on how much memory an answer takes: whether there is an answer would tell.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray

from accounting.private import Unreleased
from clients.learning.device import CPU


class Source(Protocol):
    """What rows are read from: an array, or a view that reads only what it is asked for."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of rows, then the shape of one."""

    def __getitem__(self, rows: Any, /) -> Any:
        """Return rows by their numbers, float32 ``[n, *shape]``."""


@runtime_checkable
class KeepsBytes(Protocol):
    """A source whose rows may be kept as bytes."""

    def pixels(self, rows: Any, /) -> NDArray[np.uint8] | None:
        """Return rows as bytes, 255 times what is read; None where they are no bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Alterations:
    """How rows are altered.

    Attributes:
        shifts: int16 ``[n]`` for each axis of space, whole steps.
        mirrored: bool ``[n]``, along the last axis.
    """

    shifts: tuple[torch.Tensor, ...]
    mirrored: torch.Tensor

    def take(self, index: torch.Tensor) -> Alterations:
        """Return those of some rows."""
        return Alterations(
            shifts=tuple(one[index] for one in self.shifts), mirrored=self.mirrored[index]
        )

    def of(self, rows: torch.Tensor) -> torch.Tensor:
        """Return rows ``[n, channels, *space]``, altered."""
        for axis, shifts in enumerate(self.shifts, start=2):
            rows = _shifted(rows, axis, shifts.long().to(rows.device))
        spread = self.mirrored.to(rows.device).reshape(-1, *[1] * (rows.dim() - 1))
        return torch.where(spread, rows.flip(-1), rows)


class LateRows(Unreleased):
    """Rows that are read, and altered, when they are asked for.

    Args:
        inputs: what they are read from, float32 ``[m, *shape]``.
        source: int64 ``[n]``, numbers of rows there.
        altered: how each is altered; None: not at all.
    """

    def __init__(
        self, inputs: Source, source: torch.Tensor, altered: Alterations | None = None
    ) -> None:
        self._inputs = inputs
        self._source = source
        self._altered = altered

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of rows, then the shape of one."""
        return (len(self._source), *self._inputs.shape[1:])

    def take(self, index: torch.Tensor) -> LateRows:
        """Return some rows; nothing is read."""
        altered = None if self._altered is None else self._altered.take(index)
        return LateRows(self._inputs, self._source[index], altered)

    def copied(self, copies: int, altered: Alterations) -> LateRows:
        """Return copies of every row, each altered in its own way; nothing is read."""
        return LateRows(self._inputs, self._source.repeat_interleave(copies), altered)

    def made(self, device: torch.device = CPU) -> torch.Tensor:
        """Read them all, float32 ``[n, *shape]``, on a device.

        Bytes go to another device as they are, a fourth of what they become there.
        """
        rows = None
        if device.type != "cpu" and isinstance(self._inputs, KeepsBytes):
            pixels = self._inputs.pixels(self._source.numpy())
            if pixels is not None:
                rows = torch.from_numpy(pixels).to(device).contiguous().float()
                # Divided by a number of the device: by one of ours it multiplies by 1/255.
                rows = rows / torch.tensor(255.0, device=device)
        if rows is None:
            rows = torch.as_tensor(np.asarray(self._inputs[self._source.numpy()])).to(device)
        return rows if self._altered is None else self._altered.of(rows)


class JoinedRows(LateRows):
    """Rows of several hospitals, one after another.

    Args:
        parts: rows of each; all of one shape.
    """

    def __init__(self, parts: Sequence[LateRows | torch.Tensor]) -> None:
        self._parts = parts
        self._ends = torch.cumsum(torch.tensor([part.shape[0] for part in parts]), dim=0)

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of rows, then the shape of one."""
        return (int(self._ends[-1]), *self._parts[0].shape[1:])

    def take(self, index: torch.Tensor) -> LateRows:
        """Return some rows, given in ascending order; nothing is read."""
        parts, start = [], 0
        for part, end in zip(self._parts, self._ends.tolist(), strict=True):
            rows = index[(index >= start) & (index < end)] - start
            if len(rows):
                parts.append(part[rows] if isinstance(part, torch.Tensor) else part.take(rows))
            start = end
        return JoinedRows(parts)

    def made(self, device: torch.device = CPU) -> torch.Tensor:
        """Read them all, float32 ``[n, *shape]``, on a device."""
        return torch.cat(
            [
                one.to(device) if isinstance(one, torch.Tensor) else one.made(device)
                for one in self._parts
            ]
        )


def _shifted(inputs: torch.Tensor, axis: int, shifts: torch.Tensor) -> torch.Tensor:
    """Shift each record along one axis by its own whole number of steps; edges are continued."""
    side = inputs.shape[axis]
    steps = torch.arange(side, device=inputs.device)
    places = (steps[None, :] - shifts[:, None]).clamp(0, side - 1)
    shape = [len(inputs), *[1] * (inputs.dim() - 1)]
    shape[axis] = side
    return inputs.gather(axis, places.reshape(shape).expand(inputs.shape))
