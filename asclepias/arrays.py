"""A model's parameters between Flower's records, torch's tensors and bytes."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from flwr.app import Array, ArrayRecord

from clients.learning.frames import frame_to_bytes


def to_tensors(arrays: ArrayRecord) -> dict[str, torch.Tensor]:
    """Return the tensors of a model, which must all be float32.

    Raises:
        ValueError: one is not, or there is none.
    """
    found = {}
    for name, array in arrays.items():
        values = array.numpy()
        if values.dtype.str != "<f4":
            raise ValueError(
                f"initial_arrays: {name} is {values.dtype}, expected float32; what layers count or "
                "keep from batch to batch (BatchNorm) is no parameter: use nn.GroupNorm"
            )
        found[name] = torch.from_numpy(values.copy())
    if not found:
        raise ValueError("initial_arrays is empty, expected the model's parameters")
    return found


def to_arrays(tensors: Mapping[str, torch.Tensor], like: Mapping[str, torch.Tensor]) -> ArrayRecord:
    """Return tensors in the order of others, as far as they are there."""
    return ArrayRecord(
        {name: Array(tensors[name].detach().numpy().copy()) for name in like if name in tensors}
    )


def to_frame(tensors: Mapping[str, torch.Tensor]) -> bytes:
    """Return tensors as bytes, the same for the same tensors."""
    return frame_to_bytes({name: tensor.numpy() for name, tensor in tensors.items()})
