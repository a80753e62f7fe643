"""Named arrays and tensors within a message: each name carries a prefix that says whose it is.

An array says its own shape, and may say any. Numbers without bytes, as NumPy has them, would be as
many as it says: to copy them takes as long as its sender likes. So an array holds just the bytes of
the numbers that it says, or is none.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

import numpy as np
from flwr.app import Array, ArrayRecord

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray


_LENGTH = rb"(?:0|[1-9][0-9]{0,18})"
#: NumPy's format 1.0, of numbers alone. NumPy reads what an array says of itself with Python's
#: parser, which is not for what strangers sent, nor (before 3.11.8) for two threads at a time.
_HEAD = re.compile(
    rb"\x93NUMPY\x01\x00(?P<length>..)"
    rb"\{'descr': '(?P<descr>[<>|](?:b1|[iu][1248]|f[248]))', "
    rb"'fortran_order': (?P<by_column>True|False), "
    rb"'shape': \((?P<shape>|%b,|%b(?:, %b){1,63})\), \} *\n" % (_LENGTH, _LENGTH, _LENGTH),
    re.DOTALL,
)
#: Bytes before what the length counts.
_BEFORE_HEAD = 10


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
    data = array.data
    head = _HEAD.match(data)
    if head is None or head.end() != _BEFORE_HEAD + int.from_bytes(head["length"], "little"):
        raise ValueError("no array of numbers in version 1.0 of NumPy's format")
    dtype = np.dtype(head["descr"].decode())
    shape = tuple(int(one) for one in head["shape"].split(b",") if one)
    size, held = math.prod(shape) * dtype.itemsize, len(data) - head.end()
    if size != held:
        raise ValueError(f"an array of {dtype} and shape {shape} in {held} bytes")
    order: Literal["C", "F"] = "F" if head["by_column"] == b"True" else "C"
    return np.ndarray(shape, dtype, data, head.end(), order=order).copy(order="K")


def pack_tensors(prefix: str, tensors: Mapping[str, torch.Tensor]) -> dict[str, Array]:
    """Return tensors as Flower's arrays, under names that begin with a prefix."""
    return pack_arrays(prefix, {name: tensor.numpy() for name, tensor in tensors.items()})


def unpack_tensors(prefix: str, record: ArrayRecord) -> dict[str, torch.Tensor]:
    """Return what `pack_tensors` wrote with the same prefix; the tensors own their memory."""
    import torch

    arrays = unpack_arrays(prefix, record)
    return {name: torch.from_numpy(array.copy()) for name, array in arrays.items()}
