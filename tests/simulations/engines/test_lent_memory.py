"""Memory that one process lends another: real processes, real files without names."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from simulations.engines.actors import Hospitals
from simulations.engines.lent_memory import Borrower, Lender, Lent, home

pytestmark = pytest.mark.skipif(not home(), reason="memory is lent on Linux")

LENDS = """
import pickle, sys
from simulations.engines.lent_memory import Lender
lender = Lender()
for line in sys.stdin.buffer:
    place, size, letter = line.split()
    lent = lender.lend(int(place), letter * int(size))
    sys.stdout.buffer.write(pickle.dumps(lent).hex().encode() + b"\\n")
    sys.stdout.buffer.flush()
"""


class Other:
    """A process that lends what it is told to."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", LENDS],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=Path(__file__).parents[3],
        )

    def lend(self, place: int, size: int, letter: str) -> Lent:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(f"{place} {size} {letter}\n".encode())
        self.process.stdin.flush()
        return pickle.loads(bytes.fromhex(self.process.stdout.readline().decode()))

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def other() -> Other:
    process = Other()
    yield process
    process.end()


def test_another_process_reads_what_is_lent_now_not_what_was_before(other: Other) -> None:
    borrower = Borrower()
    for size, letter in ((200_000, "a"), (300, "b"), (9_000_000, "c")):
        assert borrower.read(0, other.lend(0, size, letter), bytes) == letter.encode() * size
    first, second = other.lend(0, 7, "d"), other.lend(1, 7, "e")
    assert [borrower.read(at, one, bytes) for at, one in enumerate((first, second))] == [
        b"ddddddd",
        b"eeeeeee",
    ]


def test_what_a_process_lent_is_gone_with_it_but_where_its_file_was_open(other: Other) -> None:
    borrower = Borrower()
    borrower.read(0, other.lend(0, 70_000, "a"), bytes)
    again, new = other.lend(0, 80_000, "b"), other.lend(1, 80_000, "c")
    other.end()
    assert borrower.read(0, again, bytes) == b"b" * 80_000
    with pytest.raises(FileNotFoundError):
        borrower.read(1, new, bytes)


def test_another_file_of_the_same_numbers_is_never_read(other: Other) -> None:
    lent = other.lend(0, 70_000, "a")
    with pytest.raises(FileNotFoundError):
        Borrower().read(0, replace(lent, name="0" * 32), bytes)
    with pytest.raises(FileNotFoundError):
        Borrower().read(0, replace(lent, file=1), bytes)  # a pipe


def test_files_are_open_no_longer_than_they_are_of_use(other: Other) -> None:
    def files() -> int:
        return len(os.listdir("/proc/self/fd"))

    before, lender, borrower = files(), Lender(), Borrower()
    for place in (0, 1, 0):
        borrower.read(place, lender.lend(place, b"a"), bytes)
        borrower.read(place, other.lend(place, 10, "b"), bytes)
    assert files() == before + 4, "two are lent, and two of others were read last"
    del lender, borrower
    assert files() == before


def test_actors_lend_their_replies_and_carry_them_to_who_cannot_read_them() -> None:
    script = """
import ray
from flwr.app import Array, ArrayRecord, Message, RecordDict
from flwr.supercore.run import Run
from simulations.engines.actors import Crew
from simulations.engines.device_room import Room
from simulations.engines.actors import Hospitals
from simulations.engines.lent_memory import Borrower
from simulations.engines.ray_cluster import start_ray
from simulations.engines.ray_transport import RayTransport

start_ray("")
nodes = {1000 + k: k for k in range(6)}
crew = Crew(Room(actors=2), {}, nodes, cpus=1, app="tests.simulations.engines.echo_app:app")
transport, read = RayTransport(crew, nodes, Run.create_empty(7)), Borrower.read
lent = []

def reading(self, place, one, reader):
    lent.append(one.size)
    return read(self, place, one, reader)

def refused(self, place, one, reader):
    lent.append(0)
    raise PermissionError

for way, size in ((reading, 9), (reading, 90_000), (refused, 90_000), (reading, 90_000)):
    Borrower.read = way
    data = bytes(size) + b"end"
    content = RecordDict({"x": ArrayRecord({"x": Array("uint8", (len(data),), "raw", data)})})
    replies = list(transport.send_and_receive([Message(content, n, "train") for n in nodes]))
    same = {one.content.array_records["x"]["x"].data == data for one in replies}
    print(len(replies), same, [size > 90_000 for size in lent])
    lent.clear()
ray.shutdown()
"""
    asked = [sys.executable, "-c", script]
    said = subprocess.run(asked, check=True, capture_output=True, text=True, timeout=120).stdout
    assert said.splitlines() == [
        "6 {True} []",
        "6 {True} [True, True]",
        "6 {True} [False, False]",
        "6 {True} []",
    ]


def test_what_the_machine_refuses_to_lend_is_carried(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(_: str) -> int:
        raise OSError

    answered = ["x" * 70_000], [0.1]
    monkeypatch.setattr(Hospitals, "answer", lambda *_: answered)
    hospitals, nothing = Hospitals("", {}, {}), pickle.dumps(None)
    lent = hospitals.answer_packed(nothing, [], near=home())
    assert isinstance(lent, Lent) and pickle.loads(hospitals.lent(lent)) == answered
    monkeypatch.setattr(os, "memfd_create", refused)
    packed = hospitals.answer_packed(nothing, [], near=home(), place=1)
    assert isinstance(packed, bytes) and pickle.loads(packed) == answered
