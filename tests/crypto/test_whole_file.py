"""Files that are there whole or not at all, and whom they are for."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from crypto.whole_file import locked, sweep, write_private, write_shared


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def open_umask() -> object:
    """A process that lets everybody read what it does not protect."""
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.mark.usefixtures("open_umask")
@pytest.mark.parametrize("durable", [True, False])
def test_only_the_owner_reads_a_private_file_even_where_others_could_before(
    tmp_path: Path, durable: bool
) -> None:
    path = tmp_path / "secret"
    path.write_bytes(b"old")
    assert mode_of(path) == 0o666
    write_private(path, b"new", durable=durable)
    assert path.read_bytes() == b"new"
    assert mode_of(path) == 0o600
    write_shared(tmp_path / "result", b"for all", durable=durable)
    assert mode_of(tmp_path / "result") == 0o666
    assert sorted(file.name for file in tmp_path.iterdir()) == ["result", "secret"]


def test_of_many_writers_at_once_one_is_first_and_its_file_stays(tmp_path: Path) -> None:
    path = tmp_path / "secret"

    def write(number: int) -> bool:
        try:
            write_private(path, b"%d" % number * 1000, anew=True)
        except FileExistsError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        done = list(pool.map(write, range(8)))
    assert sum(done) == 1
    assert path.read_bytes() == b"%d" % done.index(True) * 1000
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    path = tmp_path / "kept"
    write_private(path, b"old")

    def fail(*_: object) -> None:
        raise OSError("no space left on the disk")

    monkeypatch.setattr(os, step, fail)
    with pytest.raises(OSError, match="no space left"):
        write_private(path, b"new")
    monkeypatch.undo()
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
    write_private(path, b"new")
    assert path.read_bytes() == b"new"


def test_what_a_dead_process_left_aside_is_removed_once_it_is_old(tmp_path: Path) -> None:
    old, young = tmp_path / ".keys-t.bin.77.0a1b2c3d", tmp_path / ".keys-t.bin.78.0a1b2c3d"
    others = [tmp_path / name for name in ("keys-t.bin", ".first-use.json.lock", ".keys.77")]
    for path in (old, young, *others):
        path.write_bytes(b"key")
    for path in (old, *others):
        os.utime(path, (0, 0))
    sweep(tmp_path)
    assert sorted(tmp_path.iterdir()) == sorted([young, *others])


def test_a_lock_that_nobody_waits_for_is_refused_and_goes_with_its_process(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    code = (
        "import sys; from pathlib import Path; from crypto.whole_file import locked\n"
        "with locked(Path(sys.argv[1])): print('has it', flush=True); sys.stdin.read()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with holder:
        assert holder.stdout and holder.stdout.readline() == b"has it\n"
        with pytest.raises(BlockingIOError), locked(path, wait=False):
            pass
        holder.kill()
    with locked(path, wait=False):
        pass
