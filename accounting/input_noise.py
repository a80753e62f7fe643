"""Local privacy of inputs: noise on every value of a record before anything else sees it.

Singh et al. (2020), "Benchmarking differentially private residual networks for medical imagery",
add Laplace noise of scale beta to pictures whose values lie in [0, 1]. Here values are brought to
256 levels first and take the *discrete* Laplace distribution, which has no floating-point holes to
look through (Mironov 2012; Ghosh, Roughgarden and Sundararajan 2009).

    noise = InputNoise(scale=1.0, values=64 * 64)
    noise.epsilon_value, noise.epsilon_record        # 1.0, 4096.0: what one number hides, two tell

The noise is drawn digit by digit: the binary digits of a geometric number are independent coins, so
that every level has its probability however deep in the tail it lies, and none is a hole that a
uniform of 52 bits cannot reach.

Formal guarantee: replacing one value of a record by any other changes no outcome's probability by
more than exp(1/beta), up to `DRAW_ERROR` in epsilon and about 2^-120 in delta, which are what
rounding the coins' chances can do; replacing all values, values times that. The label beside the
record, and that the record exists at all, are not covered.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from accounting.errors import AccountingError
from accounting.events import InputNoiseEvent
from accounting.observers import SEEDED, ObserverRow
from accounting.randomness import Stream

LEVELS = 255  # steps of a value's public range
#: Of one value. A coin's chance is a float64, off by 2^-50 of itself at most, and a draw has fewer
#: than 64 coins on either side of a comparison. A coin is tossed to 2^-128: a draw is as far from
#: one of exact tosses as that times the coins.
DRAW_ERROR = 2.0**-43
_DRAW_DISTANCE = 2.0**-122
_MOST_SCALE = 2.0**40
_LEAST_CHANCE = 2.0**-128
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
        if not 0 < self.scale <= _MOST_SCALE:
            raise AccountingError(f"scale is {self.scale}, expected > 0 and at most 2^40")
        if self.values < 1:
            raise AccountingError(f"values is {self.values}, expected 1 or more")

    @property
    def epsilon_value(self) -> float:
        """Epsilon of one value."""
        # Twice rounded, the width is off by less than 2^-51 of itself.
        return (1.0 + 2.0**-51) / self.scale + DRAW_ERROR

    @property
    def epsilon_record(self) -> float:
        """Epsilon of all values of one record together, by basic composition."""
        return self.values * self.epsilon_value

    @property
    def delta_record(self) -> float:
        """Delta of all values of one record together: what tossing coins to 2^-128 leaves out."""
        one = _DRAW_DISTANCE * (1.0 + math.exp(min(self.epsilon_value, 700.0)))
        return min(1.0, self.values * one)

    @property
    def event(self) -> InputNoiseEvent:
        """What one draw of a record's noise shows of its inputs."""
        return InputNoiseEvent(epsilon_value=self.epsilon_value, values=self.values)

    def levels(self, values: NDArray[np.floating]) -> NDArray[np.int16]:
        """Return values in [0, 1] as levels, 0 to 255, of the same shape: all that is noised."""
        finite = np.nan_to_num(np.asarray(values, dtype=np.float64))
        return np.asarray(np.rint(np.clip(finite, 0.0, 1.0) * LEVELS).astype(np.int16))

    def perturb(self, values: NDArray[np.floating], stream: Stream) -> NDArray[np.int16]:
        """Return noisy levels of values in [0, 1], int16 of the same shape; 255 levels are 1."""
        return self.perturb_levels(self.levels(values), stream)

    def perturb_levels(self, levels: NDArray[np.int16], stream: Stream) -> NDArray[np.int16]:
        """Return noisy levels, int16 of the same shape, from what :meth:`levels` returned."""
        noise = _discrete_laplace(levels.size, self.scale * LEVELS, stream)
        noisy = levels.reshape(-1) + np.clip(noise, -_CLAMP, _CLAMP)
        return np.asarray(noisy.astype(np.int16).reshape(levels.shape))

    def to_json(self, *, seeded: bool) -> dict[str, object]:
        """The account, JSON-ready."""
        return {
            "mechanism": "discrete Laplace on every value, drawn once a record and scale",
            "scale": self.scale,
            "values_per_record": self.values,
            "epsilon_per_value": self.epsilon_value,
            "epsilon_per_record": self.epsilon_record,
            "delta_per_record": self.delta_record,
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


def _discrete_laplace(count: int, width: float, stream: Stream) -> NDArray[np.int64]:
    """Return n with P(n) proportional to exp(-|n| / width), int64 [count].

    Zero, or a sign and one more than a geometric number, whose digit 2^j is 1 with the chance
    1 / (1 + exp(2^j / width)) independently of the others: the geometric series is a product.
    """
    away = np.ones(count, dtype=np.int64)
    digit = 1
    while (chance := _digit_chance(digit / width)) > _LEAST_CHANCE:
        away += digit * stream.bernoulli(count, chance)
        digit *= 2
    away *= 1 - 2 * stream.bernoulli(count, 0.5).astype(np.int64)
    away[stream.bernoulli(count, math.tanh(0.5 / width))] = 0
    return away


def _digit_chance(exponent: float) -> float:
    return math.exp(-exponent) / (1.0 + math.exp(-exponent))


def input_noise(scale: float, shape: tuple[int, ...]) -> InputNoise | None:
    """Return the noise on records of a shape; None where the scale is 0: none is asked for."""
    return InputNoise(scale=scale, values=math.prod(shape)) if scale else None
