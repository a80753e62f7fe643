"""The server keeps hospitals' heads, sends them to their owners, and carries vouches by itself."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from flwr.app import Error, Message

from accounting.chain import read_chain
from clients.contract.faults import FLOWER_ERROR_CODE
from clients.contract.kinds import Kind
from clients.contract.witness_messages import Standing, WitnessReply, head_in
from crypto.headers import Header, HeaderKind, SignedHeader, sign_header
from crypto.identity import Identity, verify_signature
from strategies.errors import TrainingStopped
from strategies.heads import FILE, keep_heads_in
from tests.deployment.real_sites import SiteGrid, benchmark_consortium, rewrite, train, vouched
from tests.in_process import Meddle, hospital_of, small_settings

pytestmark = pytest.mark.filterwarnings("ignore:Full backward hook is firing:UserWarning")

ONE = "hospital-01"
HOSTILE, HONEST = "hospital-02", "hospital-00"
NOISED = {"partition__hospitals": 3, "privacy__dropouts": 1, "training__rounds": 4}


@pytest.fixture
def consortium(tmp_path: Path):
    keep_heads_in(tmp_path / "runs")
    return vouched(benchmark_consortium(tmp_path / "c", 3))


def settings_of(tmp_path: Path, name: str, **changes: object):
    return small_settings(tmp_path / "runs" / name, **{**NOISED, **changes})


def records(tmp_path: Path, name: str) -> list[dict]:
    file = tmp_path / "runs" / name / "metrics.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()]


def faults(tmp_path: Path, name: str) -> list[tuple[str, str]]:
    return [
        (one["hospital"], one["code"]) for one in records(tmp_path, name) if one["kind"] == "fault"
    ]


def kinds(grid: SiteGrid) -> list[str]:
    return [message.metadata.message_type for message in grid.requests]


def test_the_newest_headers_lie_above_the_runs_for_their_owner_alone(
    tmp_path: Path, consortium
) -> None:
    settings = settings_of(tmp_path, "one")
    grid = SiteGrid(settings, consortium)
    train(settings, grid)
    kept = json.loads((tmp_path / "runs" / FILE).read_text())["headers"]
    assert len({one["key"] for one in kept}) == 3
    assert (tmp_path / "runs" / FILE).stat().st_mode & 0o777 == 0o600
    assert Kind.WITNESS not in kinds(grid)  # an honest run needs no more messages


def test_nothing_is_kept_where_nobody_asked_for_it(tmp_path: Path) -> None:
    consortium = benchmark_consortium(tmp_path / "c", 3)
    settings = settings_of(tmp_path, "one")
    train(settings, SiteGrid(settings, consortium))
    assert not (tmp_path / "runs" / FILE).exists()


def test_a_restored_hospital_meets_its_own_signature_when_it_joins(
    tmp_path: Path, consortium
) -> None:
    first = settings_of(tmp_path, "one")
    folder = consortium.site(ONE) / "private"
    train(first, SiteGrid(first, consortium))
    shutil.copytree(folder, tmp_path / "backup")
    second = settings_of(tmp_path, "two")
    train(second, SiteGrid(second, consortium))
    for path in folder.iterdir():
        if (tmp_path / "backup" / path.name).exists():
            path.write_bytes((tmp_path / "backup" / path.name).read_bytes())
        else:
            path.unlink()
    third = settings_of(tmp_path, "three")
    with pytest.raises(TrainingStopped, match="ledger-behind"):
        train(third, SiteGrid(third, consortium))


def test_a_copied_ledger_is_vouched_for_without_anybodys_doing(tmp_path: Path, consortium) -> None:
    path = consortium.site(ONE) / "private" / "ledger.jsonl"

    def copy_in_round_three(message: Message, reply: Message | None) -> Message | None:
        if message.metadata.message_type == Kind.TRAIN and reply is None:
            number = message.content.config_records["config"]["server-round"]
            if number == 3 and not path.with_suffix(".copy").exists():
                shutil.copy2(path, path.with_suffix(".copy"))
                path.unlink()
                shutil.copy2(path.with_suffix(".copy"), path)
        return reply or message

    settings = settings_of(tmp_path, "one")
    grid = SiteGrid(settings, consortium, copy_in_round_three)
    train(settings, grid)
    assert faults(tmp_path, "one") == []
    assert kinds(grid).count(Kind.WITNESS) == 2
    assert kinds(grid).count(Kind.VOUCH) == 2


@pytest.mark.parametrize("copied", [False, True])
def test_who_releases_a_visiting_model_is_vouched_for_as_well(
    tmp_path: Path, consortium, copied: bool
) -> None:
    """The last hospital is away at its turn, so another is asked, whose ledger was copied."""
    path = consortium.site(HONEST) / "private" / "ledger.jsonl"

    def meddle(message: Message, reply: Message | None) -> Message | None:
        kind, name = message.metadata.message_type, hospital_of(message)
        if kind == Kind.VISIT and reply is None and name == HOSTILE:
            return None
        if kind == Kind.RELEASE_CARRIED and reply is None and copied and not asked:
            shutil.copy2(path, path.with_suffix(".copy"))
            path.unlink()
            shutil.copy2(path.with_suffix(".copy"), path)
        if kind == Kind.RELEASE_CARRIED and reply is None:
            asked.append(name)
        return reply or message

    asked: list[str] = []
    changes = {"exchange__name": "cyclic", "exchange__cycles": 1, "privacy__regime": "FPDP"}
    changes |= {"training__release_every": 9, "privacy__dropouts": 0, "run__attempts": 1}
    settings = settings_of(tmp_path, "one", **changes)
    train(settings, SiteGrid(settings, consortium, meddle))
    assert asked == [HONEST] * (1 + copied)


def test_a_ledger_that_was_copied_between_runs_is_vouched_for_by_those_who_are_pinned(
    tmp_path: Path, consortium
) -> None:
    first = settings_of(tmp_path, "one")
    train(first, SiteGrid(first, consortium))
    path = consortium.site(ONE) / "private" / "ledger.jsonl"
    shutil.copy2(path, path.with_suffix(".copy"))
    path.with_suffix(".copy").replace(path)
    second = settings_of(tmp_path, "two")
    grid = SiteGrid(second, consortium)
    train(second, grid)
    assert faults(tmp_path, "two") == []
    assert kinds(grid).count(Kind.VOUCH) == 2


def test_a_hospital_that_is_visited_often_is_vouched_for_on_the_way(
    tmp_path: Path, consortium
) -> None:
    changes = {"exchange__name": "cyclic", "exchange__cycles": 6, "training__rounds": 6}
    settings = settings_of(tmp_path, "one", privacy__regime="FPDP", **changes)
    grid = SiteGrid(settings, consortium)
    train(settings, grid)
    assert faults(tmp_path, "one") == []
    # After four visits each: one question, its answer, and nobody is asked again.
    assert kinds(grid).count(Kind.WITNESS) == 2 * 3


def test_a_ledger_in_use_in_two_places_is_named(tmp_path: Path, consortium) -> None:
    """Two folders answer in turns, each of them sound by itself."""

    def without_evidence(message: Message, reply: Message | None) -> Message | None:
        if message.metadata.message_type == Kind.JOIN and reply is None:
            message.content.config_records["config"]["witness"] = b""
        return reply or message

    def warnings(name: str) -> list[str]:
        found = records(tmp_path, name)
        return [one["hospital"] for one in found if one["kind"] == "warning" and "hospital" in one]

    first = settings_of(tmp_path, "one")
    train(first, SiteGrid(first, consortium))
    copy = tmp_path / "copy"
    shutil.copytree(consortium.site(ONE), copy)
    file = copy / "site.toml"
    file.write_text(file.read_text().replace('home = "inode"', 'home = "any"'))
    second = settings_of(tmp_path, "two")
    train(second, SiteGrid(second, consortium))
    assert warnings("two") == []
    third = settings_of(tmp_path, "three")
    grid = SiteGrid(third, consortium, without_evidence)
    grid.sites = {
        node: copy / "site.toml" if path.parent == consortium.site(ONE) else path
        for node, path in grid.sites.items()
    }
    train(third, grid)
    assert warnings("three") == [ONE]
    summary = json.loads(
        (tmp_path / "runs" / "three" / "metrics.jsonl").read_text().splitlines()[-1]
    )
    assert ONE in summary["message"]


def test_a_file_of_heads_that_cannot_be_read_stops_the_run(tmp_path: Path, consortium) -> None:
    (tmp_path / "runs" / FILE).write_text("{")
    settings = settings_of(tmp_path, "one")
    with pytest.raises(TrainingStopped, match="cannot be read"):
        train(settings, SiteGrid(settings, consortium))


LAYERS = {
    "exchange__name": "layers",
    "model__name": "mlp",
    "privacy__regime": "FPDP",
    "training__sampling_rate": 0.5,
}


@pytest.mark.parametrize("changes", [{}, LAYERS, {"exchange__name": "ensemble"}], ids=str)
def test_every_answer_that_adds_a_line_is_witnessed(
    tmp_path: Path, consortium, changes: dict[str, object]
) -> None:
    """Whoever is restored between two answers meets the head of the first."""
    settings = settings_of(tmp_path, "one", **{**changes, "privacy__regime": "FPDP"})
    path = consortium.site(ONE) / "private" / "ledger.jsonl"
    shown: list[tuple[str, int, int]] = []

    def watch(message: Message, reply: Message | None) -> Message | None:
        if reply is not None and grid.sites[message.metadata.dst_node_id] == path.parents[1] / (
            "site.toml"
        ):
            head = head_in(reply.content) if reply.has_content() else b""
            entry = SignedHeader.from_bytes(head).header.entry if head else 0
            shown.append((message.metadata.message_type, entry, read_chain(path).number))
        return reply or message

    grid = SiteGrid(settings, consortium, watch)
    train(settings, grid)
    kept = json.loads((tmp_path / "runs" / FILE).read_text())["headers"]
    shown_last = [bytes.fromhex(one["header"]) for one in kept if "header" in one]
    newest = [SignedHeader.from_bytes(data).header for data in shown_last]
    assert max(one.entry for one in newest if one.sender == ONE) == read_chain(path).number
    before = 0
    for kind, entry, number in shown:
        # A join may begin a book, which says nothing of anybody.
        assert kind == Kind.JOIN or entry == (number if number > before else 0)
        before = number


def test_a_head_that_is_not_its_senders_own_is_not_kept(tmp_path: Path, consortium) -> None:
    stolen: list[bytes] = []

    def swap(message: Message, reply: Message | None) -> Message | None:
        """Every hospital shows the first one's head, or junk."""
        if reply is not None and reply.has_content() and (head := head_in(reply.content)):
            stolen.append(head)
            record = reply.content.config_records["head"]
            record["header"] = stolen[0] if len(stolen) % 2 else b"junk"
        return reply or message

    settings = settings_of(tmp_path, "one")
    train(settings, SiteGrid(settings, consortium, swap))
    kept = json.loads((tmp_path / "runs" / FILE).read_text())["headers"]
    for one in (one for one in kept if "header" in one):
        signed = SignedHeader.from_bytes(bytes.fromhex(one["header"]))
        verify_signature(
            bytes.fromhex(one["key"]), signed.signature, signed.header.signed_text(), ""
        )


