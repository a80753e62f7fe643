"""Does this machine compute a gradient at all? Asked with made-up records, never with a patient's.

A patient whose records cannot be computed counts as zero. On a broken device that would be every
patient of every round: noise alone would be sent, and spoil the model in silence. So a device is
tried before anything is paid for, and again where no patient of a batch could be computed.
"""

from __future__ import annotations

from collections.abc import Sequence, Sized
from typing import Protocol

import torch

#: Made-up records of one trial, each its own patient.
RECORDS = 2


class Computes(Protocol):
    """A model that yields one gradient per record."""

    def gradients(self, inputs: torch.Tensor, labels: torch.Tensor) -> Sequence[Sized]:
        """Return all records' gradients, for each trainable parameter."""
        ...


class DeviceError(RuntimeError):
    """Gradients of made-up records cannot be computed here; it tells nothing of any patient."""


def check_computes(per_sample: Computes, shape: tuple[int, ...], classes: int) -> None:
    """Compute the gradients of a made-up micro-batch.

    The model's weights and torch's global generator are left as they were.

    Args:
        per_sample: the model.
        shape: of one record as the model gets it, public.
        classes: how many there are, public.

    Raises:
        DeviceError: that fails, or a gradient has another number of rows than there are records.
    """
    ramp = torch.linspace(0.0, 1.0, RECORDS)
    inputs = ramp.reshape(-1, *[1] * len(shape)).expand(RECORDS, *shape).clone()
    labels = torch.arange(RECORDS) % classes
    try:
        with torch.random.fork_rng(devices=[]), torch.enable_grad():
            gradients = per_sample.gradients(inputs, labels)
        rows = {len(gradient) for gradient in gradients}
    except Exception as error:
        raise DeviceError(
            f"gradients of made-up records of shape {shape} cannot be computed here "
            f"({type(error).__name__}: {error})"
        ) from error
    if rows != {RECORDS}:
        raise DeviceError(f"{RECORDS} made-up records have gradients of {sorted(rows)} rows")
