"""Stands where Ray wants a process of an agent: does nothing, for as long as its raylet runs.

Run as a program of its own, which imports nothing that takes time; see `ray_processes`.
"""

from __future__ import annotations

import os
import time

#: Between two looks at who is the parent, in seconds.
PAUSE = 1.0


def stand_in() -> None:
    """Return when the raylet that started this process has ended."""
    raylet = int(os.environ["RAY_RAYLET_PID"])
    while os.getppid() == raylet:
        time.sleep(PAUSE)


if __name__ == "__main__":
    stand_in()
