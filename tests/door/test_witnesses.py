"""What peers know of a book that goes back can be neither flushed, bypassed nor left unasked."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from accounting import lines
from accounting.book import Book
from clients.contract.kinds import Kind
from clients.contract.witness_messages import (
    Standing,
    VouchReply,
    VouchRequest,
    WitnessReply,
    WitnessRequest,
)
from clients.site.heads import Kept, shown_of
from crypto.headers import SignedHeader
from tests.door.relay import settle, witness
from tests.door.test_attacks_snapshots import (
    AWAY,
    TWO,
    after_an_absence,
    helped,
    honest,
    snapshot_of,
)
from tests.door.test_restored_book import BEHIND, ONE, ROUNDS
from tests.door.world import Play, door_settings, started

pytestmark = pytest.mark.filterwarnings("ignore:Full backward hook is firing:UserWarning")


def restored(tmp_path: Path, name: str = ONE) -> Play:
    """A folder was restored from before rounds that peers have seen (another file: it waits)."""
    play = started(tmp_path, unwitnessed=4, **ROUNDS)
    play.run(1)
    shutil.copytree(play.sites.folder(name), tmp_path / "backup")
    play.run(3, first=2)
    folder = play.sites.folder(name)
    shutil.rmtree(folder)
    shutil.copytree(tmp_path / "backup", folder)
    return play


def test_a_server_cannot_make_peers_forget_what_they_knew(tmp_path: Path) -> None:
    """`query.witness` is signed for any id, and peers keep 64 headers of a ledger by id."""
    play = restored(tmp_path)
    for number in range(64):
        word = f"w{number}"
        asked = WitnessRequest(training=word, bind=play.bind)
        stands = WitnessReply.read(play.ask(ONE, Kind.WITNESS, asked).records)
        for peer in play.names:
            if peer != ONE:
                request = VouchRequest(
                    training=word, bind=play.bind, witness=stands.header, key=stands.key
                )
                VouchReply.read(play.ask(peer, Kind.VOUCH, request).records)
    assert settle(play, ONE).standing is Standing.BEHIND


def test_a_run_of_one_hospital_does_not_stand_for_peers(tmp_path: Path) -> None:
    """Settings that name K = 1 need nobody's vouch, and what they let pass counts for all."""
    victim = "hospital-00"  # the only one whose simulated part there is for K = 1
    play = restored(tmp_path, victim)
    alone = door_settings(1, privacy__regime="FPDP", privacy__dropouts=0, sealing__scheme="plain")
    assert play.ask(victim, Kind.TRAIN, play.request(2)).code == BEHIND
    play.sites.ask(victim, Kind.JOIN, play.joining(training="a" * 40), alone)  # it refuses the id
    assert witness(play, victim).standing is not Standing.SOUND
    assert play.ask(victim, Kind.JOIN, play.joining()).code == BEHIND


def test_a_run_of_one_hospital_hides_no_places_from_peers(tmp_path: Path) -> None:
    """With require-witness each such run takes all places so far for witnessed, U never binds."""
    victim = "hospital-00"
    play = started(tmp_path, unwitnessed=4, **ROUNDS)
    play.sites.rewrite(victim, "require-witness = false", "require-witness = true")
    settle(play, victim)
    play.train(1)
    alone = door_settings(1, privacy__regime="FPDP", privacy__dropouts=0, sealing__scheme="plain")
    codes = []
    for attempt in range(2, 9):
        word = f"{attempt}" * 40
        play.sites.ask(victim, Kind.JOIN, play.joining(training=word), alone)
        codes.append(play.ask(victim, Kind.TRAIN, play.request(1, attempt)).code)
    assert BEHIND in codes, codes


def test_a_ledger_begun_anew_waits_for_peers(tmp_path: Path) -> None:
    """Everything but the identity is gone, peers remember, and the server says nothing."""
    play = started(tmp_path, unwitnessed=4, **ROUNDS)
    play.run(3)
    for path in play.sites.folder(ONE).iterdir():
        if path.name not in ("identity.key", "node.key"):
            path.unlink()
    assert play.ask(ONE, Kind.JOIN, play.joining()).code == BEHIND


def test_peers_who_vouch_and_peers_who_know_have_one_in_common(tmp_path: Path) -> None:
    """K = 3, d = 1: one peer confirms all rounds, and the other alone may vouch after a restore."""
    play = started(tmp_path, unwitnessed=4, **ROUNDS)
    play.run(1)
    shutil.copytree(play.sites.folder(ONE), tmp_path / "backup")
    for round in range(2, 9):
        play.train(round, names=("hospital-00", ONE))
        play.close(round)
    lost = sum(line["kind"] == "spend" for line in play.sites.lines(ONE)) - 1
    folder = play.sites.folder(ONE)
    shutil.rmtree(folder)
    shutil.copytree(tmp_path / "backup", folder)
    stands = settle(play, ONE, peers=("hospital-02",))
    charged = sum(line["kind"] == "charge" for line in play.sites.lines(ONE)) * 4
    assert stands.standing is not Standing.SOUND, f"{lost} places are forgotten, {charged} charged"


