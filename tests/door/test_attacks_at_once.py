"""Two processes of one site at once, and one start of a machine after another."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from clients.contract.kinds import Kind
from clients.contract.witness_messages import Standing
from clients.site import home
from clients.site.heads import Kept
from clients.site.opening import Behind
from clients.site.witnessing import Witnessing
from crypto.headers import SignedHeader
from tests.door.relay import settle, vouch, witness
from tests.door.test_restored_book import ONE, ROUNDS, whole_folder_over
from tests.door.world import Play, started

pytestmark = pytest.mark.filterwarnings("ignore:Full backward hook is firing:UserWarning")

PEER = "hospital-00"


@pytest.mark.parametrize("at_once", [False, True], ids=["one by one", "at once"])
def test_a_process_undoes_nothing_that_another_took_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_once: bool
) -> None:
    """A message of one training began before a peer's newest head came with another's."""
    play = started(tmp_path, unwitnessed=4, **ROUNDS)
    play.run(1)
    play.train(2, names=(PEER,))
    stands = witness(play, PEER)
    learn = Witnessing.learn

    def meanwhile(self: Witnessing, request: Behind, *, after: int) -> None:
        monkeypatch.setattr(Witnessing, "learn", learn)
        vouch(play, ONE, stands)
        learn(self, request, after=after)

    if at_once:
        monkeypatch.setattr(Witnessing, "learn", meanwhile)
    play.train(2, names=(ONE,))
    if not at_once:
        vouch(play, ONE, stands)
    known = Kept.read(play.sites.folder(ONE)).headers.of(stands.key)
    newest = SignedHeader.from_bytes(stands.header).header.entry
    assert max(SignedHeader.from_bytes(one).header.entry for one in known) == newest


def put_back(play: Play, backup: Path) -> None:
    """What a machine's snapshot brings back: every file, and every inode."""
    whole_folder_over(play, backup)
    for path in backup.iterdir():
        if path.is_file() and not (play.sites.folder(ONE) / path.name).exists():
            shutil.copy2(path, play.sites.folder(ONE) / path.name)


def test_vouches_of_an_earlier_start_of_the_machine_are_good_for_no_later_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine's snapshot holds the question, and a hostile server has kept its answers."""
    start = tmp_path / "boot_id"
    start.write_text("first")
    monkeypatch.setattr(home, "_MACHINE_START", start)
    play = started(tmp_path, unwitnessed=4, **ROUNDS)
    play.sites.rewrite(ONE, "require-witness = false", "require-witness = true")
    stands = witness(play, ONE)
    vouches = [vouch(play, one, stands) for one in play.names if one != ONE]
    shutil.copytree(play.sites.folder(ONE), tmp_path / "backup")
    assert witness(play, ONE, vouches=vouches).standing is Standing.SOUND
    play.run(4)
    put_back(play, tmp_path / "backup")
    start.write_text("second")
    assert witness(play, ONE, vouches=vouches).standing is Standing.WAITING
    assert play.ask(ONE, Kind.TRAIN, play.request(1)).code == "ledger-behind"
    assert settle(play, ONE).standing is Standing.BEHIND  # asked anew, they know more
