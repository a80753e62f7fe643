"""Seconds that each part of a round took, wherever it is measured: at a hospital or at the server.

A hospital's own seconds tell the size of its batch, so they leave it only where data are public;
the server's depend on what it was sent, which is of fixed size.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass
class Phases:
    """Seconds spent in each part of a round."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def measure(self, name: str) -> Iterator[None]:
        """Add the time of the block to a phase."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.add(name, time.perf_counter() - start)

    def add(self, name: str, seconds: float) -> None:
        """Add seconds to a phase."""
        self.seconds[name] = self.seconds.get(name, 0.0) + seconds

    def since(self, before: dict[str, float]) -> dict[str, float]:
        """Return the seconds by phase that came after ``before``, a copy of `seconds`."""
        grown = {name: value - before.get(name, 0.0) for name, value in self.seconds.items()}
        return {name: value for name, value in grown.items() if value > 0}
