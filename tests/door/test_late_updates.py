"""Updates that come late, and attempts without one: of a place one sum opens, which was paid."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from clients.contract.kinds import Kind
from crypto.errors import ContributionError, TagMismatchError
from crypto.keys import Keys
from crypto.pairs import PairKeys
from crypto.roles import Place, Sealed
from crypto.rosters import Roster
from crypto.schemes import make_opener
from tests.door.shared_play import SharedPlay
from tests.door.world import ONE_TIME, Play, started, unmarked

pytestmark = pytest.mark.filterwarnings("ignore:Full backward hook is firing:UserWarning")

A, B, C = "hospital-00", "hospital-01", "hospital-02"
ALL = [f"hospital-{k:02}" for k in range(5)]


def colluder_opens(play: Play, attempt: int, names: list[str]) -> np.ndarray:
    """What the server opens of an attempt with the folder of the first hospital in its hands."""
    folder, plan = play.sites.folder(A), play.agreement.terms.sealing
    pairs = PairKeys.from_bytes((folder / f"pairs-{play.training}.bin").read_bytes())
    keys = Keys.from_bytes(unmarked((folder / f"keys-{play.training}.bin").read_bytes()))
    total = play.sum(1, attempt, names)
    place = Place(training=play.training, round=1, attempt=attempt)
    nonces = Roster.from_bytes(total.roster).nonces
    return make_opener(plan, keys.with_pairs(pairs)).open(
        Sealed(payload=total.total), nonces, place
    )


def test_a_late_update_opens_the_sum_of_all_of_its_place_which_all_have_paid_for(
    tmp_path: Path,
) -> None:
    """Masked keys: the server keeps the attempt, and goes on with the next."""
    play = started(tmp_path, **ONE_TIME)
    play.train(1, names=[A, B])
    with pytest.raises((ContributionError, TagMismatchError)):
        colluder_opens(play, 1, [A, B])
    play.train(1, 2, names=[A, B])
    play.train(1, names=[C])
    late = colluder_opens(play, 1, [A, B, C])
    # Of the second attempt, which lacks one, nothing opens.
    with pytest.raises((ContributionError, TagMismatchError)):
        colluder_opens(play, 2, [A, B])
    assert late.size == play.agreement.terms.sealing.values
    spent = {n: [(one["round"], one["attempt"]) for one in spends_of(play, n)] for n in (A, B, C)}
    assert spent == {A: [(1, 1), (1, 2)], B: [(1, 1), (1, 2)], C: [(1, 1)]}
    # Hospitals that went on open the older sum no more, C does.
    closed = play.sum(1, 1, [A, B, C])
    asked = {n: play.ask(n, Kind.TRAIN, play.request(2, closed={1: closed})) for n in (A, B, C)}
    assert [asked[name].code for name in (A, B)] == ["opening-refused"] * 2
    assert asked[C]


def spends_of(play: Play, name: str) -> list[dict[str, object]]:
    return [line for line in play.sites.lines(name) if line["kind"] == "spend"]


def test_a_holder_whose_sum_did_not_open_answers_the_next_attempt(tmp_path: Path) -> None:
    """Who is left out, since it may have spoilt the attempt before, still holds shares."""
    shared = SharedPlay.started(tmp_path)
    play = shared.play
    play.train(1)
    shared.close(1)
    closed = play.closed.pop(1)
    bad = replace(closed, total=closed.total[:-8] + bytes(8))
    assert play.ask(A, Kind.TRAIN, play.request(2, closed={1: bad})).code == "opening-refused"
    play.train(1, 2, names=ALL[1:])
    assert shared.ask(A, 1, 2)
    assert shared.ask(A, 1, 2, members=ALL[1:]).payload == shared.ask(A, 1, 2).payload
    # The older place is left for good: its total is not opened any more.
    assert play.ask(A, Kind.TRAIN, play.request(2, closed={1: closed})).code == "opening-refused"
    shared.close(1, 2, members=ALL[1:], holders=[A, *ALL[2:]])
    assert play.ask(A, Kind.TRAIN, play.request(2))
