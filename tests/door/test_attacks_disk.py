"""A full disk, or a process that dies at any moment, loses no event and gives no second answer."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest

from clients.contract.ceremony_messages import LeadReply
from clients.contract.kinds import Kind
from tests.door.faults import Killed, failing, full
from tests.door.sites import Answer, Sites
from tests.door.world import Play, door_settings, started

pytestmark = pytest.mark.filterwarnings("ignore:Full backward hook is firing:UserWarning")

A, B, C = "hospital-00", "hospital-01", "hospital-02"


def sealed(play: Play, name: str) -> list[tuple[int, int]]:
    return [
        (int(line["round"]), int(line["attempt"]))
        for line in play.sites.lines(name)
        if line["kind"] == "seal"
    ]


@pytest.mark.parametrize("after", [False, True])
def test_a_full_disk_gives_no_answer_without_its_line_and_one_word(
    tmp_path: Path, after: bool
) -> None:
    play = started(tmp_path, privacy__spare_attempts=100)
    play.train(1)
    play.close(1)
    number, attempt, answer = 0, 0, Answer()
    while not answer:
        attempt += 1
        with failing(number, full, after=after) as done:
            answer = play.ask(A, Kind.TRAIN, play.request(2, attempt))
        assert answer or answer.code == "disk-full"
        # Whatever is left on the disk can be read, and nothing was answered without its line.
        assert ((2, attempt) in sealed(play, A)) or not answer
        number += 1
    assert number > 6 and len(done) <= number
    spends = [line for line in play.sites.lines(A) if line["kind"] == "spend"]
    assert len(spends) >= 2
    play.close(1)
    for name in (B, C):
        play.train(2, attempt, names=[name])
    play.replies[2, attempt][A] = answer.round
    play.close(2, attempt)
    play.run(first=3)
    assert play.release(A, play.confirm(3)).round.model


def test_a_log_that_cannot_be_written_changes_no_answer(tmp_path: Path) -> None:
    play = started(tmp_path)
    log = play.sites.folder(A) / "hospital.log"
    log.unlink()
    log.symlink_to("/dev/full")
    assert play.ask(A, Kind.TRAIN, play.request(7)).code == "stale-place"
    assert play.ask(A, Kind.TRAIN, play.request(1))


def test_a_disk_that_is_full_in_the_ceremony_leaves_a_hospital_that_can_join_again(
    tmp_path: Path,
) -> None:
    play = Play.of(Sites(tmp_path / "c"), door_settings())
    for kind in (Kind.JOIN, Kind.LEAD):
        number, answer = 0, Answer()
        while not answer:
            with failing(number, full):
                request = play.joining() if kind is Kind.JOIN else play.leading()
                answer = play.ask(A, kind, request)
            assert answer or answer.code == "disk-full", answer
            number += 1
            assert number < 40
        if kind is Kind.JOIN:
            play.join()
    made = LeadReply.read(answer.records)
    for name in (B, C):
        assert play.ask(name, Kind.KEYS, play.keys_for(name, made))
    play.run()


def hospital_dies(play: Play, round: int, attempt: int, number: int, after: bool) -> bool:
    """Let A die at the n-th thing it does for a place; whether it did."""
    answered = False
    with suppress(Killed), failing(number, Killed, after=after):
        answered = bool(play.ask(A, Kind.TRAIN, play.request(round, attempt)))
    return not answered


@pytest.mark.parametrize(
    "after",
    [
        pytest.param(False, marks=pytest.mark.exhaustive, id="before"),
        pytest.param(True, id="after"),
    ],
)
def test_a_hospital_that_dies_at_any_moment_goes_on_and_answers_each_place_once(
    tmp_path: Path, after: bool
) -> None:
    play = started(tmp_path, training__rounds=40, privacy__spare_attempts=60)
    round, number = 1, 0
    payloads: dict[tuple[int, int], set[bytes]] = {}
    while True:
        attempt = 1
        died = hospital_dies(play, round, attempt, number, after)
        while True:
            answer = play.ask(A, Kind.TRAIN, play.request(round, attempt))
            if answer:
                payloads.setdefault((round, attempt), set()).add(answer.payload)
                break
            assert answer.code == "stale-place", answer
            attempt += 1
        play.train(round, attempt)
        payloads[round, attempt].add(play.ask(A, Kind.TRAIN, play.request(round, attempt)).payload)
        play.close(round, attempt)
        if not died:
            break
        round, number = round + 1, number + 1
    assert number > 8
    assert all(len(found) == 1 for found in payloads.values())
    kinds = play.sites.kinds(A)
    assert kinds.count("spend") >= len(payloads) and kinds.count("seal") >= len(payloads)
    assert kinds.count("close") == round - 1
    assert play.release(A, play.confirm(round)).round.model_round == round


def test_a_hospital_that_dies_while_it_confirms_confirms_again(tmp_path: Path) -> None:
    play = started(tmp_path, training__rounds=1)
    play.run()
    number, died = 0, True
    while died:
        with suppress(Killed), failing(number, Killed) as done:
            died = not play.ask(A, Kind.CONFIRM, play.confirming(1))
        died = len(done) > number
        number += 1
    assert play.release(A, play.confirm(1)).round.model
    kinds = play.sites.kinds(A)
    assert kinds.count("close") == kinds.count("end") == 1
