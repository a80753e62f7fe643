"""Whose records gradient inversion is tried on, and what is public beside them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from clients.contract.settings import SettingsError
from clients.data.records import Records
from simulations.attacks.ground import Ground, Way
from simulations.attacks.inversion import Prior, linear_start
from simulations.attacks.one_round import OneRound
from simulations.attacks.pictures import as_text, can_be_drawn
from simulations.attacks.similarity import psnr, ssim

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Vector = NDArray[np.float64]

#: Records that an informed attacker chooses from, and patients that are attacked.
CANDIDATES, TARGETS = 10, 10
#: Records that are rebuilt by arithmetic, by descent, and those of them that are drawn.
REBUILT, DESCENDED, DRAWN = 8, 3, 4
#: Public records that a prior is learnt from.
_MOST_PUBLIC = 2000


@dataclass(frozen=True, kw_only=True)
class Targets:
    """Whose records are attacked, and what is public.

    Attributes:
        own: records of single patients, one each, of different hospitals' in turn.
        public: records that candidates are drawn from.
        truth: float64 ``[values]`` of those that are rebuilt.
        prior: of records.
        shape: of a record.
        low: of its values.
        high: of its values.
        by_descent: whether the model's first layer is no linear one.
    """

    own: list[Records]
    public: Records
    truth: list[Vector]
    prior: Prior
    shape: tuple[int, ...]
    low: float
    high: float
    by_descent: bool

    @property
    def count(self) -> int:
        """Of records that are rebuilt."""
        return len(self.truth)

    @classmethod
    def of(cls, ground: Ground) -> Targets:
        """Choose them by the attack's seed."""
        cohort, generator = ground.cohort, np.random.default_rng([ground.seed, 0xF0E5])
        wanted = max(TARGETS, REBUILT)
        held = [ground.prepared(cohort.records[name]) for name in cohort.names]
        order = sorted(range(len(held)), key=lambda number: -len(held[number]))
        own: list[Records] = []
        for turn in range(wanted):
            records = held[order[turn % len(order)]]
            if not len(records):
                records = held[order[0]]
            own.append(records.take([int(generator.integers(len(records)))]))
        public = ground.prepared(cohort.holdout)
        if len(public) < CANDIDATES:
            raise SettingsError(
                [f"the public holdout has {len(public)} records; the attack takes {CANDIDATES}."]
            )
        chosen = generator.permutation(len(public))[:_MOST_PUBLIC]
        public = public.take(np.sort(chosen))
        module = OneRound(
            ground.told(Way(regime="F")), cohort, 0.0, model=None, seed=ground.seed
        ).module
        by_descent = linear_start(module) is None
        low, high = cohort.info.input_range
        count = DESCENDED if by_descent else REBUILT
        return cls(
            own=own,
            public=public,
            truth=[_flat(one.inputs) for one in own[:count]],
            prior=Prior.of(np.asarray(public.inputs)),
            shape=tuple(cohort.info.shape),
            low=low,
            high=high,
            by_descent=by_descent,
        )

    def likeness(self, found: Sequence[Vector]) -> tuple[float | None, float]:
        """Return the medians of SSIM, where records are pictures, and of PSNR."""
        width = self.high - self.low
        cut = [np.clip(one, self.low, self.high) for one in found]
        decibels = [psnr(a, b, width) for a, b in zip(self.truth, cut, strict=True)]
        alike = None
        if len(self.shape) >= 3:
            pairs = zip(self.truth, cut, strict=True)
            form = self.shape
            alike = float(
                np.median([ssim(a.reshape(form), b.reshape(form), width) for a, b in pairs])
            )
        return alike, float(np.median(decibels))

    def drawn(self, labels: Sequence[str], found: Sequence[Sequence[Vector]]) -> dict[str, Any]:
        """Return the pictures as bytes; nothing where records are none, or have other colours."""
        if not can_be_drawn(self.shape):
            return {}
        bounds = (self.low, self.high)
        return {
            "shape": list(self.shape),
            "labels": list(labels),
            "pictures": [[as_text(one, bounds) for one in column[:DRAWN]] for column in found],
        }

    def facts(self, ground: Ground) -> str:
        """Return what was attacked, in a line."""
        settings, how = ground.settings, "descent" if self.by_descent else "arithmetic"
        where = "the initial model" if ground.path is None else "the released model"
        return (
            f"{settings.data.name}, {settings.model.name} ({how}), "
            f"{settings.partition.hospitals} hospitals, at {where}"
        )


def _flat(inputs: Any) -> Vector:
    return np.asarray(inputs, dtype=np.float64).reshape(-1)
