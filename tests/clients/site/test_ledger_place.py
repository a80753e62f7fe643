"""A ledger is a plain file where a lock that is held is refused to everybody else."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from clients.site import ledger_place
from clients.site.ledger_place import ledger_faults, locks_hold


def test_a_plain_file_on_a_local_disk_is_good_and_nothing_is_left_beside_it(
    tmp_path: Path,
) -> None:
    (tmp_path / "ledger.jsonl").touch()
    for name in ("ledger.jsonl", "not-there-yet.jsonl"):
        assert ledger_faults(tmp_path / name) == []
    assert [path.name for path in tmp_path.iterdir()] == ["ledger.jsonl"]


def _folder(path: Path) -> None:
    path.mkdir()


def _link_to_null(path: Path) -> None:
    path.symlink_to("/dev/null")


@pytest.mark.parametrize(
    ("make", "said"),
    [(_folder, "is a folder"), (_link_to_null, "is a device"), (os.mkfifo, "is a pipe")],
)
def test_what_is_no_plain_file_is_called_by_what_it_is(
    tmp_path: Path, make: Callable[[Path], None], said: str
) -> None:
    path = tmp_path / "ledger.jsonl"
    make(path)
    [fault] = ledger_faults(path)
    assert f"{path} {said}; expected a plain file" in fault


def test_devices_and_folders_that_are_missing_are_refused(tmp_path: Path) -> None:
    assert "is a device" in ledger_faults(Path("/dev/null"))[0]
    assert "does not exist" in ledger_faults(tmp_path / "no" / "ledger.jsonl")[0]
    (tmp_path / "file").touch()
    assert "cannot be used" in ledger_faults(tmp_path / "file" / "ledger.jsonl")[0]


def test_a_file_system_that_grants_a_lock_twice_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert locks_hold(tmp_path)
    # This process's lock stays with this process, as where a file system keeps locks to itself.
    monkeypatch.setattr(ledger_place.fcntl, "flock", lambda *words: None)
    assert not locks_hold(tmp_path)
    [fault] = ledger_faults(tmp_path / "ledger.jsonl")
    assert "grants a second process the lock" in fault
    assert "local disk" in fault


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def flock(file: int, operation: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)
    [fault] = ledger_faults(tmp_path / "ledger.jsonl")
    assert "keeps no locks" in fault


def test_a_full_disk_is_not_taken_for_one_without_locks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def mkstemp(**words: object) -> tuple[int, str]:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(ledger_place.tempfile, "mkstemp", mkstemp)
    with pytest.raises(OSError, match="No space left"):
        ledger_faults(tmp_path / "ledger.jsonl")
