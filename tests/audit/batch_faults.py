"""Faults of batches and of what a patient adds to a sum: who is in it, how much, and how scaled."""

from __future__ import annotations

import hashlib
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from accounting.randomness import Stream
from clients.audit import canaries
from clients.learning import dp_sgd, split_ends
from clients.learning.batch import Batch
from clients.learning.dp_sgd import GradientSum
from clients.learning.gradients import Gradients
from clients.learning.per_sample import PerSample
from clients.learning.replica import Replica
from clients.site import deals, split_hospital
from clients.site.chances import Chances
from clients.site.own_draws import OwnDraws
from tests.audit.faults import AUDIT, DATA, Fault, Patch, in_sums, swap

_bernoulli, _stream = Stream.bernoulli, Chances.stream
_sum, _factors = dp_sgd.clipped_gradient_sum, dp_sgd.clip_factors


def _same_sample(stack: ExitStack) -> None:
    def stream(self: Chances, place: Any, purpose: str, step: int = 0) -> Stream:
        if purpose != "sampling":
            return _stream(self, place, purpose, step)
        return Stream.from_key(hashlib.sha256(f"{place.training} {place.round}".encode()).digest())

    swap(stack, Chances, "stream", stream)


def _wider_clip(stack: ExitStack) -> None:
    for module in (dp_sgd, canaries, split_ends, split_hospital):
        swap(stack, module, "clip_factors", lambda squares, clip: _factors(squares, 2.0 * clip))


def _clip_by_record(stack: ExitStack) -> None:
    def made(model: Any, batch: Batch, clip: float) -> GradientSum:
        return _sum(model, replace(batch, patients=torch.arange(len(batch))), l2_clip=clip)

    in_sums(stack, made)


def _clip_by_tensor(stack: ExitStack) -> None:
    def add(
        total: Any, found: list[torch.Tensor], clip: float, reasons: dict[str, int], _: object
    ) -> int:
        offset = 0
        for gradient in found:
            size = gradient[0].numel()
            real(total[offset : offset + size], [gradient], clip, reasons)
            offset += size
        return 0

    real = dp_sgd._add_clipped
    swap(stack, dp_sgd, "_add_clipped", add)


def _no_sampling(stack: ExitStack) -> None:
    swap(stack, Stream, "bernoulli", lambda self, count, rate: np.ones(count, dtype=bool))


def _fixed_batches(stack: ExitStack) -> None:
    def chosen(self: Stream, count: int, rate: float) -> Any:
        taken = np.zeros(count, dtype=bool)
        taken[self.permutation(count)[: round(rate * count)]] = True
        return taken

    swap(stack, Stream, "bernoulli", chosen)


def _realised_batch(stack: ExitStack) -> None:
    def contribute(self: Gradients, replica: Replica, draws: Any) -> Any:
        batch = draws.batch(0)
        found = _sum(replica.per_sample, batch, l2_clip=self._terms.l2_clip)
        expected = self._terms.sampling_rate * draws.patients
        return draws.noised(found, 0) * expected / max(found.patients, 1)

    swap(stack, Gradients, "contribute", contribute)


def _realised_batch_before_noise(stack: ExitStack) -> None:
    def made(model: Any, batch: Batch, clip: float) -> GradientSum:
        found = _sum(model, batch, l2_clip=clip)
        return replace(found, total=found.total * 60.0 / max(found.patients, 1))

    in_sums(stack, made)


def _momentum_at_hospital(stack: ExitStack) -> None:
    kept: dict[str, Any] = {}

    def contribute(self: Gradients, replica: Replica, draws: Any) -> Any:
        found = _sum(replica.per_sample, draws.batch(0), l2_clip=self._terms.l2_clip)
        whose = f"{self._terms.training} {_whose(draws)}"
        kept[whose] = 0.9 * kept.get(whose, 0.0) + found.total
        return draws.noised(replace(found, total=kept[whose]), 0)

    swap(stack, Gradients, "contribute", contribute)


def _whose(draws: Any) -> str:
    """The hospital whose draws these are."""
    names, cells = draws.batch.__code__.co_freevars, draws.batch.__closure__
    own = dict(zip(names, cells, strict=True))["self"].cell_contents
    return str(own._site.name)


