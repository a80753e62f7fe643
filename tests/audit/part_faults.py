"""Faults of a part: one hospital's, one moment's, one kind of patient's, one row's of a statement.

Everything else is as it should be, so that what is looked at as a whole hardly shows them.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import numpy as np

from accounting import accountants, observers
from accounting.book import Book
from accounting.errors import BookError
from accounting.randomness import Stream
from accounting.receipts import issue_receipt
from clients.contract import terms
from clients.learning.batch import Batch
from clients.learning.dp_sgd import GradientSum, clipped_gradient_sum
from clients.site import chances
from clients.site.answers import Answers
from clients.site.chances import Chances
from clients.site.door import Door
from clients.site.hospital import Hospital
from tests.audit.faults import DATA, RECONCILIATION, Fault, in_sums, swap
from tests.audit.given_noise import GivenStream, joinable, noise_is

_normal, _stream = Stream.normal, Chances.stream


def _answered_anew(stack: ExitStack) -> None:
    """Answer a place that is asked for again with a new batch and new noise, on the old receipt."""
    paid: dict[Any, Any] = {}
    spend, append = Hospital.spend, Book.append

    def again(self: Hospital, place: Any, events: int, **more: Any) -> Any:
        at = id(self), place
        if at not in paid:
            paid[at] = spend(self, place, events, **more)
            return paid[at]
        first = paid[at]
        return issue_receipt(first.place, first.event, uses=events, rounds=first.rounds)

    def appended(self: Book, *new: Any) -> None:
        try:
            append(self, *new)
        except BookError:
            if new[0].kind != "seal":
                raise

    swap(stack, Answers, "find", lambda *_: None)
    swap(stack, Door, "_check_place", staticmethod(lambda *_: None))
    swap(stack, Hospital, "spend", again)
    swap(stack, Book, "append", appended)


def _seed_without_the_round(stack: ExitStack) -> None:
    """Draw the noise of a seeded run from its seed and the hospital's name alone."""

    def stream(self: Chances, place: Any, purpose: str, step: int = 0) -> Stream:
        if not self._settings.seeded or purpose != "noise":
            return _stream(self, place, purpose, step)
        return Stream.from_seed(self._settings.run.seed, self._name, purpose, str(step))

    swap(stack, Chances, "stream", stream)


def _in_another_order(stack: ExitStack) -> None:
    """Draw noise once at each hospital, and put it in another order in each later round."""
    kept: dict[Any, Any] = {}

    def stream(self: Chances, place: Any, purpose: str, step: int = 0) -> Stream:
        if purpose != "noise":
            return _stream(self, place, purpose, step)

        class Kept(GivenStream):
            def normal(own, count: int) -> Any:
                at = self._name, place.training, step, count
                if at not in kept:
                    kept[at] = _normal(Stream.fresh(), count)
                turns = Stream.fresh().permutation(count)
                return kept[at][turns]

        return Kept(os.urandom(32), seeded=False)

    joinable(stack)
    swap(stack, Chances, "stream", stream)


def _fainter(where: Callable[[Any], Any], factor: float) -> Callable[[ExitStack], None]:
    """Draw less noise for some of the values of a sum."""

    def plant(stack: ExitStack) -> None:
        real = chances.noised

        def noised(value: Any, plan: Any, stream: Stream, use: Any) -> Any:
            given: list[Any] = []
            value.map(lambda vector: given.append(np.asarray(vector).ravel()))
            scale = np.where(where(given[0]), factor, 1.0)
            with noise_is(lambda one, count: _normal(one, count) * scale):
                return real(value, plan, stream, use)

        swap(stack, chances, "noised", noised)

    return plant


def _stretch(first: int, last: int) -> Callable[[Any], Any]:
    return lambda vector: (np.arange(len(vector)) >= first) & (np.arange(len(vector)) < last)


def _in_pairs(stack: ExitStack) -> None:
    """Draw patients in pairs: each is in a batch with chance q, and so is who is beside them."""

    def sampled(self: Chances, patients: Any, place: Any, step: int = 0) -> Any:
        rate = self._settings.training.sampling_rate
        drawn = self.stream(place, "sampling", step).bernoulli(-(-len(patients) // 2), rate)
        return patients[np.repeat(drawn, 2)[: len(patients)]]

    swap(stack, Chances, "sampled", sampled)


def _given_up_for_one(stack: ExitStack) -> None:
    """Give a batch up where a gradient in it is not finite, as training in half precision does."""

    def made(model: Any, batch: Batch, clip: float) -> GradientSum:
        found = clipped_gradient_sum(model, batch, l2_clip=clip)
        return replace(found, total=found.total * 0.0) if found.discarded else found

    in_sums(stack, made)


def _one_patient_less_shared(stack: ExitStack) -> None:
    """Claim of a patient of two hospitals what holds of a patient of one."""
    real = observers._largest

    def largest(run: Any, view: Any, accountant: str) -> float:
        return real(run, replace(view, shared=1, repeats=1), accountant)

    swap(stack, observers, "_largest", largest)


def _a_little_less_claimed(stack: ExitStack) -> None:
    """Have accountants say three hundredths less."""
    for name, real in list(accountants.ACCOUNTANTS.items()):
        stack.callback(accountants.ACCOUNTANTS.__setitem__, name, real)
        accountants.ACCOUNTANTS[name] = lambda events, delta, of=real: 0.97 * of(events, delta)


def _groups_share_with_all(stack: ExitStack) -> None:
    """Plan the noise of a group's sum as if all hospitals were in it."""
    swap(stack, terms, "sharing_noise", terms.hospitals_expected)


PARTS: tuple[Fault, ...] = (
    Fault(
        name="a place asked for again is answered anew",
        plant=_answered_anew,
        caught_by=(RECONCILIATION,),
    ),
    Fault(name="a seed without the round", plant=_seed_without_the_round, caught_by=(DATA,)),
    Fault(name="noise in another order", plant=_in_another_order, caught_by=(DATA,)),
    Fault(
        name="a fifth less noise where somebody is",
        plant=_fainter(lambda vector: vector != 0.0, 0.8),
        caught_by=(DATA,),
    ),
    Fault(
        name="half the noise of 64 values",
        plant=_fainter(_stretch(640, 704), 0.5),
        caught_by=(DATA,),
    ),
    Fault(name="patients drawn in pairs", plant=_in_pairs, caught_by=(DATA,)),
    Fault(name="a batch given up for one gradient", plant=_given_up_for_one, caught_by=(DATA,)),
    Fault(
        name="a shared patient's claim as of one hospital",
        plant=_one_patient_less_shared,
        caught_by=(RECONCILIATION,),
    ),
    Fault(name="three hundredths less claimed", plant=_a_little_less_claimed, caught_by=(DATA,)),
    Fault(
        name="a group's noise shared with all",
        plant=_groups_share_with_all,
        caught_by=(DATA, RECONCILIATION),
    ),
)
