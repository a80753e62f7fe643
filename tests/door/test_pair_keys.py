"""Keys between pairs of hospitals, in a hospital's folder: they move on with the rounds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from clients.contract.kinds import Kind
from clients.contract.messages import OpenedRound
from crypto.errors import KeysError
from crypto.pairs import PairKeys
from crypto.roles import Place
from tests.door.shared_play import SHARED, SharedPlay
from tests.door.sites import Sites
from tests.door.world import ONE_TIME, Play, door_settings, started

pytestmark = pytest.mark.filterwarnings("ignore:Full backward hook is firing:UserWarning")

STOLEN = "hospital-01"


def path_of(play: Play, name: str = STOLEN) -> Path:
    return play.sites.folder(name) / f"pairs-{play.training}.bin"


def pairs_of(play: Play, name: str = STOLEN) -> PairKeys:
    """What a thief finds in a hospital's folder."""
    path = path_of(play, name)
    assert path.stat().st_mode & 0o777 == 0o600
    return PairKeys.from_bytes(path.read_bytes())


def place_of(play: Play, round: int) -> Place:
    return Place(training=play.training, round=round, attempt=1)


def test_a_folder_that_is_stolen_after_a_round_has_no_keys_of_it(tmp_path: Path) -> None:
    play = started(tmp_path, **ONE_TIME)
    play.train(1)
    before = pairs_of(play)
    assert before.round == 1
    masks = before.masks(place_of(play, 1), 64)
    play.close(1)
    play.train(2)
    after = pairs_of(play)
    assert after.round == 2
    with pytest.raises(KeysError, match="gone"):
        after.masks(place_of(play, 1), 64)
    # The control: the other hospitals' file of before would still make them.
    assert np.array_equal(before.masks(place_of(play, 1), 64), masks)
    play.close(2)
    # A round that is over is moved past when it is closed, whether or not another follows.
    play.ask(STOLEN, Kind.CONFIRM, play.confirming(2))
    assert pairs_of(play).round == 3


def test_keys_of_a_round_that_is_over_are_gone_though_a_crash_lost_the_move(tmp_path: Path) -> None:
    """The book says that the round is over, and its process died before the keys moved on."""
    play = started(tmp_path, **ONE_TIME)
    play.train(1)
    play.close(1)
    before = path_of(play).read_bytes()
    assert play.ask(STOLEN, Kind.CONFIRM, play.confirming(1))
    assert pairs_of(play).round == 2
    path_of(play).write_bytes(before)
    assert pairs_of(play).round == 1
    assert play.ask(STOLEN, Kind.CONFIRM, play.confirming(1))
    assert pairs_of(play).round == 2


def test_the_secret_half_of_the_offer_is_gone_once_a_round_is_paid_for(tmp_path: Path) -> None:
    play = started(tmp_path, **ONE_TIME)
    (offer,) = play.sites.folder(STOLEN).glob("ceremony-*")
    secret = offer.read_bytes()
    play.train(1)
    for name in play.names:
        assert not list(play.sites.folder(name).glob("ceremony-*"))
    # A loss of power may bring a deleted file back; the next round that is paid for removes it.
    offer.write_bytes(secret)
    offer.chmod(0o600)
    play.close(1)
    play.train(2)
    assert not offer.exists()


def test_the_secret_half_is_gone_where_a_hospital_only_opens_and_answers(tmp_path: Path) -> None:
    """With it whoever takes the folder would derive the pair keys of all rounds once more."""
    shared = SharedPlay.started(tmp_path)
    play = shared.play
    play.train(1, names=play.names[1:])
    holder = play.names[0]
    (offer,) = play.sites.folder(holder).glob("ceremony-*")
    shared.close(1)
    # It opens the sum, and is not asked for the round after it.
    assert play.ask(holder, Kind.TRAIN, play.request(3, closed=play.closed)).code == "stale-place"
    kinds = play.sites.kinds(holder)
    assert "answer" in kinds and "close" in kinds and "spend" not in kinds
    assert pairs_of(play, holder).round == 2
    assert not offer.exists()


@pytest.mark.parametrize("what", ["gone", "changed"])
def test_a_hospital_without_its_pair_keys_spends_nothing(tmp_path: Path, what: str) -> None:
    play = started(tmp_path, **ONE_TIME)
    path = path_of(play)
    if what == "gone":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-1])
    answer = play.ask(STOLEN, Kind.TRAIN, play.request(1))
    assert answer.code == "keys-missing"
    assert "spend" not in play.sites.kinds(STOLEN)


def test_every_two_hospitals_derive_one_key_and_the_server_has_what_it_relayed(
    tmp_path: Path,
) -> None:
    play = started(tmp_path, **ONE_TIME)
    place, found = place_of(play, 1), {}
    for name in play.names:
        pairs = pairs_of(play, name)
        assert pairs.bind.hex() != play.bind  # terms and members
        for other in pairs.others:
            found[name, other] = pairs.key(other, b"test", place)
    assert all(found[one, other] == found[other, one] for one, other in found)
    assert len(set(found.values())) == 3
    relayed = b"".join(play.offers.values())
    assert not any(key in relayed or key.hex().encode() in relayed for key in found.values())


def test_a_retired_training_has_no_pair_keys_any_more(tmp_path: Path) -> None:
    play = started(tmp_path, **ONE_TIME)
    folder, attempt = play.sites.folder(STOLEN), 0
    assert list(folder.glob("pairs-*"))
    while "retire" not in play.sites.kinds(STOLEN):
        attempt += 1
        play.train(1, attempt)
        honest = play.sum(1, attempt, play.names)
        spoilt = honest.total[:-1] + bytes([honest.total[-1] ^ 1])
        bad = OpenedRound(total=spoilt, roster=honest.roster)
        assert not play.ask(STOLEN, Kind.TRAIN, play.request(2, closed={1: bad}))
    assert not list(folder.glob("pairs-*"))
    assert attempt > 1


def test_a_ceremony_of_fewer_or_more_than_the_plan_has_makes_no_keys(tmp_path: Path) -> None:
    """Sums of others than those would open nowhere, after everybody has paid for them."""
    sites = Sites(tmp_path / "c", 3)
    play = Play.of(sites, door_settings(3, **ONE_TIME))
    play.join()
    offers = dict(play.offers)
    play.offers = {name: offers[name] for name in play.names[:2]}
    answer = play.ask(play.names[0], Kind.LEAD, play.leading())
    assert answer.code == "malformed", answer.log
    assert not list(play.sites.folder(play.names[0]).glob("pairs-*"))
    assert not list(play.sites.folder(play.names[0]).glob("keys-*"))


def test_a_committee_of_strangers_is_refused_before_anything_is_paid_for(tmp_path: Path) -> None:
    """Nobody could deal shares to them: every place would be paid for and sealed nowhere."""
    sites = Sites(tmp_path / "c", 5)
    changes = {**SHARED, "sealing__committee": "hospital-00,hospital-01,elsewhere"}
    play = Play.of(sites, door_settings(5, **changes, sealing__silent_holders=0))
    play.join()
    answer = play.ask(play.names[0], Kind.LEAD, play.leading())
    assert answer.code == "keys-missing", answer.log
    assert "elsewhere" in answer.log
    assert not list(play.sites.folder(play.names[0]).glob("keys-*"))
