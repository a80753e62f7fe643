"""Faults planted once the detectors were frozen a third time, thought up before they were read.

Whoever planted them knew the pipeline and not the detectors. The docstring of each says what was
expected of it, written before any of them was run; `caught_by` says what sees it now.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from typing import Any
from unittest import mock

import numpy as np
import torch

from accounting.limits import SiteLimits
from accounting.parts import Seeds
from accounting.randomness import Stream
from clients.learning import dp_sgd
from clients.site.chances import Chances
from clients.site.own_draws import OwnDraws
from tests.audit.faults import AUDIT, DATA, RECONCILIATION, Fault, swap
from tests.audit.given_noise import swap_noise

#: Patients that are read and drawn together.
BLOCK = 8
#: Values of noise that are drawn at once.
CHUNK = 1 << 15

_normal = Stream.normal


def _blocks_drawn_together(stack: ExitStack) -> None:
    """Draw patients in blocks of eight, as data are read: each is in a batch with chance q.

    Their neighbours tell when, so nothing is amplified: epsilon 10.9 for 2.3 (q = 0.05, sigma 1,
    60 rounds). Expected: the spread of batch sizes, in `audit` and `audit --data`.
    """

    def sampled(self: Chances, patients: Any, place: Any, step: int = 0) -> Any:
        stream = self.stream(place, "sampling", step)
        rate = self._settings.training.sampling_rate
        drawn = stream.bernoulli(-(-len(patients) // BLOCK), rate)
        return patients[np.repeat(drawn, BLOCK)[: len(patients)]]

    swap(stack, Chances, "sampled", sampled)


def _biases_beside_the_clip(stack: ExitStack) -> None:
    """Leave biases out of the clip, as weight decay leaves them out.

    A softmax's bias moves by up to sqrt(2): epsilon 8.5 for 2.3 at C = 1. Expected: `audit --data`,
    where the gradient of a canary lies in a bias.
    """
    real = dp_sgd._add_clipped

    def add(
        total: Any, found: list[torch.Tensor], clip: float, reasons: dict[str, int], _: object
    ) -> int:
        offset, weights, places = 0, [], []
        for gradient in found:
            here = slice(offset, offset + gradient[0].numel())
            offset = here.stop
            if gradient.dim() > 2:
                weights.append(gradient)
                places.append(here)
            else:
                total[here] += torch.nan_to_num(gradient).double().sum(dim=0)
        if not weights:
            return 0
        clipped = torch.zeros(sum(one.stop - one.start for one in places), dtype=torch.float64)
        wrong = real(clipped, weights, clip, reasons)
        for here in places:
            total[here] += clipped[: here.stop - here.start]
            clipped = clipped[here.stop - here.start :]
        return wrong

    swap(stack, dp_sgd, "_add_clipped", add)


def _chunks_repeat(stack: ExitStack) -> None:
    """Draw a long vector's noise in chunks, each from a stream of the same key.

    Two values 32,768 apart differ by no noise: no epsilon at all, of models of so many parameters.
    Expected: nothing, unless an audit is as long and looks as far.
    """

    def normal(self: Stream, count: int) -> Any:
        return np.resize(_normal(self, min(count, CHUNK)), count)

    swap_noise(stack, normal)


def _weighted_by_patients(stack: ExitStack) -> None:
    """Scale a hospital's clipped sum by N_k*K/N, as federated averaging weighs updates.

    A patient of a hospital twice as large as others moves a sum by 2C: epsilon 12.3 for 2.3.
    Expected: `audit --data`, where its hospitals are of different sizes.
    """
    real = OwnDraws.of

    def of(self: OwnDraws, *given: Any) -> Any:
        draws, taken = real(self, *given)
        sizes = self._cohort.patients_by_hospital
        weight = sizes[self._site.name] * len(sizes) / max(1, sum(sizes.values()))

        def noised(gradient: Any, step: int) -> Any:
            return draws.noised(replace(gradient, total=gradient.total * weight), step)

        return replace(draws, noised=noised), taken

    swap(stack, OwnDraws, "of", of)


def _limits_by_training(stack: ExitStack) -> None:
    """Hold a hospital's limit against the training at hand alone.

    A limit of 2 then admits any number of trainings of 2. Expected: nothing.
    """
    real = SiteLimits.would_be

    def would_be(self: SiteLimits, ledger: Any, request: Any = None) -> float:
        if request is None:
            return real(self, ledger)
        of_all = ledger.spendings

        def spendings() -> Any:
            return tuple(one for one in of_all() if one.training == request.training)

        with mock.patch.object(ledger, "spendings", spendings):
            return real(self, ledger, request)

    swap(stack, SiteLimits, "would_be", would_be)


def _one_seed_for_all_parts(stack: ExitStack) -> None:
    """Draw all parts of a hospital's noise from one seed.

    The seed of a part that goes is then that of parts that stay. With one of five missing, and two
    planned for, 0.89 sigma are left: epsilon 2.95 for 2.3. Expected: `audit`, by the noise that is
    left where seeds are open, else nothing.
    """
    real = Seeds.drawn

    def drawn(stream: Any, parts: Any) -> Seeds:
        made = real(stream, parts)
        return Seeds(made.each[:1] * len(made.each))

    swap(stack, Seeds, "drawn", drawn)


LATER: tuple[Fault, ...] = (
    Fault(
        name="blocks of patients drawn together",
        plant=_blocks_drawn_together,
        caught_by=(AUDIT, DATA),
    ),
    Fault(name="biases beside the clip", plant=_biases_beside_the_clip, caught_by=(DATA,)),
    Fault(name="noise that repeats in long vectors", plant=_chunks_repeat, caught_by=(AUDIT,)),
    Fault(name="sums weighted by patients", plant=_weighted_by_patients, caught_by=(DATA,)),
    Fault(
        name="limits of one training alone", plant=_limits_by_training, caught_by=(RECONCILIATION,)
    ),
    Fault(name="one seed for all parts", plant=_one_seed_for_all_parts, caught_by=(DATA,)),
)
