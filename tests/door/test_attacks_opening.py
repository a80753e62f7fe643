"""One total a round, and nothing made of a sum leaves before a quorum has signed it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import pytest

from clients.contract.kinds import Kind
from clients.contract.messages import OpenedRound
from clients.site.session import Session
from crypto.rosters import Roster
from tests.door.world import Play, started

pytestmark = pytest.mark.filterwarnings("ignore:Full backward hook is firing:UserWarning")

A, B, C = "hospital-00", "hospital-01", "hospital-02"


def forged(honest: OpenedRound, position: int = -1) -> OpenedRound:
    """The same roster over another total."""
    total = bytearray(honest.total)
    total[position] ^= 1
    return OpenedRound(total=bytes(total), roster=honest.roster)


def opened_digests(play: Play) -> dict[int, str]:
    return {n: Roster.from_bytes(one.roster).digest(one.total) for n, one in play.closed.items()}


def state_of(play: Play, name: str) -> list[str]:
    """Lines about sums of a hospital's book."""
    kinds = ("commit", "close", "adopt", "retire", "end")
    return [str(line["kind"]) for line in play.sites.lines(name) if line["kind"] in kinds]


def next_code(play: Play, name: str, round: int, closed: OpenedRound) -> str:
    request = play.request(round, closed={round - 1: closed})
    return play.ask(name, Kind.TRAIN, request).code


class Killed(BaseException):
    """The process is gone."""


@contextmanager
def killed(owner: type, name: str) -> Iterator[None]:
    """Whoever calls this dies of it."""
    with mock.patch.object(owner, name, side_effect=Killed), pytest.raises(Killed):
        yield


