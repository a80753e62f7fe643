"""No memory of a process that holds keys is written to disk when it crashes, or read by others.

A core dump of a SuperNode holds its node key, one of an app process the training's keys and the
records of patients.
"""

from __future__ import annotations

import ctypes
import resource
import sys

_PR_SET_DUMPABLE = 4


def forbid_core_dumps() -> None:
    """Have this process, and those that it forks, leave no core dump.

    A program that one of them starts keeps the limit of 0 bytes, which holds for files. On Linux a
    process is also marked as not to be dumped, which holds for programs that dumps are piped to,
    and keeps other processes of the same user from attaching; that mark ends where another program
    takes a process over, so each sets it for itself.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0):
            raise OSError(ctypes.get_errno(), "this process cannot be kept from being dumped")
