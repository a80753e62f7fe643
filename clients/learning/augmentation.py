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

from clients.learning.dp_sgd import Batch

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
        A batch of ``copies * n`` records with the labels and patients of the originals.
    """
    inputs = batch.inputs.repeat_interleave(copies, dim=0)
    for axis in range(2, inputs.dim()):
        reach = inputs.shape[axis] // REACH
        shifts = stream.integers(len(inputs), 2 * reach + 1) - reach
        inputs = _shifted(inputs, axis, torch.from_numpy(shifts))
    mirrored = torch.from_numpy(np.asarray(stream.bernoulli(len(inputs), 0.5)))
    spread = mirrored.reshape(-1, *[1] * (inputs.dim() - 1))
    return Batch(
        inputs=torch.where(spread, inputs.flip(-1), inputs),
        labels=batch.labels.repeat_interleave(copies),
        patients=batch.patients.repeat_interleave(copies),
    )


def _shifted(inputs: torch.Tensor, axis: int, shifts: torch.Tensor) -> torch.Tensor:
    """Shift each record along one axis by its own whole number of steps; edges are continued."""
    side = inputs.shape[axis]
    places = (torch.arange(side)[None, :] - shifts[:, None]).clamp(0, side - 1)
    shape = [len(inputs), *[1] * (inputs.dim() - 1)]
    shape[axis] = side
    return inputs.gather(axis, places.reshape(shape).expand(inputs.shape))
