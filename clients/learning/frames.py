"""Frames: named arrays as bytes, in one way, of a size that follows from names, shapes and kinds.

They are files of safetensors, which hold no code and compress nothing, so bytes of somebody else's
are parsed only once their size is the one that is expected, and make nothing larger than they are.
Frames are written here, piece by piece: who needs their digest alone copies no array.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Arrays = Mapping[str, NDArray[Any]]

#: Kinds of numbers that a frame holds, as safetensors names them; little-endian all.
_KINDS = {"<f4": "F32", "<f8": "F64", "<i8": "I64", "|u1": "U8"}
_ALIGNED = 8


def frame_to_bytes(arrays: Arrays) -> bytes:
    """Return named arrays as bytes, the same for the same arrays."""
    return b"".join(_pieces(arrays))


def frame_digest(arrays: Arrays) -> bytes:
    """Return SHA-256 of what `frame_to_bytes` returns."""
    digest = hashlib.sha256()
    for piece in _pieces(arrays):
        digest.update(piece)
    return digest.digest()


def frame_size(arrays: Arrays) -> int:
    """Return how many bytes `frame_to_bytes` returns."""
    return len(_head(arrays)) + sum(one.nbytes for one in arrays.values())


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

    expected = frame_size(like)
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


def _pieces(arrays: Arrays) -> Iterator[bytes | memoryview]:
    """Yield a frame's head, then the memory of each array."""
    yield _head(arrays)
    for name in sorted(arrays):
        yield np.ascontiguousarray(arrays[name]).reshape(-1).view(np.uint8).data


def _head(arrays: Arrays) -> bytes:
    """Say which arrays follow, of what kind and shape, and where each begins."""
    told, start = {}, 0
    for name in sorted(arrays):
        one = arrays[name]
        told[name] = {
            "dtype": _KINDS[one.dtype.str],
            "shape": list(one.shape),
            "data_offsets": [start, start + one.nbytes],
        }
        start += one.nbytes
    text = json.dumps(told, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _ALIGNED)
    return struct.pack("<Q", len(text)) + text
