"""Processes that hold keys leave no core dump; asked of processes of their own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

#: Says what a process and one that it forks may leave behind: limits, and the mark on Linux.
_SAY = """
import ctypes, os, resource, sys
def say():
    mark = ctypes.CDLL(None).prctl(3, 0, 0, 0, 0) if sys.platform == "linux" else 0
    print(*resource.getrlimit(resource.RLIMIT_CORE), mark, flush=True)
"""
_FORKED = """
say()
if os.fork() == 0:
    say()
    os._exit(0)
os.wait()
"""


def _said(code: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return done.stdout.split("\n")[:-1]


def test_neither_a_process_nor_its_forks_leave_a_core_dump() -> None:
    forbid = "from deployment.core_dumps import forbid_core_dumps\nforbid_core_dumps()\n"
    assert _said(_SAY + forbid + _FORKED) == ["0 0 0", "0 0 0"]


@pytest.mark.skipif(sys.platform != "linux", reason="the mark is Linux's")
def test_without_it_a_process_could_be_dumped() -> None:
    assert all(line.endswith(" 1") for line in _said(_SAY + _FORKED))


@pytest.mark.parametrize(
    ("process", "start"),
    [
        (
            "SuperNode",
            "import deployment.supernode as one\n"
            "one._require_ready = lambda site: (say(), sys.exit())\n"
            "one.run_supernode(None)\n",
        ),
        (
            "app executor",
            "import deployment.executor as one\n"
            "one.start_forking = lambda: (say(), sys.exit())\n"
            "sys.argv[1:] = ['--runtime-api-address', 'a', '--secret-file', 'b',"
            " '--parent-pid', '1']\none.main()\n",
        ),
        (
            "SuperLink",
            "import deployment.superlink as one, os\n"
            "os.umask = lambda mask: (say(), sys.exit())\none.main()\n",
        ),
    ],
)
def test_every_launcher_forbids_it_before_it_holds_a_key(process: str, start: str) -> None:
    assert _said(_SAY + start) == ["0 0 0"], process
