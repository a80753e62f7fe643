"""A flush that fails, and a power cut after it: the book has no hole, and goes on."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from accounting.chain import Chain, Flush, read_chain
from accounting.errors import LedgerError


class Disk:
    """A disk beneath one file whose flush fails once, as Linux' do.

    What a failed flush was to bring stays in the page cache and counts as clean: later flushes pass
    it over, until it is written anew.
    """

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.path, self.failing, self.cuts = path, False, True
        self._lost: list[tuple[int, int]] = []
        self._flushed = 0
        self._fsync, self._ftruncate = os.fsync, os.ftruncate
        monkeypatch.setattr(os, "fsync", self.fsync)
        monkeypatch.setattr(os, "ftruncate", self.ftruncate)

    def fsync(self, file: int) -> None:
        if os.fstat(file).st_ino == self.path.stat().st_ino:
            size = self.path.stat().st_size
            start, self._flushed = self._flushed, size
            if self.failing:
                self._lost.append((start, size))
                raise OSError(errno.EIO, "made up")
        self._fsync(file)

    def ftruncate(self, file: int, length: int) -> None:
        if not self.cuts:
            raise OSError(errno.EROFS, "made up")
        self._ftruncate(file, length)
        self._flushed = min(self._flushed, length)
        self._lost = [(a, min(b, length)) for a, b in self._lost if a < length]

    def cut_power(self) -> None:
        """Leave what a machine finds that is started again."""
        data = bytearray(self.path.read_bytes())
        for start, stop in self._lost:
            stop = min(stop, len(data))
            data[start:stop] = bytes(stop - start)
        self.path.write_bytes(data)


def opened(path: Path) -> Chain:
    return Chain(path, site="north", cohort="lungs", flush=Flush.DISK, take=lambda _: None)


def write(chain: Chain, word: str) -> None:
    with chain.hold():
        chain.append([{"kind": "word", "word": word}])


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Disk:
    path = tmp_path / "ledger.jsonl"
    opened(path).close()
    disk = Disk(path, monkeypatch)
    disk._flushed = path.stat().st_size
    return disk


def test_a_line_whose_flush_failed_leaves_no_hole_when_power_is_cut_later(disk: Disk) -> None:
    chain = opened(disk.path)
    write(chain, "a")
    disk.failing = True
    with pytest.raises(OSError, match="made up"):
        write(chain, "b")
    disk.failing = False
    other = opened(disk.path)  # another process
    write(chain, "c")
    write(other, "d")
    chain.close()
    other.close()
    disk.cut_power()
    assert [record["word"] for record in read_chain(disk.path).records] == ["a", "c", "d"]
    write(opened(disk.path), "e")


def test_where_it_cannot_be_taken_out_either_nothing_more_is_written(disk: Disk) -> None:
    chain = opened(disk.path)
    disk.failing, disk.cuts = True, False
    with pytest.raises(OSError, match="made up"):
        write(chain, "b")
    disk.failing = False
    with pytest.raises(LedgerError, match="closed"):
        write(chain, "c")


def test_the_disk_of_these_tests_does_lose_what_is_left_where_it_was(disk: Disk) -> None:
    """Control: with the failed line still there, what follows is behind a hole."""
    chain = opened(disk.path)
    disk.failing = True
    disk._ftruncate = lambda *_: None
    with pytest.raises(OSError, match="made up"):
        write(chain, "b")
    disk.failing = False
    disk._lost, disk._flushed = [(disk._flushed, disk.path.stat().st_size)], 0
    chain.close()
    write(opened(disk.path), "c")
    disk.cut_power()
    with pytest.raises(LedgerError):
        opened(disk.path)
