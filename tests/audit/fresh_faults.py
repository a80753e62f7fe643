"""Faults planted once the detectors were frozen a second time, each with what was expected of it.

They are of other kinds than those that detectors were tried on before. The docstring of each says
which detector was expected to see it, written before any of them was run; `caught_by` says which
one does. Who planted them knew the detectors, so what they miss tells more than what they see.
"""

from __future__ import annotations

import hashlib
import os
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from accounting import noise
from accounting.randomness import Stream
from clients.learning import dp_sgd
from clients.learning.batch import Batch
from clients.learning.dp_sgd import GradientSum
from clients.site.chances import Chances
from clients.site.own_draws import OwnDraws
from tests.audit.faults import AUDIT, DATA, Fault, in_sums, swap
from tests.audit.given_noise import GivenStream, joinable, swap_noise

_normal, _stream, _sampled = Stream.normal, Chances.stream, Chances.sampled
_sum = dp_sgd.clipped_gradient_sum


class _Turned(GivenStream):
    """A stream whose normal values have the other sign."""

    def normal(self, count: int) -> Any:
        """The other sign."""
        return -_normal(self, count)


def _opposed_noise(stack: ExitStack) -> None:
    """Hospitals draw one noise, half of them with the other sign, so that much cancels in a sum.

    Expected: `audit` by the correlation of two hospitals, `audit --data` by that of two releases.
    """
    secret = os.urandom(32)
    names: list[str] = []

    def stream(self: Chances, place: Any, purpose: str, step: int = 0) -> Stream:
        if purpose != "noise":
            return _stream(self, place, purpose, step)
        if self._name not in names:
            names.append(self._name)
        kind = _Turned if names.index(self._name) % 2 else Stream
        pair, at = names.index(self._name) // 2, (place.training, place.round, place.attempt, step)
        label = " ".join(map(str, (pair, *at)))
        return kind(hashlib.sha256(secret + label.encode()).digest(), seeded=False)

    joinable(stack)
    swap(stack, Chances, "stream", stream)


def _noise_taken_back(stack: ExitStack) -> None:
    """Take a part of each round's noise back five rounds later: over all rounds little is left.

    Expected: `audit` by the noise of all rounds together (its neighbours in time are independent),
    `audit --data` by the correlation of two releases, where a training has more than five rounds.
    """
    secret = os.urandom(32)

    def part(self: Chances, place: Any, round: int, step: int, count: int) -> Any:
        words = (self._name, place.training, round, step)
        key = hashlib.sha256(secret + " ".join(map(str, words)).encode()).digest()
        return _normal(Stream.from_key(key), count)

    def stream(self: Chances, place: Any, purpose: str, step: int = 0) -> Stream:
        made = _stream(self, place, purpose, step)
        if purpose != "noise":
            return made

        class Kept(GivenStream):
            def normal(own, count: int) -> Any:
                now = part(self, place, place.round, step, count)
                if place.round <= 5:
                    return now
                before = part(self, place, place.round - 5, step, count)
                return 0.8 * now - 0.6 * before

        return Kept(os.urandom(32), seeded=False)

    joinable(stack)
    swap(stack, Chances, "stream", stream)


def _noise_on_a_lattice(stack: ExitStack) -> None:
    """Round noise to halves of its deviation before it is added: sums of values show through.

    Expected: `audit` by the shape of the noise, `audit --data` by Kolmogorov and Smirnov.
    """
    swap_noise(stack, lambda self, count: np.rint(2.0 * _normal(self, count)) / 2.0)


def _half_without_noise(stack: ExitStack) -> None:
    """Noise every other coordinate only.

    Expected: `audit` and `audit --data` by the noise's spread and shape.
    """
    swap_noise(
        stack,
        lambda self, count: _normal(self, count) * (np.arange(count) % 2),
    )


def _epochs(stack: ExitStack) -> None:
    """Let each patient take part exactly once in every 1/q rounds, in a turn drawn anew each time.

    Batch sizes are random as they should be, and so is each round by itself.
    Expected: `audit` and `audit --data` by how often each patient was drawn.
    """
    turns: dict[tuple[Any, ...], Any] = {}

    def sampled(self: Chances, patients: Any, place: Any, step: int = 0) -> Any:
        cycle = max(1, round(1.0 / self._settings.training.sampling_rate))
        epoch, now = divmod(place.round - 1, cycle)
        at = (self._name, place.training, epoch, step, len(patients))
        if at not in turns:
            turns[at] = Stream.fresh().integers(len(patients), cycle)
        return patients[turns[at] == now]

    swap(stack, Chances, "sampled", sampled)


