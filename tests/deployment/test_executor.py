"""What a process that forks changes in Flower: a bundle is unpacked once."""

from __future__ import annotations

import gc
import os
from pathlib import Path

import pytest
from flwr.supernode.runtime import run_clientapp

from deployment import executor
from deployment.executor import install_once


@pytest.fixture
def unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Bundles that Flower's own function was called with, in order."""
    monkeypatch.setenv("FLWR_HOME", str(tmp_path))
    seen: list[bytes] = []

    def install(fab: bytes, install_dir: object = None, skip_prompt: bool = False) -> Path:
        seen.append(fab)
        made = tmp_path / "apps" / str(len(seen))
        made.mkdir(parents=True)
        return made

    monkeypatch.setattr(run_clientapp, "install_from_fab", install)
    install_once()
    return seen


def test_a_bundle_is_unpacked_once(unpacked: list[bytes]) -> None:
    first = run_clientapp.install_from_fab(b"one", skip_prompt=True)
    assert run_clientapp.install_from_fab(b"one", skip_prompt=True) == first
    assert run_clientapp.install_from_fab(b"two", skip_prompt=True) != first
    assert unpacked == [b"one", b"two"]


def test_one_that_is_gone_is_unpacked_again(unpacked: list[bytes]) -> None:
    run_clientapp.install_from_fab(b"one", skip_prompt=True).rmdir()
    assert run_clientapp.install_from_fab(b"one", skip_prompt=True).is_dir()
    assert unpacked == [b"one", b"one"]


def test_a_process_that_starts_believes_no_note_of_an_earlier_one(unpacked: list[bytes]) -> None:
    """The note reached the disk, and what was unpacked did not, when power was lost."""
    made = run_clientapp.install_from_fab(b"one", skip_prompt=True)
    install_once()
    assert run_clientapp.install_from_fab(b"one", skip_prompt=True) != made
    assert unpacked == [b"one", b"one"]


def test_no_fork_goes_through_what_was_imported_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executor, "LIBRARIES", ("flwr.clientapp", "no_such_library"))
    child = os.fork()
    if not child:  # freezing is for a process of its own
        executor.import_libraries()
        os._exit(0 if gc.isenabled() and len(gc.get_objects()) < 1_000 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
