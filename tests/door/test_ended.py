"""A training that is over leaves nothing at a hospital that opens what was sent in it."""

from __future__ import annotations

from pathlib import Path
from unittest import mock

import pytest
from flwr.app import Message

from clients.contract.ceremony_messages import EndRequest, Named
from clients.contract.kinds import KINDS, Kind
from clients.site import hospital, leftovers
from clients.site.heads import unmarked
from crypto.keys import Keys
from tests.deployment.real_sites import SiteGrid, benchmark_consortium, train, vouched
from tests.door.faults import Killed
from tests.door.sites import Answer
from tests.door.test_attacks_binding import one_of
from tests.door.world import LOCAL, ONE_TIME, Play, agreement_of, door_settings, started
from tests.in_process import InProcessGrid, small_settings

pytestmark = pytest.mark.filterwarnings("ignore:Full backward hook is firing:UserWarning")

A = "hospital-00"
WORD = f"{'[a-z2-7]' * 40}"


def ended(play: Play, name: str) -> Answer:
    return play.ask(name, Kind.END, EndRequest(training=play.training, bind=play.bind))


def left(folder: Path) -> set[str]:
    """Names of what is in a folder of trainings, their ids left out."""
    return {path.name.split("-")[0] for path in folder.glob(f"*-{WORD}[-.]*")}


@pytest.mark.parametrize("changes", [{}, ONE_TIME], ids=["modular", "one-time"])
def test_no_key_and_no_answer_is_left_of_a_training_that_is_over(
    tmp_path: Path, changes: dict[str, object]
) -> None:
    play = started(tmp_path, training__rounds=2, **changes)
    folder = play.sites.folder(A)
    kept = unmarked((folder / f"keys-{play.training}.bin").read_bytes())
    group = Keys.from_bytes(kept).group_key
    play.run()
    headers = play.confirm(2)
    assert play.release(A, headers)
    assert Named.read(ended(play, A).records).name == A
    assert left(folder) == {"terms"}
    for path in folder.rglob("*"):
        if path.is_file():
            assert group not in path.read_bytes(), path
    # Nothing is asked of it any more, for ever; its peers end on their own.
    for kind in sorted(KINDS["gradients"] - {Kind.KEYS, Kind.WITNESS, Kind.VOUCH}):
        assert play.ask(A, kind, one_of(play, kind)).code == "training-retired"
    assert play.release("hospital-01", headers)


def test_what_a_process_had_written_aside_that_died_goes_with_the_training(tmp_path: Path) -> None:
    play = started(tmp_path, **ONE_TIME)
    folder = play.sites.folder(A)
    asides = [
        folder / f".{name}-{play.training}.{end}.4711.0123abcd"
        for name, end in (("pairs", "bin"), ("keys", "bin"), ("ceremony", "key"))
    ]
    for path in asides:
        path.write_bytes(b"a key")
        path.chmod(0o600)
    assert ended(play, A)
    assert [path for path in asides if path.exists()] == []
    assert left(folder) == {"terms"}


def test_other_terms_end_nothing(tmp_path: Path) -> None:
    play = started(tmp_path)
    other = Play.of(play.sites, door_settings(3, **LOCAL))
    other.agreement = agreement_of(other.settings)
    for bind in (other.bind, "0" * 64):
        request = EndRequest(training=play.training, bind=bind)
        assert play.ask(A, Kind.END, request).code == "training-bound"
    assert play.train(1)


def test_what_a_process_left_that_died_at_the_end_goes_when_the_next_training_begins(
    tmp_path: Path,
) -> None:
    play = started(tmp_path)
    play.train(1)
    with (
        mock.patch.object(hospital, "forget_trainings", side_effect=Killed),
        pytest.raises(Killed),
    ):
        ended(play, A)
    assert left(play.sites.folder(A)) >= {"keys", "reply"}
    Play.of(play.sites, play.settings).join([A])
    assert left(play.sites.folder(A)) == {"terms", "ceremony"}


def test_hospitals_are_told_once_the_results_are_on_disk(tmp_path: Path) -> None:
    """A server that dies before could not go on: they have no keys any more."""
    settings = small_settings(tmp_path / "run", training__rounds=1)
    told: list[bool] = []

    def look(request: Message, reply: Message | None) -> Message | None:
        if request.metadata.message_type == Kind.END:
            told.append((tmp_path / "run" / "summary.json").is_file())
        return reply or request

    train(settings, InProcessGrid(settings.to_config(), 4, look))
    assert told
    assert all(told)


@pytest.mark.parametrize("exchange", ["gradients", "cyclic", "ensemble"])
def test_a_server_ends_what_it_has_finished(tmp_path: Path, exchange: str) -> None:
    local = {} if exchange == "gradients" else {"privacy__regime": "FPDP"}
    settings = small_settings(
        tmp_path / "run",
        partition__hospitals=2,
        training__rounds=2,
        exchange__name=exchange,
        **local,
    )
    consortium = vouched(benchmark_consortium(tmp_path / "consortium", 2))
    train(settings, SiteGrid(settings, consortium))
    for name in consortium.hospitals:
        assert left(consortium.site(name) / "private") == {"terms"}


def test_trainings_that_never_begin_leave_no_files_without_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A training of one hospital needs nobody else, so a server begins as many as it likes."""
    monkeypatch.setattr(leftovers, "MOST_UNBEGUN", 2)
    play = started(tmp_path)
    play.train(1)
    alone = door_settings(1, privacy__regime="FPDP", privacy__dropouts=0, sealing__scheme="plain")
    begun = []
    for _ in range(4):
        other = Play.of(play.sites, alone, agreement_of(alone))
        other.join([A])
        other.lead(A)
        begun.append(other.training)
    files = {path.name for path in play.sites.folder(A).iterdir()}
    assert {f"keys-{one}.bin" for one in begun} & files == {f"keys-{one}.bin" for one in begun[2:]}
    assert not any(one in name for one in begun[:2] for name in files)
    play.close(1)
    assert play.train(2)  # one that has spent goes on
    assert other.ask(A, Kind.TRAIN, other.request(1)).code != "keys-missing"
    assert play.sites.kinds(A).count("retire") == 2
