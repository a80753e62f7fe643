"""A place has one message, paid for once: asked again, the same bytes come."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from clients.contract.kinds import Kind
from clients.contract.messages import OpenedRound, RoundReply
from tests.door.split_play import LAYERS, SplitPlay
from tests.door.world import LOCAL, Play, started

pytestmark = pytest.mark.filterwarnings("ignore:Full backward hook is firing:UserWarning")

A = "hospital-00"


@pytest.mark.parametrize("seed", [7, -1], ids=["seeded", "unseeded"])
def test_a_place_asked_twice_gives_equal_bytes_and_costs_once(tmp_path: Path, seed: int) -> None:
    play = started(tmp_path, **LOCAL, run__seed=seed)
    first = play.ask(A, Kind.TRAIN, play.request(1))
    again = [play.ask(A, Kind.TRAIN, play.request(1)) for _ in range(3)]
    # Whatever else the request holds is not read.
    changed = play.request(1, release_from=A, snapshot=b"junk", opened={1: "junk"})
    again.append(play.ask(A, Kind.TRAIN, changed))
    assert {one.payload for one in again} == {first.payload}
    assert play.sites.kinds(A).count("spend") == play.sites.kinds(A).count("seal") == 1
    # The control: at a new attempt, which is paid for, other noise of the same size comes.
    other = play.ask(A, Kind.TRAIN, play.request(1, 2))
    assert play.sites.kinds(A).count("spend") == 2
    assert other.payload != first.payload


def test_two_answers_of_a_place_cannot_be_told_from_one_in_a_forged_sum(tmp_path: Path) -> None:
    """What a difference of two answers would be worth is nothing: it is zero."""
    play = started(tmp_path, **LOCAL)
    play.train(1)
    first = play.update(A, 1)
    play.train(1, names=[A])
    assert np.array_equal(play.update(A, 1), first)


def test_a_place_that_has_passed_is_not_answered_again(tmp_path: Path) -> None:
    play = started(tmp_path)
    play.train(1)
    play.train(1, 2)
    lines = len(play.sites.lines(A))
    assert play.ask(A, Kind.TRAIN, play.request(1)).code == "stale-place"
    play.close(1, 2)
    play.train(2)
    assert play.ask(A, Kind.TRAIN, play.request(1, 3)).code == "stale-place"
    assert play.ask(A, Kind.TRAIN, play.request(2)).payload
    assert len(play.sites.lines(A)) == lines + 4  # commit, close, spend, seal of round 2


def test_turns_of_a_pass_are_one_receipt_however_often_they_are_asked_for(tmp_path: Path) -> None:
    play = started(tmp_path, **LAYERS)
    split = SplitPlay(play)
    play.sites.keep(A)
    seen = set()
    for number in range(400):
        answer = split.forward(A, 1, (1, 0)[number % 2])
        if number % 2:
            assert answer.code == "malformed"
        else:
            seen.add(answer.payload)
    assert len(seen) == 1
    kinds = play.sites.kinds(A)
    assert kinds.count("spend") == 1 and kinds.count("show") == 1
    for turn in (split.head, split.backward):
        assert len({turn(A, 1).payload for _ in range(20)}) == 1
    kinds = play.sites.kinds(A)
    assert (kinds.count("spend"), kinds.count("show"), kinds.count("seal")) == (1, 2, 1)
    play.sites.close()


def test_turns_come_in_order_and_none_twice(tmp_path: Path) -> None:
    play = started(tmp_path, **LAYERS)
    split = SplitPlay(play)
    width = np.zeros((1, 1), dtype=np.float32)
    for kind in (Kind.HEAD, Kind.BACKWARD):
        request = split.turn(1, features=width, activation_gradients=width)
        assert play.ask(A, kind, request).code == "stale-place"
    assert split.forward(A, 1)
    assert split.head(A, 1)
    for round, attempt in ((1, 2), (2, 1)):
        request = split.turn(round, attempt, features=width)
        assert play.ask(A, Kind.HEAD, request).code == "stale-place"
    assert split.backward(A, 1)
    # A later attempt of the round begins anew and is paid for by itself: three messages more.
    assert split.forward(A, 1, 2)
    spends = [line for line in play.sites.lines(A) if line["kind"] == "spend"]
    assert [line["uses"] for line in spends] == [6, 3]


def replies(play: Play, name: str = A) -> list[str]:
    return sorted(path.name for path in play.sites.folder(name).glob("reply-*"))


def test_answers_are_kept_no_longer_than_they_may_be_asked_for(tmp_path: Path) -> None:
    play = started(tmp_path)
    play.train(1)
    assert len(replies(play)) == 1
    play.close(1)
    play.sites.rewrite(A, "min-noise-multiplier = 0.0", "min-noise-multiplier = 2.5")
    assert play.ask(A, Kind.TRAIN, play.request(2)).code == "limit-refused:min-noise-multiplier"
    assert replies(play) == []  # round 1 is closed, and nothing was answered since
    play.sites.rewrite(A, "min-noise-multiplier = 2.5", "min-noise-multiplier = 0.0")
    play.train(2)
    play.close(2)
    play.train(3)
    play.close(3)
    assert len(replies(play)) == 1
    assert play.release(A, play.confirm(3)).round.model
    assert replies(play) == []


def test_answers_of_a_training_that_is_retired_are_gone(tmp_path: Path) -> None:
    play = started(tmp_path, privacy__dropouts=0)
    for attempt in range(1, 4):
        play.train(1, attempt)
        play.close(1, attempt)
        spoilt = bytearray(play.closed[1].total)
        spoilt[-1] ^= 1
        closed = {1: OpenedRound(total=bytes(spoilt), roster=play.closed[1].roster)}
        assert len(replies(play)) == 1
        assert play.ask(A, Kind.TRAIN, play.request(2, closed=closed)).code == "opening-refused"
    assert "retire" in play.sites.kinds(A)
    assert replies(play) == []


def test_turns_of_a_pass_are_kept_until_their_round_is_closed(tmp_path: Path) -> None:
    play = started(tmp_path, **LAYERS)
    split = SplitPlay(play)
    split.round(1)
    assert len(replies(play)) == 3
    assert split.forward(A, 2)
    assert len(replies(play)) == 1


@pytest.mark.parametrize("seed", [7, -1], ids=["seeded", "unseeded"])
def test_an_answer_that_was_lost_before_its_bytes_were_kept_is_paid_for_anew(
    tmp_path: Path, seed: int
) -> None:
    """By a real hospital always, where its site takes seeded runs as well."""
    play = started(tmp_path, **LOCAL, run__seed=seed)
    play.train(1)
    for path in play.sites.folder(A).glob("reply-*"):
        path.unlink()
    assert play.ask(A, Kind.TRAIN, play.request(1)).code == "stale-place"
    assert isinstance(play.ask(A, Kind.TRAIN, play.request(1, 2)).round, RoundReply)
    assert play.sites.kinds(A).count("spend") == 2


def test_a_limit_is_asked_before_every_place_and_named_alone(tmp_path: Path) -> None:
    play = started(tmp_path)
    play.train(1)
    play.close(1)
    play.sites.rewrite(A, "min-noise-multiplier = 0.0", "min-noise-multiplier = 2.5")
    before = play.sites.kinds(A)
    assert play.ask(A, Kind.TRAIN, play.request(2)).code == "limit-refused:min-noise-multiplier"
    assert play.sites.kinds(A) == [*before, "commit", "close"]
    play.sites.rewrite(A, "min-noise-multiplier = 2.5", "min-noise-multiplier = 2.0")
    assert play.ask(A, Kind.TRAIN, play.request(2))


@pytest.mark.parametrize("epsilon", [3.0, 6.0])
def test_the_book_never_holds_more_than_the_site_allows(tmp_path: Path, epsilon: float) -> None:
    from accounting.book import read_spent
    from accounting.limits import SiteLimits

    play = started(tmp_path, training__rounds=40, run__attempts=3)
    play.sites.rewrite(A, "delta = 1e-4", f"max-epsilon = {epsilon}\ndelta = 1e-4")
    code, attempt = "", 0
    while not code:
        attempt += 1
        code = play.ask(A, Kind.TRAIN, play.request(1, attempt)).code
    assert code == "limit-refused:max-epsilon" and attempt > 1
    spent, plans = read_spent(play.sites.folder(A) / "ledger.jsonl")
    assert sum(one.event.count for one in spent) == attempt - 1
    limits = SiteLimits(max_epsilon=epsilon, delta=1e-4)
    one_more = [*spent, spent[-1].counted(1)]
    assert limits.counted(spent, plans) <= epsilon < limits.counted(one_more, plans)
