"""Named arrays as one vector and back, in an order that every hospital shares."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crypto.errors import SealError
from crypto.roles import Vector


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Where each named array lies in the vector.

    Attributes:
        names: In the model's order.
        shapes: One a name.
    """

    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]

    def __post_init__(self) -> None:
        if len(self.names) != len(self.shapes) or len(set(self.names)) != len(self.names):
            raise SealError("a layout needs distinct names, one shape each")

    @classmethod
    def of(cls, arrays: Mapping[str, NDArray[Any]]) -> "Layout":
        """The layout of these arrays."""
        return cls(
            names=tuple(arrays), shapes=tuple(tuple(array.shape) for array in arrays.values())
        )

    @property
    def values(self) -> int:
        """Length of the vector."""
        return sum(int(np.prod(shape, dtype=np.int64)) for shape in self.shapes)

    def join(self, arrays: Mapping[str, NDArray[Any]]) -> Vector:
        """One float64 `[values]` vector.

        Raises:
            SealError: A name is missing or unknown, or a shape differs.
        """
        if set(arrays) != set(self.names):
            raise SealError(f"names differ: {sorted(set(arrays) ^ set(self.names))}")
        for name, shape in zip(self.names, self.shapes, strict=True):
            if tuple(arrays[name].shape) != shape:
                raise SealError(f"{name} has shape {arrays[name].shape}, expected {shape}")
        if not self.names:
            return np.zeros(0)
        return np.concatenate([arrays[name].reshape(-1) for name in self.names]).astype(np.float64)

    def split(self, vector: Vector) -> dict[str, Vector]:
        """Views of the vector, by name.

        Raises:
            SealError: The vector has another length.
        """
        if vector.shape != (self.values,):
            raise SealError(f"vector has shape {vector.shape}, expected ({self.values},)")
        arrays, at = {}, 0
        for name, shape in zip(self.names, self.shapes, strict=True):
            size = int(np.prod(shape, dtype=np.int64))
            arrays[name] = vector[at : at + size].reshape(shape)
            at += size
        return arrays
