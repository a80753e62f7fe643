"""Real sites behind the real door answer an honest server to the end, in every exchange."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from clients.contract.kinds import Kind
from clients.contract.schedule import steps_of_visit
from clients.contract.visit_messages import Carried, VisitReply, VisitRequest
from crypto.rosters import Roster
from tests.door.split_play import LAYERS, SplitPlay
from tests.door.world import EXACT, LOCAL, ONE_TIME, Play, started

pytestmark = pytest.mark.filterwarnings("ignore:Full backward hook is firing:UserWarning")


@pytest.mark.parametrize(
    "changes",
    [
        {},
        LOCAL,
        EXACT,
        {**LOCAL, "exchange__name": "weights", "exchange__local_steps": 2},
        ONE_TIME,
    ],
    ids=["semi-central", "local", "exact", "local steps", "one-time"],
)
def test_a_training_of_sums_ends_with_the_same_model_from_every_hospital(
    tmp_path: Path, changes: dict[str, object]
) -> None:
    play = started(tmp_path, **changes)
    play.run()
    headers = play.confirm(3)
    models = [play.release(name, headers).round for name in play.names]
    assert all(one.model_round == 3 for one in models)
    for one in models[1:]:
        for key, tensor in models[0].model.items():
            assert np.array_equal(tensor, one.model[key])
    for name in play.names:
        kinds = play.sites.kinds(name)
        assert kinds[-1] == "end"
        assert kinds.count("spend") == kinds.count("seal") == kinds.count("close") == 3


@pytest.mark.parametrize(
    "changes",
    [LAYERS, {**LAYERS, **EXACT}],
    ids=["local", "exact"],
)
def test_a_split_training_ends_with_the_layers_at_home(
    tmp_path: Path, changes: dict[str, object]
) -> None:
    play = started(tmp_path, **changes)
    split = SplitPlay(play)
    for round in (1, 2, 3):
        split.round(round)
    model = play.release("hospital-01", play.confirm(3)).round
    away = {f"{name}" for name in model.model}
    assert model.model_round == 3 and away
    kinds = play.sites.kinds("hospital-00")
    assert kinds.count("show") == 6 and kinds.count("seal") == 3
    # Two batches a pass: three rounds are two passes, each paid for before it begins.
    assert kinds.count("spend") == 2


def visiting(play: Play, round: int, **changes: object) -> VisitRequest:
    fields: dict[str, object] = {
        "training": play.training,
        "bind": play.bind,
        "round": round,
        "steps": 0,
    }
    return VisitRequest(**{**fields, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize("changes", [LOCAL, EXACT], ids=["local", "exact"])
def test_a_model_goes_round_and_is_released_by_the_last_hospital(
    tmp_path: Path, changes: dict[str, object]
) -> None:
    play = started(tmp_path, **{**changes, "exchange__name": "cyclic", "exchange__cycles": 2})
    model, trail = Carried(), ()
    for visit in range(1, 7):
        steps = steps_of_visit(play.settings, (visit - 1) // 3 + 1)
        request = visiting(
            play, visit, steps=steps, model=model, trail=trail, carry=True, release=visit == 6
        )
        answer = play.ask(play.names[(visit - 1) % 3], Kind.VISIT, request)
        reply = VisitReply.read(answer.records)
        model, trail = reply.model, (*trail, reply.model.header)
    assert reply.released
    request = visiting(play, 7, model=model, trail=trail)
    again = VisitReply.read(play.ask("hospital-00", Kind.RELEASE_CARRIED, request).records)
    for name, tensor in reply.released.items():
        assert np.array_equal(tensor, again.released[name])


def test_every_member_of_an_ensemble_is_trained_and_released_at_home(tmp_path: Path) -> None:
    play = started(tmp_path, **{**LOCAL, "exchange__name": "ensemble"})
    for visit, name in enumerate(play.names, start=1):
        request = visiting(play, visit, steps=3, release=True)
        assert VisitReply.read(play.ask(name, Kind.VISIT, request).records).released


def test_the_model_leaves_on_the_way_two_rounds_after_its_last_sum(tmp_path: Path) -> None:
    play = started(tmp_path, training__rounds=5, run__snapshot_every=1)
    for round in range(1, 5):
        replies = play.train(round, release_from="hospital-01", snapshot_from="hospital-02")
        play.close(round)
        assert replies["hospital-01"].model_round == max(round - 2, 0)
        assert replies["hospital-02"].snapshot_round == max(round - 2, 0)
        assert not replies["hospital-00"].model and not replies["hospital-00"].snapshot


def test_a_hospital_that_was_away_comes_back_with_a_snapshot(tmp_path: Path) -> None:
    play = started(tmp_path, training__rounds=6, run__snapshot_every=1)
    here = ["hospital-00", "hospital-01"]
    for round in range(1, 6):
        replies = play.train(round, names=here, snapshot_from="hospital-01")
        play.close(round)
    snapshot = replies["hospital-01"].snapshot
    assert replies["hospital-01"].snapshot_round == 3
    opened = {n: Roster.from_bytes(one.roster).digest(one.total) for n, one in play.closed.items()}
    closed = {n: play.closed[n] for n in (4, 5)}
    play.train(6, names=here)
    answer = play.ask("hospital-02", Kind.TRAIN, play.request(6))
    assert answer.code == "behind:0"
    request = play.request(6, closed=closed, snapshot=snapshot, opened=opened)
    play.replies[6, 1]["hospital-02"] = play.ask("hospital-02", Kind.TRAIN, request).round
    play.close(6)
    headers = play.confirm(6)
    models = [play.release(name, headers).round.model for name in play.names]
    for key, tensor in models[0].items():
        assert np.array_equal(tensor, models[2][key])


def test_one_process_for_all_messages_ends_with_the_same_model(tmp_path: Path) -> None:
    models = []
    for kept in (False, True):
        play = started(tmp_path / str(kept))
        if kept:
            for name in play.names:
                play.sites.keep(name)
        play.run()
        models.append(play.release("hospital-00", play.confirm(3)).round.model)
        play.sites.close()
    for key, tensor in models[0].items():
        assert np.array_equal(tensor, models[1][key])
