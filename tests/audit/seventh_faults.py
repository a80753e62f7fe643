"""Faults planted once the detectors were frozen a seventh time.

Of 31 that somebody who knew the pipeline alone had written down six were drawn by lot, before any
was run and none replaced. Beside them is what was missed of the others.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np

from accounting import release
from clients.contract.layer_messages import ACTIVATIONS
from clients.learning import dp_sgd, gradients
from clients.learning.class_shares import ClassShares
from clients.learning.patient_gradients import Factors
from clients.site import split_hospital
from clients.site.own_draws import OwnDraws
from clients.site.split_hospital import SplitHospital
from tests.audit.faults import AUDIT, DATA, RECONCILIATION, Fault, swap


def _no_noise_where_nobody_is(stack: ExitStack) -> None:
    """Leave a vector of zeros alone: where nobody was drawn an exact zero leaves."""
    real = release.noised_unpaid

    def noised(values: Any, grid: Any, stream: Any, seeds: Any = None) -> Any:
        if values.any():
            return real(values, grid, stream, seeds)
        return real(values, replace(grid, noise_stddev=0.0), stream, seeds)

    swap(stack, release, "noised_unpaid", noised)


def _weights_around_one(stack: ExitStack) -> None:
    """Weigh clipped gradients by mean/share for min/share: more than C for the rarer class."""
    real = ClassShares.marks

    def marks(self: ClassShares, rows: Any) -> Any:
        made = real(self, rows)
        if made.weights is None:
            return made
        shares = self._shares().double().to(rows.device)
        return replace(made, weights=shares.mean() / shares)

    swap(stack, ClassShares, "marks", marks)


def _empty_slots_without_noise(stack: ExitStack) -> None:
    """Leave nothing in slots that nobody has, so that the server counts patients."""
    real = SplitHospital._shown

    def shown(self: Any, session: Any, rows: Any, batch: Any, *given: Any) -> Any:
        filled = split_hospital.placed(rows.detach() * 0.0 + 1.0, batch.places, self._size(session))
        made = real(self, session, rows, batch, *given)
        return made * (np.asarray(filled) != 0.0).astype(np.float32)

    swap(stack, SplitHospital, "_shown", shown)


def _records_drawn_singly(stack: ExitStack) -> None:
    """Toss a coin for each record: who has n is there with probability 1 - (1 - q)^n."""
    real, every = OwnDraws._sample, OwnDraws.records

    def sample(self: OwnDraws, place: Any, step: int = 0) -> Any:
        whole = every(self)
        singly = SimpleNamespace(patient_ids=np.arange(len(whole)), of_patients=whole.take)
        with ExitStack() as inner:
            swap(inner, OwnDraws, "records", lambda _: singly)
            return real(self, place, step)

    swap(stack, OwnDraws, "_sample", sample)


def _norms_without_the_last(stack: ExitStack) -> None:
    """Leave the last parameter, a bias, out of gradients' norms."""
    real = dp_sgd.squares_of

    def squares(gradients: Any) -> Any:
        plain = [one for one in gradients if not isinstance(one, Factors)]
        last = plain[-1] if len(plain) > 1 else None
        return real([one for one in gradients if one is not last])

    swap(stack, dp_sgd, "squares_of", squares)


def _head_gradients_unclipped(stack: ExitStack) -> None:
    """Clip activations alone, no loss gradients of a cut model."""
    real = SplitHospital._shown

    def shown(self: Any, session: Any, rows: Any, batch: Any, purpose: str, *given: Any) -> Any:
        with ExitStack() as inner:
            if purpose != ACTIVATIONS:
                swap(inner, split_hospital, "clip_rows", lambda rows, _: rows.detach().double())
            return real(self, session, rows, batch, purpose, *given)

    swap(stack, SplitHospital, "_shown", shown)


def _size_among_seconds(stack: ExitStack) -> None:
    """Give a batch's size among the seconds of phases, which leave where data are public."""
    real = gradients.sum_with_others

    def summed(*given: Any, phases: Any, **more: Any) -> Any:
        made = real(*given, phases=phases, **more)
        phases.add("patients", float(made.patients))
        return made

    swap(stack, gradients, "sum_with_others", summed)


SEVENTH: tuple[Fault, ...] = (
    Fault(
        name="no noise on an empty batch's zeros",
        plant=_no_noise_where_nobody_is,
        caught_by=(DATA, AUDIT),
    ),
    Fault(name="weights of classes around one", plant=_weights_around_one, caught_by=(DATA,)),
    Fault(name="empty slots without noise", plant=_empty_slots_without_noise, caught_by=(DATA,)),
    Fault(name="a coin for each record", plant=_records_drawn_singly, caught_by=(DATA,)),
    Fault(name="norms without a bias", plant=_norms_without_the_last, caught_by=(DATA,)),
    Fault(
        name="loss gradients that are not clipped",
        plant=_head_gradients_unclipped,
        caught_by=(DATA,),
    ),
)

#: Of those that were not drawn, what was missed.
VARIANTS: tuple[Fault, ...] = (
    Fault(
        name="a batch's size among seconds", plant=_size_among_seconds, caught_by=(RECONCILIATION,)
    ),
)
