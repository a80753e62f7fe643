"""The two parties while they compute: what they open to each other; nothing else leaves them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from crypto.inference.sources import Role
from crypto.inference.words import Words, as_bytes

Array = NDArray[Any]


class Link(Protocol):
    """A connection to the other party."""

    def send(self, data: memoryview) -> None:
        """Send bytes."""

    def receive(self, size: int) -> memoryview:
        """Return exactly so many bytes, as the other sent them."""

    def exchange(self, data: memoryview, size: int) -> memoryview:
        """Send bytes, and return exactly so many as the other sends meanwhile."""


class Party:
    """One of the two who compute.

    Args:
        role: provider or patient.
        link: to the other.
        weights: at the provider, by name, what its layers multiply by; else empty.

    Attributes:
        provider: whether this is the provider, which adds what both know.
        rounds: how often both have sent to each other.
    """

    def __init__(self, role: Role, link: Link, weights: Any = None) -> None:
        self.role, self.provider = role, role is Role.PROVIDER
        self.weights = weights or {}
        self.rounds = 0
        self._link = link

    def open(self, share: Words, *, bits: int = 64) -> Words:
        """Return the sum of both shares modulo 2**bits; each goes to the other.

        Args:
            share: masked: what is opened is uniform, whatever it hides.
            bits: 64, or up to 32, of which alone travel.
        """
        if bits == 64:
            return share + self._swap([share])[0]
        short = (share & np.uint64((1 << bits) - 1)).astype(np.uint32)
        total = short + self._swap([short])[0]
        return total.astype(np.uint64) & np.uint64((1 << bits) - 1)

    def open_bits(self, *shares: Array) -> list[Array]:
        """Return the shares added without carry; masked, as `open`."""
        return [own ^ other for own, other in zip(shares, self._swap(shares), strict=True)]

    def _swap(self, shares: Sequence[Array]) -> list[Array]:
        self.rounds += 1
        flat = [as_bytes(share) for share in shares]
        data = flat[0] if len(flat) == 1 else memoryview(b"".join(flat))
        came = self._link.exchange(data, data.nbytes)
        others, start = [], 0
        for share in shares:
            piece = came[start : start + share.nbytes]
            others.append(np.frombuffer(piece, dtype=share.dtype).reshape(share.shape))
            start += share.nbytes
        return others

    def to_provider(self, share: Words | None, shape: tuple[int, ...]) -> Words | None:
        """Send a masked share to the provider, which gets it; the patient gets None."""
        if not self.provider:
            assert share is not None
            self._link.send(as_bytes(share))
            return None
        size = 8 * int(np.prod(shape))
        return np.frombuffer(self._link.receive(size), dtype=np.uint64).reshape(shape)

    def to_patient(self, share: Words) -> Words | None:
        """Open 32 bits of each value to the patient, which gets them signed; the provider none."""
        short = share.astype(np.uint32)
        if self.provider:
            self._link.send(as_bytes(short))
            return None
        came = np.frombuffer(self._link.receive(short.nbytes), dtype=np.uint32)
        total: NDArray[np.int32] = (short.reshape(-1) + came).view(np.int32)
        return total.astype(np.int64).view(np.uint64).reshape(share.shape)

    def public(self, value: Any) -> Any:
        """Return this party's share of what both know: all of it at the provider, else 0."""
        return value if self.provider else np.zeros_like(value)
