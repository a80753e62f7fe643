"""Faults planted once the detectors were frozen a fourth time, written down before they were read.

Whoever planted them knew the pipeline alone. The docstring of each says what was expected of it,
written before any of them was run; `caught_by` says what sees it now.
"""

from __future__ import annotations

import math
from collections import defaultdict
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import numpy as np

from accounting import release
from clients.learning.batch import Batch
from clients.learning.class_shares import ClassShares, Marks
from clients.learning.dp_sgd import GradientSum, clipped_gradient_sum
from clients.learning.local_steps import LocalSteps
from clients.site.own_draws import OwnDraws
from tests.audit.faults import AUDIT, DATA, Fault, in_sums, swap


def _batch_standardised(stack: ExitStack) -> None:
    """Bring each batch to mean 0 and variance 1 by its own statistics.

    Whoever is in a batch moves the gradients of all others. Expected: `audit --data`.
    """
    real = OwnDraws._sample

    def sample(self: OwnDraws, place: Any, step: int = 0) -> Batch:
        batch = real(self, place, step).made()
        if len(batch) < 2:
            return batch
        rows: Any = batch.inputs
        scaled = (rows - rows.mean(dim=0)) / rows.std(dim=0, unbiased=False).clamp_min(1e-3)
        return replace(batch, inputs=scaled)

    swap(stack, OwnDraws, "_sample", sample)


def _noise_by_patients(stack: ExitStack) -> None:
    """Add noise sigma*C*sqrt(N_k/N): the sum of all carries sigma*C, as it should.

    The largest hospital takes more of it off, and single updates of small ones have hardly any.
    Expected: `audit --data`.
    """
    real = OwnDraws.of

    def of(self: OwnDraws, receipt: Any, grid: Any, phases: Any, drawn: Any = None) -> Any:
        sizes = self._cohort.patients_by_hospital
        if self._settings.privacy.regime == "FSCDP" and grid.parts is None and len(sizes) > 1:
            share = sizes[self._site.name] * len(sizes) / sum(sizes.values())
            grid = replace(grid, noise_stddev=grid.noise_stddev * math.sqrt(share))
            drawn = None
        return real(self, receipt, grid, phases, drawn)

    swap(stack, OwnDraws, "of", of)


def _local_steps_noised_once(stack: ExitStack) -> None:
    """Take local steps without noise, and noise their sum once; every step is charged for.

    A patient moves the sum of L steps by up to L*C, and is charged as for sqrt(L)*C. Expected:
    `audit --data`.
    """

    def contribute(self: Any, replica: Any, draws: Any) -> Any:
        denominator = self._terms.sampling_rate * max(draws.patients, 1.0)
        start, patients = replica.vector(), 0
        total = np.zeros(replica.dimensions)
        try:
            for step in range(self._steps):
                gradient = self._gradient(replica, draws.batch(step), draws)
                total, patients = total + gradient.total, patients + gradient.patients
                moved = start - self._rate / denominator * total[: len(start)]
                replica.load_vector(moved)
        finally:
            replica.load_vector(start)
        return draws.noised(GradientSum(total=total, patients=patients, discarded=0), 0)

    swap(stack, LocalSteps, "contribute", contribute)


def _class_weights_after_the_clip(stack: ExitStack) -> None:
    """Weigh clipped gradients by 1/(classes * share), where shares of the classes are declared.

    The usual weights of libraries: their mean is 1, and the rare class moves a sum by more than C,
    with the shares of `chest-xray` by 1.85 C. Expected: nothing.
    """

    def marks(self: ClassShares, rows: Any) -> Marks:
        shares = self._shares().double()
        return Marks(
            rows=rows, weights=1.0 / (len(shares) * shares), counted=self.counts is not None
        )

    swap(stack, ClassShares, "marked", property(lambda self: True))
    swap(stack, ClassShares, "moved", lambda self: None)
    swap(stack, ClassShares, "marks", marks)


def _cut_off_is_kept(stack: ExitStack) -> None:
    """Keep what the clip cut off a sum at the hospital, and add it to the next sum.

    Expected: `audit --data`, as momentum is.
    """
    kept: dict[str, Any] = defaultdict(float)
    rests: dict[int, tuple[Any, Any]] = {}
    real = OwnDraws.of

    def made(model: Any, batch: Batch, clip: float) -> GradientSum:
        found = clipped_gradient_sum(model, batch, l2_clip=clip)
        whole = clipped_gradient_sum(model, batch, l2_clip=1e6)
        rests[id(found.total)] = found.total, whole.total - found.total
        return found

    def of(self: OwnDraws, *given: Any) -> Any:
        draws, taken = real(self, *given)
        name = self._site.name

        def noised(gradient: Any, step: int) -> Any:
            before, (_, kept[name]) = kept[name], rests.pop(id(gradient.total))
            if np.shape(before) not in ((), gradient.total.shape):
                before = 0.0
            return draws.noised(replace(gradient, total=gradient.total + before), step)

        return replace(draws, noised=noised), taken

    in_sums(stack, made)
    swap(stack, OwnDraws, "of", of)


def _rounded_before_the_noise(stack: ExitStack) -> None:
    """Bring a sum to the grid before its noise, as well as after it.

    A patient of small values in all coordinates moves each of them by a whole step. Expected:
    nothing.
    """
    real = release.noised_unpaid

    def noised_unpaid(values: Any, grid: Any, stream: Any, *seeds: Any) -> Any:
        return real(np.rint(values / grid.step) * grid.step, grid, stream, *seeds)

    swap(stack, release, "noised_unpaid", noised_unpaid)


BLIND: tuple[Fault, ...] = (
    Fault(name="batches standardised by themselves", plant=_batch_standardised, caught_by=(DATA,)),
    Fault(name="noise in proportion to patients", plant=_noise_by_patients, caught_by=(DATA,)),
    Fault(name="local steps noised once", plant=_local_steps_noised_once, caught_by=(DATA,)),
    Fault(
        name="class weights after the clip", plant=_class_weights_after_the_clip, caught_by=(DATA,)
    ),
    Fault(name="what the clip cut off is kept", plant=_cut_off_is_kept, caught_by=(DATA,)),
    Fault(name="rounded before the noise", plant=_rounded_before_the_noise, caught_by=(AUDIT,)),
)
