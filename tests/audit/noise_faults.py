"""Faults of noise: too little, of another law, used twice, or left out somewhere."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any
from unittest import mock

import numpy as np

from accounting import noise
from accounting.grid import GridPlan
from accounting.randomness import Stream
from clients.contract.layer_messages import FEATURE_GRADIENTS
from clients.site import chances
from clients.site.chances import Chances
from tests.audit.faults import AUDIT, DATA, Fault, Patch, swap
from tests.audit.given_noise import noise_is, swap_noise

_normal, _stream = Stream.normal, Chances.stream


def _louder(factor: float) -> Patch:
    def plant(stack: ExitStack) -> None:
        swap_noise(stack, lambda self, count: factor * _normal(self, count))

    return plant


def _cut_tails(stack: ExitStack) -> None:
    swap_noise(stack, lambda self, count: np.clip(_normal(self, count), -3.0, 3.0))


def _same_noise(*shared: str) -> Patch:
    """Derive the noise's stream from these words alone."""

    def stream(self: Chances, place: Any, purpose: str, step: int = 0) -> Stream:
        if purpose != "noise":
            return _stream(self, place, purpose, step)
        words = {
            "hospital": self._name,
            "training": place.training,
            "round": f"{place.round} {place.attempt}",
            "number": str(place.round),
        }
        label = " ".join([*(words[one] for one in shared), str(step)])
        return Stream.from_key(hashlib.sha256(label.encode()).digest())

    return lambda stack: swap(stack, Chances, "stream", stream)


def _sigma_over_hospitals(stack: ExitStack) -> None:
    def share(sigma: float, honest: int) -> tuple[float, float]:
        return sigma / honest, sigma

    stack.enter_context(mock.patch.dict(noise.NOISE_PLANS, {"semi-central": share}))


def _silent_when_empty(stack: ExitStack) -> None:
    real = chances.noised

    def noised(value: Any, plan: GridPlan, stream: Stream, use: Any) -> Any:
        empty: list[bool] = []
        value.map(lambda vector: empty.append(not np.any(vector)))
        with noise_is(lambda _, n: np.zeros(n)) if empty[0] else ExitStack():
            return real(value, plan, stream, use)

    swap(stack, chances, "noised", noised)


def _noise_where_touched(stack: ExitStack) -> None:
    real = chances.noised

    def noised(value: Any, plan: GridPlan, stream: Stream, use: Any) -> Any:
        touched: list[Any] = []
        value.map(lambda vector: touched.append(np.asarray(vector) != 0.0))
        with noise_is(lambda s, n: _normal(s, n) * touched[0].ravel()):
            return real(value, plan, stream, use)

    swap(stack, chances, "noised", noised)


def _silent(where: Callable[[Chances, Any, str], bool]) -> Patch:
    """Leave the noise out of some values."""

    def plant(stack: ExitStack) -> None:
        def released(
            self: Chances, value: Any, grid: Any, place: Any, purpose: str, *rest: Any
        ) -> Any:
            silent = noise_is(lambda _, count: np.zeros(count))
            with silent if where(self, place, purpose) else ExitStack():
                return real(self, value, grid, place, purpose, *rest)

        real = Chances.released
        swap(stack, Chances, "released", released)

    return plant


def _uniform_noise(stack: ExitStack) -> None:
    def normal(self: Stream, count: int) -> Any:
        return np.sqrt(12.0) * (self.uniform(count) - 0.5)

    swap_noise(stack, normal)


def _half_of_it_twice(stack: ExitStack) -> None:
    """Draw half of each vector's noise, and use it for the other half as well."""

    def normal(self: Stream, count: int) -> Any:
        half = _normal(self, -(-count // 2))
        return np.concatenate([half, half])[:count]

    swap_noise(stack, normal)


NOISE_FAULTS: tuple[Fault, ...] = (
    Fault(name="half the noise", plant=_louder(0.5), caught_by=(AUDIT, DATA)),
    Fault(name="a tenth less noise", plant=_louder(0.9), caught_by=(AUDIT, DATA)),
    Fault(name="noise of another shape", plant=_uniform_noise, caught_by=(AUDIT, DATA)),
    Fault(name="half of the noise used twice", plant=_half_of_it_twice, caught_by=(DATA,)),
    Fault(
        name="no noise in the last round",
        plant=_silent(lambda own, place, _: bool(place.round == own._settings.training.rounds)),
        caught_by=(AUDIT, DATA),
    ),
    Fault(
        name="no noise at one hospital",
        plant=_silent(lambda own, place, _: own._name == "tiny"),
        caught_by=(DATA,),
    ),
    Fault(
        name="no noise on loss gradients of a cut model",
        plant=_silent(lambda own, place, purpose: purpose == FEATURE_GRADIENTS),
        caught_by=(DATA,),
    ),
    Fault(
        name="the same noise in every attempt",
        plant=_same_noise("training", "hospital", "number"),
        caught_by=(DATA,),
    ),
    Fault(
        name="the same noise in every round",
        plant=_same_noise("training", "hospital"),
        caught_by=(AUDIT, DATA),
    ),
    Fault(
        name="the same noise in every hospital",
        plant=_same_noise("training", "round"),
        caught_by=(AUDIT, DATA),
    ),
    Fault(
        name="the same noise in every run",
        plant=_same_noise("hospital", "round"),
        caught_by=(AUDIT, DATA),
    ),
    Fault(name="tails cut at 3 sigma", plant=_cut_tails, caught_by=(AUDIT, DATA)),
    Fault(name="sigma/K for sigma/sqrt(K)", plant=_sigma_over_hospitals, caught_by=(AUDIT, DATA)),
    Fault(name="no noise for an empty batch", plant=_silent_when_empty, caught_by=(AUDIT, DATA)),
    Fault(
        name="noise only where a gradient is", plant=_noise_where_touched, caught_by=(AUDIT, DATA)
    ),
)
