"""Does this machine compute a gradient at all? Asked with made-up records, never with a patient's.

A patient whose records cannot be computed counts as zero. On a broken device that would be every
patient of every round: noise alone would be sent, and spoil the model in silence. So a device is
tried before anything is paid for, and again where no patient of a batch could be computed.

And does it compute a record alike beside whichever others? A clip bounds what a patient adds, not
what the others' gradients move by when one is taken out and they lie elsewhere in their pass: at a
kink (a ReLU at nought) the last bit of an output can move a gradient by all of it.
"""

from __future__ import annotations

from collections.abc import Sequence, Sized
from functools import cache
from typing import Protocol

import torch
from torch import nn
from torch.nn import functional

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


def check_company(module: nn.Module, records: int) -> None:
    """Multiply made-up records by matrices of a model's sizes, the records in several orders.

    Args:
        module: on a processor.
        records: of a pass.

    Raises:
        DeviceError: a record's products are not the same to the last bit wherever it lies.
    """
    for outputs, inputs in {tuple(one.shape) for one in module.parameters() if one.dim() == 2}:
        if not _alike(records, outputs, inputs):
            raise DeviceError(
                f"a record is rounded otherwise here beside other records (a layer of {inputs} "
                f"inputs and {outputs} outputs), so nothing bounds what one patient changes: start "
                "the process with MKL_CBWR=AUTO in its environment"
            )


@cache
def _alike(records: int, outputs: int, inputs: int) -> bool:
    """Whether products, forward and backward, are the same in several orders of the records."""
    drawn = torch.Generator().manual_seed(0)
    weight = torch.randn(outputs, inputs, generator=drawn)
    rows = torch.randn(records, inputs, generator=drawn)
    back = torch.randn(records, outputs, generator=drawn)
    there = torch.arange(records)
    for order in (there.flip(0), there.roll(1), torch.randperm(records, generator=drawn)):
        if not torch.equal(
            functional.linear(rows[order], weight), functional.linear(rows, weight)[order]
        ) or not torch.equal(back[order] @ weight, (back @ weight)[order]):
            return False
    return True
