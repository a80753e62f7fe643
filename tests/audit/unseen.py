"""Faults planted after the detectors were finished, to see what detectors do not see.

None of them had a part in how a detector was made. What is caught is held; what is not stands in
`MISSED` with the reason, and its test fails as soon as a detector sees it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from typing import Any
from unittest import mock

import numpy as np
import torch

from accounting import noise, runs
from accounting.randomness import Stream
from clients.contract import terms
from clients.learning import dp_sgd
from clients.learning.batch import Batch
from clients.site.chances import Chances
from clients.site.own_draws import OwnDraws
from crypto import one_time
from crypto.coins import Coins, KeyStream
from crypto.prepared import Prepared
from crypto.roles import Place
from tests.audit.faults import DATA, RECONCILIATION, Fault, swap
from tests.audit.given_noise import swap_noise

#: Values in a table of noise: 8 MiB, drawn once in a process.
TABLE = 2**20


def _noise_of_public_words(stack: ExitStack) -> None:
    """Key every stream with the names of its place, which everybody knows."""

    def stream(self: Chances, place: Any, purpose: str, step: int = 0) -> Stream:
        words = (place.training, self._name, place.round, place.attempt, purpose, step)
        return Stream.from_key(hashlib.sha256(" ".join(map(str, words)).encode()).digest())

    swap(stack, Chances, "stream", stream)


def _table_of_noise(stack: ExitStack) -> None:
    """Read noise from a table that is drawn once, from a random place of it on."""
    real, table = Stream.normal, []

    def normal(self: Stream, count: int) -> Any:
        if not table:
            table.append(real(Stream.fresh(), TABLE))
        [start] = self.integers(1, TABLE)
        return np.take(table[0], np.arange(start, start + count), mode="wrap")

    swap_noise(stack, normal)


def _classes_evened_out(stack: ExitStack) -> None:
    """Draw patients of rare classes more often, those of others less; q is the mean of it."""
    real = OwnDraws._sample

    def sample(self: OwnDraws, place: Any, step: int = 0) -> Batch:
        records = self.records()
        _, first = np.unique(records.patients, return_index=True)
        _, own, counts = np.unique(
            np.asarray(records.labels)[first], return_inverse=True, return_counts=True
        )
        share = len(first) / (len(counts) * counts[own])

        def sampled(chances: Chances, patients: Any, place: Any, step: int = 0) -> Any:
            drawn = chances.stream(place, "sampling", step).uniform(len(patients))
            return patients[drawn < chances._settings.training.sampling_rate * share]

        with mock.patch.object(Chances, "sampled", sampled):
            return real(self, place, step)

    swap(stack, OwnDraws, "_sample", sample)


def _clip_at_the_median(stack: ExitStack) -> None:
    """Clip at the median norm of those who are clipped together, where that is below C.

    Nobody contributes more than C, but one patient moves what everybody else contributes.
    """
    real = dp_sgd.clip_factors

    def factors(squares: torch.Tensor, clip: float) -> torch.Tensor:
        median = float(squares.double().sqrt().nanmedian())
        return real(squares, min(clip, max(median, 1e-3 * clip)))

    swap(stack, dp_sgd, "clip_factors", factors)


def _shares_of_all(stack: ExitStack) -> None:
    """Share noise out among all hospitals, those that may be missing or collude included."""
    real = noise.make_noise_plan

    def made(name: str, *, noise_multiplier: float, hospitals: int, **more: int) -> Any:
        plan = real(name, noise_multiplier=noise_multiplier, hospitals=hospitals, **more)
        if name != "semi-central":
            return plan
        return replace(plan, multiplier_of_update=noise_multiplier / hospitals**0.5)

    for module in (terms, runs):
        swap(stack, module, "make_noise_plan", made)


def _one_key_a_round(stack: ExitStack) -> None:
    """Seal every attempt of a round under the same one-time key."""
    real = one_time.OneTimeSealer.prepare
    secret = b"the hospital's own, for as long as it runs"

    def prepare(self: one_time.OneTimeSealer, place: Place, **how: Any) -> Prepared:
        class Kept(Coins):
            def __init__(self) -> None:
                words = (secret, place.training, hospital, place.round)
                KeyStream.__init__(self, hashlib.sha256(repr(words).encode()).digest())

        hospital = self._hospital
        with mock.patch.object(one_time, "Coins", Kept):
            return real(self, place, **how)

    swap(stack, one_time.OneTimeSealer, "prepare", prepare)


UNSEEN: tuple[Fault, ...] = (
    Fault(name="noise keyed by public words", plant=_noise_of_public_words, caught_by=(DATA,)),
    # A run's own audit sees it by the shape of most tables, but not of all.
    Fault(name="noise read from a table", plant=_table_of_noise, caught_by=(DATA,)),
    Fault(name="classes evened out by sampling", plant=_classes_evened_out, caught_by=(DATA,)),
    Fault(
        name="a clip at the median of those beside", plant=_clip_at_the_median, caught_by=(DATA,)
    ),
    Fault(
        name="noise shared out among those missing",
        plant=_shares_of_all,
        caught_by=(DATA, RECONCILIATION),
    ),
    Fault(
        name="one key for all attempts of a round",
        plant=_one_key_a_round,
        caught_by=(RECONCILIATION,),
    ),
)

#: Fault -> why nothing sees it, and what would.
MISSED: Mapping[str, str] = {}
