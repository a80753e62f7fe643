import errno
import itertools
import json
import multiprocessing
import os
import shutil
import threading
from hashlib import sha256

import pytest

from accounting.chain import Chain, Flush, read_chain
from accounting.errors import LedgerError


@pytest.fixture
def path(tmp_path):
    return tmp_path / "ledger.jsonl"


class Opened(Chain):
    """A chain that keeps what it is told of."""

    def __init__(self, path, flush=Flush.WRITE):
        self.taken = []
        super().__init__(path, site="north", cohort="lungs", flush=flush, take=self.taken.append)

    def write(self, *words):
        with self.hold():
            self.append([{"kind": "word", "word": word} for word in words])


def words(path):
    return [record["word"] for record in read_chain(path).records]


def test_each_line_holds_the_digest_of_the_line_before_it(path):
    chain = Opened(path)
    chain.write("a", "b")
    chain.write("c")
    lines = path.read_bytes().splitlines()
    for before, line in itertools.pairwise(lines):
        assert json.loads(line)["prev"] == sha256(before).hexdigest()
    assert [json.loads(line)["n"] for line in lines[1:]] == [1, 2, 3]
    assert (chain.number, chain.head) == (3, sha256(lines[-1]).hexdigest())
    assert chain.id == sha256(lines[0]).hexdigest()[:16]


def test_two_books_of_one_site_have_different_ids(tmp_path):
    assert Opened(tmp_path / "a").id != Opened(tmp_path / "b").id
    assert Opened(tmp_path / "a").id == Opened(tmp_path / "a").id


def test_a_line_is_found_again_by_its_number_with_its_head(path):
    chain = Opened(path)
    chain.write("a", "b", "c")
    record, head = chain.line(2)
    assert record["word"] == "b" and head == json.loads(path.read_bytes().splitlines()[3])["prev"]
    assert chain.line(3)[1] == chain.head
    for number in (-1, 4):
        with pytest.raises(LedgerError, match=f"no line {number}"):
            chain.line(number)


def test_several_lines_are_one_write_and_one_flush(path, monkeypatch):
    chain = Opened(path, Flush.DISK)
    chain.write("a")
    calls = []
    write, fsync = os.write, os.fsync
    monkeypatch.setattr(os, "write", lambda *a: (calls.append("write"), write(*a))[1])
    monkeypatch.setattr(os, "fsync", lambda *a: (calls.append("fsync"), fsync(*a))[1])
    chain.write("b", "c", "d")
    assert calls == ["write", "fsync"]
    Opened(path).write("e")
    assert calls == ["write", "fsync", "write"]


def test_what_one_wrote_oneself_is_not_read_again(path, monkeypatch):
    chain = Opened(path)
    monkeypatch.setattr(os, "pread", None)
    chain.write("a")
    chain.write("b")
    assert chain.number == 2 and not chain.taken


def test_two_writers_see_each_others_lines(path):
    one, two = Opened(path), Opened(path)
    one.write("a")
    two.write("b")
    one.write("c")
    with two.hold():
        assert one.head == two.head
    assert [record["word"] for record in two.taken] == ["a", "c"]
    assert words(path) == ["a", "b", "c"]


def test_every_cut_is_repaired_and_keeps_what_was_complete(path):
    chain = Opened(path)
    chain.write("a")
    chain.write("b", "c")
    whole = path.read_bytes()
    ends = [i + 1 for i, byte in enumerate(whole) if byte == 10]
    for cut in range(len(whole) + 1):
        path.write_bytes(whole[:cut])
        complete = sum(end <= cut for end in ends[1:])
        again = Opened(path)
        assert complete <= len(again.taken) <= complete + 1
        again.write("d")
        assert path.read_bytes().startswith(whole[:cut])
        assert words(path) == [r["word"] for r in Opened(path).taken] == [*words_to(again), "d"]


def words_to(chain):
    return [record["word"] for record in chain.taken]


def test_a_repair_that_is_torn_itself_is_repaired(path):
    Opened(path).write("a", "b")
    torn = path.read_bytes()[:-9]
    path.write_bytes(torn)
    Opened(path).close()
    repaired = path.read_bytes()
    for cut in range(len(torn), len(repaired)):
        path.write_bytes(repaired[:cut])
        again = Opened(path)
        again.write("c")
        assert words(path) == ["a", "c"]
        assert words_to(Opened(path)) == ["a", "c"]


def test_any_changed_byte_of_a_complete_line_is_an_error_that_names_its_file(path):
    Opened(path).write("a", "b", "c")
    whole = path.read_bytes()
    second = whole.index(b"\n") + 1
    for at in range(second, len(whole) - 1):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        with pytest.raises(LedgerError, match=r"ledger\.jsonl"):
            Opened(path)
        with pytest.raises(LedgerError, match="line"):
            read_chain(path)


