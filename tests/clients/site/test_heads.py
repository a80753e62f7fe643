"""What lies beside a book proves that the book has gone back, and proves nothing else."""

from __future__ import annotations

import json
import shutil
import threading
from itertools import combinations
from pathlib import Path

import pytest
from flwr.app import ConfigRecord, RecordDict

from accounting import lines
from accounting.book import Book
from accounting.chain import Flush
from accounting.errors import LedgerError
from clients.contract.header_memory import Copied, HeaderMemory, headers_in, signed_by
from clients.contract.witness_messages import (
    MOST_OF_ONE,
    Standing,
    Vouch,
    VouchReply,
    VouchRequest,
    WitnessReply,
    WitnessRequest,
    pack,
    unpack,
    vouched,
)
from clients.contract.words import CONFIG
from clients.site.books import Books
from clients.site.ground import Site
from clients.site.heads import (
    PEERS,
    Kept,
    Mark,
    changing,
    judge,
    marked,
    marks_beside,
    unmarked,
)
from clients.site.witnesses import witnesses_needed
from crypto.headers import (
    MAX_HEADER_BYTES,
    MILESTONES,
    Header,
    HeaderKind,
    SignedHeader,
    sign_header,
)
from crypto.identity import Identity


def book_in(folder: Path, name: str = "ledger.jsonl") -> Book:
    return Book(folder / name, site="north", cohort="lungs", flush=Flush.WRITE)


def grow(book: Book, count: int, first: int = 0) -> list[Mark]:
    marks = []
    for number in range(first, first + count):
        book.append(lines.retire(f"training-{number}"))
        marks.append(Mark.of(book))
    return marks


@pytest.fixture
def identity() -> Identity:
    return Identity.generate()


def header(
    identity: Identity, entry: int = 1, head: bytes = b"h" * 16, **changes: object
) -> SignedHeader:
    fields: dict = {
        "kind": HeaderKind.WITNESS,
        "training": "t1",
        "round": 0,
        "attempt": 0,
        "sender": "north",
        "parameter_id": "",
        "previous": "",
        "payload": "",
        "bind": bytes(32),
        "nonce": bytes(32),
        "ledger": b"l" * 8,
        "entry": entry,
        "head": head,
        "spent": 3,
    }
    return sign_header(Header(**{**fields, **changes}), identity)


def test_every_mark_of_a_book_is_known_to_it_and_to_all_that_it_becomes(tmp_path: Path) -> None:
    with book_in(tmp_path) as book:
        first = Mark.of(book)
        marks = grow(book, 5)
        assert not any(judge(mark, book) for mark in [first, *marks])


def test_a_book_that_has_gone_back_does_not_know_its_later_marks(tmp_path: Path) -> None:
    with book_in(tmp_path) as book:
        grow(book, 2)
        shutil.copy(book.path, tmp_path / "old.jsonl")
        later = grow(book, 2, first=2)
    with book_in(tmp_path, "old.jsonl") as old:
        assert all("is known, this file ends at 2" in judge(mark, old) for mark in later)
        grow(old, 4, first=10)  # it goes on and becomes longer than what was lost
        assert all("another head" in judge(mark, old) for mark in later)


def test_another_ledger_is_proof_until_it_is_recovered(tmp_path: Path) -> None:
    with book_in(tmp_path, "a") as one, book_in(tmp_path, "b") as other:
        [mark] = grow(one, 1)
        assert "this one is ledger" in judge(mark, other)
        other.append(lines.recovered(ledger=mark.ledger, entry=mark.entry, head=mark.head))
        assert not judge(mark, other)
        assert judge(mark._replace(entry=mark.entry + 1), other)


def test_a_ledger_of_other_data_at_its_own_place_is_no_lost_one(tmp_path: Path) -> None:
    site = Site(name="north", folder=tmp_path, simulated=False, books=Books())
    with book_in(tmp_path, "a") as one, book_in(tmp_path, "b") as other:
        [mark] = grow(one, 1)
        kept = Kept()
        kept.write(site, one)
        assert Kept.read(tmp_path).is_another(mark, other)
        assert not Kept.read(tmp_path).is_another(mark._replace(entry=9), other)
        assert not Kept.read(tmp_path).is_another(mark, one)
    (tmp_path / "a").unlink()
    with book_in(tmp_path, "b") as other:
        assert not Kept.read(tmp_path).is_another(mark, other)


def test_files_say_how_long_the_book_was_and_what_was_put_in_them(tmp_path: Path) -> None:
    site = Site(name="north", folder=tmp_path, simulated=False, books=Books())
    with book_in(tmp_path) as book:
        [mark] = grow(book, 1)
        site.write_marked("replica-t1.bin", b"\nall of it", book)
        Kept().write(site, book)
        assert site.read_marked("replica-t1.bin") == b"\nall of it"
        assert dict(marks_beside(tmp_path, Kept.read(tmp_path))) == {
            "replica-t1.bin": mark,
            PEERS: mark,
        }
        assert unmarked(marked(b"", book)) == b""
    assert (tmp_path / PEERS).stat().st_mode & 0o777 == 0o600
    assert unmarked(b"plain") == b"plain"


