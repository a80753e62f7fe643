"""Named arrays and tensors within a message: each name carries a prefix that says whose it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from flwr.app import Array, ArrayRecord

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray


def pack_arrays(prefix: str, values: Mapping[str, NDArray[np.generic]]) -> dict[str, Array]:
    """Return arrays as Flower's, under names that begin with a prefix."""
    return {prefix + name: Array(np.asarray(value, order="C")) for name, value in values.items()}


def unpack_arrays(prefix: str, record: ArrayRecord) -> dict[str, NDArray[np.generic]]:
    """Return what `pack_arrays` wrote with the same prefix."""
    return {
        name[len(prefix) :]: array.numpy()
        for name, array in record.items()
        if name.startswith(prefix)
    }


def pack_tensors(prefix: str, tensors: Mapping[str, torch.Tensor]) -> dict[str, Array]:
    """Return tensors as Flower's arrays, under names that begin with a prefix."""
    return pack_arrays(prefix, {name: tensor.numpy() for name, tensor in tensors.items()})


def unpack_tensors(prefix: str, record: ArrayRecord) -> dict[str, torch.Tensor]:
    """Return what `pack_tensors` wrote with the same prefix; the tensors own their memory."""
    import torch

    arrays = unpack_arrays(prefix, record)
    return {name: torch.from_numpy(array.copy()) for name, array in arrays.items()}
