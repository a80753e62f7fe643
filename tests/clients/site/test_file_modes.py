"""A site's files that others could read or change are named, with what mends them."""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path

import pytest

from clients.site.file_modes import open_files
from clients.site.site_file import SiteFile, read_site_file

STRANGER = 54321


@pytest.fixture
def site(tmp_path: Path) -> SiteFile:
    """A closed site with one of every file that it holds."""
    folder = tmp_path / "it's lyon"
    folder.mkdir(mode=0o755)
    file = folder / "site.toml"
    file.write_text('hospital = "lyon"\n[data]\nname = "csv:visits.csv"\n')
    file.chmod(0o644)
    (folder / "private").mkdir(mode=0o700)
    for name in ("identity.key", "node.key", "keys-t.bin", "ledger.jsonl", "executor.secret"):
        (folder / "private" / name).touch(mode=0o600)
    return read_site_file(file)


def test_a_closed_site_has_no_fault(site: SiteFile) -> None:
    assert open_files(site) == []


@pytest.mark.parametrize(
    ("place", "mode", "expected"),
    [
        ("private", 0o750, "700"),
        ("private", 0o701, "700"),
        ("private/identity.key", 0o640, "600"),
        ("private/node.key", 0o604, "600"),
        ("private/keys-t.bin", 0o620, "600"),
        ("private/ledger.jsonl", 0o644, "600"),
        ("private/executor.secret", 0o644, "600"),
        ("site.toml", 0o664, "644"),
        ("site.toml", 0o646, "644"),
        (".", 0o775, "755"),
        (".", 0o757, "755"),
    ],
)
def test_what_is_too_open_is_named_with_its_mode_and_the_command_that_mends_it(
    site: SiteFile, place: str, mode: int, expected: str
) -> None:
    path = site.path.parent / place
    path.chmod(mode)
    [fault] = open_files(site)
    assert str(path) in fault
    assert f"mode {mode:o}" in fault
    assert f"expected {expected}:" in fault
    command = shlex.split(fault.rpartition(f"expected {expected}: ")[2])
    assert command[0] == "chmod"
    subprocess.run(command, check=True)
    assert open_files(site) == []
    assert path.stat().st_mode & 0o777 == int(expected, 8)


def test_a_folder_where_only_owners_may_rename_is_as_good_as_a_closed_one(site: SiteFile) -> None:
    site.path.parent.chmod(0o1777)
    assert open_files(site) == []


def test_a_ledger_elsewhere_is_looked_at_too(site: SiteFile, tmp_path: Path) -> None:
    elsewhere = tmp_path / "spent.jsonl"
    elsewhere.touch(mode=0o644)
    site.path.write_text(site.path.read_text() + f'[ledger]\npath = "{elsewhere}"\n')
    [fault] = open_files(read_site_file(site.path))
    assert f"chmod 600 {elsewhere}" in fault


def test_files_of_another_user_are_refused_with_the_command_that_hands_them_over(
    site: SiteFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner = os.geteuid()
    monkeypatch.setattr("os.geteuid", lambda: STRANGER)
    faults = open_files(site)
    private = site.private
    theirs = [fault for fault in faults if f"{private}/identity.key belongs to" in fault]
    assert theirs and f"chown #{STRANGER}" in theirs[0]
    # As with sshd, root may own what the process only reads.
    assert any("site.toml belongs" in fault for fault in faults) == (owner != 0)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_root_is_told_to_start_as_the_user_that_the_files_belong_to(site: SiteFile) -> None:
    os.chown(site.private / "node.key", STRANGER, -1)
    [fault] = open_files(site)
    assert f"belongs to #{STRANGER}, and this process runs as root" in fault
    assert f"runuser -u #{STRANGER}" in fault