def test_a_training_that_ends_meanwhile_takes_its_files_along(tmp_path: Path) -> None:
    """Another process forgets another training while the files beside the book are looked at."""
    site = Site(name="north", folder=tmp_path, simulated=False, books=Books())
    with book_in(tmp_path) as book:
        for name in ("keys-a.bin", "keys-b.bin", "keys-c.bin"):
            site.write_marked(name, b"", book)
        found = marks_beside(tmp_path, Kept())
        assert next(found)[0] == "keys-a.bin"
        (tmp_path / "keys-b.bin").unlink()
        assert [name for name, _ in found] == ["keys-c.bin"]


def test_a_simulated_site_marks_nothing(tmp_path: Path) -> None:
    site = Site(name="north", folder=tmp_path, simulated=True, books=Books())
    with book_in(tmp_path) as book:
        site.write_marked("replica-t1.bin", b"all", book)
    assert (tmp_path / "replica-t1.bin").read_bytes() == b"all"


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"mark": 3}', '{"mark": ["a", 1, "b"], "books": [], "headers": {}}']
)
def test_a_file_that_cannot_be_read_stops_the_site(tmp_path: Path, text: str) -> None:
    """Without what it knew a hospital would vouch for any ledger, and write that over the file."""
    (tmp_path / PEERS).write_text(text)
    with pytest.raises(LedgerError, match=r"peers\.json cannot be read"):
        Kept.read(tmp_path)


def test_what_two_processes_learn_at_once_is_kept(tmp_path: Path, identity: Identity) -> None:
    site = Site(name="north", folder=tmp_path, simulated=False, books=Books())
    with book_in(tmp_path) as book:
        begun = threading.Event()

        def second() -> None:
            begun.wait(10)
            with changing(site, book) as kept:
                kept.headers.take(identity.public, header(identity, 7, training="second"))

        thread = threading.Thread(target=second)
        thread.start()
        with changing(site, book) as kept:
            begun.set()
            thread.join(0.2)
            assert thread.is_alive()  # it waits, and reads what this one writes
            kept.headers.take(identity.public, header(identity, 5, training="first"))
        thread.join(10)
    assert len(Kept.read(tmp_path).headers.of(identity.public)) == 2


def test_the_newest_header_of_each_ledger_and_training_is_kept(identity: Identity) -> None:
    memory = HeaderMemory()
    for entry in (3, 5, 4):
        assert memory.take(identity.public, header(identity, entry)) is None
    memory.take(identity.public, header(identity, 2, training="t2"))
    memory.take(identity.public, header(identity, 1, ledger=b"m" * 8))
    kept = [SignedHeader.from_bytes(data).header for data in memory.of(identity.public)]
    assert sorted((one.entry, one.training) for one in kept) == [(1, "t1"), (2, "t2"), (5, "t1")]
    again = HeaderMemory.from_json(json.loads(json.dumps(memory.to_json())))
    assert set(again.of(identity.public)) == set(memory.of(identity.public))


def test_two_heads_of_one_entry_are_a_copied_ledger(identity: Identity) -> None:
    memory = HeaderMemory()
    first = header(identity, 5)
    assert memory.take(identity.public, first) is None
    assert memory.take(identity.public, first) is None
    second = header(identity, 5, head=b"x" * 16)
    assert memory.take(identity.public, second) == Copied("north", 5)
    assert memory.of(identity.public) == (first.to_bytes(), second.to_bytes())  # both are proof
    again = HeaderMemory.from_json(json.loads(json.dumps(memory.to_json())))
    memory.take(identity.public, header(identity, 9))
    assert again.take(identity.public, header(identity, 5, head=b"x" * 16)) == Copied("north", 5)


def test_what_one_hospital_can_fill_is_bounded(identity: Identity) -> None:
    memory = HeaderMemory()
    for number in range(3 * MOST_OF_ONE):
        memory.take(identity.public, header(identity, number, training=f"t{number}"))
    assert len(memory.of(identity.public)) == MOST_OF_ONE


def test_nothing_pushes_the_highest_entry_or_what_was_spent_out(identity: Identity) -> None:
    """A server may ask for signatures about any ids, before a ledger goes back and after."""
    memory = HeaderMemory()
    highest = header(identity, 900, training="real", spent=40)
    memory.take(identity.public, highest)
    for number in range(3 * MOST_OF_ONE):
        memory.take(identity.public, header(identity, 901, training=f"w{number}", spent=0))
    for number in range(3 * MOST_OF_ONE):
        memory.take(identity.public, header(identity, 10, training=f"v{number}", spent=1))
    kept = [SignedHeader.from_bytes(data) for data in memory.of(identity.public)]
    assert highest in kept
    assert len(kept) == MOST_OF_ONE
    assert max(one.header.entry for one in kept) == 901


