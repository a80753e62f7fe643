"""Freed memory stays with the process: counted in page faults, in a process of its own."""

from __future__ import annotations

import subprocess
import sys

import pytest

PAGES = 8 * 2**20 // 4096
SCRIPT = """
import resource, sys
import numpy as np
from clients.site.memory import keep_freed_memory

if sys.argv[1] == "keep":
    assert keep_freed_memory()

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

np.ones(2**23, dtype=np.uint8)
before = faults()
for _ in range(10):
    first, second = np.ones(2**23, dtype=np.uint8), np.ones(2**23, dtype=np.uint8)
    del first, second
print(faults() - before)
"""


def page_faults(mode: str) -> int:
    """Faults of ten steps that each fill and free two blocks of 8 MiB."""
    ran = subprocess.run(
        [sys.executable, "-c", SCRIPT, mode], capture_output=True, text=True, check=True
    )
    return int(ran.stdout)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="a setting of glibc")
def test_blocks_that_are_freed_and_wanted_again_cost_no_page_faults() -> None:
    assert page_faults("keep") < 2 * PAGES
    # Ten times two blocks, less what the allocator would have kept anyway.
    assert page_faults("leave") > 3 * PAGES
