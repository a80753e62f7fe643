"""A hospital whose book has gone back is found out by its own signatures, its files, its peers."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from accounting.against import parse_against
from accounting.book import Book
from accounting.ledger import read_ledger
from accounting.totals import least_total
from clients.contract.kinds import Kind
from clients.contract.witness_messages import Standing, VouchRequest, pack
from clients.site.home import home_of
from tests.door.relay import settle, vouch, witness
from tests.door.test_attacks_binding import asked_kinds, one_of
from tests.door.world import Play, started

pytestmark = pytest.mark.filterwarnings("ignore:Full backward hook is firing:UserWarning")

ONE = "hospital-01"
BEHIND = "ledger-behind"
ROUNDS = {"training__rounds": 9, "privacy__colluders": 0}


@pytest.fixture
def play(tmp_path: Path) -> Play:
    """Two rounds are closed and a third is asked for; a backup was made after the first."""
    play = started(tmp_path, unwitnessed=4, **ROUNDS)
    play.run(1)
    shutil.copytree(play.sites.folder(ONE), tmp_path / "backup")
    play.run(3, first=2)
    return play


@pytest.fixture
def backup(tmp_path: Path, play: Play) -> Path:
    return tmp_path / "backup"


def over(source: Path, target: Path) -> None:
    """Copy a file over another in place: same inode, other content."""
    inode = target.stat().st_ino
    target.write_bytes(source.read_bytes())
    assert target.stat().st_ino == inode


def whole_folder_over(play: Play, backup: Path) -> None:
    """Bring a folder's files back in place; those that the backup lacks are gone."""
    folder = play.sites.folder(ONE)
    for path in folder.iterdir():
        if (backup / path.name).exists():
            over(backup / path.name, path)
        else:
            path.unlink()


def last_header(play: Play) -> bytes:
    return play.replies[3, 1][ONE].header


def is_silent(play: Play) -> bool:
    """Whether a hospital gives no answer but its witness, whatever it is asked."""
    requests = {
        Kind.TRAIN: play.request(4),
        **{kind: one_of(play, kind) for kind in asked_kinds("gradients") if kind is not Kind.TRAIN},
        Kind.CONFIRM: play.confirming(3),
    }
    silent = {play.ask(ONE, kind, one).code == BEHIND for kind, one in requests.items()}
    assert len(silent) == 1
    return silent.pop()


def test_an_honest_run_goes_on_in_any_number_of_processes(play: Play) -> None:
    play.run(7, first=4)
    assert witness(play, ONE).standing is Standing.SOUND


def test_a_book_restored_alone_is_found_out_by_the_files_beside_it(
    play: Play, backup: Path
) -> None:
    over(backup / "ledger.jsonl", play.sites.folder(ONE) / "ledger.jsonl")
    assert is_silent(play)
    assert witness(play, ONE).standing is Standing.BEHIND


def test_a_folder_restored_in_place_is_found_out_by_its_own_signature(
    play: Play, backup: Path
) -> None:
    whole_folder_over(play, backup)
    joined = play.ask(ONE, Kind.JOIN, play.joining(witness=pack([last_header(play)])))
    assert joined.code == BEHIND
    assert is_silent(play)  # a later process remembers
    assert witness(play, ONE).standing is Standing.BEHIND


def test_a_roster_is_enough_to_find_out_a_folder_that_was_restored_in_place(
    play: Play, backup: Path
) -> None:
    whole_folder_over(play, backup)
    assert play.ask(ONE, Kind.TRAIN, play.request(4)).code == BEHIND
    assert is_silent(play)


def test_a_deleted_book_is_found_out_by_the_files_beside_it(play: Play) -> None:
    (play.sites.folder(ONE) / "ledger.jsonl").unlink()
    assert is_silent(play)


def test_a_deleted_folder_is_found_out_by_its_own_signature(play: Play) -> None:
    folder = play.sites.folder(ONE)
    for path in folder.iterdir():
        if path.name not in ("identity.key", "node.key"):
            path.unlink()
    assert play.ask(ONE, Kind.JOIN, play.joining(witness=pack([last_header(play)]))).code == BEHIND


def test_somebody_elses_signature_proves_nothing(play: Play, backup: Path) -> None:
    other = play.replies[3, 1]["hospital-00"].header
    changed = bytearray(last_header(play))
    changed[70] ^= 1
    evidence = pack([other, bytes(changed)])
    assert play.ask(ONE, Kind.JOIN, play.joining(witness=evidence))
    whole_folder_over(play, backup)
    assert play.ask(ONE, Kind.JOIN, play.joining(witness=evidence))


def replaced(play: Play) -> None:
    """Put a copy of the book in its place: the same bytes, another file."""
    path = play.sites.folder(ONE) / "ledger.jsonl"
    shutil.copy2(path, path.with_suffix(".copy"))
    os.replace(path.with_suffix(".copy"), path)


def test_a_copied_book_waits_for_peers_then_pays_for_what_it_may_lack_and_goes_on(
    play: Play,
) -> None:
    replaced(play)
    assert is_silent(play)
    before = read_ledger(play.sites.folder(ONE) / "ledger.jsonl").entries
    assert settle(play, ONE).standing is Standing.SOUND
    charged = read_ledger(play.sites.folder(ONE) / "ledger.jsonl").entries[len(before) :]
    assert [entry.event.count for entry in charged] == [4 * before[0].event.count]
    assert charged[0].views == before[0].views
    with Book(play.sites.folder(ONE) / "ledger.jsonl", site=ONE, cohort="breast-cancer") as book:
        total = least_total(
            book.spendings(), {}, against=parse_against("server"), delta=1e-4, limit=100.0
        )
    assert total < 100.0  # one moved file does not count for ever as no noise at all
    play.close(3)
    play.train(4)


