"""Attacks by a member that calls its own data public, on what leaves of everybody's records."""

from __future__ import annotations

from pathlib import Path

import pytest

from clients.contract.kinds import Kind
from clients.contract.schedule import steps_of_visit
from clients.contract.visit_messages import VisitReply, VisitRequest
from tests.door.sites import Answer, Sites
from tests.door.test_attacks_visits import CYCLIC, PRIVATE
from tests.door.world import EXACT, Play, door_settings

pytestmark = pytest.mark.filterwarnings("ignore:Full backward hook is firing:UserWarning")

OPEN = "hospital-00"
CLOSED = ("hospital-01", "hospital-02")


def play_of(folder: Path, *public: str, **changes: object) -> Play:
    """Three sites of which some say that their data are a public benchmark."""
    sites = Sites(folder / "c", 3, **PRIVATE)
    for name in public:
        sites.rewrite(name, "public = false", "public = true")
    play = Play.of(sites, door_settings(**{"data__public": False, **changes}))
    play.begin()
    return play


def on_the_way(play: Play) -> Answer:
    play.run(2)
    return play.ask(OPEN, Kind.TRAIN, play.request(3, release_from=OPEN))


def asked_to_release(play: Play) -> Answer:
    """The first visiting model, from the hands of the site that says it is public."""
    request = VisitRequest(
        training=play.training,
        bind=play.bind,
        round=1,
        steps=steps_of_visit(play.settings, 1),
        carry=True,
    )
    made = VisitReply.read(play.ask("hospital-01", Kind.VISIT, request).records)
    request = VisitRequest(
        training=play.training,
        bind=play.bind,
        round=2,
        model=made.model,
        trail=(made.model.header,),
    )
    return play.ask(OPEN, Kind.RELEASE_CARRIED, request)


def test_an_exact_model_leaves_on_the_way_where_all_members_are_public(tmp_path: Path) -> None:
    left = on_the_way(play_of(tmp_path / "one", OPEN, **EXACT, training__rounds=5)).round
    assert not left.model, f"the exact model after round {left.model_round} of 5"
    all_public = play_of(tmp_path / "all", OPEN, *CLOSED, **EXACT, training__rounds=5)
    assert on_the_way(all_public).round.model


def test_an_exact_visiting_model_is_released_where_all_members_are_public(tmp_path: Path) -> None:
    assert asked_to_release(play_of(tmp_path / "one", OPEN, **CYCLIC)).code == "release-refused"
    assert asked_to_release(play_of(tmp_path / "all", OPEN, *CLOSED, **CYCLIC))


def test_what_a_run_says_of_the_data_decides_nothing(tmp_path: Path) -> None:
    """No terms hold it: each hospital says it for itself, in the offers that all are bound to."""
    says = {"data__public": True}
    play = play_of(tmp_path / "one", OPEN, **EXACT, **says, training__rounds=5)
    assert not on_the_way(play).round.model
    assert not play.replies[1, 1]["hospital-01"].phases
    assert play.ask("hospital-01", Kind.EVALUATE, play.releasing(())).code == "not-public"
    assert (
        asked_to_release(play_of(tmp_path / "visits", OPEN, **CYCLIC, **says)).code
        == "release-refused"
    )
    open_all = play_of(tmp_path / "all", OPEN, *CLOSED, **EXACT, training__rounds=5)
    assert on_the_way(open_all).round.model, "and a run that says nothing forbids nothing"


def test_a_site_becomes_public_for_no_training_under_way(tmp_path: Path) -> None:
    play = play_of(tmp_path, **EXACT, training__rounds=5)
    play.run(2)
    play.sites.rewrite(OPEN, "public = false", "public = true")
    left = play.ask(OPEN, Kind.TRAIN, play.request(3, release_from=OPEN))
    assert left.code == "training-bound"


def test_a_declaration_is_as_old_as_the_offer_that_others_saw(tmp_path: Path) -> None:
    sites = Sites(tmp_path / "c", 3, **PRIVATE)
    play = Play.of(sites, door_settings(data__public=False, **EXACT))
    play.join()
    sites.rewrite(OPEN, "public = false", "public = true")
    assert play.ask(OPEN, Kind.LEAD, play.leading()).code == "keys-missing"
    play.join([OPEN])  # it offers anew, and what it says now is seen by all
    assert play.lead(OPEN)


def test_no_figures_of_two_sums_of_a_round_leave(tmp_path: Path) -> None:
    """FSCDP; two sites are public, each has opened another sum, nobody has confirmed either."""
    play = play_of(tmp_path, OPEN, "hospital-01")
    play.train(1)
    one, other = play.sum(1, 1, play.names), play.sum(1, 1, (OPEN, "hospital-01"))
    for name, total in ((OPEN, one), ("hospital-01", other)):
        play.ask(name, Kind.TRAIN, play.request(2, closed={1: total}))
        assert not play.ask(name, Kind.EVALUATE, play.releasing(()))