def test_a_peer_vouches_in_a_run_that_it_is_not_invited_to(tmp_path: Path) -> None:
    play = started(tmp_path, unwitnessed=4, **ROUNDS)
    stands = witness(play, ONE)
    request = VouchRequest(
        training=play.training, bind=play.bind, witness=stands.header, key=stands.key
    )
    others = door_settings(**ROUNDS, partition__sites="hospital-00, hospital-01, another")
    refused = play.sites.ask("hospital-02", Kind.JOIN, play.joining(), others)
    assert refused.code == "not-invited"
    assert play.sites.ask("hospital-02", Kind.VOUCH, request, others)


def test_where_nobody_can_be_asked_a_copy_is_not_vouched_for(tmp_path: Path) -> None:
    """A hospital without peers whose file is another one waits for its own operator."""
    play = started(tmp_path, unwitnessed=4, **ROUNDS)
    file = play.sites.consortium.site(ONE) / "site.toml"
    text = file.read_text()
    for name in ("hospital-00", "hospital-02"):
        text = "\n".join(one for one in text.splitlines() if not one.startswith(f"{name} ="))
    file.write_text(text)
    path = play.sites.folder(ONE) / "ledger.jsonl"
    data = path.read_bytes()
    path.rename(path.with_suffix(".old"))
    path.write_bytes(data)
    path.chmod(0o600)
    assert play.ask(ONE, Kind.TRAIN, play.request(1)).code == BEHIND
    assert settle(play, ONE).standing is Standing.WAITING


def test_who_took_a_snapshot_over_is_no_witness_of_the_rounds_in_it(tmp_path: Path) -> None:
    """It signs the chain after them, and has seen no roster of theirs."""
    kept = Kept()
    for round, entry in ((1, 10), (2, 20), (3, 30)):
        kept.keep_own("t", round, entry)
    kept.keep_knowing("t", "hospital-02", range(1, 3))  # in roster 3, and opened all before
    assert kept.known_to("t", 1) == 20
    kept.keep_knowing("t", "hospital-00", range(2 + 1, 4))  # in roster 4, adopted round 2
    assert (kept.known_to("t", 1), kept.known_to("t", 2)) == (30, -1)
    play = started(tmp_path, **ROUNDS)
    play.run(2)
    header = SignedHeader.from_bytes(play.replies[2, 1][ONE].header).header
    assert header.adopted == 0
    with Book(play.sites.folder(ONE) / "ledger.jsonl", site=ONE, cohort="breast-cancer") as book:
        book.append(lines.adopt(play.training, round=2, chain="ab" * 32))
        assert shown_of(book, play.training, milestones=True)["adopted"] == 2


def test_a_header_says_which_rosters_its_sender_has_not_seen(tmp_path: Path) -> None:
    """One was away in rounds 2 and 3, took over the state after 2, and opened the sum of 3."""
    play = after_an_absence(tmp_path)
    play.replies[4, 1] = {AWAY: helped(play, snapshot_of(play, honest)).round}
    play.train(4, names=TWO)
    play.close(4)
    play.train(5, names=TWO)
    own = Kept.read(play.sites.folder(TWO[1])).own[play.training]
    seen = {name: {r for r, one in own.items() if name in one.known} for name in (AWAY, TWO[0])}
    assert seen == {AWAY: {3}, TWO[0]: {1, 2, 3}}


@pytest.mark.parametrize(("colluders", "goes_on"), [(0, True), (1, False)])
def test_a_place_is_known_once_one_more_than_may_collude_have_seen_it(
    tmp_path: Path, colluders: int, goes_on: bool
) -> None:
    """Two of three play alone: where one may collude, the one peer that knows may be it."""
    changes = {"training__rounds": 9, "privacy__colluders": colluders}
    play = started(tmp_path, unwitnessed=4, **changes)
    for name in play.names:
        file = play.sites.consortium.site(name) / "site.toml"
        file.write_text(re.sub("min-hospitals = [0-9]+", "min-hospitals = 1", file.read_text()))
    two, codes = play.names[:2], []
    for round in range(1, 8):
        answers = {name: play.ask(name, Kind.TRAIN, play.request(round)) for name in two}
        codes += [answer.code for answer in answers.values()]
        if not all(answers.values()):
            break
        play.replies[round, 1] = {name: answer.round for name, answer in answers.items()}
        play.close(round)
    assert set(codes) == ({""} if goes_on else {"", "ledger-behind"})
