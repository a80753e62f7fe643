"""Who may do what with a sealed vector, and the values that pass between them.

A hospital holds a `Sealer` and an `Opener`; the server holds an `Adder` and nothing else, so it
cannot decrypt. `crypto.schemes` makes them and shows all three at work.
"""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from crypto.errors import CapacityError, HeaderError

Vector = NDArray[np.float64]
MAX_LABEL = 256
NONCE_BYTES = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where in a training a sealed vector belongs.

    Attributes:
        training: The training's id, which outlives any single run.
        round: The round, from 1.
        attempt: The attempt of that round, from 1; a retry is a new attempt.
    """

    training: str
    round: int
    attempt: int

    def __post_init__(self) -> None:
        if not isinstance(self.training, str) or not 0 < len(self.training) <= MAX_LABEL:
            raise HeaderError(f"a training id has 1 to {MAX_LABEL} characters")
        for name, value in (("round", self.round), ("attempt", self.attempt)):
            if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**31:
                raise HeaderError(f"{name} is {value!r}, expected an integer in [0, 2**31)")

    def digest(self, domain: bytes, *labels: bytes) -> bytes:
        """SHA-256 over a domain, this place and labels, each behind its length."""
        numbers = [number.to_bytes(4, "little") for number in (self.round, self.attempt)]
        digest = hashlib.sha256()
        for part in (domain, self.training.encode(), *numbers, *labels):
            digest.update(len(part).to_bytes(4, "little") + part)
        return digest.digest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantiser:
    """The quantisation grid, planned elsewhere: `rint((clip(x, -bound, bound) + bound) / step)`.

    Attributes:
        step: The distance of two neighbours, in units of the vector.
        bound: The largest magnitude kept, a whole number of steps.
    """

    step: float
    bound: float

    def __post_init__(self) -> None:
        # Equal grids have one text, also when one was given as whole numbers.
        object.__setattr__(self, "step", float(self.step))
        object.__setattr__(self, "bound", float(self.bound))
        if not (math.isfinite(self.step) and math.isfinite(self.bound) and self.step > 0):
            raise CapacityError(
                f"grid step {self.step!r} and bound {self.bound!r} must be finite, step > 0"
            )
        ratio = self.bound / self.step
        if not 1 <= ratio <= 2**48 or abs(ratio - round(ratio)) > 1e-6:
            raise CapacityError(
                f"grid bound is {ratio!r} steps, expected a whole number in [1, 2**48]"
            )

    @property
    def half(self) -> int:
        """The bound in whole steps."""
        return round(self.bound / self.step)

    @property
    def levels(self) -> int:
        """How many grid points there are: `2 * half + 1`."""
        return 2 * self.half + 1

    @property
    def bits(self) -> int:
        """Bits that hold one quantised value."""
        return (self.levels - 1).bit_length()


@dataclass(frozen=True, slots=True, kw_only=True)
class Sealed:
    """One sealed vector, or a sum of some: an own binary frame, checked before use.

    Attributes:
        payload: The frame.
        nonce: 32 random bytes that a sealer drew for the tags; they travel in the signed header
            beside the payload. b"" for a sum, and for what has been received.
        envelopes: Shares of the vector's key by holder, which travel beside the payload; empty
            where the scheme has none.
        seeds: Digests of the seeds whose shares are in them, for the signed header.
    """

    payload: bytes = field(repr=False)
    nonce: bytes = field(default=b"", repr=False)
    envelopes: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    seeds: bytes = field(default=b"", repr=False)

    @property
    def size(self) -> int:
        """Bytes on the wire."""
        return len(self.payload)

    def __repr__(self) -> str:
        return f"Sealed(size={len(self.payload)})"


class OneSealing(Protocol):
    """Seals one vector at the place that it was prepared for, and no other; see `crypto.prepared`.

    Attributes:
        hospital: Whose vector it is for.
        place: Where in the training it belongs.
    """

    hospital: str
    place: Place

    def seal(self, values: Vector, seeds: Sequence[bytes] = ()) -> Sealed:
        """Seal the vector, as `Sealer.seal` does."""
        ...

    def discard(self) -> None:
        """Throw it away: it seals nothing any more."""
        ...


class Sealer(Protocol):
    """Seals one hospital's vectors."""

    def prepare(self, place: Place, *, ahead: bool = False) -> OneSealing:
        """Do what sealing a vector at a place takes before the vector is there.

        Args:
            place: Where in the training it belongs.
            ahead: Whether there is time until the vector comes: then all is done that can be, also
                where it is more in all than sealing at once.
        """
        ...

    def seal(self, values: Vector, place: Place, seeds: Sequence[bytes] = ()) -> Sealed:
        """Clamp, round once to the grid, pack and seal `values`, float64 `[d]`, for `place`.

        Every call draws a new nonce from the operating system, in seeded runs too: what is sealed
        twice for one place shares no pad.

        Args:
            values: The vector.
            place: Where in the training it belongs.
            seeds: Of parts of its noise, as many as the plan shares among holders.
        """
        ...


class Adder(Protocol):
    """Adds sealed vectors as they arrive, without a key."""

    @property
    def contributions(self) -> int:
        """How many sealed vectors the sum holds."""
        ...

    def add(self, sealed: Sealed) -> None:
        """Fold in one sealed vector; on an error the sum is as before."""
        ...

    def total(self) -> Sealed:
        """The sealed sum of everything added so far."""
        ...


class Opener(Protocol):
    """Opens sums, never single vectors of others, at a hospital."""

    def open(self, total: Sealed, contributors: Mapping[str, bytes], place: Place) -> Vector:
        """Return the sum, float64 `[d]`, once it has proved to be of exactly `contributors`.

        Args:
            total: What an `Adder` returned.
            contributors: Each contributor's nonce by name, as `Roster.nonces` gives them.
            place: Where in the training the sum belongs.
        """
        ...