def test_what_one_copy_has_spent_is_kept_when_the_other_is_longer(identity: Identity) -> None:
    memory = HeaderMemory()
    dear, long = header(identity, 30, spent=8), header(identity, 40, head=b"x" * 16, spent=6)
    for one in (dear, long, header(identity, 20, spent=4)):
        memory.take(identity.public, one)
    assert set(memory.of(identity.public)) == {dear.to_bytes(), long.to_bytes()}


def test_copies_that_sign_at_different_entries_meet_at_a_milestone(identity: Identity) -> None:
    """Their last common milestone is entry 64; past it, one signs at 83 and the other at 90."""
    memory = HeaderMemory()

    def at(entry: int, copy: bytes) -> SignedHeader:
        heads = b"".join(
            (b"c" if entry // spacing * spacing <= 64 else copy) * 16 for spacing in MILESTONES
        )
        return header(identity, entry, head=copy * 16, milestones=heads)

    assert memory.take(identity.public, at(83, b"a")) is None
    for entry in range(85, 130):
        memory.take(identity.public, at(entry, b"a"))
    again = HeaderMemory.from_json(json.loads(json.dumps(memory.to_json())))
    assert again.take(identity.public, at(70, b"b")) is None  # none of its milestones differs yet
    assert again.take(identity.public, at(90, b"b")) == Copied("north", 80)


def test_a_header_that_shows_no_ledger_is_not_kept(identity: Identity) -> None:
    memory = HeaderMemory()
    memory.take(identity.public, header(identity, 0, head=bytes(16), ledger=bytes(8)))
    assert memory.of(identity.public) == ()


def test_only_own_signatures_are_evidence(identity: Identity) -> None:
    own, other = header(identity), header(Identity.generate())
    changed = bytearray(own.to_bytes())
    changed[-1] ^= 1
    assert signed_by(identity.public, [own.to_bytes(), other.to_bytes(), bytes(changed)]) == [own]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"headers": 1}', '{"headers": [{"key": "00"}]}'])
def test_what_is_no_file_of_evidence_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        headers_in(text)


@pytest.mark.parametrize(("peers", "colluders"), [(k, c) for k in range(1, 6) for c in range(k)])
def test_among_those_who_know_and_those_who_vouch_is_one_honest_peer(
    peers: int, colluders: int
) -> None:
    """Whoever saw a place, whoever lies, whoever was away then: all must vouch."""
    needed = witnesses_needed(peers, colluders)
    for knowing in combinations(range(peers), needed):
        for lying in combinations(range(peers), colluders):
            assert set(knowing) - set(lying)
    assert needed <= peers


def test_without_peers_nobody_can_be_asked() -> None:
    assert witnesses_needed(0, 0) == 0


def test_packs_are_read_to_the_last_byte(identity: Identity) -> None:
    headers = (header(identity, 1).to_bytes(), header(identity, 2).to_bytes())
    data = pack(headers)
    assert unpack(data) == headers
    for wrong in (data[:-1], data[:1], data + b"\0", b"\0\0", b"\xff\xff" + bytes(70000)):
        with pytest.raises(ValueError):
            unpack(wrong)
    with pytest.raises(ValueError):
        unpack(data, most=1)


def test_a_vouch_signs_every_header_that_it_knew(identity: Identity) -> None:
    one, two = header(identity, 1).to_bytes(), header(identity, 2).to_bytes()
    texts = {vouched(one, ()), vouched(two, ()), vouched(one, (one,)), vouched(one, (one, two))}
    assert len(texts) == 4


def messages(identity: Identity) -> list:
    one = header(identity).to_bytes()
    vouch = Vouch(header=one, key=identity.public, known=(one, one))
    return [
        WitnessRequest(training="t1", bind="ab", evidence=(one,), vouches=(vouch, vouch)),
        WitnessRequest(training="t1", bind="ab"),
        WitnessReply(name="north", standing=Standing.SOUND, header=one, key=identity.public),
        VouchRequest(training="t1", bind="ab", witness=one, key=identity.public),
        VouchReply(vouch=vouch),
    ]


def test_messages_arrive_as_they_were_sent(identity: Identity) -> None:
    for message in messages(identity):
        assert type(message).read(message.content()) == message


def test_a_field_of_another_kind_or_size_is_refused(identity: Identity) -> None:
    for message in messages(identity):
        for name in message.content().config_records[CONFIG]:
            for wrong in (None, 3, 1.5, True, [1, 2], b"\0" * (MAX_HEADER_BYTES + 1)):
                content = message.content()
                config = dict(content.config_records[CONFIG])
                if wrong is None:
                    del config[name]
                else:
                    config[name] = wrong  # type: ignore[assignment]
                with pytest.raises(ValueError):
                    type(message).read(RecordDict({CONFIG: ConfigRecord(config)}))