def _records_sampled_apart(stack: ExitStack) -> None:
    def sample(self: OwnDraws, place: Any, step: int = 0) -> Batch:
        records = self.records()
        stream = self.chances.stream(place, "sampling", step)
        rate = self._settings.training.sampling_rate
        drawn = records.take(np.flatnonzero(stream.bernoulli(len(records), rate)))
        return Batch(
            inputs=torch.as_tensor(np.asarray(drawn.inputs)),
            labels=torch.as_tensor(drawn.labels),
            patients=torch.as_tensor(drawn.patients),
        )

    swap(stack, OwnDraws, "_sample", sample)


def _another_rate(factor: float) -> Patch:
    def drawn(self: Stream, count: int, rate: float) -> Any:
        return _bernoulli(self, count, min(1.0, factor * rate))

    return lambda stack: swap(stack, Stream, "bernoulli", drawn)


def _unclipped_rows(stack: ExitStack) -> None:
    def unclipped(values: torch.Tensor, l2_clip: float) -> torch.Tensor:
        return values.detach().double() * 0.2

    swap(stack, split_hospital, "clip_rows", unclipped)


def _slots_in_order(stack: ExitStack) -> None:
    swap(stack, deals, "deal_slots", lambda patients, **_: np.arange(patients))


def _one_batch_for_all_steps(stack: ExitStack) -> None:
    drawn: dict[tuple[int, str], Batch] = {}
    real = OwnDraws._sample

    def sample(self: OwnDraws, place: Any, step: int = 0) -> Batch:
        at = id(self), f"{place.training} {place.round} {place.attempt}"
        if at not in drawn:
            drawn[at] = real(self, place, step)
        return drawn[at]

    swap(stack, OwnDraws, "_sample", sample)


def _records_counted(stack: ExitStack) -> None:
    """Count the class of every record, where a patient's are to count as one."""
    real = PerSample.means

    def means(self: PerSample, inputs: Any, labels: Any, owners: Any, *more: Any) -> Any:
        found = real(self, inputs, labels, owners, *more)
        if self.shares is not None and self.shares.marked:
            found[-1] = found[-1] * torch.tensor(owners.counts)[:, None]
        return found

    swap(stack, PerSample, "means", means)


def _counted_beside_the_clip(stack: ExitStack) -> None:
    """Leave gradients all of the clip, though counts of classes have a part of it."""
    swap(stack, dp_sgd, "REST", 1.0)


BATCH_FAULTS: tuple[Fault, ...] = (
    Fault(name="the clip twice as wide", plant=_wider_clip, caught_by=(AUDIT, DATA)),
    Fault(name="a clip for each record", plant=_clip_by_record, caught_by=(DATA,)),
    Fault(name="a clip for each tensor", plant=_clip_by_tensor, caught_by=(DATA,)),
    Fault(name="a cut model's rows not clipped", plant=_unclipped_rows, caught_by=(DATA,)),
    Fault(name="slots dealt in order", plant=_slots_in_order, caught_by=(DATA,)),
    Fault(name="a fifth more patients drawn", plant=_another_rate(1.2), caught_by=(AUDIT, DATA)),
    Fault(name="no sampling", plant=_no_sampling, caught_by=(AUDIT, DATA)),
    Fault(name="batches of a fixed size", plant=_fixed_batches, caught_by=(AUDIT, DATA)),
    Fault(name="the same draws in every hospital", plant=_same_sample, caught_by=(DATA,)),
    Fault(name="one batch for all local steps", plant=_one_batch_for_all_steps, caught_by=(DATA,)),
    Fault(name="records sampled, not patients", plant=_records_sampled_apart, caught_by=(DATA,)),
    Fault(
        name="divided by the realised batch, after the noise",
        plant=_realised_batch,
        caught_by=(DATA,),
    ),
    Fault(
        name="divided by the realised batch, before the noise",
        plant=_realised_batch_before_noise,
        caught_by=(DATA,),
    ),
    Fault(name="every record's class counted", plant=_records_counted, caught_by=(DATA,)),
    Fault(
        name="classes counted beside the whole clip",
        plant=_counted_beside_the_clip,
        caught_by=(DATA,),
    ),
    Fault(name="momentum at the hospital", plant=_momentum_at_hospital, caught_by=(DATA,)),
)
