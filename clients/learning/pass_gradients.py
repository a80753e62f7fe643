"""What a pass of the model finds of its patients: their mean gradients, or what they raise.

Whoever raises, or has no record that can be read, moves nobody else.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from accounting.private import Unreleased
from clients.learning.batch import CHUNK_RECORDS, Batch, take
from clients.learning.ghost_norms import Owners
from clients.learning.patient_gradients import Gradients, written
from clients.learning.per_sample import PerSample
from clients.tasks.question import UNREAD

#: Records of one patient whose gradients are held at once; those of a patient with more are added
#: up piece by piece, so that nobody's number of records decides on how much memory is needed.
PATIENT_RECORDS = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Found(Unreleased):
    """What a pass found of its patients, by their numbers from 0.

    Attributes:
        gradients: mean gradients for each parameter; empty where there are none.
        members: whose they are, ascending; who is missing has no record that could be read.
        errors: what was raised for whom.
    """

    gradients: list[Gradients]
    members: list[int]
    errors: dict[int, Exception]


def readable(batch: Batch, device: torch.device) -> Batch:
    """Leave out records whose inputs are not finite, or whose late targets cannot be read.

    They are made on the device first.
    """
    late_targets = not isinstance(batch.labels, torch.Tensor)
    batch = batch.made(device)
    inputs = torch.as_tensor(batch.inputs)
    if not len(batch) or (_all_finite(inputs) and not late_targets):
        return batch
    kept = torch.isfinite(inputs).flatten(1).all(dim=1).cpu()
    if late_targets:
        kept &= (torch.as_tensor(batch.labels) != UNREAD).flatten(1).all(dim=1)
    return batch if bool(kept.all()) else take(batch, torch.nonzero(kept).flatten())


def gradients_of(model: PerSample, chunk: Batch, records: int) -> Found:
    """Compute patients' mean gradients; where that raises, those of each half by themselves.

    Each goes through the model with so many records: whoever raises must move nobody else.
    """
    patients = chunk.patients
    try:
        gradients, members = _mean_gradients(model, chunk, records)
        return Found(gradients=gradients, members=members, errors={})
    except Exception as error:
        if patients[0] == patients[-1]:
            return Found(gradients=[], members=[], errors={int(patients[0]): error})
    numbers = torch.unique(patients)
    late = patients >= numbers[len(numbers) // 2]
    halves = [torch.nonzero(rows).flatten() for rows in (~late, late)]
    a, b = (gradients_of(model, take(chunk, rows), records) for rows in halves)
    pieces = [[written(one) for one in half.gradients] for half in (a, b) if half.gradients]
    joint: list[Gradients] = [torch.cat(each) for each in zip(*pieces, strict=True)]
    return Found(gradients=joint, members=a.members + b.members, errors=a.errors | b.errors)


def _mean_gradients(
    model: PerSample, chunk: Batch, records: int
) -> tuple[list[Gradients], list[int]]:
    """Return the mean of each patient's gradients, for each parameter, and whose they are."""
    members, owners = Owners.of(chunk.patients)
    if len(members) == 1 and len(chunk) > PATIENT_RECORDS:
        gradients = _mean_of_many(model, chunk)
        return gradients, members if gradients else []
    if chunk.late:
        chunk = readable(chunk, model.device)
        members, owners = Owners.of(chunk.patients)
        if not len(chunk):
            return [], []
    inputs, labels = torch.as_tensor(chunk.inputs), torch.as_tensor(chunk.labels)
    return model.means(inputs, labels, owners, records), members


def _mean_of_many(model: PerSample, records: Batch) -> list[Gradients]:
    """Return the mean gradient ``[1, values]`` of a patient with more records than fit at once."""
    summed, count = list[torch.Tensor](), 0
    for rows in torch.split(torch.arange(len(records)), min(CHUNK_RECORDS, model.chunk_records)):
        piece = readable(take(records, rows), model.device)
        count += len(piece)
        if len(piece):
            _, owner = Owners.of(piece.patients)
            inputs, labels = torch.as_tensor(piece.inputs), torch.as_tensor(piece.labels)
            found = model.means(inputs, labels, owner)
            parts = [written(one).double() * len(piece) for one in found]
            summed = [a + b for a, b in zip(summed, parts, strict=True)] if summed else parts
    return [gradient / count for gradient in summed]


def _all_finite(values: torch.Tensor) -> bool:
    """Whether all values are finite; may say no where their sum overflows."""
    return math.isfinite(float(values.sum()))
