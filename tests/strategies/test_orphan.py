"""A server's app that hangs ends when the process that started it has gone; others live on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HANGING = """
import sys, threading
sys.argv[0] = "/usr/bin/{name}"
from strategies.orphan import end_when_orphaned
end_when_orphaned(patience_seconds=0.5)
print("hangs", flush=True)
lock = threading.Lock()
lock.acquire()
while True:
    try:
        lock.acquire()
    except KeyboardInterrupt:
        pass
"""
PARENT = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", sys.argv[1]], stdout=subprocess.PIPE)
child.stdout.readline()
print(child.pid, flush=True)
"""


def _alive(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="no /proc on this machine")
@pytest.mark.parametrize(("name", "ends"), [("flwr-serverapp", True), ("python", False)])
def test_an_app_whose_superlink_was_killed_ends_even_if_it_hangs(name: str, ends: bool) -> None:
    said = subprocess.check_output(
        [sys.executable, "-c", PARENT, HANGING.format(name=name)], text=True, cwd=ROOT
    )
    process = int(said)
    try:
        end = time.monotonic() + (20.0 if ends else 3.0)
        while _alive(process) and time.monotonic() < end:
            time.sleep(0.1)
        assert _alive(process) is not ends
    finally:
        if _alive(process):
            os.kill(process, signal.SIGKILL)
