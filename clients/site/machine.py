"""What a process of hospitals computes on: a device, and so many threads."""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

from clients.learning.processors import Processors

if TYPE_CHECKING:
    import torch

    from clients.contract.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """A simulated hospital computes on what the run says, a real one on what its own file says.

    Attributes:
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        threads: of torch; no more than there are processors.
        processors: free ones, which gradients may take for a while; None: this process has one.
    """

    device: str = "auto"
    threads: int = 1
    processors: Processors | None = None

    @classmethod
    def of(cls, settings: Settings, processors: Processors | None = None) -> Machine:
        """Return what a run's settings say, with what the simulation shares."""
        run = settings.run
        return cls(device=run.device, threads=run.threads, processors=processors)

    @classmethod
    def with_processes(cls, device: str, threads: int, processes: int) -> Machine:
        """Return what a real hospital's own file says.

        Args:
            device: as above.
            threads: as above.
            processes: that may compute one gradient together, this one among them.
        """
        own = Processors(secrets.token_hex(16), processes - 1) if processes > 1 else None
        return cls(device=device, threads=threads, processors=own)

    @property
    def taken(self) -> int:
        """How many processors gradients may take here."""
        return self.threads + (self.processors.count if self.processors is not None else 0)

    def take(self) -> torch.device:
        """Set this process's threads and return its device.

        Raises:
            NoSuchDevice: it is not there.
        """
        import torch

        from clients.learning.device import find_device

        torch.set_num_threads(min(self.threads, os.cpu_count() or 1))
        return find_device(self.device)
