"""Shares of the key of one sum leave for one roster of a place, once and for ever."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from accounting import states
from accounting.lines import Line
from clients.contract.faults import read_code
from clients.contract.kinds import Kind
from clients.contract.messages import OpenedRound
from crypto.errors import KeysError
from crypto.pairs import PairKeys
from crypto.parcels import Parcel
from crypto.roles import Place
from tests.door.faults import Killed, failing, full
from tests.door.shared_play import SHARED, THRESHOLD, SharedPlay
from tests.door.test_attacks_messages import mutated
from tests.door.world import door_settings, started

pytestmark = pytest.mark.filterwarnings("ignore:Full backward hook is firing:UserWarning")

A, B, E = "hospital-00", "hospital-01", "hospital-04"
ALL = [f"hospital-{k:02}" for k in range(5)]


def test_rounds_open_with_enough_answers_to_one_roster_and_no_others(tmp_path: Path) -> None:
    shared = SharedPlay.started(tmp_path)
    play = shared.play
    play.train(1)
    shared.close(1, members=ALL[1:], holders=ALL[:THRESHOLD])
    closed = play.closed[1]
    few = {name: closed.answers[name] for name in ALL[: THRESHOLD - 1]}
    swapped = dict(zip(closed.answers, reversed(closed.answers.values()), strict=True))
    for answers in ({}, few, swapped):
        bad = OpenedRound(total=closed.total, roster=closed.roster, answers=answers)
        assert play.ask(E, Kind.TRAIN, play.request(2, closed={1: bad})).code == "opening-refused"
    # A failed opening may be tried again with the same total: here with what was left out of it.
    play.train(2)
    shared.close(2)
    play.train(3)
    shared.close(3)
    assert play.release(A, play.confirm(3)).round.model


def test_a_holder_answers_one_roster_of_a_place_for_ever(tmp_path: Path) -> None:
    shared = SharedPlay.started(tmp_path)
    shared.play.train(1)
    first = shared.ask(A, 1, members=ALL[1:])
    assert shared.ask(A, 1, members=ALL[1:]).payload == first.payload
    assert shared.ask(A, 1, members=ALL[:4]).code == "stale-place"
    assert shared.ask(A, 1).code == "stale-place"
    # Nor when the answer itself is lost: what it was for stands in the book.
    for kept in shared.play.sites.folder(A).glob("reply-*answer*"):
        kept.unlink()
    assert shared.ask(A, 1).code == "stale-place"
    assert shared.ask(A, 1, members=ALL[1:])
    assert shared.answered(A) == [(1, 1, shared.roster(1, members=ALL[1:]).fingerprint)]


def test_a_holder_opens_no_other_roster_than_it_answered(tmp_path: Path) -> None:
    shared = SharedPlay.started(tmp_path)
    play = shared.play
    play.train(1)
    assert shared.ask(A, 1, members=ALL[:4])
    shared.close(1, members=ALL[1:], holders=ALL[1:])
    assert play.ask(A, Kind.TRAIN, play.request(2)).code == "opening-refused"
    # The control: the others answered this one, and open it.
    assert play.ask(B, Kind.TRAIN, play.request(2))


def test_an_answer_without_an_update_gives_the_place_up(tmp_path: Path) -> None:
    shared = SharedPlay.started(tmp_path)
    play = shared.play
    play.train(1, names=ALL[1:])
    assert shared.ask(A, 1)
    assert play.ask(A, Kind.TRAIN, play.request(1)).code == "stale-place"
    assert "spend" not in play.sites.kinds(A)
    shared.close(1, holders=ALL)
    assert play.ask(A, Kind.TRAIN, play.request(2))


def test_a_place_that_is_over_is_answered_no_more(tmp_path: Path) -> None:
    shared = SharedPlay.started(tmp_path)
    play = shared.play
    play.train(1)
    play.train(1, 2)
    assert shared.ask(A, 1).code == "stale-place"
    shared.close(1, 2)
    assert play.ask(A, Kind.TRAIN, play.request(2))
    for attempt in (1, 2):
        assert shared.ask(A, 1, attempt).code == "stale-place"
    later = replace(shared.request(A, 1, 2), round=2, attempt=2)
    assert play.ask(A, Kind.ANSWER, later).code == "malformed"
    assert [place[:2] for place in shared.answered(A)] == [(1, 2)]


def test_a_roster_is_answered_by_its_own_signatures_alone(tmp_path: Path) -> None:
    shared = SharedPlay.started(tmp_path)
    play = shared.play
    play.train(1)
    play.train(1, 2)
    small = play.sum(1, 2, ALL[:3]).roster
    early = play.sum(1, 1, ALL).roster
    for roster in (b"", b"junk", small, early, shared.request(A, 1, 2).roster[:-1]):
        assert shared.ask(A, 1, 2, roster=roster).code == "malformed"
    good = shared.request(A, 1, 2)
    dealer = next(iter(good.parcels))
    parcel = Parcel.from_bytes(good.parcels[dealer])
    other = Parcel(payload="00" * 32, envelopes=parcel.envelopes).to_bytes()
    for parcels in ({dealer: other}, {dealer: b"junk"}, {"stranger": good.parcels[dealer]}):
        asked = shared.ask(A, 1, 2, parcels={**good.parcels, **parcels})
        assert asked.code == "malformed", parcels
    assert shared.answered(A) == []


def test_shares_that_are_none_are_named_by_whose_fault_it_is(tmp_path: Path) -> None:
    shared = SharedPlay.started(tmp_path)
    play = shared.play
    play.train(1)
    good = shared.request(A, 1)
    dealer = next(iter(good.envelopes))
    # The server's: it brings none, another's, a changed one.
    for envelope in (b"", bytes(len(good.envelopes[dealer]))):
        asked = shared.ask(A, 1, envelopes={**good.envelopes, dealer: envelope})
        assert asked.code == "share-refused:0"
    assert shared.ask(A, 1, parcels={}).code == "share-refused:0"
    # The attempt is not lost by it: nothing was answered yet.
    assert shared.answered(A) == []
    assert shared.ask(A, 1)


def test_shares_of_other_keys_are_asked_for_in_vain(tmp_path: Path) -> None:
    play = started(tmp_path, sealing__scheme="one-time", privacy__dropouts=0)
    play.train(1)
    shared = SharedPlay.__new__(SharedPlay)
    shared.play = play
    assert shared.ask(A, 1).code == "wrong-exchange"


def test_a_folder_put_back_to_before_its_update_finds_its_own_signature(tmp_path: Path) -> None:
    """It seals the place again, and answers no roster with what it signed before."""
    shared = SharedPlay.started(tmp_path)
    play = shared.play
    folder, backup = play.sites.folder(A), tmp_path / "backup"
    shutil.copytree(folder, backup)
    first = play.train(1)[A]
    shutil.rmtree(folder)
    shutil.copytree(backup, folder)
    play.replies[1, 1][A] = first
    asked = shared.ask(A, 1)
    assert asked.code == "ledger-behind"


def test_a_folder_put_back_to_before_its_answer_answers_again(tmp_path: Path) -> None:
    """It cannot know: such a holder counts among the colluders that keys in shares hold against."""
    shared = SharedPlay.started(tmp_path)
    play = shared.play
    play.train(1)
    folder, backup = play.sites.folder(A), tmp_path / "backup"
    shutil.copytree(folder, backup)
    assert shared.ask(A, 1)
    for path in folder.iterdir():
        path.unlink()
    for path in backup.iterdir():
        shutil.copy2(path, folder / path.name)
    answer = shared.ask(A, 1, members=ALL[1:])
    assert answer or answer.code == "ledger-behind"
    plan = play.agreement.terms.sealing
    assert plan.sharing is not None and plan.sharing.most_colluders(plan.hospitals) >= 1


def test_envelopes_of_a_round_that_is_over_are_shut_for_who_steals_the_folder(
    tmp_path: Path,
) -> None:
    shared = SharedPlay.started(tmp_path)
    play = shared.play
    play.train(1)
    path = play.sites.folder(A) / f"pairs-{play.training}.bin"
    dealer = next(iter(shared.request(A, 1).envelopes))
    place = Place(training=play.training, round=1, attempt=1)
    # The control: before the round is over the folder opens what was recorded.
    assert PairKeys.from_bytes(path.read_bytes()).key(dealer, b"asclepias envelope 1", place)
    shared.close(1)
    play.train(2)
    with pytest.raises(KeysError, match="gone"):
        PairKeys.from_bytes(path.read_bytes()).key(dealer, b"asclepias envelope 1", place)


@pytest.mark.parametrize(
    ("error", "after"),
    [
        pytest.param(Killed, False, id="dies before", marks=pytest.mark.exhaustive),
        pytest.param(Killed, True, id="dies after"),
        pytest.param(full, False, id="full", marks=pytest.mark.exhaustive),
        pytest.param(full, True, id="full after", marks=pytest.mark.exhaustive),
    ],
)
def test_a_holder_that_dies_or_has_no_room_at_any_moment_answers_one_roster(
    tmp_path: Path, error: Callable[[], BaseException], after: bool
) -> None:
    shared = SharedPlay.started(tmp_path, training__rounds=20, privacy__spare_attempts=60)
    play, attempt = shared.play, 0
    number, done = 0, list[str]()
    while number <= len(done):
        attempt += 1
        play.train(1, attempt)
        with suppress(Killed), failing(number, error, after=after) as done:
            asked = shared.ask(A, 1, attempt)
            assert asked or asked.code == "disk-full"
        written = bool(shared.answered(A)) and shared.answered(A)[-1][1] == attempt
        other = shared.ask(A, 1, attempt, members=ALL[:4])
        assert (other.code == "stale-place") if written else bool(other)
        members = ALL if written else ALL[:4]
        again = shared.ask(A, 1, attempt, members=members)
        assert again and again.payload == shared.ask(A, 1, attempt, members=members).payload
        number += 1
    assert number > 3
    rosters = shared.answered(A)
    assert len({place[:2] for place in rosters}) == len(rosters) == attempt
    shared.close(1, attempt, members=members, holders=[n for n in ALL if n != E])
    assert play.ask(A, Kind.TRAIN, play.request(2))


@pytest.mark.exhaustive
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("error", [Killed, full], ids=["dies", "full"])
def test_a_hospital_that_dies_or_has_no_room_at_any_moment_of_a_round_goes_on(
    tmp_path: Path, error: Callable[[], BaseException], after: bool
) -> None:
    """Opening, closing, spending and sealing, each before and after it is on the disk."""
    shared = SharedPlay.started(tmp_path, training__rounds=40, privacy__spare_attempts=60)
    play, round, number, died = shared.play, 1, 0, True
    while died:
        attempt, answer = 1, None
        died = False
        with suppress(Killed), failing(number, error, after=after) as done:
            answer = play.ask(A, Kind.TRAIN, play.request(round, attempt))
            assert answer or answer.code == "disk-full"
        died = len(done) > number
        while not (answer := play.ask(A, Kind.TRAIN, play.request(round, attempt))):
            assert answer.code == "stale-place", answer
            attempt += 1
        play.train(round, attempt)
        assert play.ask(A, Kind.TRAIN, play.request(round, attempt)).payload == answer.payload
        shared.close(round, attempt)
        round, number = round + 1, number + 1
    assert number > 8
    kinds = play.sites.kinds(A)
    assert kinds.count("answer") == round - 1
    places = [place[:2] for place in shared.answered(A)]
    assert places == sorted(set(places))


def test_a_hospital_takes_part_only_where_keys_hold_against_as_many_as_it_asks_for(
    tmp_path: Path,
) -> None:
    """Five hospitals of whom one may be missing: shares hold against the server and one of them."""
    play = SharedPlay.started(tmp_path).play
    play.sites.rewrite(A, "min-colluders = 0", "min-colluders = 2")
    assert play.ask(A, Kind.TRAIN, play.request(1)).code == "limit-refused:min-colluders"
    assert "spend" not in play.sites.kinds(A)
    play.sites.rewrite(A, "min-colluders = 2", "min-colluders = 1")
    assert play.ask(A, Kind.TRAIN, play.request(1))
    # The control: one key that all hold is held against no hospital.
    other = started(tmp_path / "other")
    other.sites.rewrite(A, "min-colluders = 0", "min-colluders = 1")
    assert other.ask(A, Kind.TRAIN, other.request(1)).code == "limit-refused:min-colluders"


def test_a_place_is_asked_in_one_mode_alone(tmp_path: Path) -> None:
    """Of masked keys and of shares a sum each: the rest would be the key of who is missing."""
    shared = SharedPlay.started(tmp_path)
    play = shared.play
    play.train(1)
    full = door_settings(5, **{**SHARED, "privacy__dropouts": 0})
    for kind, request in ((Kind.TRAIN, play.request(1, 2)), (Kind.ANSWER, shared.request(A, 1))):
        assert play.sites.ask(A, kind, request, full).code == "training-bound"
    assert play.sites.kinds(A).count("spend") == 1


@pytest.mark.parametrize("count", [40, pytest.param(3000, marks=pytest.mark.exhaustive)])
def test_mutated_requests_for_shares_get_a_code_or_the_one_answer(
    tmp_path: Path, count: int
) -> None:
    shared = SharedPlay.started(tmp_path)
    play, draw = shared.play, random.Random(3)
    play.train(1)
    play.sites.keep(A)
    good, left = shared.request(A, 1).content(), set()
    for _ in range(count):
        answer = play.ask(A, Kind.ANSWER, mutated(good, draw))
        assert answer or read_code(answer.code) is not None
        if answer:
            left.add(answer.payload)
    assert len(left) <= 1
    assert len(shared.answered(A)) == len(left)
    assert shared.ask(A, 1)
    play.sites.close()


def test_a_lost_answer_is_sent_again_and_costs_nothing(tmp_path: Path) -> None:
    shared = SharedPlay.started(tmp_path)
    shared.play.train(1)
    spent = shared.play.sites.kinds(A).count("spend")
    answers = {shared.ask(A, 1).payload for _ in range(3)}
    assert len(answers) == 1
    assert shared.play.sites.kinds(A).count("spend") == spent == 1


def test_a_dealer_that_signs_an_envelope_of_nothing_is_numbered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from crypto import one_time

    shared = SharedPlay.started(tmp_path)
    play, deal = shared.play, one_time.deal
    play.train(1, names=[name for name in ALL if name != B])
    monkeypatch.setattr(
        one_time, "deal", lambda *about: {h: bytes(len(e)) for h, e in deal(*about).items()}
    )
    play.train(1, names=[B])
    monkeypatch.undo()
    holder = next(iter(play.replies[1, 1][B].envelopes))
    assert shared.ask(holder, 1).code == "share-refused:2"
    # The holder may answer the roster that lacks it.
    assert shared.ask(holder, 1, members=[name for name in ALL if name != B])


def ask_in_any_order(folder: Path, seed: int) -> None:
    """Updates, shares and sums that do not open, of three attempts; a new process each time."""
    shared = SharedPlay.started(folder, privacy__spare_attempts=6)
    play, draw = shared.play, random.Random(seed)
    for attempt in (1, 2, 3):
        play.train(1, attempt, names=ALL[1:])
    given: dict[int, set[frozenset[str]]] = {}
    for step in range(24):
        attempt = 1 + step // 8 if draw.random() < 0.8 else draw.choice((1, 2, 3))
        if draw.random() < (0.6 if step % 8 == 0 else 0.15):
            answer = play.ask(A, Kind.TRAIN, play.request(1, attempt))
            if answer:
                play.replies[1, attempt][A] = answer.round
            continue
        if draw.random() < 0.2:
            for kept in play.sites.folder(A).glob("reply-*answer*"):
                kept.unlink()
        there = sorted(play.replies[1, attempt])
        if draw.random() < 0.15:
            unanswered = play.sum(1, attempt, there)
            assert not play.ask(A, Kind.TRAIN, play.request(2, closed={1: unanswered}))
            continue
        members = draw.sample(there, draw.choice((4, len(there))))
        if shared.ask(A, 1, attempt, members=members):
            given.setdefault(attempt, set()).add(frozenset(members))
    assert given and all(len(rosters) == 1 for rosters in given.values())
    assert "close" not in play.sites.kinds(A)
    lines = [(one["kind"], one.get("attempt")) for one in play.sites.lines(A)]
    for attempt in given:
        later = lines[lines.index(("answer", attempt)) :]
        assert ("seal", attempt) not in later and ("spend", attempt) not in later


@pytest.mark.parametrize(
    "seed", [3, *(pytest.param(n, marks=pytest.mark.exhaustive) for n in range(4, 14))]
)
def test_whatever_is_asked_in_whatever_order_one_roster_a_place_is_answered(
    tmp_path: Path, seed: int
) -> None:
    ask_in_any_order(tmp_path, seed)


@pytest.mark.exhaustive
def test_a_book_that_forgot_what_was_answered_is_found_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control: a hospital that takes every roster for the first."""

    def forgetful(state: states.TrainingState, line: Line) -> states.TrainingState:
        place = (line.whole("round"), line.whole("attempt"))
        return state._replace(phase=states.Phase.ANSWERED, place=place, roster=line.text("roster"))

    monkeypatch.setitem(states._MOVES, "answer", forgetful)
    for seed in (3, 4):
        with pytest.raises(AssertionError):
            ask_in_any_order(tmp_path / str(seed), seed)
