"""How much of a device's memory gradients need, measured on made-up records."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from clients.learning.batch import CHUNK_RECORDS, Batch
from clients.learning.dp_sgd import clipped_gradient_sum
from clients.learning.per_sample import FULL_RECORDS

if TYPE_CHECKING:
    from clients.learning.per_sample import PerSample

#: Records of the two passes that are compared; others are filled up, and weigh the same.
_FEW, _MORE = FULL_RECORDS, 3 * FULL_RECORDS
#: Most records of a pass: a large device is full long before.
MOST_RECORDS = 320
#: Share of what is free that gradients may take: libraries' work space grows with a pass, too.
SHARE = 0.7


def made_up(records: int, shape: tuple[int, ...], classes: int) -> Batch:
    """Return records that are nobody's, each a patient of its own."""
    ramp = torch.linspace(0.0, 1.0, records).reshape(-1, *[1] * len(shape))
    return Batch(
        inputs=ramp.expand(records, *shape).clone(),
        labels=torch.arange(records) % classes,
        patients=torch.arange(records),
    )


def peak_bytes(
    model: PerSample, shape: tuple[int, ...], classes: int, *, l2_clip: float, records: int
) -> int:
    """Return the most memory that one pass takes on a CUDA device, beyond what is held anyway."""
    held = torch.cuda.memory_allocated(model.device)
    torch.cuda.reset_peak_memory_stats(model.device)
    batch = made_up(records, shape, classes)
    clipped_gradient_sum(model, batch, l2_clip=l2_clip, chunk_records=records)
    return torch.cuda.max_memory_allocated(model.device) - held


def records_at_once(
    model: PerSample, shape: tuple[int, ...], classes: int, *, l2_clip: float
) -> int:
    """Return how many records' gradients are best held at once.

    On a processor those that its caches hold; on a CUDA device as many as fit into what this
    process may take of its memory, by the slope of two passes: a multiple of `FULL_RECORDS`, up to
    `MOST_RECORDS`.

    Args:
        model: on its device.
        shape: of one record as the model gets it, public.
        classes: how many there are, public.
        l2_clip: C.
    """
    if model.device.type != "cuda":
        model.choose_pass(shape)
        return model.chunk_records
    few, more = (
        peak_bytes(model, shape, classes, l2_clip=l2_clip, records=n) for n in (_FEW, _MORE)
    )
    each = max(1.0, (more - few) / (_MORE - _FEW))
    beside = max(0.0, few - _FEW * each)
    fit = int((SHARE * free_bytes(model.device) - beside) / each)
    return max(FULL_RECORDS, min(MOST_RECORDS, fit) // FULL_RECORDS * FULL_RECORDS)


def free_bytes(device: torch.device) -> int:
    """Return how much memory of a CUDA device this process may still take."""
    free, total = torch.cuda.mem_get_info(device)
    reserved = torch.cuda.memory_reserved(device)
    allowed = torch.cuda.get_per_process_memory_fraction(device) * total - reserved
    return int(min(free, allowed)) + reserved - torch.cuda.memory_allocated(device)


def processes_that_fit(
    model: PerSample, shape: tuple[int, ...], classes: int, *, l2_clip: float
) -> int:
    """Return how many processes of hospitals a CUDA device has room for, each with small passes.

    A process takes what this one takes, its libraries included, once it has made such a pass. What
    others hold of the device is counted with it, so the answer errs to fewer.
    """
    peak_bytes(model, shape, classes, l2_clip=l2_clip, records=CHUNK_RECORDS)
    free, total = torch.cuda.mem_get_info(model.device)
    torch.cuda.empty_cache()
    return max(1, int(total // max(1, total - free)) - 1)