def test_a_restored_folder_at_another_place_is_found_out_by_its_peers(
    play: Play, backup: Path
) -> None:
    """The server hides the hospital's own signature, and sends the roster to nobody."""
    folder = play.sites.folder(ONE)
    shutil.rmtree(folder)
    shutil.copytree(backup, folder)
    assert play.ask(ONE, Kind.JOIN, play.joining()).code == BEHIND
    assert settle(play, ONE).standing is Standing.BEHIND
    assert settle(play, ONE, peers=()).standing is Standing.BEHIND


def test_too_few_peers_bring_nobody_on(play: Play) -> None:
    replaced(play)
    assert settle(play, ONE, peers=()).standing is Standing.WAITING
    stands = witness(play, ONE)
    once = vouch(play, "hospital-00", stands)
    mine = VouchRequest(
        training=play.training, bind=play.bind, witness=stands.header, key=stands.key
    )
    assert play.ask(ONE, Kind.VOUCH, mine).code == BEHIND
    assert is_silent(play)
    assert witness(play, ONE, vouches=[once, once]).standing is Standing.WAITING
    other = vouch(play, "hospital-02", stands)
    assert witness(play, ONE, vouches=[once, other]).standing is Standing.SOUND  # all are pinned


def test_an_old_vouch_is_good_for_no_other_copy(play: Play) -> None:
    replaced(play)
    old = vouch(play, "hospital-00", witness(play, ONE))
    replaced(play)
    assert witness(play, ONE, vouches=[old]).standing is Standing.WAITING


def test_a_peer_cannot_leave_out_what_its_vouch_signs(play: Play, backup: Path) -> None:
    folder = play.sites.folder(ONE)
    shutil.rmtree(folder)
    shutil.copytree(backup, folder)
    told = vouch(play, "hospital-00", witness(play, ONE))
    less = type(told)(header=told.header, key=told.key, known=told.known[:-1])
    assert told.known
    assert witness(play, ONE, vouches=[less]).standing is Standing.WAITING


def test_a_container_started_anew_goes_on(play: Play) -> None:
    """Another process and machine name; the file is the same one."""
    folder = play.sites.folder(ONE)
    moved = folder.with_name("elsewhere")
    os.rename(folder, moved)
    os.rename(moved, folder)
    assert not is_silent(play)


def test_an_inode_that_is_given_away_again_is_no_home(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("one")
    first = home_of(path)
    path.unlink()
    path.write_text("two")
    if not first >> 64:
        pytest.skip("this file system keeps no generations")
    assert home_of(path) != first


def test_a_disk_that_changes_inodes_is_taken_by_hand(play: Play) -> None:
    play.sites.rewrite(ONE, 'home = "inode"', 'home = "any"')
    replaced(play)
    assert not is_silent(play)


def test_a_hospital_that_asks_for_witnesses_starts_a_training_with_them(play: Play) -> None:
    play.sites.rewrite(ONE, "require-witness = false", "require-witness = true")
    assert is_silent(play)
    events = read_ledger(play.sites.folder(ONE) / "ledger.jsonl").entries
    assert settle(play, ONE).standing is Standing.SOUND
    assert read_ledger(play.sites.folder(ONE) / "ledger.jsonl").entries == events
    assert not is_silent(play)


def test_a_fifth_place_that_no_peer_has_confirmed_waits_for_vouches(play: Play) -> None:
    """Rounds 2 and 3 were not confirmed when 4 was asked for; then the server asks on and on."""
    codes = [play.ask(ONE, Kind.TRAIN, play.request(4, attempt)).code for attempt in range(1, 6)]
    assert codes == ["", "", "", BEHIND, BEHIND]
    assert play.ask(ONE, Kind.TRAIN, play.request(4, 3))  # the place that was answered
    assert settle(play, ONE).standing is Standing.SOUND
    assert play.ask(ONE, Kind.TRAIN, play.request(4, 5))


def test_all_hospitals_may_wait_at_once_and_vouch_for_each_other(play: Play) -> None:
    for name in play.names:
        for attempt in range(1, 4):
            assert play.ask(name, Kind.TRAIN, play.request(4, attempt))
        assert play.ask(name, Kind.TRAIN, play.request(4, 4)).code == BEHIND
    for name in play.names:
        assert settle(play, name).standing is Standing.SOUND
    play.train(4, 4)


def test_a_peer_knows_what_was_vouched_for(play: Play) -> None:
    """What only a server knew is known to peers after the vouch, so no restored copy passes."""
    for attempt in range(1, 4):
        play.ask(ONE, Kind.TRAIN, play.request(4, attempt))
    stands = witness(play, ONE)
    vouch(play, "hospital-00", stands)
    again = vouch(play, "hospital-00", stands)
    assert stands.header in again.known


def test_the_book_of_a_hospital_that_waits_does_not_grow(play: Play) -> None:
    replaced(play)
    before = play.sites.book_bytes(ONE)
    assert is_silent(play)
    settle(play, ONE, peers=())
    assert play.sites.book_bytes(ONE) == before


def test_a_stranger_is_not_vouched_for(play: Play) -> None:
    stands = witness(play, ONE)
    request = VouchRequest(
        training=play.training, bind=play.bind, witness=stands.header, key=bytes(32)
    )
    assert play.ask("hospital-00", Kind.VOUCH, request).code == "not-invited"


def test_the_book_itself_names_its_home(play: Play) -> None:
    path = play.sites.folder(ONE) / "ledger.jsonl"
    with Book(path, site=ONE, cohort="breast-cancer") as book:
        assert book.home() == home_of(path)
