"""Memory that the process keeps between steps instead of giving it back.

Per-patient gradients take megabytes that are freed and wanted again a moment later. glibc returns
blocks of that size to the system each time and gets them back empty, page by page: more than a
third of the time of a private step. Keeping them costs no more than the step's own peak.
"""

from __future__ import annotations

import ctypes
import sys
from functools import cache

#: glibc's names for its settings, <malloc.h>.
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
#: Freed memory that a process may keep, and the largest block that it keeps, in bytes.
KEPT_BYTES = 2**30


@cache
def keep_freed_memory() -> bool:
    """Tell the allocator to keep freed memory; returns whether it listens (glibc does)."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return False
    return bool(mallopt(_M_TRIM_THRESHOLD, KEPT_BYTES) and mallopt(_M_MMAP_THRESHOLD, KEPT_BYTES))
