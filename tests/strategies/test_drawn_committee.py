"""A committee of holders that all hospitals draw together, in the ceremony of a real training."""

from __future__ import annotations

from pathlib import Path

import pytest
from flwr.app import Message

from clients.contract.ceremony_messages import Revealed, RevealRequest
from clients.contract.kinds import Kind
from crypto import one_time_plans, planning, thresholds
from strategies.errors import TrainingStopped
from strategies.run.journal import Journal
from tests.door.sites import Sites
from tests.door.world import Play, door_settings
from tests.in_process import Meddle, hospital_of
from tests.strategies.test_shared_keys import SHARED, UPDATE, run, same_model

pytestmark = pytest.mark.filterwarnings("ignore:Full backward hook is firing:UserWarning")

#: Four of five hold shares, and all four must answer.
DRAWN: dict[str, object] = {"sealing__silent_holders": 0}
NAMES = [f"hospital-{k:02}" for k in range(5)]


@pytest.fixture
def four_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (thresholds, planning, one_time_plans):
        monkeypatch.setattr(module, "MOST_HOLDERS", 4)


@pytest.mark.usefixtures("four_hold")
def test_a_drawn_committee_opens_the_sums_of_modular(tmp_path: Path) -> None:
    same_model(tmp_path, {}, **DRAWN)
    kept = Journal(tmp_path / "shared" / "server").read()
    assert kept is not None and len(kept.committee) == 4
    assert set(kept.committee) < set(NAMES)


@pytest.mark.exhaustive
def test_twenty_of_more_hospitals_hold_shares(tmp_path: Path) -> None:
    plan = {1: {"hospital-20": UPDATE}, 2: {"hospital-03": UPDATE}}
    same_model(tmp_path, plan, partition__hospitals=21)


def meddling(liar: str, reveal: bytes | None) -> Meddle:
    def meddle(message: Message, reply: Message | None) -> Message | None:
        mine = message.metadata.message_type == Kind.REVEAL and hospital_of(message) == liar
        if reply is None or not mine:
            return reply or message
        if reveal is None:
            return None
        return Message(Revealed(name=liar, reveal=reveal).content(), reply_to=message)

    return meddle


@pytest.mark.usefixtures("four_hold")
@pytest.mark.parametrize(
    "reveal",
    [
        pytest.param(None, id="silent", marks=pytest.mark.exhaustive),
        pytest.param(bytes(32), id="another"),
        pytest.param(b"x", id="short", marks=pytest.mark.exhaustive),
    ],
)
def test_who_does_not_show_its_number_ends_the_ceremony_and_is_named(
    tmp_path: Path, reveal: bytes | None
) -> None:
    with pytest.raises(TrainingStopped, match=r"not drawn.*hospital-03: "):
        run(tmp_path, meddling("hospital-03", reveal), **DRAWN)


@pytest.mark.usefixtures("four_hold")
def test_a_number_is_shown_to_the_members_that_it_was_bound_to_alone(tmp_path: Path) -> None:
    """A server that has seen all numbers and asks again with another offer hears nothing."""
    changes = {**SHARED, **DRAWN}
    changes.pop("partition__hospitals")
    play = Play.of(Sites(tmp_path / "c", 5), door_settings(5, **changes))
    play.join()
    request = play.revealing()
    shown = [Revealed.read(play.ask(n, Kind.REVEAL, request).records).reveal for n in play.names]
    again = play.ask(NAMES[0], Kind.REVEAL, request)
    assert Revealed.read(again.records).reveal == shown[0]
    other = Sites(tmp_path / "d", 5)
    stranger = Play.of(other, play.settings, play.agreement)
    stranger.join([NAMES[4]])
    swapped = (*request.offers[:4], stranger.offers[NAMES[4]])
    asked = RevealRequest(
        training=request.training,
        bind=request.bind,
        noise_multiplier=request.noise_multiplier,
        offers=swapped,
    )
    assert play.ask(NAMES[0], Kind.REVEAL, asked).code == "training-bound"
    # Keys come with all of the numbers, or not at all.
    assert play.ask(NAMES[0], Kind.LEAD, play.leading()).code == "malformed"
    wrong = tuple([*shown[:4], bytes(32)])
    assert play.ask(NAMES[0], Kind.LEAD, play.leading(reveals=wrong)).code == "malformed"
    assert play.ask(NAMES[0], Kind.LEAD, play.leading(reveals=tuple(shown)))


def test_numbers_are_shown_in_no_other_training(tmp_path: Path) -> None:
    play = Play.of(Sites(tmp_path / "c", 3), door_settings(3))
    play.join()
    assert play.ask(NAMES[0], Kind.REVEAL, play.revealing()).code == "wrong-exchange"


def test_a_committee_of_strangers_ends_the_ceremony_with_the_names_that_there_are(
    tmp_path: Path,
) -> None:
    with pytest.raises(TrainingStopped, match=r"names elsewhere, .*hospital-00, hospital-01"):
        run(tmp_path, sealing__committee="hospital-00,elsewhere", **DRAWN)
