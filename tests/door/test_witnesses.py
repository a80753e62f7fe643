"""What peers know of a book that goes back can be neither flushed, bypassed nor left unasked."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from clients.contract.kinds import Kind
from clients.contract.witness_messages import (
    Standing,
    VouchReply,
    VouchRequest,
    WitnessReply,
    WitnessRequest,
)
from tests.door.relay import settle
from tests.door.test_restored_book import ONE, ROUNDS
from tests.door.world import Play, started

pytestmark = pytest.mark.filterwarnings("ignore:Full backward hook is firing:UserWarning")


def restored(tmp_path: Path, name: str = ONE) -> Play:
    """A folder was restored from before rounds that peers have seen (another file: it waits)."""
    play = started(tmp_path, unwitnessed=4, **ROUNDS)
    play.run(1)
    shutil.copytree(play.sites.folder(name), tmp_path / "backup")
    play.run(3, first=2)
    folder = play.sites.folder(name)
    shutil.rmtree(folder)
    shutil.copytree(tmp_path / "backup", folder)
    return play


def test_a_server_cannot_make_peers_forget_what_they_knew(tmp_path: Path) -> None:
    """`query.witness` is signed for any id, and peers keep 64 headers of a ledger by id."""
    play = restored(tmp_path)
    for number in range(64):
        word = f"w{number}"
        asked = WitnessRequest(training=word, bind=play.bind)
        stands = WitnessReply.read(play.ask(ONE, Kind.WITNESS, asked).records)
        for peer in play.names:
            if peer != ONE:
                request = VouchRequest(
                    training=word, bind=play.bind, witness=stands.header, key=stands.key
                )
                VouchReply.read(play.ask(peer, Kind.VOUCH, request).records)
    assert settle(play, ONE).standing is Standing.BEHIND