@pytest.mark.parametrize(
    "change",
    [
        lambda lines: [*lines[:2], *lines[3:]],
        lambda lines: [*lines[:2], lines[3], lines[2], *lines[4:]],
        lambda lines: [*lines[:3], lines[2], *lines[3:]],
        lambda lines: lines[1:],
        lambda lines: [*lines, b"x\n"],
        lambda lines: [*lines[:2], b"x#torn\n", *lines[2:]],
    ],
)
def test_a_line_that_is_missing_or_out_of_order_is_an_error(path, change):
    Opened(path).write("a", "b", "c")
    path.write_bytes(b"".join(change(path.read_bytes().splitlines(keepends=True))))
    for read in (Opened, read_chain):
        with pytest.raises(LedgerError):
            read(path)


def test_a_torn_line_cannot_be_changed_after_its_repair(path):
    Opened(path).write("a", "b")
    path.write_bytes(path.read_bytes()[:-9])
    Opened(path).write("c")
    whole = path.read_bytes()
    assert words(path) == ["a", "c"]
    path.write_bytes(whole.replace(b'"b"', b'"x"'))
    with pytest.raises(LedgerError, match="line 3"):
        Opened(path)


def test_a_file_that_shrinks_under_an_open_chain_stops_it(path):
    chain = Opened(path)
    chain.write("a", "b")
    before = path.stat().st_size
    chain.write("c")
    os.truncate(path, before)
    with pytest.raises(LedgerError, match="cut short"):
        chain.write("d")


def test_a_file_that_was_cut_and_grew_again_stops_it(path):
    chain = Opened(path)
    chain.write("a")
    before = path.stat().st_size
    chain.write("b")
    os.truncate(path, before)
    Opened(path).write("x", "y", "z")
    with pytest.raises(LedgerError, match="had been read"):
        chain.write("c")


@pytest.mark.parametrize("resting", [False, True])
def test_a_file_that_was_replaced_by_a_copy_stops_it(path, tmp_path, resting):
    chain = Opened(path)
    chain.write("a")
    if resting:
        chain.rest()
    shutil.copy(path, tmp_path / "copy")
    os.replace(tmp_path / "copy", path)
    with pytest.raises(LedgerError, match="replaced"):
        chain.write("b")
    path.unlink()
    with pytest.raises(LedgerError, match="gone"):
        chain.write("b")
    assert not path.exists()


def test_a_chain_at_rest_goes_on_where_it_was(path):
    chain = Opened(path)
    chain.write("a")
    chain.rest()
    Opened(path).write("b")
    chain.write("c")
    assert words(path) == ["a", "b", "c"] and words_to(chain) == ["b"]


def test_a_full_disk_is_an_error_at_any_byte_and_leaves_memory_as_the_file(path, monkeypatch):
    chain = Opened(path)
    chain.write("a")
    write = os.write
    for room in range(0, 700, 7):
        left = [room]

        def short(file, data, left=left):
            if not left[0]:
                raise OSError(errno.ENOSPC, "No space left on device")
            count = write(file, data[: left[0]])
            left[0] -= count
            return count

        before = chain.number
        monkeypatch.setattr(os, "write", short)
        try:
            chain.write("b", "c")
        except OSError as error:
            assert error.errno == errno.ENOSPC and chain.number == before
        monkeypatch.undo()
        chain.write("d")
        assert chain.number == read_chain(path).records[-1]["n"]
        assert chain.head == Opened(path).head


def test_what_is_no_file_is_refused(tmp_path):
    with pytest.raises(LedgerError, match="device"):
        Opened("/dev/null")
    with pytest.raises(OSError):
        Opened(tmp_path)


def test_threads_of_one_process_take_turns(path):
    chain = Opened(path)
    threads = [
        threading.Thread(target=lambda: [chain.write("a", "b") for _ in range(50)])
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert words(path) == ["a", "b"] * 200


def _write_some(path, count):
    chain = Opened(path)
    for _ in range(count):
        chain.write("a", "b")


def test_two_processes_take_turns(path):
    context = multiprocessing.get_context("spawn")
    both = [context.Process(target=_write_some, args=(path, 100)) for _ in range(2)]
    for one in both:
        one.start()
    for one in both:
        one.join(60)
        assert one.exitcode == 0
    assert words(path) == ["a", "b"] * 200


def test_a_forked_child_waits_for_its_parents_lock(path):
    chain = Opened(path)
    chain.write("a")
    reading, writing = os.pipe()
    with chain.hold():
        child = os.fork()
        if child == 0:
            try:
                chain.write("child")
                os.write(writing, b".")
            finally:
                os._exit(0)
        os.close(writing)
        chain.append([{"kind": "word", "word": "parent"}])
    assert os.read(reading, 1) == b"."
    os.close(reading)
    os.waitpid(child, 0)
    chain.write("after")
    assert words(path) == ["a", "parent", "child", "after"]
