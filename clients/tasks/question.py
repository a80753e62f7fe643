"""What there is to learn of a record: the public form of its targets, and which of them are sound.

A hospital's records carry targets as numbers, one row each:

    classes        int64 [n]           class numbers
    multi-label    int64 [n, labels]   1: it holds, 0: it does not, -1: nobody knows
    regression     float32 [n]         in the target's own unit, clipped to its declared range
    survival       float32 [n, 2]      time, and 1 where the event was seen then, 0 where it was not
    segmentation   uint8 [n, *space]   the class of each pixel or voxel

All that decides on their form is declared, the same at every hospital, and in a training's terms.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from clients.contract.own_task import formed

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

#: Kinds whose records are each of one class.
OF_CLASSES = ("binary", "multiclass", "ordinal")
MULTI_LABEL, REGRESSION, SURVIVAL, SEGMENTATION = (
    "multi-label",
    "regression",
    "survival",
    "segmentation",
)
KINDS = (*OF_CLASSES, MULTI_LABEL, REGRESSION, SURVIVAL, SEGMENTATION)
#: Target of a label of which nobody knows whether it holds.
UNKNOWN = -1
#: Of a mask that cannot be read, the value of each pixel: no class has it.
UNREAD = 255
#: Parts of a declared range that a split of patients tells apart.
_PARTS = 4


@dataclass(frozen=True, kw_only=True)
class Question:
    """The public form of what there is to learn.

    Attributes:
        kind: of the targets, one of `KINDS`.
        asked: how they are learnt: ``task.name`` of the run; "" for the usual way of their kind.
        names: of the classes or labels, in order; none of a measurement or a time.
        range: lowest and highest value of a measurement, in its own unit.
        horizons: ends of the intervals of time that an event is looked for in, ascending.
        space: shape of a mask; empty for other targets.
    """

    kind: str
    asked: str = ""
    names: tuple[str, ...] = ()
    range: tuple[float, float] = (0.0, 1.0)
    horizons: tuple[float, ...] = ()
    space: tuple[int, ...] = ()

    @property
    def of_classes(self) -> bool:
        """Whether each record is of one class, and nobody asks otherwise than for it."""
        return self.kind in OF_CLASSES and ":" not in self.asked

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one record's target."""
        return {
            MULTI_LABEL: (len(self.names),),
            SURVIVAL: (2,),
            SEGMENTATION: self.space,
        }.get(self.kind, ())

    @property
    def dtype(self) -> str:
        """Of targets, as torch names it."""
        return "float32" if self.kind in (REGRESSION, SURVIVAL) else "int64"

    @property
    def values(self) -> int:
        """How many whole numbers, from 0, a made-up target can be."""
        return 2 if self.kind in (MULTI_LABEL, REGRESSION, SURVIVAL) else len(self.names)

    def faults(self) -> list[str]:
        """Return what is not sound, a sentence each."""
        low, high = self.range
        if self.kind not in KINDS:
            return [f"task is {self.kind!r}, expected {', '.join(KINDS)}"]
        if self.kind in (*OF_CLASSES, SEGMENTATION) and len(self.names) < 2:
            return [f"{len(self.names)} class, expected at least two"]
        if self.kind == SEGMENTATION and len(self.names) > UNREAD:
            return [f"{len(self.names)} classes, a mask holds at most {UNREAD}"]
        if self.kind == MULTI_LABEL and not self.names:
            return ["no label, expected at least one"]
        if self.kind == REGRESSION and not (np.isfinite([low, high]).all() and low < high):
            return [f"target range [{low}, {high}], expected lowest below highest, both finite"]
        if self.kind == SURVIVAL:
            ends = np.asarray([0.0, *self.horizons])
            if not self.horizons or not np.isfinite(ends).all() or (np.diff(ends) <= 0).any():
                return [f"horizons {list(self.horizons)}, expected times above 0, ascending"]
        return []

    def known(self, targets: NDArray[Any]) -> NDArray[np.bool_]:
        """Return which records' targets say something that was declared, bool ``[n]``."""
        if self.kind in OF_CLASSES:
            return np.asarray((targets >= 0) & (targets < len(self.names)))
        if self.kind == REGRESSION:
            return np.asarray(np.isfinite(targets))
        rows = targets.reshape(len(targets), -1)
        if self.kind == MULTI_LABEL:
            return np.asarray((rows != UNKNOWN).any(axis=1) & (np.abs(rows) <= 1).all(axis=1))
        if self.kind == SURVIVAL:
            return np.asarray(np.isfinite(rows).all(axis=1) & (rows[:, 0] >= 0))
        return np.asarray((rows >= 0).all(axis=1) & (rows < len(self.names)).all(axis=1))

    def expected(self) -> str:
        """Say what a target is to be."""
        if self.kind == REGRESSION:
            return "a finite number"
        if self.kind == MULTI_LABEL:
            return "1, 0 or -1 for each label, one known at least"
        if self.kind == SURVIVAL:
            return "a time from 0 on, and whether the event was seen"
        return f"0..{len(self.names) - 1}"

    def strata(self, targets: NDArray[Any]) -> NDArray[np.int64]:
        """Return the part of `stratum_names` that each record belongs to, int64 ``[n]``.

        Splits into hospitals and a holdout are made within these: a class, the first label that
        holds, a quarter of the declared range, whether an event was seen, or the foremost class of
        a mask.
        """
        if self.kind in OF_CLASSES:
            return np.asarray(targets, dtype=np.int64)
        if self.kind == REGRESSION:
            low, high = self.range
            part = np.floor(_PARTS * (np.asarray(targets, dtype=np.float64) - low) / (high - low))
            return np.clip(part, 0, _PARTS - 1).astype(np.int64)
        rows = targets.reshape(len(targets), -1)
        if self.kind == MULTI_LABEL:
            holds = rows == 1
            return np.where(holds.any(axis=1), holds.argmax(axis=1) + 1, 0).astype(np.int64)
        if self.kind == SURVIVAL:
            return np.asarray(rows[:, 1] > 0, dtype=np.int64)
        return np.asarray(rows.max(axis=1, initial=0), dtype=np.int64)

    @property
    def stratum_names(self) -> tuple[str, ...]:
        """What `strata` are called, in order."""
        if self.kind == MULTI_LABEL:
            return ("none", *self.names)
        if self.kind == REGRESSION:
            low, high = self.range
            cuts = np.linspace(low, high, _PARTS + 1)
            return tuple(f"{a:g} to {b:g}" for a, b in pairwise(cuts))
        return ("no event", "event") if self.kind == SURVIVAL else self.names

    def counted(self, targets: NDArray[Any]) -> dict[str, int]:
        """Return how many records are of each class or stratum; of labels, how many each holds of.

        It tells of patients: for whoever has them.
        """
        if self.kind == MULTI_LABEL:
            found = (targets == 1).sum(axis=0).tolist()
            return dict(zip(self.names, found, strict=True))
        counts = np.bincount(self.strata(targets), minlength=len(self.stratum_names))
        return dict(zip(self.stratum_names, counts.tolist(), strict=True))

    def formed(self, targets: torch.Tensor) -> torch.Tensor:
        """Return targets in the form of this question's."""
        return formed(targets, self.shape, self.dtype)
