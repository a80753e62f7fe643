"""Frames: named arrays as bytes, in one way, of a size that follows from names, shapes and kinds.

Safetensors holds no code and compresses nothing, so bytes of somebody else's are parsed only once
their size is the one that is expected, and make nothing larger than they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Arrays = Mapping[str, NDArray[Any]]


def frame_to_bytes(arrays: Arrays) -> bytes:
    """Return named arrays as bytes, the same for the same arrays."""
    from safetensors.numpy import save

    return bytes(save({name: np.ascontiguousarray(one) for name, one in arrays.items()}))


def frame_from_bytes(data: bytes, like: Arrays) -> dict[str, NDArray[Any]]:
    """Return what `frame_to_bytes` wrote.

    Args:
        data: as it came.
        like: arrays of the names, shapes and kinds that it must have.

    Raises:
        ValueError: it has others.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    expected = len(frame_to_bytes(like))
    if len(data) != expected:
        raise ValueError(f"a frame of {len(data)} bytes, expected {expected}")
    try:
        found: dict[str, NDArray[Any]] = load(data)
    except (SafetensorError, KeyError, TypeError) as error:
        raise ValueError(f"no frame: {error}") from error
    forms = {name: (one.shape, one.dtype) for name, one in found.items()}
    if forms != {name: (one.shape, one.dtype) for name, one in like.items()}:
        raise ValueError("a frame of other names, shapes or kinds")
    return found