def _never_empty(stack: ExitStack) -> None:
    """Draw an empty batch again until somebody is in it: a lonely patient is never missing.

    Expected: nothing. Rates of large hospitals are as stated, and no gate looks at small ones.
    """

    def sampled(self: Chances, patients: Any, place: Any, step: int = 0) -> Any:
        stream, rate = self.stream(place, "sampling", step), self._settings.training.sampling_rate
        drawn = stream.bernoulli(len(patients), rate)
        while len(patients) and not drawn.any():
            drawn = stream.bernoulli(len(patients), rate)
        return patients[drawn]

    swap(stack, Chances, "sampled", sampled)


def _same_batch_in_every_attempt(stack: ExitStack) -> None:
    """Keep a round's batch for its next attempt, which is noised anew and paid for.

    Expected: `audit --data` by the patients whom two batches share.
    """
    kept: dict[tuple[Any, ...], Batch] = {}
    real = OwnDraws._sample

    def sample(self: OwnDraws, place: Any, step: int = 0) -> Batch:
        at = (self._site.name, place.training, place.round, step)
        if at not in kept or place.attempt == 1:
            kept[at] = real(self, place, step)
        return kept[at]

    swap(stack, OwnDraws, "_sample", sample)


def _last_record_beside_the_clip(stack: ExitStack) -> None:
    """Clip a patient without the last of their records, which is added, clipped by itself.

    Expected: `audit --data` by a patient who moves a sum by more than the clip.
    """

    def made(model: Any, batch: Batch, clip: float) -> GradientSum:
        patients = np.asarray(batch.patients)
        last = np.zeros(len(patients), dtype=bool)
        _, counts = np.unique(patients, return_counts=True)
        places = {one: at for at, one in enumerate(patients)}
        several = dict(zip(np.unique(patients).tolist(), (counts > 1).tolist(), strict=True))
        for one, at in places.items():
            last[at] = several[int(one)]
        most = int(patients.max(initial=0)) + 1
        moved = torch.as_tensor(np.where(last, patients + most, patients))
        return _sum(model, replace(batch, patients=moved), l2_clip=clip)

    in_sums(stack, made)


def _one_too_few(stack: ExitStack) -> None:
    """Open sums of one hospital fewer than noise was planned for.

    Expected: `audit --data`, by the noise that the least of the opened sums carries.
    """
    swap(
        stack,
        noise._Plan,
        "min_contributions",
        property(lambda self: max(1, self.hospitals - self.dropouts - 1)),
    )


def _noise_by_the_batch(stack: ExitStack) -> None:
    """Scale noise with the root of how full the batch is: right on average, and it tells of it.

    Expected: `audit --data` by the noise of each release; not `audit`, whose batches are large.
    """
    full = [1.0]

    def made(model: Any, batch: Batch, clip: float) -> GradientSum:
        found = _sum(model, batch, l2_clip=clip)
        full[0] = max(found.patients, 1) / 45.0
        return found

    def normal(self: Stream, count: int) -> Any:
        root, full[0] = full[0] ** 0.5, 1.0
        return root * _normal(self, count)

    in_sums(stack, made)
    swap_noise(stack, normal)


FRESH: tuple[Fault, ...] = (
    Fault(name="noise of two hospitals opposed", plant=_opposed_noise, caught_by=(AUDIT, DATA)),
    Fault(
        name="noise taken back five rounds later", plant=_noise_taken_back, caught_by=(AUDIT, DATA)
    ),
    Fault(name="noise on a coarse lattice", plant=_noise_on_a_lattice, caught_by=(AUDIT, DATA)),
    Fault(
        name="every other coordinate without noise",
        plant=_half_without_noise,
        caught_by=(AUDIT, DATA),
    ),
    Fault(name="everybody once in every epoch", plant=_epochs, caught_by=(AUDIT, DATA)),
    Fault(name="an empty batch drawn again", plant=_never_empty, caught_by=(DATA,)),
    Fault(
        name="the same batch in every attempt",
        plant=_same_batch_in_every_attempt,
        caught_by=(DATA,),
    ),
    Fault(
        name="the last record beside the clip",
        plant=_last_record_beside_the_clip,
        caught_by=(DATA,),
    ),
    Fault(name="sums of one hospital too few", plant=_one_too_few, caught_by=(DATA,)),
    Fault(name="noise as large as the batch", plant=_noise_by_the_batch, caught_by=(DATA,)),
)
