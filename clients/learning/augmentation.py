"""Altered copies of pictures, as further records of the same patient.

De et al. (2022), "Unlocking high-accuracy differentially private image classification through
scale", section 3.2: gradients of several altered copies of a record are averaged *before* the clip.
A patient's records are averaged before the clip anyway, so copies are simply more records of the
patient: sensitivity, sampling and account stay what they were.

    augmented(batch, copies=4, stream=stream)     # [n, ...] -> [4 n, ...], the same patients
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from clients.learning.batch import Batch, rows_of
from clients.learning.late_rows import Alterations, LateRows

if TYPE_CHECKING:
    from accounting.randomness import Stream

#: A copy is shifted by up to this part of each side.
REACH = 8


def augmented(batch: Batch, *, copies: int, stream: Stream) -> Batch:
    """Return ``copies`` of every record, each shifted a little and by half a chance mirrored.

    Args:
        batch: inputs ``[n, channels, *space]``.
        copies: of each record.
        stream: where the alterations come from; they need no secrecy, only repeatability.

    Returns:
        A batch of ``copies * n`` records with the labels and patients of the originals; each is
        made when its gradient is taken.
    """
    rows = late(batch)
    shape = (copies * len(batch), *rows.shape[1:])
    shifts = []
    for side in shape[2:]:
        reach = side // REACH
        drawn = stream.integers(shape[0], 2 * reach + 1) - reach
        shifts.append(torch.from_numpy(drawn).to(torch.int16))
    mirrored = torch.from_numpy(np.asarray(stream.bernoulli(shape[0], 0.5)))
    return Batch(
        inputs=rows.copied(copies, Alterations(shifts=tuple(shifts), mirrored=mirrored)),
        labels=rows_of(batch.labels, torch.arange(len(batch)).repeat_interleave(copies)),
        patients=batch.patients.repeat_interleave(copies),
    )


def late(batch: Batch) -> LateRows:
    """Return a batch's rows, to be read when they are asked for."""
    if isinstance(batch.inputs, LateRows):
        return batch.inputs
    return LateRows(batch.inputs.numpy(), torch.arange(len(batch)))
