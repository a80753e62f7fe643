"""Named arrays and tensors within a message: each name carries a prefix that says whose it is.

An array says its own shape, and may say any. Numbers without bytes, as NumPy has them, would be as
many as it says: to copy them takes as long as its sender likes. So an array holds just the bytes of
the numbers that it says, or is none.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from flwr.app import Array, ArrayRecord
from numpy.lib import format as npy

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray


#: NumPy's letters for kinds of numbers: whether, whole, counted, with a fraction.
_NUMBERS = "biuf"


def pack_arrays(prefix: str, values: Mapping[str, NDArray[np.generic]]) -> dict[str, Array]:
    """Return arrays as Flower's, under names that begin with a prefix."""
    return {prefix + name: Array(np.asarray(value, order="C")) for name, value in values.items()}


def unpack_arrays(prefix: str, record: ArrayRecord) -> dict[str, NDArray[np.generic]]:
    """Return what `pack_arrays` wrote with the same prefix."""
    return {
        name[len(prefix) :]: numbers_in(array)
        for name, array in record.items()
        if name.startswith(prefix)
    }


def numbers_in(array: Array) -> NDArray[np.generic]:
    """Return an array's numbers; what it says of them is held against its bytes before.

    Raises:
        ValueError: it is no array of numbers, or holds more or fewer bytes than it says.
    """
    data = io.BytesIO(array.data)
    try:
        version = npy.read_magic(data)
        shape, _, dtype = npy.read_array_header_1_0(data)
    except Exception as error:
        # What hostile bytes make NumPy's reader raise is not for a list to say.
        raise ValueError(f"an array says nothing of itself: {type(error).__name__}") from error
    if version != (1, 0):
        raise ValueError("an array of another version of NumPy's format than 1.0")
    size, held = math.prod(shape) * dtype.itemsize, len(array.data) - data.tell()
    if dtype.kind not in _NUMBERS or min(shape, default=0) < 0 or size != held:
        raise ValueError(f"an array of {dtype} and shape {shape} in {held} bytes")
    return array.numpy()


def pack_tensors(prefix: str, tensors: Mapping[str, torch.Tensor]) -> dict[str, Array]:
    """Return tensors as Flower's arrays, under names that begin with a prefix."""
    return pack_arrays(prefix, {name: tensor.numpy() for name, tensor in tensors.items()})


def unpack_tensors(prefix: str, record: ArrayRecord) -> dict[str, torch.Tensor]:
    """Return what `pack_tensors` wrote with the same prefix; the tensors own their memory."""
    import torch

    arrays = unpack_arrays(prefix, record)
    return {name: torch.from_numpy(array.copy()) for name, array in arrays.items()}