def test_a_hospital_that_waits_is_helped_whatever_it_is_asked(tmp_path: Path, consortium) -> None:
    """Its ledger is copied before the release, before it is judged, and between turns."""
    path = consortium.site(ONE) / "private" / "ledger.jsonl"
    copied: set[str] = set()

    def copy(message: Message, reply: Message | None) -> Message | None:
        kind = message.metadata.message_type
        wanted = (Kind.CONFIRM, Kind.RELEASE, Kind.EVALUATE_MODELS, Kind.HEAD, Kind.BACKWARD)
        if reply is None and kind in wanted and kind not in copied:
            copied.add(kind)
            shutil.copy2(path, path.with_suffix(".copy"))
            path.with_suffix(".copy").replace(path)
        return reply or message

    settings = settings_of(tmp_path, "one", **LAYERS)
    grid = SiteGrid(settings, consortium, copy)
    train(settings, grid)
    assert copied >= {Kind.CONFIRM, Kind.RELEASE, Kind.HEAD, Kind.BACKWARD}
    assert faults(tmp_path, "one") == []
    figures = [r for r in records(tmp_path, "one") if r["kind"] == "hospitals" and "accuracy" in r]
    assert len(figures[-1]["accuracy"]) == 3


def lies(own: Identity | None) -> Meddle:
    """Wait for vouches whenever asked to train, and sign heads of a ledger in another's name."""

    def meddle(message: Message, reply: Message | None) -> Message | None:
        if hospital_of(message) != HOSTILE:
            return reply or message
        kind = message.metadata.message_type
        if kind == Kind.TRAIN:
            return Message(Error(FLOWER_ERROR_CODE, "ledger-behind"), reply_to=message)
        if kind != Kind.WITNESS:
            return reply or message
        key = own or Identity.generate()
        header = Header(
            kind=HeaderKind.WITNESS,
            training="x",
            round=0,
            attempt=0,
            sender=HONEST,
            parameter_id="",
            previous="",
            payload="",
            bind=bytes(32),
            nonce=os.urandom(32),
            ledger=bytes([1] * 8),
            entry=5,
            head=os.urandom(16),
        )
        answer = WitnessReply(
            name=HONEST,
            standing=Standing.WAITING,
            header=sign_header(header, key).to_bytes(),
            key=key.public,
        )
        return Message(answer.content(), reply_to=message)

    return meddle


