"""A ledger that lacks something is charged for it, and then its hospital goes on."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from accounting.book import Book
from accounting.ledger import read_ledger
from clients.contract.kinds import Kind
from clients.contract.witness_messages import Standing, pack
from clients.site.heads import shown_of
from clients.site.site_file import SiteFile, read_site_file
from crypto.headers import Header, HeaderKind
from deployment import recover
from deployment.branches import branches_of
from deployment.cli import app
from deployment.errors import DeploymentError
from tests.door.relay import witness
from tests.door.world import Play, started

pytestmark = pytest.mark.filterwarnings("ignore:Full backward hook is firing:UserWarning")

ONE = "hospital-01"
WITNESS = Header(
    kind=HeaderKind.WITNESS,
    training="t",
    round=0,
    attempt=0,
    sender=ONE,
    parameter_id="",
    previous="",
    payload="",
    bind=bytes(32),
    nonce=b"",
)
ALSO = "gaussian:sampling-rate=0.1,noise-multiplier=2.0,count=40"


@pytest.fixture
def play(tmp_path: Path) -> Play:
    """A training of five rounds; the ledger is brought back to where it stood after the first."""
    play = started(tmp_path, unwitnessed=4, training__rounds=9, privacy__colluders=0)
    play.run(1)
    shutil.copy2(ledger_of(play), tmp_path / "old.jsonl")
    play.run(5, first=2)
    return play


@pytest.fixture
def old(tmp_path: Path, play: Play) -> Path:
    return tmp_path / "old.jsonl"


def ledger_of(play: Play) -> Path:
    return play.sites.folder(ONE) / "ledger.jsonl"


def site_of(play: Play) -> SiteFile:
    return read_site_file(play.sites.consortium.site(ONE) / "site.toml")


def lose(play: Play, old: Path) -> None:
    """Bring back the old ledger, with nothing beside it that is newer."""
    ledger_of(play).write_bytes(old.read_bytes())
    for path in play.sites.folder(ONE).glob("*"):
        if path.name.startswith(("replica-", "reply-", "peers")):
            path.unlink()


def counts(play: Play) -> int:
    return sum(entry.event.count for entry in read_ledger(ledger_of(play)).entries)


def evidence_of(play: Play) -> Path:
    """What a peer has beside its own ledger."""
    return play.sites.folder("hospital-00") / "peers.json"


def run(play: Play, *words: str, answer: str = "yes\n"):
    folder = play.sites.consortium.site(ONE)
    return CliRunner().invoke(app, ["ledger", *words, "--site", str(folder)], input=answer)


def test_a_peers_file_is_enough_to_charge_at_least_what_had_left(play: Play, old: Path) -> None:
    left = counts(play)
    last = len(read_ledger(ledger_of(play)).entries)
    lose(play, old)
    result = run(play, "recover", "--evidence", str(evidence_of(play)))
    assert result.exit_code == 0, result.output
    # Whether the round before the backup is of the lost branch too nobody can tell.
    assert left <= counts(play) <= left + 4 + 1
    assert last == left  # one message a round
    assert recover.findings(site_of(play)) == []


def test_what_left_on_both_branches_is_charged(play: Play, old: Path) -> None:
    """Peers witnessed five places, more were in flight; brought back, it answered others."""
    flying = [play.ask(ONE, Kind.TRAIN, play.request(6, attempt)) for attempt in range(1, 9)]
    left = counts(play)
    assert left == 5 + sum(map(bool, flying))
    lose(play, old)
    before = counts(play)
    answered = sum(
        bool(play.ask(ONE, Kind.TRAIN, play.request(2, attempt))) for attempt in range(1, 9)
    )
    assert answered
    assert counts(play) == before + answered
    result = run(play, "recover", "--evidence", str(evidence_of(play)))
    assert result.exit_code == 0, result.output
    assert counts(play) >= left + answered


def test_branches_of_one_ledger_and_other_ledgers_add_up(tmp_path: Path) -> None:
    def header(entry: int, spent: int, **changes: object) -> Header:
        shown: dict = {"ledger": b"l" * 8, "entry": entry, "spent": spent, "head": b"h" * 16}
        return replace(WITNESS, **{**shown, **changes})

    one, later = header(30, 8), header(40, 9, head=b"i" * 16)
    assert len(branches_of([later, one, one])) == 1
    assert len(branches_of([one, header(30, 8, head=b"j" * 16)])) == 2  # two heads of one entry
    assert len(branches_of([one, header(40, 6)])) == 2  # less is spent at a later entry
    assert len(branches_of([one, header(40, 9, ledger=b"m" * 8)])) == 2
    with Book(tmp_path / "ledger.jsonl", site=ONE, cohort="c") as book:
        own = shown_of(book, "t", milestones=True)
        [branch] = branches_of([header(30, 8, ledger=own["ledger"], milestones=own["milestones"])])
        assert branch.lost(book) == {"t": 8}
        [other] = branches_of([one])
        assert other.lost(book) == {"t": 8}  # another ledger: whole


def test_a_recovered_hospital_goes_on_in_other_trainings_and_never_in_this_one(
    play: Play, old: Path
) -> None:
    lose(play, old)
    newest = pack([play.replies[5, 1][ONE].header])
    assert play.ask(ONE, Kind.JOIN, play.joining(witness=newest)).code == "ledger-behind"
    assert run(play, "recover").exit_code == 0  # its own signature is kept beside the ledger
    assert play.ask(ONE, Kind.JOIN, play.joining(witness=newest)).code == "training-retired"
    assert witness(play, ONE).standing is Standing.SOUND
    again = Play.of(play.sites, play.settings)
    again.begin()
    again.run(2)


def test_entries_after_recovery_are_after_every_one_that_was_witnessed(
    play: Play, old: Path
) -> None:
    before = recover.verify(ledger_of(play))
    lose(play, old)
    planned = recover.plan(site_of(play), recover.read_evidence(evidence_of(play)))
    run(play, "recover", "--evidence", str(evidence_of(play)))
    after = recover.verify(ledger_of(play))
    assert after.id == before.id
    assert planned.witnessed is not None
    assert planned.own.entry < planned.witnessed.entry < after.entry


def test_nothing_is_written_without_a_typed_yes(play: Play, old: Path) -> None:
    lose(play, old)
    before = ledger_of(play).read_bytes()
    for answer in ("y\n", "no\n"):
        result = run(play, "recover", "--evidence", str(evidence_of(play)), answer=answer)
        assert result.exit_code != 0
    assert ledger_of(play).read_bytes() == before


def test_a_deleted_ledger_is_begun_anew_and_charged_by_hand(play: Play) -> None:
    ledger_of(play).unlink()
    evidence = recover.read_evidence(evidence_of(play))
    with pytest.raises(DeploymentError, match="--cohort"):
        recover.plan(site_of(play), evidence)
    with pytest.raises(DeploymentError, match="--also"):
        recover.plan(site_of(play), evidence, cohort="breast-cancer")
    words = ["--evidence", str(evidence_of(play)), "--cohort", "breast-cancer", "--also", ALSO]
    result = run(play, "recover", *words)
    assert result.exit_code == 0, result.output
    assert counts(play) == 40
    assert recover.findings(site_of(play)) == []
    assert witness(play, ONE).standing is Standing.SOUND


def test_others_signatures_charge_nothing(play: Play) -> None:
    own = play.sites.folder(ONE) / "peers.json"
    planned = recover.plan(site_of(play), recover.read_evidence(own))
    assert planned.witnessed is None
    assert not any(beside for _, beside in planned.spent.values())


def test_a_whole_ledger_is_verified_and_left_as_it_is(play: Play) -> None:
    before = ledger_of(play).read_bytes()
    result = run(play, "verify")
    assert result.exit_code == 0, result.output
    assert f"training {play.training}" in result.output.replace("\n", "")
    assert ledger_of(play).read_bytes() == before


def test_a_ledger_that_has_gone_back_does_not_pass(play: Play, old: Path) -> None:
    ledger_of(play).write_bytes(old.read_bytes())
    result = run(play, "verify")
    assert result.exit_code == 1
    assert "recover" in result.output


def test_a_damaged_ledger_says_which_line_and_what_to_do(play: Play) -> None:
    lines = ledger_of(play).read_bytes().split(b"\n")
    lines[3] = lines[3].replace(b"1", b"2", 1)
    ledger_of(play).write_bytes(b"\n".join(lines))
    with pytest.raises(DeploymentError, match=r"damaged at line 4.*Nothing was changed"):
        recover.verify(ledger_of(play))


@pytest.mark.parametrize("text", ["", "gaussian", "gaussian:count=1", "normal:count=1", ALSO[:-2]])
def test_what_is_no_event_is_refused(text: str) -> None:
    with pytest.raises(DeploymentError, match="event"):
        recover.read_event(text)


def test_an_operator_ends_a_training_that_no_server_ends(play: Play) -> None:
    folder = play.sites.folder(ONE)
    assert run(play, "end", "none-such").exit_code != 0
    assert list(folder.glob("keys-*"))
    result = run(play, "end", play.training)
    assert result.exit_code == 0, result.output
    assert not [path for kind in ("keys", "pairs", "reply") for path in folder.glob(f"{kind}-*")]
    assert play.ask(ONE, Kind.TRAIN, play.request(6)).code == "training-retired"
