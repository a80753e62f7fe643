"""Correlated randomness, written once for the three who make it: dealer, provider and patient.

What a layer needs is a list of masks and of values derived from masks. Each party draws its own
share of a mask from its own seed, so that masks never travel. Of a derived value the provider's
share comes from its seed too, and the dealer, who knows both seeds and so the masks, sends the
patient the difference: the tape. A layer lists what it needs by calling the methods of a source,
whichever source it is, so that the three cannot disagree about order or size.

Nothing on the tape tells the patient anything: each value on it is masked by a fresh draw of the
provider's stream. The dealer gets nothing at all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum
from math import prod
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from crypto.coins import KeyStream
from crypto.inference.words import Shape, Words

#: Bytes of a seed.
SEED = 32
Array = NDArray[Any]
_WORD = 8


class Role(Enum):
    """Who computes."""

    PROVIDER = "provider"
    PATIENT = "patient"
    DEALER = "dealer"


class Source(Protocol):
    """Where a layer's randomness comes from; at the dealer values, elsewhere own shares of them.

    Attributes:
        role: whose source it is.
        weights: by name, what the role has of the model's weights while randomness is prepared:
            masks at the dealer, masked weights at the patient, nothing at the provider.
    """

    role: Role
    weights: Mapping[str, Any]

    def mask(self, shape: Shape, dtype: type[np.unsignedinteger[Any]] = np.uint64) -> Array:
        """A uniform number whose shares add up."""

    def bits(self, shape: Shape, dtype: type[np.unsignedinteger[Any]]) -> Array:
        """Uniform bits whose shares are added without carry."""

    def patients(self, shape: Shape) -> Words | None:
        """A mask that the patient alone uses; None at the provider."""

    def derived(
        self,
        value: Callable[[], Array],
        shape: Shape,
        dtype: type[np.unsignedinteger[Any]] = np.uint64,
    ) -> Array:
        """A number that the dealer computes; its shares add up."""

    def derived_bits(
        self, value: Callable[[], Array], shape: Shape, dtype: type[np.unsignedinteger[Any]]
    ) -> Array:
        """Bits that the dealer computes; their shares are added without carry."""


class Draws:
    """Arrays of uniform words from one seed, in order."""

    def __init__(self, seed: bytes) -> None:
        if len(seed) != SEED:
            raise ValueError(f"a seed of {len(seed)} bytes; expected {SEED}")
        self._stream = KeyStream(seed)

    def take(self, shape: Shape, dtype: type[np.unsignedinteger[Any]] = np.uint64) -> Array:
        """The next array."""
        size = prod(shape) * np.dtype(dtype).itemsize
        drawn = self._stream.words(-(-size // _WORD)).view(np.uint8)[:size]
        return drawn.copy().view(dtype).reshape(shape)

    def __repr__(self) -> str:
        return "Draws(hidden)"


class DealerSource:
    """The dealer's: it knows both seeds, and writes the tape.

    Args:
        provider: the provider's seed.
        patient: the patient's seed.
        weights: the model's masks.
        emit: takes the pieces of the tape in order.
    """

    role = Role.DEALER

    def __init__(
        self,
        provider: bytes,
        patient: bytes,
        weights: Mapping[str, Any],
        emit: Callable[[Array], None],
    ) -> None:
        self._provider, self._patient = Draws(provider), Draws(patient)
        self.weights, self._emit = weights, emit

    def mask(self, shape: Shape, dtype: type[np.unsignedinteger[Any]] = np.uint64) -> Array:
        """Return the whole mask."""
        drawn = self._provider.take(shape, dtype)
        drawn += self._patient.take(shape, dtype)
        return drawn

    def bits(self, shape: Shape, dtype: type[np.unsignedinteger[Any]]) -> Array:
        """Return the whole bits."""
        drawn = self._provider.take(shape, dtype)
        drawn ^= self._patient.take(shape, dtype)
        return drawn

    def patients(self, shape: Shape) -> Words | None:
        """Return the patient's mask."""
        return self._patient.take(shape)

    def derived(
        self,
        value: Callable[[], Array],
        shape: Shape,
        dtype: type[np.unsignedinteger[Any]] = np.uint64,
    ) -> Array:
        """Send the patient its share, and return the value."""
        made = value().astype(dtype, copy=False).reshape(shape)
        self._emit(made - self._provider.take(shape, dtype))
        return made

    def derived_bits(
        self, value: Callable[[], Array], shape: Shape, dtype: type[np.unsignedinteger[Any]]
    ) -> Array:
        """Send the patient its share, and return the value."""
        made = value().reshape(shape)
        self._emit(made ^ self._provider.take(shape, dtype))
        return made


class _OwnSource:
    """A party's: shares of masks from its own seed."""

    def __init__(self, seed: bytes, weights: Mapping[str, Any]) -> None:
        self._draws, self.weights = Draws(seed), weights

    def mask(self, shape: Shape, dtype: type[np.unsignedinteger[Any]] = np.uint64) -> Array:
        """Return the party's share."""
        return self._draws.take(shape, dtype)

    def bits(self, shape: Shape, dtype: type[np.unsignedinteger[Any]]) -> Array:
        """Return the party's share."""
        return self._draws.take(shape, dtype)

    def derived(
        self,
        value: Callable[[], Array],
        shape: Shape,
        dtype: type[np.unsignedinteger[Any]] = np.uint64,
    ) -> Array:
        """Return the party's share."""
        return self._dealt(shape, dtype)

    def derived_bits(
        self, value: Callable[[], Array], shape: Shape, dtype: type[np.unsignedinteger[Any]]
    ) -> Array:
        """Return the party's share."""
        return self._dealt(shape, dtype)

    def _dealt(self, shape: Shape, dtype: type[np.unsignedinteger[Any]]) -> Array:
        raise NotImplementedError


class ProviderSource(_OwnSource):
    """The provider's: all of it comes from one seed."""

    role = Role.PROVIDER

    def __init__(self, seed: bytes) -> None:
        super().__init__(seed, {})

    def patients(self, shape: Shape) -> Words | None:
        """Return None: the provider has none of it."""
        return None

    def _dealt(self, shape: Shape, dtype: type[np.unsignedinteger[Any]]) -> Array:
        return self._draws.take(shape, dtype)


class PatientSource(_OwnSource):
    """The patient's: masks from a seed, derived values from the tape.

    Args:
        seed: the patient's.
        weights: the masked weights.
        read: returns the next so many bytes of the tape.
    """

    role = Role.PATIENT

    def __init__(
        self, seed: bytes, weights: Mapping[str, Any], read: Callable[[int], memoryview]
    ) -> None:
        super().__init__(seed, weights)
        self._read = read

    def patients(self, shape: Shape) -> Words | None:
        """Return the mask."""
        return self._draws.take(shape)

    def _dealt(self, shape: Shape, dtype: type[np.unsignedinteger[Any]]) -> Array:
        size = prod(shape) * np.dtype(dtype).itemsize
        return np.frombuffer(self._read(size), dtype=dtype).reshape(shape)