def test_nobody_makes_the_server_say_that_anothers_ledger_is_copied(
    tmp_path: Path, consortium
) -> None:
    settings = settings_of(tmp_path, "one")
    train(settings, SiteGrid(settings, consortium, lies(Identity.generate())))
    assert [one for one in records(tmp_path, "one") if one.get("hospital") == HONEST] == []


def test_strangers_keys_do_not_push_hospitals_out_of_what_is_kept(
    tmp_path: Path, consortium
) -> None:
    settings = settings_of(tmp_path, "one")
    train(settings, SiteGrid(settings, consortium, lies(None)))
    kept = json.loads((tmp_path / "runs" / FILE).read_text())["headers"]
    assert len({one["key"] for one in kept}) <= 3


def test_a_hospital_that_always_waits_does_not_have_its_peers_asked_each_time(
    tmp_path: Path, consortium
) -> None:
    rounds = 9
    settings = settings_of(tmp_path, "one", training__rounds=rounds)
    grid = SiteGrid(settings, consortium, lies(Identity.generate()))
    train(settings, grid)
    # It is asked for again after 1, 2, 4 and 8 times in vain: a question and its answer each.
    assert kinds(grid).count(Kind.TRAIN) >= 3 * rounds
    assert kinds(grid).count(Kind.WITNESS) <= 2 * 5