def test_sums_that_do_not_open_end_the_training_and_take_the_keys_with_them(
    tmp_path: Path,
) -> None:
    play = started(tmp_path)
    keys = play.sites.folder(A) / f"keys-{play.training}.bin"
    codes = set()
    for attempt in range(1, 7):
        assert keys.exists()
        play.train(1, attempt)
        play.close(1, attempt)
        # In the tag block, in the values, in the frame: what was wrong is not told.
        for position in (-1, len(play.closed[1].total) // 2, 5)[attempt % 3 :][:1]:
            codes.add(next_code(play, A, 2, forged(play.closed[1], position)))
        # Nor does a second total of the place get an answer, the true one neither.
        codes.add(next_code(play, A, 2, play.closed[1]))
    assert codes == {"opening-refused", "training-retired"}
    assert state_of(play, A) == ["commit"] * 6 + ["retire"]
    assert not keys.exists()
    for kind, request in ((Kind.TRAIN, play.request(1, 7)), (Kind.JOIN, play.joining())):
        assert play.ask(A, kind, request).code == "training-retired"
    # A hospital that was asked nothing wrong goes on.
    assert play.ask(B, Kind.TRAIN, play.request(2)).code == ""


def test_a_process_that_dies_between_commit_and_answer_has_failed_all_the_same(
    tmp_path: Path,
) -> None:
    play = started(tmp_path)
    keys = play.sites.folder(A) / f"keys-{play.training}.bin"
    for attempt in range(1, 7):
        play.train(1, attempt)
        play.close(1, attempt)
        with killed(Session, "advance"):
            next_code(play, A, 2, forged(play.closed[1]))
    play.sites.restart(A)
    play.train(1, 7, names=[A, B])
    play.close(1, 7)
    assert next_code(play, A, 2, play.closed[1]) in ("training-retired", "opening-refused")
    assert state_of(play, A) == ["commit"] * 6 + ["retire"]
    assert not keys.exists()


def test_the_same_total_opens_after_a_crash_and_another_does_not(tmp_path: Path) -> None:
    play = started(tmp_path)
    play.train(1)
    play.close(1)
    with killed(Session, "advance"):
        next_code(play, A, 2, play.closed[1])
    other = play.sum(1, 1, [A, B])
    assert next_code(play, A, 2, other) == "opening-refused"
    assert next_code(play, A, 2, play.closed[1]) == ""


def test_two_totals_of_a_round_give_no_model_at_either_end(tmp_path: Path) -> None:
    play = started(tmp_path, training__rounds=1)
    play.train(1)
    everybody, pair = play.sum(1, 1, [A, B, C]), play.sum(1, 1, [A, B])
    headers = {}
    for name, total in ((A, everybody), (B, pair)):
        play.closed[1] = total
        headers[name] = play.confirm(1, [name])[0]
    for name in (A, B):
        assert play.release(name, headers.values()).code == "release-refused"
        # One signature twice is one hospital.
        assert play.release(name, [headers[name]] * 3).code == "release-refused"
    # Once a second hospital has signed one of them, that one leaves, and the other never.
    play.closed[1] = everybody
    headers[C] = play.confirm(1, [C])[0]
    assert play.release(A, headers.values()).round.model_round == 1
    assert play.release(B, headers.values()).code == "release-refused"


def test_two_totals_on_the_way_give_no_model_and_no_snapshot_of_the_fork(tmp_path: Path) -> None:
    play = started(tmp_path, training__rounds=5, run__snapshot_every=1)
    play.train(1)
    play.closed[1] = play.sum(1, 1, [A, B])
    play.train(2, names=[B], release_from=B, snapshot_from=B)
    play.closed[1] = play.sum(1, 1, [A, B, C])
    play.train(2, names=[A, C], release_from=B)
    # The roster of round 2 shows the fork to everybody.
    for name in (A, B, C):
        assert next_code(play, name, 3, play.sum(2, 1, [A, B, C])) == "opening-refused"
    assert not any(one.model or one.snapshot for one in play.replies[2, 1].values())
    # Two that agree go on without the third, and only theirs leaves.
    play.closed[2] = play.sum(2, 1, [A, C])
    for round in (3, 4):
        replies = play.train(round, names=[A, C], release_from=A)
        play.close(round)
    assert replies[A].model_round == 2
    assert next_code(play, B, 3, play.closed[2]) == "opening-refused"


def test_a_cheated_hospital_is_not_healed_by_the_others_snapshot(tmp_path: Path) -> None:
    play = started(tmp_path, training__rounds=8, run__snapshot_every=1)
    play.train(1)
    play.closed[1] = play.sum(1, 1, [A, B])
    play.train(2, names=[B])
    before = state_of(play, B)
    play.closed[1] = play.sum(1, 1, [A, B, C])
    snapshot = b""
    for round in range(2, 6):
        replies = play.train(round, names=[A, C], snapshot_from=A)
        snapshot = replies[A].snapshot or snapshot
        play.close(round, names=[A, C])
    request = play.request(
        6,
        closed={n: play.closed[n] for n in (4, 5)},
        snapshot=snapshot,
        opened=opened_digests(play),
    )
    assert play.ask(B, Kind.TRAIN, request).code == "opening-refused"
    assert state_of(play, B) == before
    # The same evidence brings a hospital that opened nothing to where the others are.
    away = started(tmp_path / "control", training__rounds=8, run__snapshot_every=1)
    for round in range(1, 6):
        replies = away.train(round, names=[A, C], snapshot_from=A)
        away.close(round)
    request = away.request(
        6,
        closed={n: away.closed[n] for n in (4, 5)},
        snapshot=replies[A].snapshot,
        opened=opened_digests(away),
    )
    assert away.ask(B, Kind.TRAIN, request)
    assert state_of(away, B) == ["adopt", "commit", "close", "commit", "close"]


@pytest.mark.parametrize("kept", [True, False])
def test_an_old_snapshot_moves_no_book(tmp_path: Path, kept: bool) -> None:
    play = started(tmp_path, training__rounds=8, run__snapshot_every=1)
    if kept:
        play.sites.keep(B)
    for round in range(1, 4):
        play.train(round, snapshot_from=A)
        play.close(round)
    snapshot = play.replies[3, 1][A].snapshot
    play.train(4)
    before = state_of(play, B)
    second = play.sum(2, 1, [A, B])
    request = play.request(4, 2, closed={2: second, 3: play.closed[3]}, snapshot=snapshot)
    answer = play.ask(B, Kind.TRAIN, request)
    assert state_of(play, B) == before
    assert answer  # what is closed is not looked at again
    if not kept:
        # A process without its replica needs it, and does not take it from a second total.
        (play.sites.folder(B) / f"replica-{play.training}.bin").unlink()
        request = play.request(4, 3, closed={2: second, 3: play.closed[3]}, snapshot=snapshot)
        assert play.ask(B, Kind.TRAIN, request).code == "opening-refused"
        request = play.request(4, 3, closed={n: play.closed[n] for n in (2, 3)}, snapshot=snapshot)
        assert play.ask(B, Kind.TRAIN, request)
        assert state_of(play, B) == before
    play.sites.close()


def test_a_replica_that_was_lost_where_nobody_may_be_missing_is_rebuilt(tmp_path: Path) -> None:
    play = started(tmp_path, privacy__dropouts=0)
    play.train(1)
    play.close(1)
    with killed(Session, "to_bytes"):  # after the close, before the file
        play.ask(B, Kind.TRAIN, play.request(2))
    assert state_of(play, B) == ["commit", "close"]
    play.run(first=2)
    models = [play.release(name, play.confirm(3)).round.model for name in (A, B)]
    for key, tensor in models[0].items():
        assert bool((tensor == models[1][key]).all())


def test_sums_come_in_order_and_none_is_skipped(tmp_path: Path) -> None:
    play = started(tmp_path)
    play.run(2)
    here = play.sites.kinds(B)
    # B closed round 1 when it was asked for round 2; round 2's sum alone cannot follow at A anew.
    fresh = started(tmp_path / "other")
    for round in (1, 2):
        fresh.train(round, names=[A, C])
        fresh.close(round)
    assert fresh.ask(B, Kind.TRAIN, fresh.request(3)).code == "behind:0"
    assert fresh.ask(B, Kind.TRAIN, fresh.request(3, closed=fresh.closed))
    assert play.sites.kinds(B) == here


@pytest.mark.parametrize("lost", ["nothing was opened", "the replica was lost"])
def test_a_request_opens_no_more_sums_than_there_are_between_snapshots(
    tmp_path: Path, lost: str
) -> None:
    play = started(tmp_path, training__rounds=9, run__snapshot_every=2)
    names = [A, C] if lost == "nothing was opened" else [A, B, C]
    for round in range(1, 9):
        play.train(round, names=names)
        play.close(round)
    (play.sites.folder(B) / f"replica-{play.training}.bin").unlink(missing_ok=True)
    request, stands = play.request(9, closed=play.closed), []
    for expected in ("behind:3", "behind:6", ""):
        answer = play.ask(B, Kind.TRAIN, request)
        assert answer.code == expected
        stands.append(state_of(play, B).count("close"))
    assert answer.round.sealed
    assert stands == ([3, 6, 8] if lost == "nothing was opened" else [7, 7, 8])


def test_a_release_opens_no_more_sums_for_one_request_either(tmp_path: Path) -> None:
    play = started(tmp_path, training__rounds=5, run__snapshot_every=2)
    play.run()
    headers = play.confirm(5)
    model = play.release(A, headers).round.model
    for kind in (Kind.RELEASE, Kind.EVALUATE):
        (play.sites.folder(A) / f"replica-{play.training}.bin").unlink()
        request = play.releasing(headers, closed=play.closed)
        assert play.ask(A, kind, play.releasing(headers)).code == "behind:0"
        assert play.ask(A, kind, request).code == "behind:3"
        assert play.ask(A, kind, request)
    again = play.release(A, headers).round.model
    assert all(bool((tensor == again[key]).all()) for key, tensor in model.items())


def test_a_restored_folder_is_told_by_its_own_signature(tmp_path: Path) -> None:
    play = started(tmp_path)
    folder = play.sites.folder(B)
    shutil.copytree(folder, tmp_path / "backup")
    play.train(1)
    shutil.rmtree(folder)
    shutil.copytree(tmp_path / "backup", folder)
    play.close(1)
    assert play.ask(B, Kind.TRAIN, play.request(2)).code == "ledger-behind"
    assert "spend" not in play.sites.kinds(B)


def test_a_sum_of_fewer_than_may_be_missing_is_refused(tmp_path: Path) -> None:
    play = started(tmp_path)
    play.train(1)
    before = state_of(play, A)
    assert next_code(play, A, 2, play.sum(1, 1, [B])) == "opening-refused"
    assert state_of(play, A) == before  # what anybody can see is wrong costs no failure
    assert next_code(play, A, 2, play.sum(1, 1, [A, B])) == ""


def test_a_model_is_not_released_by_too_few_or_by_another_rounds_signatures(
    tmp_path: Path,
) -> None:
    play = started(tmp_path)
    play.run()
    headers = play.confirm(3, [A, B])
    assert play.release(A, headers[:1]).code == "release-refused"
    assert play.release(A, []).code == "release-refused"
    assert play.release(A, [b"junk", headers[0]]).code == "release-refused"
    sums = [play.replies[3, 1][name].header for name in (A, B, C)]
    assert play.release(A, sums).code == "release-refused"
    assert play.release(A, headers).round.model


def test_a_training_that_was_confirmed_takes_no_place_and_opens_nothing_any_more(
    tmp_path: Path,
) -> None:
    play = started(tmp_path)
    play.run(2)
    headers = play.confirm(2)
    assert play.confirm(2) != ()  # again is answered again
    for name in play.names:
        assert play.ask(name, Kind.TRAIN, play.request(3)).code == "stale-place"
    assert play.release(A, headers).round.model_round == 2
    kinds = play.sites.kinds(A)
    assert kinds.count("spend") == 2 and kinds.count("end") == 1
