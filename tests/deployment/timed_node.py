"""A SuperNode that notes when each process of its app starts."""

from __future__ import annotations

import os
import time

from tests.deployment.tampering_node import run_altered

#: Names the file to which times are added, in unix seconds.
STARTS = "ASCLEPIAS_PROCESS_STARTS"


def note() -> None:
    """Add the present to the file."""
    with open(os.environ[STARTS], "a", encoding="ascii") as file:
        file.write(f"{time.time():.6f}\n")


def note_forks() -> None:
    """Have every process that is forked from this one note its start."""
    os.register_at_fork(after_in_child=note)


if __name__ == "__main__":
    run_altered("tests.deployment.timed_node", note_forks)
