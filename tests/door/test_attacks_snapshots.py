"""Attacks by a member on the state that it leaves for hospitals that were away."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load

from clients.contract.kinds import Kind
from clients.learning.frames import frame_to_bytes
from clients.learning.replica import state_from_bytes, state_to_bytes
from clients.site.heads import unmarked
from clients.site.snapshots import make_snapshot
from crypto.identity import Identity
from crypto.keys import Keys
from crypto.rosters import Roster
from tests.door.sites import Answer
from tests.door.world import Play, started

pytestmark = pytest.mark.filterwarnings("ignore:Full backward hook is firing:UserWarning")

LIAR, AWAY = "hospital-00", "hospital-02"
TWO = (LIAR, "hospital-01")

Change = Callable[[bytes], bytes]


def honest(state: bytes) -> bytes:
    return state


def sevens(state: bytes) -> bytes:
    """The chain that all have opened, and a model of its own."""
    return frame_to_bytes(
        {n: np.full_like(a, 7) if n.startswith("model.") else a for n, a in load(state).items()}
    )


def other_memory(state: bytes) -> bytes:
    """The right model, and an optimizer that remembers something else."""
    return frame_to_bytes(
        {n: a * 1e30 if n.startswith("optimizer.") else a for n, a in load(state).items()}
    )


def bomb(state: bytes) -> bytes:
    """200 MB that travel as 200 kB."""
    return zlib.compress(bytes(200 * 2**20), 9)


def snapshot_of(play: Play, change: Change) -> bytes:
    """What the liar leaves after the last round that it has closed."""
    folder = play.sites.folder(LIAR)
    session = state_from_bytes(unmarked((folder / f"replica-{play.training}.bin").read_bytes()))
    keys = Keys.from_bytes(unmarked((folder / f"keys-{play.training}.bin").read_bytes()))
    terms = json.loads((folder / f"terms-{play.training}.json").read_bytes())
    round = max(session["chains"])
    return make_snapshot(
        change(session["replica"].numpy().tobytes()),
        training=play.training,
        round=round,
        chain=session["chains"][round],
        parameter_id=play.agreement.terms.sealing.parameter_id,
        bind=bytes.fromhex(terms["bind"]),
        group_key=keys.group_key,
        sender=LIAR,
        identity=Identity.load_or_create(folder / "identity.key"),
    )


def after_an_absence(folder: Path) -> Play:
    """One was away in rounds 2 and 3; the liar has the state after round 2."""
    play = started(folder, training__rounds=5)
    play.run(1)
    play.train(2, names=TWO)
    play.close(2)
    play.train(3, names=TWO)
    play.close(3)
    return play


def helped(play: Play, snapshot: bytes, **changes: object) -> Answer:
    rosters = {n: Roster.from_bytes(play.closed[n].roster) for n in (1, 2)}
    opened = {n: roster.digest(play.closed[n].total) for n, roster in rosters.items()}
    return play.ask(AWAY, Kind.TRAIN, play.request(4, snapshot=snapshot, opened=opened, **changes))


@pytest.mark.parametrize("change", [sevens, other_memory, bomb], ids=lambda one: one.__name__)
def test_no_hospital_takes_over_a_state_that_one_other_made_up(
    tmp_path: Path, change: Change
) -> None:
    play = after_an_absence(tmp_path)
    false, true = snapshot_of(play, change), snapshot_of(play, honest)
    answer = helped(play, false)
    assert answer.code == "behind:0"
    assert f"by {LIAR!r}" in answer.log
    assert "adopt" not in play.sites.kinds(AWAY)
    # It stands where it stood, and an honest snapshot brings it on.
    played = helped(play, true)
    play.replies[4, 1] = {AWAY: played.round}
    play.train(4, names=TWO)
    play.close(4)
    play.train(5)
    play.close(5)
    headers = play.confirm(5)
    models = [play.release(name, headers).round.model for name in (AWAY, "hospital-01")]
    for name, tensor in models[0].items():
        assert torch.equal(tensor, models[1][name])


def test_who_signs_one_state_and_leaves_another_is_named(tmp_path: Path) -> None:
    """The server checks the first against what others signed; only a hospital sees the second."""
    play = after_an_absence(tmp_path)
    true, false = snapshot_of(play, honest), snapshot_of(play, sevens)
    size = int.from_bytes(true[:2], "little")
    from dataclasses import replace

    from crypto.headers import SignedHeader, payload_digest, sign_header

    sealed = false[2 + int.from_bytes(false[:2], "little") :]
    header = replace(
        SignedHeader.from_bytes(true[2 : 2 + size]).header, payload=payload_digest(sealed)
    )
    identity = Identity.load_or_create(play.sites.folder(LIAR) / "identity.key")
    signed = sign_header(header, identity).to_bytes()
    answer = helped(play, len(signed).to_bytes(2, "little") + signed + sealed)
    assert answer.code == "behind:0"
    assert f"{LIAR!r} signed a snapshot" in answer.log


def test_a_snapshot_is_taken_over_with_the_roster_that_names_it(tmp_path: Path) -> None:
    play = after_an_absence(tmp_path)
    assert helped(play, snapshot_of(play, honest), closed={}).code == "behind:0"


def change_by_hand(play: Play) -> None:
    """Put sevens into the model that a hospital keeps on its own disk."""
    path = play.sites.folder(AWAY) / f"replica-{play.training}.bin"
    data = path.read_bytes()
    mark = len(data) - len(unmarked(data))
    session = state_from_bytes(data[mark:])
    frame = sevens(session["replica"].numpy().tobytes())
    session["replica"] = torch.from_numpy(np.frombuffer(frame, dtype=np.uint8).copy())
    path.write_bytes(data[:mark] + state_to_bytes(session))


def test_nothing_is_released_of_a_replica_that_no_quorum_holds(tmp_path: Path) -> None:
    """A hospital whose own file was changed by hand signs another state than the others."""
    play = started(tmp_path, training__rounds=3)
    play.run(2)
    change_by_hand(play)
    play.run(3, first=3)
    headers = play.confirm(3)
    assert play.release(AWAY, headers).code == "release-refused"
    assert play.release("hospital-01", headers)


def test_rosters_of_those_who_hold_another_replica_confirm_none(tmp_path: Path) -> None:
    play = started(tmp_path, training__rounds=6)
    play.run(2)
    change_by_hand(play)
    left = {}
    for name, round in ((AWAY, 4), ("hospital-01", 5)):
        play.run(round - 1, first=len(play.closed) + 1)
        left[name] = play.train(round, release_from=name)[name].model_round
        play.close(round)
    assert left[AWAY] < 2, "a model from before its file was changed"
    assert left["hospital-01"] == 3
