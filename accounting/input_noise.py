"""Local privacy of inputs: noise on every value of a record before anything else sees it.

Singh et al. (2020), "Benchmarking differentially private residual networks for medical imagery",
add Laplace noise of scale beta to pictures whose values lie in [0, 1]. Here values are brought to
256 levels first and take the *discrete* Laplace distribution, which has no floating-point holes to
look through (Mironov 2012; Ghosh, Roughgarden and Sundararajan 2009).

    noise = InputNoise(scale=1.0, values=64 * 64)
    noise.epsilon_value, noise.epsilon_record        # 1.0, 4096.0: what one number hides, two tell

Formal guarantee: replacing one value of a record by any other changes no outcome's probability by
more than exp(1/beta); replacing all values, by more than exp(values/beta). The label beside the
record, and that the record exists at all, are not covered.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from accounting.errors import AccountingError
from accounting.observers import SEEDED, ObserverRow
from accounting.randomness import Stream

LEVELS = 255  # steps of a value's public range
_CLAMP = 32767 - LEVELS  # noise beyond it is cut, so that levels fit 16 bits; post-processing


@dataclass(frozen=True, slots=True, kw_only=True)
class InputNoise:
    """The mechanism and its cost.

    Attributes:
        scale: beta, in units of the width of a value's public range.
        values: of one record.
    """

    scale: float
    values: int

    def __post_init__(self) -> None:
        if not (self.scale > 0 and math.isfinite(self.scale)):
            raise AccountingError(f"scale is {self.scale}, expected > 0 and finite")
        if self.values < 1:
            raise AccountingError(f"values is {self.values}, expected 1 or more")

    @property
    def epsilon_value(self) -> float:
        """Epsilon of one value; delta is 0."""
        return 1.0 / self.scale

    @property
    def epsilon_record(self) -> float:
        """Epsilon of all values of one record together; delta is 0."""
        return self.values / self.scale

    def perturb(self, values: NDArray[np.floating], stream: Stream) -> NDArray[np.int16]:
        """Return noisy levels of values in [0, 1], int16 of the same shape; 255 levels are 1."""
        flat = np.nan_to_num(np.asarray(values, dtype=np.float64)).reshape(-1)
        levels = np.rint(np.clip(flat, 0.0, 1.0) * LEVELS)
        # The difference of two geometric values: P(n) proportional to exp(-|n| / (beta * 255)).
        width = self.scale * LEVELS
        first, second = (np.floor(-np.log(stream.uniform(len(flat))) * width) for _ in range(2))
        noisy = levels + np.clip(first - second, -_CLAMP, _CLAMP)
        return np.asarray(noisy.astype(np.int16).reshape(np.shape(values)))

    def to_json(self, *, seeded: bool) -> dict[str, object]:
        """The account, JSON-ready."""
        return {
            "mechanism": "discrete Laplace on every value of a record, drawn once a training",
            "scale": self.scale,
            "values_per_record": self.values,
            "epsilon_per_value": self.epsilon_value,
            "epsilon_per_record": self.epsilon_record,
            "neighbouring": "replace one value, or all values of one record, by any other",
            "covers": "inputs only: neither labels nor how many records there are",
            "guaranteed": not seeded,
        }

    def row(self, delta: float, accountants: tuple[str, ...], *, seeded: bool) -> ObserverRow:
        """The account as a row of the observer table; a pure epsilon is every accountant's."""
        why = (
            f"Laplace noise of scale {self.scale:g} on each of {self.values} values, before "
            f"anything else: epsilon {self.epsilon_value:g} for one value, the number shown for "
            "all of them; labels are not covered, and a patient's records add up"
        )
        return ObserverRow(
            observer="anyone, of one record's inputs",
            epsilon=dict.fromkeys(accountants, self.epsilon_record),
            delta=delta,
            binds_target=False,
            why=f"{SEEDED}; {why}" if seeded else why,
            guaranteed=not seeded,
        )


def input_noise(scale: float, shape: tuple[int, ...]) -> InputNoise | None:
    """Return the noise on records of a shape; None where the scale is 0: none is asked for."""
    return InputNoise(scale=scale, values=math.prod(shape)) if scale else None
