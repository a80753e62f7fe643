"""The hospital's own log never stops what it tells of, and nobody else writes lines in it."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from clients.site import ground
from clients.site.books import Books
from clients.site.ground import Site
from clients.site.own_records import _log_reading
from clients.site.site_file import SiteFile
from crypto.whole_file import write_private


def _site(folder: Path) -> Site:
    return Site(name="lyon", folder=folder, simulated=False, books=Books())


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder on a disk of 64 kB that is full."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k,mode=700", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("only root can mount a small disk")
    try:
        with pytest.raises(OSError, match="No space left"), (folder / "full").open("wb") as file:
            while True:
                file.write(bytes(4096))
                file.flush()
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_stops_no_log_and_the_line_goes_to_standard_error(
    full_disk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _site(full_disk).log("a round")
    _site(full_disk).log_exception(ValueError("of a patient"))
    printed = capsys.readouterr().err
    assert "lyon: hospital.log: No space left on device; " in printed
    assert "a round" in printed
    assert "ValueError: of a patient" in printed


def test_a_full_disk_raises_from_every_secret_and_leaves_the_old_one(full_disk: Path) -> None:
    with pytest.raises(OSError) as caught:
        write_private(full_disk / "keys-t.bin", bytes(32))
    assert caught.value.errno == errno.ENOSPC
    with pytest.raises(OSError) as caught:
        _site(full_disk).write_secret("keys-t.bin", bytes(32))
    assert caught.value.errno == errno.ENOSPC
    assert [path.name for path in full_disk.iterdir()] == ["full"]


def test_no_log_is_written_where_standard_error_is_gone_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "hospital.log").symlink_to("/dev/full")
    monkeypatch.setattr("sys.stderr", None)
    _site(tmp_path).log("a round")


def test_only_the_owner_can_read_the_log(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        _site(tmp_path).log("a round")
    finally:
        os.umask(before)
    assert (tmp_path / "hospital.log").stat().st_mode & 0o777 == 0o600


def test_a_name_in_the_log_neither_steers_a_terminal_nor_makes_a_line_of_its_own(
    tmp_path: Path,
) -> None:
    _site(tmp_path).log("refused: \x1b]0;evil\x07\n2026-01-01T00:00:00.000 has the keys\u202e")
    first, second = (tmp_path / "hospital.log").read_text().splitlines()
    assert r"\x1b]0;evil\x07" in first
    assert second == "    2026-01-01T00:00:00.000 has the keys\\u202e"


def test_a_full_log_makes_room_and_those_before_it_stay_the_owners(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever sends messages decides how much is logged, and fills no disk with it."""
    monkeypatch.setattr(ground, "MOST_LOG_BYTES", 1000)
    before = os.umask(0)
    try:
        for number in range(400):
            _site(tmp_path).log(f"message {number}")
    finally:
        os.umask(before)
    logs = sorted(tmp_path.glob("hospital.log*"))
    assert [path.name for path in logs] == [
        "hospital.log",
        *(f"hospital.log.{n}" for n in range(1, 5)),
    ]
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in tmp_path.iterdir())
    assert all(path.stat().st_size < 1100 for path in logs)
    lines = [line for path in (logs[0], *logs[1:])[::-1] for line in path.read_text().splitlines()]
    last = [int(line.rpartition(" ")[2]) for line in lines]
    assert last == list(range(400 - len(last), 400))  # whole, and in order


def test_a_log_that_cannot_make_room_is_written_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ground, "MOST_LOG_BYTES", 10)

    def refuses(*_: object) -> None:
        raise OSError(errno.EACCES, "no")

    monkeypatch.setattr(os, "replace", refuses)
    for text in ("a first line", "a second line"):
        _site(tmp_path).log(text)
    assert len((tmp_path / "hospital.log").read_text().splitlines()) == 2


def test_a_log_of_readings_that_was_cut_in_a_letter_stops_nobody(tmp_path: Path) -> None:
    """A disk that is full takes half a letter; records are read, and noted, at every message."""
    file = SiteFile(
        path=tmp_path / "site.toml", hospital="lyon", data_name="csv:a", ledger=tmp_path / "l"
    )
    _log_reading(file, "row 2: 'é'")
    path = tmp_path / "private" / "readings.log"
    path.write_bytes(path.read_bytes()[:-3])  # the letter's second byte, its quote, the end
    for _ in range(2):
        _log_reading(file, "row 2: 'é'")
    assert path.read_bytes().endswith("row 2: 'é'\n".encode())
    assert path.read_bytes().count(b"\n") == 2  # one behind the line that was cut