def test_sites_that_begin_vouch_for_each_other_without_anybodys_doing(tmp_path: Path) -> None:
    keep_heads_in(tmp_path / "runs")
    new = benchmark_consortium(tmp_path / "c", 3)
    settings = settings_of(tmp_path, "one")
    grid = SiteGrid(settings, new)
    train(settings, grid)
    assert faults(tmp_path, "one") == []
    assert kinds(grid).count(Kind.WITNESS) == 3 * 2
    assert kinds(grid).count(Kind.VOUCH) == 3 * 2


def test_a_site_that_has_no_peers_trains_alone(tmp_path: Path) -> None:
    """More rounds than may be known to the server alone: nobody else is there to know them."""
    keep_heads_in(tmp_path / "runs")
    consortium = benchmark_consortium(tmp_path / "c", 2)
    file = consortium.site(HONEST) / "site.toml"
    own = [line for line in file.read_text().splitlines() if not line.startswith("hospital-01 =")]
    file.write_text("\n".join(own))
    rewrite(consortium, HONEST, "min-hospitals = 2", "min-hospitals = 1")
    changes = {"partition__hospitals": 1, "partition__sites": HONEST, "privacy__regime": "FPDP"}
    rounds = {"privacy__dropouts": 0, "training__rounds": 6}
    settings = settings_of(tmp_path, "one", **changes, **rounds)
    grid = SiteGrid(settings, consortium)
    train(settings, grid)
    assert faults(tmp_path, "one") == []
    assert Kind.WITNESS not in kinds(grid)
