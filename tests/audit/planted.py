"""Faults planted into the real pipeline, each a small patch that is applied while a block runs.

Every one of them is a mistake that a system of this kind could make and go on working: models are
trained, epsilons are printed, all other tests of its own might pass. `CATCHES` says of each which
detector sees it, from what leaves hospitals and from their ledgers alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any
from unittest import mock

import numpy as np
import torch
from flwr.app import MetricRecord

from accounting import accountants, book, lines, noise
from accounting.events import Event, GaussianEvent
from accounting.grid import GridPlan
from accounting.lines import Line
from accounting.randomness import Stream
from accounting.receipts import Receipt, issue_receipt
from clients.audit import canaries
from clients.contract import messages, schedule, terms
from clients.contract.layer_messages import FEATURE_GRADIENTS
from clients.contract.settings import Settings
from clients.learning import dp_sgd, gradients, local_steps, split_ends, visits
from clients.learning import replica as replica_module
from clients.learning.dp_sgd import Batch, GradientSum
from clients.learning.gradients import Gradients
from clients.learning.replica import Replica
from clients.site import chances, contributing, split_hospital
from clients.site.chances import Chances
from clients.site.hospital import Hospital
from clients.site.own_draws import OwnDraws
from crypto.roles import Sealed
from simulations.audit.canary_data import HOSPITALS
from strategies.run import budget

Patch = Callable[[ExitStack], None]

_SUMS = (gradients, local_steps, visits)
_normal, _bernoulli, _stream = Stream.normal, Stream.bernoulli, Chances.stream
_sum, _factors, _schedule = (
    dp_sgd.clipped_gradient_sum,
    dp_sgd.clip_factors,
    schedule.schedule_of,
)


@dataclass(frozen=True, kw_only=True)
class Fault:
    """A fault.

    Attributes:
        name: a few words.
        plant: applies it.
        caught_by: detectors that see it.
    """

    name: str
    plant: Patch
    caught_by: tuple[str, ...]


@contextmanager
def planted(fault: Fault) -> Iterator[None]:
    """Have the pipeline make a mistake for as long as the block runs."""
    with ExitStack() as stack:
        fault.plant(stack)
        yield


def _swap(stack: ExitStack, where: object, name: str, value: object) -> None:
    stack.enter_context(mock.patch.object(where, name, value))


def _louder(factor: float) -> Patch:
    def plant(stack: ExitStack) -> None:
        _swap(stack, Stream, "normal", lambda self, count: factor * _normal(self, count))

    return plant


def _cut_tails(stack: ExitStack) -> None:
    _swap(stack, Stream, "normal", lambda self, count: np.clip(_normal(self, count), -3.0, 3.0))


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

    return lambda stack: _swap(stack, Chances, "stream", stream)


def _same_sample(stack: ExitStack) -> None:
    def stream(self: Chances, place: Any, purpose: str, step: int = 0) -> Stream:
        if purpose != "sampling":
            return _stream(self, place, purpose, step)
        return Stream.from_key(hashlib.sha256(f"{place.training} {place.round}".encode()).digest())

    _swap(stack, Chances, "stream", stream)


def _in_sums(stack: ExitStack, made: Callable[[Any, Batch, float], GradientSum]) -> None:
    def patched(model: Any, batch: Batch, *, l2_clip: float, **more: Any) -> GradientSum:
        return made(model, batch, l2_clip)

    for module in _SUMS:
        _swap(stack, module, "clipped_gradient_sum", patched)


def _wider_clip(stack: ExitStack) -> None:
    for module in (dp_sgd, canaries, split_ends, split_hospital):
        _swap(stack, module, "clip_factors", lambda squares, clip: _factors(squares, 2.0 * clip))


def _clip_by_record(stack: ExitStack) -> None:
    def made(model: Any, batch: Batch, clip: float) -> GradientSum:
        return _sum(model, replace(batch, patients=torch.arange(len(batch))), l2_clip=clip)

    _in_sums(stack, made)


def _clip_by_tensor(stack: ExitStack) -> None:
    def add(total: Any, found: list[torch.Tensor], clip: float, reasons: dict[str, int]) -> int:
        offset = 0
        for gradient in found:
            size = gradient[0].numel()
            real(total[offset : offset + size], [gradient], clip, reasons)
            offset += size
        return 0

    real = dp_sgd._add_clipped
    _swap(stack, dp_sgd, "_add_clipped", add)


def _no_sampling(stack: ExitStack) -> None:
    _swap(stack, Stream, "bernoulli", lambda self, count, rate: np.ones(count, dtype=bool))


def _fixed_batches(stack: ExitStack) -> None:
    def chosen(self: Stream, count: int, rate: float) -> Any:
        taken = np.zeros(count, dtype=bool)
        taken[self.permutation(count)[: round(rate * count)]] = True
        return taken

    _swap(stack, Stream, "bernoulli", chosen)


def _claims_twice_in_events(stack: ExitStack) -> None:
    def twice(settings: Settings) -> schedule.Schedule:
        found = _schedule(settings)
        return replace(found, sampling_rate=found.sampling_rate**2)

    for module in (terms, budget):
        _swap(stack, module, "schedule_of", twice)


def _claims_twice_in_accounts(stack: ExitStack) -> None:
    def twice(of: accountants.Accountant) -> accountants.Accountant:
        def wrong(events: Any, delta: float) -> float:
            return of([_squared(one) for one in events], delta)

        return wrong

    found = {name: twice(of) for name, of in accountants.ACCOUNTANTS.items()}
    stack.enter_context(mock.patch.dict(accountants.ACCOUNTANTS, found))


def _squared(event: Event) -> Event:
    if isinstance(event, GaussianEvent):
        return replace(event, sampling_rate=event.sampling_rate**2)
    return event


def _realised_batch(stack: ExitStack) -> None:
    def contribute(self: Gradients, replica: Replica, draws: Any) -> Any:
        batch = draws.batch(0)
        found = _sum(replica.per_sample, batch, l2_clip=self._terms.l2_clip)
        expected = self._terms.sampling_rate * draws.patients
        return draws.noised(found, 0) * expected / max(found.patients, 1)

    _swap(stack, Gradients, "contribute", contribute)


def _realised_batch_before_noise(stack: ExitStack) -> None:
    def made(model: Any, batch: Batch, clip: float) -> GradientSum:
        found = _sum(model, batch, l2_clip=clip)
        return replace(found, total=found.total * 60.0 / max(found.patients, 1))

    _in_sums(stack, made)


def _momentum_at_hospital(stack: ExitStack) -> None:
    kept: dict[str, Any] = {}

    def contribute(self: Gradients, replica: Replica, draws: Any) -> Any:
        found = _sum(replica.per_sample, draws.batch(0), l2_clip=self._terms.l2_clip)
        whose = f"{self._terms.training} {_whose(draws)}"
        kept[whose] = 0.9 * kept.get(whose, 0.0) + found.total
        return draws.noised(replace(found, total=kept[whose]), 0)

    _swap(stack, Gradients, "contribute", contribute)


def _whose(draws: Any) -> str:
    """The hospital whose draws these are."""
    names, cells = draws.batch.__code__.co_freevars, draws.batch.__closure__
    own = dict(zip(names, cells, strict=True))["self"].cell_contents
    return str(own._site.name)


def _sigma_over_hospitals(stack: ExitStack) -> None:
    def share(sigma: float, honest: int) -> tuple[float, float]:
        return sigma / honest, sigma

    stack.enter_context(mock.patch.dict(noise.NOISE_PLANS, {"semi-central": share}))


def _released_buffer(stack: ExitStack) -> None:
    seen: dict[int, torch.Tensor] = {}
    real = Replica.arrays

    def made(model: Any, batch: Batch, clip: float) -> GradientSum:
        seen[id(model.module)] = batch.inputs.mean(dim=0) if len(batch) else torch.zeros(1)
        return _sum(model, batch, l2_clip=clip)

    def arrays(self: Replica) -> dict[str, torch.Tensor]:
        more = {"running_mean": seen[id(self.module)]} if id(self.module) in seen else {}
        return {**real(self), **more}

    _in_sums(stack, made)
    _swap(stack, Replica, "arrays", arrays)


def _uncharged_retries(stack: ExitStack) -> None:
    real = book.Book._write

    def write(self: book.Book, new: Any, states: Any) -> None:
        def free(line: Line) -> bool:
            return line.kind == "spend" and bool(line.fields["attempt"] != 1)

        real(self, [line for line in new if not free(line)], states)

    _swap(stack, book.Book, "_write", write)


def _charged_late(stack: ExitStack) -> None:
    """Give receipts at once, and write what they are for with the next one."""
    real = book.Book._write
    late: dict[int, list[Line]] = {}

    def write(self: book.Book, new: Any, states: Any) -> None:
        waiting = late.setdefault(id(self), [])
        ready = list(waiting) if any(line.kind == "spend" for line in new) else []
        del waiting[: len(ready)]
        waiting += [line for line in new if line.kind == "spend"]
        real(self, [*ready, *(line for line in new if line.kind != "spend")], states)

    _swap(stack, book.Book, "_write", write)


def _one_event_for_all_steps(stack: ExitStack) -> None:
    real = Hospital.spend

    def spend(self: Hospital, place: Any, events: int, **more: Any) -> Receipt:
        receipt = real(self, place, 1, **more)
        return issue_receipt(receipt.place, receipt.event, uses=events, rounds=receipt.rounds)

    _swap(stack, Hospital, "spend", spend)


def _counts_as_examples(stack: ExitStack) -> None:
    sizes = [1]
    real = messages.RoundReply.content

    def made(model: Any, batch: Batch, clip: float) -> GradientSum:
        found = _sum(model, batch, l2_clip=clip)
        sizes[0] = found.patients
        return found

    def content(self: messages.RoundReply) -> Any:
        records = real(self)
        records["metrics"] = MetricRecord({"num-examples": sizes[0]})
        return records

    _in_sums(stack, made)
    _swap(stack, messages.RoundReply, "content", content)


def _silent_when_empty(stack: ExitStack) -> None:
    real = chances.noised

    def noised(value: Any, plan: GridPlan, stream: Stream, use: Any) -> Any:
        empty: list[bool] = []
        value.map(lambda vector: empty.append(not np.any(vector)))
        with (
            mock.patch.object(Stream, "normal", lambda _, n: np.zeros(n))
            if empty[0]
            else ExitStack()
        ):
            return real(value, plan, stream, use)

    _swap(stack, chances, "noised", noised)


def _noise_where_touched(stack: ExitStack) -> None:
    real = chances.noised

    def noised(value: Any, plan: GridPlan, stream: Stream, use: Any) -> Any:
        touched: list[Any] = []
        value.map(lambda vector: touched.append(np.asarray(vector) != 0.0))
        with mock.patch.object(Stream, "normal", lambda s, n: _normal(s, n) * touched[0].ravel()):
            return real(value, plan, stream, use)

    _swap(stack, chances, "noised", noised)


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

    _swap(stack, OwnDraws, "_sample", sample)


def _exact_beside(stack: ExitStack) -> None:
    """Seal the noised sum with the sum itself added to it once more."""
    real = contributing.Contributing.seal
    exact: dict[str, Any] = {}
    released = Chances.released

    def watched(self: Chances, value: Any, *given: Any, **more: Any) -> Any:
        value.map(lambda vector: exact.__setitem__(self._name, np.array(vector)))
        return released(self, value, *given, **more)

    def seal(self: Any, passage: Any, update: Any, *given: Any, **more: Any) -> Any:
        return real(self, passage, update + exact[self._hospital.site.name], *given, **more)

    _swap(stack, Chances, "released", watched)
    _swap(stack, contributing.Contributing, "seal", seal)


def _another_rate(factor: float) -> Patch:
    def drawn(self: Stream, count: int, rate: float) -> Any:
        return _bernoulli(self, count, min(1.0, factor * rate))

    return lambda stack: _swap(stack, Stream, "bernoulli", drawn)


def _silent(where: Callable[[Chances, Any, str], bool]) -> Patch:
    """Leave the noise out of some values."""

    def plant(stack: ExitStack) -> None:
        def released(
            self: Chances, value: Any, grid: Any, place: Any, purpose: str, *rest: Any
        ) -> Any:
            silent = mock.patch.object(Stream, "normal", lambda _, count: np.zeros(count))
            with silent if where(self, place, purpose) else ExitStack():
                return real(self, value, grid, place, purpose, *rest)

        real = Chances.released
        _swap(stack, Chances, "released", released)

    return plant


def _uniform_noise(stack: ExitStack) -> None:
    def normal(self: Stream, count: int) -> Any:
        return np.sqrt(12.0) * (self.uniform(count) - 0.5)

    _swap(stack, Stream, "normal", normal)


def _half_of_it_twice(stack: ExitStack) -> None:
    """Draw half of each vector's noise, and use it for the other half as well."""

    def normal(self: Stream, count: int) -> Any:
        half = _normal(self, -(-count // 2))
        return np.concatenate([half, half])[:count]

    _swap(stack, Stream, "normal", normal)


def _unclipped_rows(stack: ExitStack) -> None:
    def unclipped(values: torch.Tensor, l2_clip: float) -> torch.Tensor:
        return values.detach().double() * 0.2

    _swap(stack, split_hospital, "clip_rows", unclipped)


def _slots_in_order(stack: ExitStack) -> None:
    _swap(stack, split_hospital, "deal_slots", lambda patients, **_: np.arange(patients))


def _more_claimed(stack: ExitStack) -> None:
    """Write twice the noise into the ledger."""
    real = lines.spend

    def spend(place: Any, event: Any, **more: Any) -> Line:
        if isinstance(event, GaussianEvent):
            event = replace(event, noise_multiplier=2.0 * event.noise_multiplier)
        return real(place, event, **more)

    _swap(stack, lines, "spend", spend)


def _losses_told(stack: ExitStack) -> None:
    told = [0.0]
    real = messages.RoundReply.content

    def made(model: Any, batch: Batch, clip: float) -> GradientSum:
        found = _sum(model, batch, l2_clip=clip)
        told[0] = float(np.abs(found.total).sum())
        return found

    def content(self: messages.RoundReply) -> Any:
        records = real(self)
        records["config"]["loss"] = told[0]
        return records

    _in_sums(stack, made)
    _swap(stack, messages.RoundReply, "content", content)


def _exact_in_snapshot(stack: ExitStack) -> None:
    last: dict[int, torch.Tensor] = {}
    real = replica_module.frame_to_bytes

    def made(model: Any, batch: Batch, clip: float) -> GradientSum:
        found = _sum(model, batch, l2_clip=clip)
        last[0] = torch.as_tensor(found.total)
        return found

    def to_bytes(arrays: Mapping[str, Any]) -> bytes:
        return real({**arrays, "last": last.get(0, torch.zeros(1)).numpy()})

    _in_sums(stack, made)
    _swap(stack, replica_module, "frame_to_bytes", to_bytes)


def _own_sum_added(stack: ExitStack) -> None:
    """Step on the opened sum and once more on what was computed here, without noise."""
    mine: dict[int, Any] = {}
    real = Gradients.apply

    def made(model: Any, batch: Batch, clip: float) -> GradientSum:
        found = _sum(model, batch, l2_clip=clip)
        mine[0] = found.total
        return found

    def apply(self: Gradients, replica: Replica, opened: Any, chain: str) -> None:
        real(self, replica, opened + 0.1 * mine.get(0, 0.0), chain)

    _in_sums(stack, made)
    _swap(stack, Gradients, "apply", apply)


def _one_batch_for_all_steps(stack: ExitStack) -> None:
    drawn: dict[tuple[int, str], Batch] = {}
    real = OwnDraws._sample

    def sample(self: OwnDraws, place: Any, step: int = 0) -> Batch:
        at = id(self), f"{place.training} {place.round} {place.attempt}"
        if at not in drawn:
            drawn[at] = real(self, place, step)
        return drawn[at]

    _swap(stack, OwnDraws, "_sample", sample)


def _no_answer_without_patients(stack: ExitStack) -> None:
    real = OwnDraws._sample

    def sample(self: OwnDraws, place: Any, step: int = 0) -> Batch:
        batch = real(self, place, step)
        if not len(batch):
            raise ValueError("nothing to train on")
        return batch

    _swap(stack, OwnDraws, "_sample", sample)


def _sealed_by_name_only(stack: ExitStack) -> None:
    def seal(update: Any, *given: Any) -> Sealed:
        sealed = real(update, *given)
        readable = np.asarray(update, dtype="<f4").tobytes()
        room = len(sealed.payload) - 256
        return replace(sealed, payload=sealed.payload[:256] + readable[:room].ljust(room, b"\0"))

    real = contributing.sealed_contribution
    _swap(stack, contributing, "sealed_contribution", seal)


AUDIT, DATA, RECONCILIATION = "audit", "audit --data", "reconciliation"

FAULTS: tuple[Fault, ...] = (
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
        plant=_silent(lambda own, place, _: own._name == HOSPITALS[-1]),
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
        name="q used twice, in the events",
        plant=_claims_twice_in_events,
        caught_by=(RECONCILIATION,),
    ),
    Fault(
        name="q used twice, in the accountants",
        plant=_claims_twice_in_accounts,
        caught_by=(AUDIT, DATA),
    ),
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
    Fault(name="momentum at the hospital", plant=_momentum_at_hospital, caught_by=(DATA,)),
    Fault(name="an exact sum beside the noised one", plant=_exact_beside, caught_by=(DATA,)),
    Fault(name="an exact sum moves the model as well", plant=_own_sum_added, caught_by=(DATA,)),
    Fault(name="an exact sum in a snapshot", plant=_exact_in_snapshot, caught_by=(DATA,)),
    Fault(name="twice the noise claimed", plant=_more_claimed, caught_by=(RECONCILIATION,)),
    Fault(name="a loss told to the server", plant=_losses_told, caught_by=(RECONCILIATION,)),
    Fault(
        name="no answer where a batch is empty",
        plant=_no_answer_without_patients,
        caught_by=(RECONCILIATION,),
    ),
    Fault(name="sealed by name only", plant=_sealed_by_name_only, caught_by=(RECONCILIATION,)),
    Fault(name="a buffer released", plant=_released_buffer, caught_by=(RECONCILIATION,)),
    Fault(
        name="the batch's size as num-examples",
        plant=_counts_as_examples,
        caught_by=(RECONCILIATION,),
    ),
    Fault(name="a retry not charged", plant=_uncharged_retries, caught_by=(RECONCILIATION,)),
    Fault(name="charged after it left", plant=_charged_late, caught_by=(RECONCILIATION,)),
    Fault(
        name="one event for all local steps",
        plant=_one_event_for_all_steps,
        caught_by=(RECONCILIATION,),
    ),
)


def catches(found: Mapping[str, int]) -> str:
    """Say how many gates of each detector shut, in words."""
    return ", ".join(f"{name} ({count})" for name, count in found.items()) or "nothing"
