"""What leaves of a model is its parameters, and of test records nothing unless these are public."""

from __future__ import annotations

from pathlib import Path

import pytest

from clients.contract.kinds import Kind
from clients.contract.messages import METRICS
from clients.models import build_model
from tests.door.world import COHORTS, EXACT, Play, Sites, door_settings, started

pytestmark = pytest.mark.filterwarnings("ignore:Full backward hook is firing:UserWarning")

A = "hospital-00"
PRIVATE = {"data": {"name": "breast-cancer", "public": False}}


def private(folder: Path, **changes: object) -> Play:
    play = Play.of(Sites(folder / "c", 3, **PRIVATE), door_settings(**changes, data__public=False))
    play.begin()
    return play


def test_released_names_are_those_of_the_parameters(tmp_path: Path) -> None:
    play = started(tmp_path, model__name="mlp")
    play.run()
    model = play.release(A, play.confirm(3)).round.model
    settings = play.settings
    module = build_model(settings, COHORTS.of(settings).info, settings.public_seed)
    assert set(model) == {name for name, _ in module.named_parameters()}


def test_an_exact_model_leaves_only_when_it_was_confirmed(tmp_path: Path) -> None:
    play = private(tmp_path, **EXACT, training__rounds=4)
    for round in range(1, 5):
        replies = play.train(round, release_from=A)
        play.close(round)
        assert not replies[A].model
    headers = play.confirm(4)
    assert play.release(A, headers).round.model_round == 4
    # The control: with noise it leaves on the way.
    noisy = private(tmp_path / "noisy", training__rounds=4)
    for round in range(1, 4):
        replies = noisy.train(round, release_from=A)
        noisy.close(round)
    assert replies[A].model_round == 1


def test_figures_of_private_records_are_not_given_whatever_the_run_says(tmp_path: Path) -> None:
    sites = Sites(tmp_path / "c", 3, **PRIVATE)
    for declared in (False, True):
        play = Play.of(sites, door_settings(data__public=declared))
        play.begin()
        play.run(1)
        request = play.request(2)
        before = sites.book_bytes(A)
        assert play.ask(A, Kind.EVALUATE, request).code == "not-public"
        assert sites.book_bytes(A) == before
    public = started(tmp_path / "public")
    public.run(2)
    answer = public.ask(A, Kind.EVALUATE, public.request(2))
    assert answer.records.metric_records[METRICS]["num-examples"] == 1


def test_seconds_of_a_hospital_do_not_leave_where_data_are_private(tmp_path: Path) -> None:
    play = private(tmp_path)
    assert play.ask(A, Kind.TRAIN, play.request(1)).round.phases == {}
    public = started(tmp_path / "public")
    assert public.ask(A, Kind.TRAIN, public.request(1)).round.phases


def test_an_evaluation_opens_nothing(tmp_path: Path) -> None:
    play = started(tmp_path)
    play.run(2)
    before = play.sites.book_bytes(A)
    request = play.request(3, closed={2: play.closed[2]})
    play.ask(A, Kind.EVALUATE, request)
    assert play.sites.book_bytes(A) == before
