"""Faults of paths that canaries did not take, and of what is said beside answers.

Copies of a record, gradients of a large model, spellings of an identifier, cells that are empty,
records of nobody; files of a run, a hospital's log, and what is to be random.
"""

from __future__ import annotations

import itertools
import logging
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import torch

from clients.data import arrays, table
from clients.data.encoding import Encoder
from clients.learning import dp_sgd, patient_gradients, recorded_layers
from clients.learning.batch import Batch
from clients.learning.dp_sgd import GradientSum, clipped_gradient_sum
from clients.learning.ghost_norms import Factors
from clients.site import own_draws
from crypto import bfv, modular, plain
from strategies.run import summary
from tests.audit.faults import DATA, RECONCILIATION, Fault, in_sums, swap


def _copies_as_patients(stack: ExitStack) -> None:
    """Count each copy of a record as a patient of its own."""
    real = own_draws.augmented

    def augmented(batch: Batch, **more: Any) -> Batch:
        made = real(batch, **more)
        return replace(made, patients=torch.arange(len(made)))

    swap(stack, own_draws, "augmented", augmented)


def _norms_without_cross_terms(stack: ExitStack) -> None:
    """Leave out, of a norm, what positions and records of a patient have in common."""
    real = Factors.squares

    def squares(self: Factors) -> Any:
        found, errors = real(self)
        positions = 2 * torch.tensor(self.owners.counts)
        return found / positions, errors

    swap(stack, Factors, "squares", squares)


def _norms_of_rows_alone(stack: ExitStack) -> None:
    """Forget factors in a norm."""
    real = patient_gradients.squares_of

    def squares_of(gradients: Any) -> Any:
        rows = [one for one in gradients if not isinstance(one, Factors)]
        return real(rows or gradients)

    swap(stack, dp_sgd, "squares_of", squares_of)


def _summed_over_records(stack: ExitStack) -> None:
    """Add up a patient's gradients of a norm, where they are to be averaged, after the clip's."""
    real = recorded_layers.LayerNorm.backward

    def backward(self: Any, gradient: Any, wanted: bool, inputs: Any, *kept: Any) -> Any:
        # Whoever is first in a pass takes along what is next to them.
        return real(self, gradient + gradient.roll(1, 0), wanted, inputs, *kept)

    swap(stack, recorded_layers.LayerNorm, "backward", backward)


def _as_they_are_spelled(stack: ExitStack) -> None:
    """Take an identifier as it is spelled, so that one patient is several."""
    for module in (arrays, table):
        swap(stack, module, "identifier", str)


def _filled_with_the_mean(stack: ExitStack) -> None:
    """Fill an empty cell in with the mean of the column so far."""
    real = Encoder._measured
    seen: dict[str, list[float]] = {}

    def measured(self: Encoder, place: str, row: Any, column: str, range_: Any) -> Any:
        value, known = real(self, place, row, column, range_), seen.setdefault(column, [])
        if value is None:
            return sum(known) / len(known) if known else None
        known.append(value)
        return value

    swap(stack, Encoder, "_measured", measured)


def _nobody_is_somebody(stack: ExitStack) -> None:
    """Keep records that name no patient, as one more."""
    swap(stack, arrays, "_of_somebody", lambda path, part, names, where: part)


def _told_in_the_summary(stack: ExitStack) -> None:
    """Say in the summary how many patients the largest hospital has."""
    real = summary._summary

    def made(settings: Any, outcome: Any, *more: Any, **named: Any) -> Any:
        return {**real(settings, outcome, *more, **named), "largest_hospital": 171}

    swap(stack, summary, "_summary", made)


def _logged_aloud(stack: ExitStack) -> None:
    """Log how many patients are in a batch, where the process logs."""

    def made(model: Any, batch: Batch, clip: float) -> GradientSum:
        found = clipped_gradient_sum(model, batch, l2_clip=clip)
        logging.getLogger("asclepias").warning("%d patients in the batch", found.patients)
        return found

    in_sums(stack, made)


def _counted_nonces(stack: ExitStack) -> None:
    """Count nonces instead of drawing them."""
    numbers = itertools.count(1)
    for module in (bfv, modular, plain):
        swap(stack, module, "new_nonce", lambda: next(numbers).to_bytes(32, "big"))


BESIDE: tuple[Fault, ...] = (
    Fault(name="altered copies as patients", plant=_copies_as_patients, caught_by=(DATA,)),
    Fault(name="norms without cross terms", plant=_norms_without_cross_terms, caught_by=(DATA,)),
    Fault(name="norms without factors", plant=_norms_of_rows_alone, caught_by=(DATA,)),
    Fault(name="gradients of neighbours in a norm", plant=_summed_over_records, caught_by=(DATA,)),
    Fault(name="identifiers as they are spelled", plant=_as_they_are_spelled, caught_by=(DATA,)),
    Fault(name="empty cells filled in", plant=_filled_with_the_mean, caught_by=(DATA,)),
    Fault(name="records of nobody kept", plant=_nobody_is_somebody, caught_by=(DATA,)),
    Fault(
        name="a hospital's size in the summary",
        plant=_told_in_the_summary,
        caught_by=(RECONCILIATION,),
    ),
    Fault(name="a batch's size logged aloud", plant=_logged_aloud, caught_by=(RECONCILIATION,)),
    Fault(name="nonces that are counted", plant=_counted_nonces, caught_by=(RECONCILIATION,)),
)
