"""A book whatever happens to it: torn and full disks, two processes, and ends at any moment."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from accounting import lines
from accounting.errors import BookError
from accounting.ledger import read_ledger
from accounting.states import NEW, Phase, step
from tests.accounting.books import EVENT, Place, bind, opened


class HostileWorld(RuleBasedStateMachine):
    """Books on one file, torn and full disks, against a list of lines folded by `step`."""

    @initialize(folder=st.uuids())
    def begin(self, folder):
        self.path = self.root / f"{folder}.jsonl"
        self.path.unlink(missing_ok=True)
        self.books = [opened(self.path), opened(self.path)]
        self.states = {}
        self.spent = 0

    def _line(self, random_):
        place = Place(random_.choice("ab"), random_.randint(0, 5), random_.randint(0, 3))
        name, round = place.training, place.round
        return random_.choice(
            [
                bind(name, terms=random_.choice("TTTTU")),
                lines.keyed(name, keys="K"),
                lines.show(place, turn=random_.randint(0, 3)),
                lines.seal(place, reply="r"),
                lines.commit(place, roster="r", total=random_.choice("xy")),
                lines.close(name, round=round, chain="c"),
                lines.adopt(name, round=round, chain="c"),
                lines.answer(place, roster=random_.choice("xy")),
                lines.charge(name, EVENT, why="lost"),
                *([lines.end(name, round=round), lines.retire(name)] if place.attempt == 3 else []),
            ]
        )

    def _likely(self, random_, name):
        """A line that moves a training on."""
        state = self.states.get(name, NEW)
        place = Place(name, state.closed + 1, state.place[1] + 1)
        here = Place(name, *state.place)
        return {
            Phase.NEW: bind(name),
            Phase.BOUND: lines.keyed(name, keys="K"),
            Phase.SPENT: lines.seal(here, reply="r"),
            Phase.SEALED: lines.commit(place, roster="r", total="x"),
            Phase.COMMITTED: lines.close(name, round=place.round, chain="c"),
        }.get(state.phase) or self._line(random_)

    def _expect(self, line):
        before = self.states.get(line.training, NEW)
        self.states[line.training] = step(before, line)
        if line.kind in ("spend", "charge"):
            self.spent += 1

    @rule(random_=st.randoms(use_true_random=False), which=st.booleans(), likely=st.booleans())
    def append(self, random_, which, likely):
        name = random_.choice("ab")
        line = self._likely(random_, name) if likely else self._line(random_)
        try:
            self._expect(line)
        except BookError as refused:
            with pytest.raises(BookError) as also:
                self.books[which].append(line)
            assert also.value.code == refused.code
        else:
            self.books[which].append(line)

    @rule(random_=st.randoms(use_true_random=False), which=st.booleans(), likely=st.booleans())
    def spend(self, random_, which, likely):
        name = random_.choice("ab")
        state = self.states.get(name, NEW)
        place = Place(name, state.closed + 1, state.place[1] + 1)
        if not likely:
            place = Place(name, random_.randint(0, 5), random_.randint(0, 3))
        line = lines.spend(place, EVENT, purpose="x", uses=1)
        try:
            self._expect(line)
        except BookError:
            with pytest.raises(BookError):
                self.books[which].spend(place, EVENT, purpose="x")
        else:
            receipt = self.books[which].spend(place, EVENT, purpose="x")
            receipt.use(place.round, 1)

    @rule(room=st.integers(0, 900))
    def full_disk(self, room):
        write, left = os.write, [room]

        def short(file, data):
            if not left[0]:
                raise OSError(errno.ENOSPC, "No space left on device")
            count = write(file, data[: left[0]])
            left[0] -= count
            return count

        written = [lines.charge("full", EVENT, why="x"), lines.charge("full", EVENT, why="y")]
        os.write = short
        try:
            self.books[0].append(*written)
        except OSError as error:
            assert error.errno == errno.ENOSPC
        finally:
            os.write = write
        # Whatever got there whole counts.
        there = self.books[1].spent("full") - self.states.get("full", NEW).spent
        assert 0 <= there <= 2
        for line in written[:there]:
            self._expect(line)

    @rule(which=st.booleans())
    def reopen(self, which):
        self.books[which].close()
        self.books[which] = opened(self.path)

    @rule(which=st.booleans())
    def rest(self, which):
        self.books[which].rest()

    @rule(cut=st.integers(1, 400))
    def killed_in_a_write(self, cut):
        """A process dies within its write: some of its bytes are there."""
        with open(self.path, "ab") as file:
            file.write((b'{"n":9,"prev":"' + b"ab" * 200)[:cut])

    @invariant()
    def every_reader_agrees_with_the_model(self):
        for book in self.books:
            for name, state in self.states.items():
                assert book.state(name) == state
            assert sum(event.count for event in book.events()) == self.spent
        assert self.books[0].head() == self.books[1].head() == opened(self.path).head()
        assert len(read_ledger(self.path).entries) == self.spent


def test_a_book_agrees_with_a_simple_model_whatever_happens(tmp_path):
    HostileWorld.root = tmp_path

    run_state_machine_as_test(
        HostileWorld,
        settings=settings(
            max_examples=25,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


KILLED = """
import sys
from typing import NamedTuple
from accounting import lines
from accounting.book import Book, read_spent
from accounting.chain import Flush
from accounting.events import GaussianEvent
import os, random, signal, time

class Place(NamedTuple):
    training: str
    round: int
    attempt: int

path, trials, seed = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
chosen = random.Random(seed)
event = GaussianEvent(sampling_rate=0.1, noise_multiplier=1.5)
digests = dict(terms="T", own="O", members="M", code="C")

def hospital(trial, said):
    book = Book(path, site="n", cohort="c", flush=Flush.DISK if trial % 10 == 0 else Flush.WRITE)
    name = str(trial)
    book.append(
        lines.bind(name, **digests, rounds=10**6, spare=0, failures=6),
        lines.keyed(name, keys="K"),
    )
    number = 0
    while True:
        number += 1
        place = Place(name, number, 1)
        book.spend(place, event, purpose="x")
        os.write(said, b"s")  # the data is touched
        book.append(lines.seal(place, reply="r"))
        os.write(said, b"l")  # something leaves
        book.append(lines.commit(place, roster="r", total="s"))
        book.append(lines.close(name, round=number, chain="c"))

known = 0
for trial in range(trials):
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        hospital(trial, writing)
    os.close(writing)
    said = os.read(reading, 1) if trial % 2 else b""  # however slow it is, half of them get so far
    time.sleep(chosen.uniform(0.0, 0.02))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    while data := os.read(reading, 65536):
        said += data
    os.close(reading)
    with Book(path, site="n", cohort="c", flush=Flush.WRITE) as book:
        state = book.state(str(trial))
        total = sum(e.count for e in book.events())
    touched, left = said.count(b"s"), said.count(b"l")
    assert touched <= state.spent <= touched + 1, (trial, touched, state)
    sealed = state.places - (not state.reply and not state.pending and state.closed < state.places)
    assert left <= sealed <= left + 1, (trial, left, state)
    assert total == known + state.spent
    known = total
print(known)
"""


@pytest.mark.parametrize("trials", [30, pytest.param(200, marks=pytest.mark.exhaustive)])
def test_killed_hospitals_never_touched_data_or_sent_what_was_not_recorded(tmp_path, trials):
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path / "ledger.jsonl"), str(trials), "11"],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= trials // 2
