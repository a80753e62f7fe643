"""Faults of what is claimed and written, and of what leaves beside a noised sum."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from typing import Any
from unittest import mock

import numpy as np
import torch
from flwr.app import MetricRecord

from accounting import accountants, book, lines
from accounting.events import Event, GaussianEvent
from accounting.lines import Line
from accounting.receipts import Receipt, issue_receipt
from clients.contract import messages, schedule, terms
from clients.contract.settings import Settings
from clients.learning import dp_sgd
from clients.learning import replica as replica_module
from clients.learning.batch import Batch
from clients.learning.dp_sgd import GradientSum
from clients.learning.gradients import Gradients
from clients.learning.replica import Replica
from clients.site import contributing
from clients.site.chances import Chances
from clients.site.hospital import Hospital
from clients.site.own_draws import OwnDraws
from crypto.roles import Sealed
from strategies.run import budget
from tests.audit.faults import AUDIT, DATA, RECONCILIATION, Fault, in_sums, swap

_sum, _schedule = dp_sgd.clipped_gradient_sum, schedule.schedule_of


def _claims_twice_in_events(stack: ExitStack) -> None:
    def twice(settings: Settings) -> schedule.Schedule:
        found = _schedule(settings)
        return replace(found, sampling_rate=found.sampling_rate**2)

    for module in (terms, budget):
        swap(stack, module, "schedule_of", twice)


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


def _released_buffer(stack: ExitStack) -> None:
    seen: dict[int, torch.Tensor] = {}
    real = Replica.arrays

    def made(model: Any, batch: Batch, clip: float) -> GradientSum:
        seen[id(model.module)] = batch.inputs.mean(dim=0) if len(batch) else torch.zeros(1)
        return _sum(model, batch, l2_clip=clip)

    def arrays(self: Replica) -> dict[str, torch.Tensor]:
        more = {"running_mean": seen[id(self.module)]} if id(self.module) in seen else {}
        return {**real(self), **more}

    in_sums(stack, made)
    swap(stack, Replica, "arrays", arrays)


def _uncharged_retries(stack: ExitStack) -> None:
    real = book.Book._write

    def write(self: book.Book, new: Any, states: Any) -> None:
        def free(line: Line) -> bool:
            return line.kind == "spend" and bool(line.fields["attempt"] != 1)

        real(self, [line for line in new if not free(line)], states)

    swap(stack, book.Book, "_write", write)


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

    swap(stack, book.Book, "_write", write)


def _one_event_for_all_steps(stack: ExitStack) -> None:
    real = Hospital.spend

    def spend(self: Hospital, place: Any, events: int, **more: Any) -> Receipt:
        receipt = real(self, place, 1, **more)
        return issue_receipt(receipt.place, receipt.event, uses=events, rounds=receipt.rounds)

    swap(stack, Hospital, "spend", spend)


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

    in_sums(stack, made)
    swap(stack, messages.RoundReply, "content", content)


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

    swap(stack, Chances, "released", watched)
    swap(stack, contributing.Contributing, "seal", seal)


def _more_claimed(stack: ExitStack) -> None:
    """Write twice the noise into the ledger."""
    real = lines.spend

    def spend(place: Any, event: Any, **more: Any) -> Line:
        if isinstance(event, GaussianEvent):
            event = replace(event, noise_multiplier=2.0 * event.noise_multiplier)
        return real(place, event, **more)

    swap(stack, lines, "spend", spend)


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

    in_sums(stack, made)
    swap(stack, messages.RoundReply, "content", content)


def _exact_in_snapshot(stack: ExitStack) -> None:
    last: dict[int, torch.Tensor] = {}
    real = replica_module.frame_to_bytes

    def made(model: Any, batch: Batch, clip: float) -> GradientSum:
        found = _sum(model, batch, l2_clip=clip)
        last[0] = torch.as_tensor(found.total)
        return found

    def to_bytes(arrays: Mapping[str, Any]) -> bytes:
        return real({**arrays, "last": last.get(0, torch.zeros(1)).numpy()})

    in_sums(stack, made)
    swap(stack, replica_module, "frame_to_bytes", to_bytes)


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

    in_sums(stack, made)
    swap(stack, Gradients, "apply", apply)


def _no_answer_without_patients(stack: ExitStack) -> None:
    real = OwnDraws._sample

    def sample(self: OwnDraws, place: Any, step: int = 0) -> Batch:
        batch = real(self, place, step)
        if not len(batch):
            raise ValueError("nothing to train on")
        return batch

    swap(stack, OwnDraws, "_sample", sample)


def _sealed_by_name_only(stack: ExitStack) -> None:
    def seal(update: Any, *given: Any) -> Sealed:
        sealed = real(update, *given)
        readable = np.asarray(update, dtype="<f4").tobytes()
        room = len(sealed.payload) - 256
        return replace(sealed, payload=sealed.payload[:256] + readable[:room].ljust(room, b"\0"))

    real = contributing.sealed_contribution
    swap(stack, contributing, "sealed_contribution", seal)


BOOK_FAULTS: tuple[Fault, ...] = (
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
