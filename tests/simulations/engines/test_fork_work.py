"""Work of a run's own is done in forks, which are asked by a connection that nobody else has."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from simulations.engines import forks as module
from simulations.engines.forks import Forks
from tests.simulations.engines.test_forks import gone

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="nothing forks there")

HERE = "tests.simulations.engines.test_fork_work"


def test_work_is_done_in_a_fork_which_ends_with_it() -> None:
    forks = Forks()
    target = f"{HERE}:{doubled.__name__}"
    link = forks.work(target, 21)
    assert link is not None
    answer, pid, parent = link.recv()
    assert (answer, parent) == (42, forks.pid) and pid != os.getpid()
    with pytest.raises(EOFError):
        link.recv()
    link.close()
    assert gone(pid)
    forks.end()
    assert forks.work(target, 21) is None


def doubled(link: Any) -> None:
    link.send((link.recv() * 2, os.getpid(), os.getppid()))


def test_it_is_no_matter_how_many_files_are_open_where_forks_are_begun() -> None:
    """What waits for descriptors by their numbers' bits has room for a thousand."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 1500:
        pytest.skip("no more than a thousand may be open here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 1500), hard))
    with ExitStack() as stack:
        stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        while stack.enter_context(Path(os.devnull).open()).fileno() < 1100:
            pass
        forks = Forks()
        stack.callback(forks.end)
        link = forks.work(f"{HERE}:{doubled.__name__}", 21)
        assert link is not None
        with link:
            assert link.recv()[0] == 42


def test_a_fork_that_stops_in_a_message_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PATIENCE_SECONDS", 1)
    forks = Forks()
    link = forks.work(f"{HERE}:{says_half.__name__}", 21)
    assert link is not None and link.poll(60)
    with pytest.raises(OSError, match="temporarily unavailable"):
        link.recv()
    os.kill(forks.pid, signal.SIGSTOP)
    assert forks.work(f"{HERE}:{doubled.__name__}", b"x" * 2**22) is None
    forks.end()


def says_half(link: Any) -> None:
    os.write(link.fileno(), b"\0\0\1\0half of it")
    time.sleep(60)


@pytest.mark.parametrize("closed", ["0", "1", "2", "0 1 2"])
def test_a_daemon_that_has_no_streams_has_forks(closed: str) -> None:
    leads = f"""
import os
for number in map(int, {closed.split()!r}):
    os.close(number)
from simulations.engines.forks import Forks
link = Forks().work("{HERE}:{doubled.__name__}", 21)
os._exit(link.recv()[0] if link.poll(60) else 1)
"""
    assert subprocess.run([sys.executable, "-c", leads], timeout=90).returncode == 42
