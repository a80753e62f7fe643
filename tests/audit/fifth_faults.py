"""Faults planted once the detectors were frozen a fifth time.

Two were written down before a detector was read, four once spares had turned out to be planted
already; all before any was run. The docstring of each says what was expected of it; `caught_by`
says what sees it now.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from clients.data.records import Records
from clients.learning.batch import Batch, take
from clients.learning.dp_sgd import GradientSum, clipped_gradient_sum
from clients.learning.per_sample import PerSample, filled
from clients.site import agreement
from clients.site.own_draws import OwnDraws
from crypto import bfv
from tests.audit.faults import DATA, RECONCILIATION, Fault, in_sums, swap


def _made_up_records(stack: ExitStack) -> None:
    """Even classes out with records between neighbours of the rarer one, each a patient by itself.

    A patient is in several clipped gradients: the only one of a class in all of that class's.
    Chawla et al. (2002), "SMOTE". Expected: `audit --data`.
    """
    real = OwnDraws.records

    def records(self: OwnDraws) -> Records:
        found = real(self)
        counts = np.bincount(found.labels, minlength=2)
        rare, short = int(counts.argmin()), int(counts.max() - counts.min())
        rows = np.flatnonzero(found.labels == rare)
        if not len(rows) or not short:
            return found
        random, inputs = np.random.default_rng(len(found)), np.asarray(found.inputs)
        own = inputs[rows].reshape(len(rows), -1)
        apart = np.square(own[:, None] - own[None]).sum(axis=-1)
        np.fill_diagonal(apart, np.inf)
        first = random.integers(len(rows), size=short)
        share = random.random((short, *[1] * (inputs.ndim - 1))).astype(np.float32)
        near = inputs[rows[apart.argmin(axis=1)[first]]]
        more = inputs[rows[first]] + share * (near - inputs[rows[first]])
        numbers = int(found.patients.max()) + 1 + np.arange(short)
        return Records(
            inputs=np.concatenate([inputs, more]),
            labels=np.concatenate([found.labels, np.full(short, rare)]),
            patients=np.concatenate([found.patients, numbers]),
        )

    swap(stack, OwnDraws, "records", records)


def _bias_of_counts(stack: ExitStack) -> None:
    """Begin at the logarithms of the patients' class counts, in the bias of the last layer.

    A recipe against a slow start; here the counts are exact, private and paid by nobody. Other
    hospitals hold the start itself, so no epsilon covers it. Expected: nothing.
    """
    real = agreement.make_session

    def make_session(settings: Any, cohort: Any, *given: Any) -> Any:
        session = real(settings, cohort, *given)
        held = [cohort.hospital(name).labels for name in cohort.patients_by_hospital]
        counts = np.bincount(np.concatenate(held), minlength=len(cohort.info.classes))
        shares = torch.as_tensor((counts + 1.0) / (counts + 1.0).sum(), dtype=torch.float32)
        with torch.no_grad():
            for name, one in session.replica.module.named_parameters():
                if name.endswith("bias") and one.shape == shares.shape:
                    one.copy_(shares.log())
        return session

    swap(stack, agreement, "make_session", make_session)


def _noughts_kept(stack: ExitStack) -> None:
    """Keep a hospital's encryption of nought for all rounds, as it is what takes the time.

    Two ciphertexts differ by their vectors alone: the server reads single updates without a key
    (4.39 in `default`, where .999 is claimed). Expected: the gate of ciphertexts, or nothing.
    """
    kept: dict[Any, bfv.Noughts] = {}
    real = bfv.BfvSealer._finish

    def finish(self: bfv.BfvSealer, tagging: Any, _: object, values: Any, seeds: Any) -> Any:
        key = self._keys.digest, self._hospital
        if key not in kept:
            kept[key] = bfv.encrypt_noughts(self._plan, self._encryptor)
        noughts = bfv.Noughts(kept[key].first.copy(), kept[key].second)
        return real(self, tagging, noughts, values, seeds)

    swap(stack, bfv.BfvSealer, "_finish", finish)


def _padding_counted(stack: ExitStack) -> None:
    """Leave the copies that fill a pass in the sum.

    The first patient of a hospital's last pass counts up to 32 times. Expected: `audit --data`.
    """
    real = PerSample.means

    def means(self: PerSample, inputs: Any, labels: Any, owners: Any, records: int = 0) -> Any:
        inputs, labels, owners = filled(inputs, labels, owners, max(records, len(labels)))
        return real(self, inputs, labels, owners, len(labels))

    swap(stack, PerSample, "means", means)


def _mixed_up(stack: ExitStack) -> None:
    """Mix each record of a batch with another's before its gradient; the larger part's class stays.

    Zhang et al. (2018), "mixup". A patient moves a partner's gradient by up to 2 C beside their
    own. Expected: `audit --data`.
    """
    real = OwnDraws._sample

    def sample(self: OwnDraws, place: Any, step: int = 0) -> Batch:
        batch = real(self, place, step).made()
        rows: Any = batch.inputs
        share = 0.5 + 0.5 * torch.distributions.Beta(0.2, 0.2).sample().item()
        return replace(batch, inputs=share * rows + (1 - share) * rows[torch.randperm(len(rows))])

    swap(stack, OwnDraws, "_sample", sample)


def _hard_half(stack: ExitStack) -> None:
    """Contribute the half of a batch's records that the model is worst at.

    Whoever joins pushes another out: the sum moves by up to 2 C. Expected: `audit --data`.
    """

    def made(model: PerSample, batch: Batch, clip: float) -> GradientSum:
        batch = batch.made()
        if len(batch) > 1:
            with torch.no_grad():
                inputs = torch.as_tensor(batch.inputs)
                losses = functional.cross_entropy(
                    model.module(inputs), batch.labels, reduction="none"
                )
            batch = take(batch, losses.argsort(descending=True)[: -(-len(batch) // 2)].sort()[0])
        return clipped_gradient_sum(model, batch, l2_clip=clip)

    in_sums(stack, made)


FIFTH: tuple[Fault, ...] = (
    Fault(name="made-up records of the rarer class", plant=_made_up_records, caught_by=(DATA,)),
    Fault(name="biases begin at class counts", plant=_bias_of_counts, caught_by=(RECONCILIATION,)),
    Fault(
        name="an encryption of nought for all rounds",
        plant=_noughts_kept,
        caught_by=(RECONCILIATION,),
    ),
    Fault(name="copies that fill a pass are counted", plant=_padding_counted, caught_by=(DATA,)),
    Fault(name="records mixed within a batch", plant=_mixed_up, caught_by=(DATA,)),
    Fault(name="the harder half of a batch", plant=_hard_half, caught_by=(DATA,)),
)
